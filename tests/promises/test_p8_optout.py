"""An opt-out is never reversed by machinery: no write of an opt-in, and no new member, in the marketing system after an
opt-out, unless an explicit opt-in of a system that may give one came later.

Everything that may happen is tried in every order up to a length, and at random beyond. Each write to the marketing system
is judged the moment it is made, on what systems have told until then, in their own words: without claims, rules or views.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub import decide, fold, projection, rules
from hub.entity import Entity, Field
from hub.event import Event
from hub.fold import Claim
from hub.identity import RecordId
from hub.model import Model
from hub.rules import Rule
from hub.values import Value, micros, moment
from hub.view import Held
from hub.write import Write
from streams import preparing
from tests.promises.mutations import broken, mutation
from tests.simulation.twin import Twin
from tests.simulation.vendor import OBJECT, SECOND, Clock, Traits, wires
from tests.simulation.world import World, at_once, mapping

LENGTH = 4 if os.environ.get("HUB_LONG") == "1" else 3
ALLOWED = ("crm", "news")
CONTACT = Entity(
    "contact",
    {
        "email": Field("email", "email", Rule("truth", ("crm", "shop", "news"))),
        "name": Field("name", "text", Rule("latest")),
        "consent": Field("consent", "consent", Rule("strictest", ALLOWED)),
    },
    match=("email",),
    version="1",
)
MODEL = Model(
    {"contact": CONTACT},
    {(system, OBJECT): mapping(system, CONTACT, **more) for system, more in (
        ("crm", {}), ("shop", {}), ("news", {"marketing": True, "requires": ("email",)}),
    )},
    "1",
)  # fmt: skip
MOMENT = 10_000
ANN, EVA = "ann@example.com", "eva@example.com"


@dataclass(frozen=True)
class Said:
    """A consent that somebody gave or took back in a system, and when."""

    record: RecordId
    consent: dict[str, str | None]
    at: int


@dataclass
class Desk:
    """A CRM and a shop with one person in both, whom the CRM has twice under two addresses, and a newsletter."""

    world: World
    writes: int = 0
    said: list[Said] = field(default_factory=list)

    @property
    def twin(self) -> Twin:
        """The hub."""
        assert isinstance(self.world.hub, Twin)
        return self.world.hub

    def say(self, system: str, id_: str, status: str, dated: bool = True) -> None:
        """A system reports a consent, given a moment before; people without a record there say nothing there. What stands
        there word for word already is said by nobody: no system could tell it from a record that was only touched."""
        vendor = self.world.vendors[system]
        row = next((r for r in vendor.rows.values() if id_ in (r.id, r.fields.get("email"))), None)
        if row is not None and not row.deleted:
            consent = {"status": status, "at": moment(self.world.clock.now - MOMENT) if dated else None}
            if row.fields.get("consent") != consent:
                self.said.append(Said((system, OBJECT, row.id), consent, self.world.clock.now))
            vendor.edit(row.id, consent=consent)

    async def resync(self) -> None:
        """Every record of every system is touched, and read again from the beginning."""
        for vendor in self.world.vendors.values():
            for row in [r for r in vendor.rows.values() if not r.deleted]:
                vendor.edit(row.id, genuine=False)
            await self.twin.capture(vendor.system, full=True)

    async def process(self) -> None:
        """What was said is captured, processed and written."""
        for system in self.world.vendors:
            await self.twin.capture(system)
        await self.twin.project()
        await self.twin.plan()
        for system in self.world.vendors:
            await self.twin.deliver(system)

    def judge(self, write: Write) -> None:
        """A write to the newsletter: may it be?"""
        self.writes += 1
        consent = write.values.get("consent")
        if write.op != "create" and (consent is None or consent["status"] == "out"):
            return
        outs, ins = self._told(write.golden_id)
        assert max(ins, default=-1) > max(outs, default=-1), f"{write.op} {dict(write.values)} after {outs=} {ins=}"

    def _told(self, golden_id: str) -> tuple[list[int], list[int]]:
        """When the person opted out and in: all that somebody said, and that was read, in the records that are this person.
        What the hub wrote there itself, and reads again, was said by nobody."""
        mine = {state.id for state in self.twin.records.values() if state.golden_id == golden_id}
        read = [(e.event.record, e.event.fields().get("consent"), e.event.at) for e in self.twin.said]
        known = [
            one
            for one in self.said
            if one.record in mine and any((r, c) == (one.record, one.consent) and at >= one.at for r, c, at in read)
        ]
        outs = [micros(one.consent["at"]) or one.at for one in known if one.consent["status"] == "out"]
        ins = [micros(one.consent["at"]) for one in known if one.consent["status"] == "in" and one.record[0] in ALLOWED]
        return outs, ins


async def _merge(desk: Desk) -> None:
    desk.world.vendors["crm"].edit("2", email=ANN)


async def _gone(desk: Desk) -> None:
    desk.world.vendors["shop"].delete("1")


async def _replay(desk: Desk) -> None:
    desk.twin.fetched.clear()
    for system in desk.world.vendors:
        await desk.twin.capture(system, full=True)


def _says(*said: object) -> Callable[[Desk], object]:
    async def happens(desk: Desk) -> None:
        desk.say(*said)  # type: ignore[arg-type]

    return happens


LETTERS: dict[str, Callable[[Desk], object]] = {
    "crm in": _says("crm", "1", "in"),
    "crm in, no date": _says("crm", "1", "in", False),
    "crm out": _says("crm", "1", "out"),
    "shop in": _says("shop", "1", "in"),
    "shop out": _says("shop", "1", "out", False),
    "news in": _says("news", ANN, "in"),
    "news out": _says("news", ANN, "out"),
    "other in": _says("crm", "2", "in"),
    "other out": _says("crm", "2", "out"),
    "merge": _merge,
    "shop deletes": _gone,
    "resync": Desk.resync,
    "replay": _replay,
}


def opened() -> Desk:
    """The desk at the beginning of each story."""
    clock = Clock()
    vendors = wires(dict(MODEL.mappings), clock, {s: Traits(tick=1, hooks=False, logs=s == "crm") for s in ALLOWED})
    desk = Desk(World(vendors, Twin(MODEL, vendors, clock), clock))
    vendors["crm"].edit("1", email=ANN, name="Ann")
    vendors["crm"].edit("2", email=EVA, name="Eva")
    vendors["shop"].edit("1", email=ANN, name="Ann")
    vendors["news"].watch = desk.judge
    at_once(desk.process())
    return desk


async def tell(desk: Desk, story: Sequence[tuple[str, bool]]) -> None:
    """One letter after the other; where its flag says so, everything is processed before the next."""
    for letter, processed in story:
        desk.world.clock.pass_(SECOND)
        await LETTERS[letter](desk)  # type: ignore[misc]
        if processed:
            await desk.process()
    for _ in range(4):
        desk.world.clock.pass_(SECOND)
        await desk.process()
    _arrived(desk)


def _arrived(desk: Desk) -> None:
    """In the end, whoever is opted out is opted out in the newsletter."""
    for row in desk.world.vendors["news"].rows.values():
        golden = desk.twin.records["news", OBJECT, row.id].golden_id
        outs, ins = desk._told(golden)
        if outs and max(outs) >= max(ins, default=0):
            assert row.fields["consent"]["status"] == "out", f"{row.id} is subscribed after {outs=} {ins=}"


def check_opt_out_stands(stories: Iterable[Sequence[tuple[str, bool]]]) -> tuple[int, int]:
    """No story subscribes anybody after an opt-out; how many stories there were, and how many writes."""
    count = writes = 0
    for story in stories:
        desk = opened()
        try:
            at_once(tell(desk, story))
        except AssertionError as error:
            raise AssertionError(f"{error}\nstory: {story}") from None
        count, writes = count + 1, writes + desk.writes
    return count, writes


def all_stories(length: int) -> Iterable[Sequence[tuple[str, bool]]]:
    """Every order of letters up to a length, each letter processed at once; of the shorter ones also all of them
    processed in the end."""
    for size in range(1, length + 1):
        for letters in product(LETTERS, repeat=size):
            yield [(letter, True) for letter in letters]
            if size < length:
                yield [(letter, False) for letter in letters]


def test_in_every_order_up_to_a_length(figures: Callable[..., None]) -> None:
    stories, writes = check_opt_out_stands(all_stories(LENGTH))
    assert writes > stories / 4, "hardly anything was written"
    figures("P8", stories=stories, writes_to_the_newsletter=writes, letters=len(LETTERS), length=LENGTH)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(sorted(LETTERS)), st.booleans()), min_size=LENGTH + 1, max_size=14))
def test_in_longer_stories(story: list[tuple[str, bool]]) -> None:
    check_opt_out_stands([story])


OVER_OURS: list[Sequence[tuple[str, bool]]] = [
    [("merge", False), ("shop out", False), ("crm in, no date", True), ("other in", False), ("crm out", False)],
    [("crm out", True), ("other in", True), ("shop out", True), ("merge", True)],
]
"""Somebody opts out where the hub has written an opt-out already: with a date of his own, and without one."""


def test_an_opt_out_over_one_that_the_hub_wrote_counts() -> None:
    assert check_opt_out_stands(OVER_OURS)[0] == len(OVER_OURS)


@pytest.mark.parametrize("story", OVER_OURS)
def test_it_fails_where_only_the_status_is_looked_at(story: Sequence[tuple[str, bool]]) -> None:
    anew = decide._opted_out_again

    def only_over_theirs(event: Event, held: Held, value: Value) -> bool:
        return not held.ours and anew(event, held, value)

    with mutation(decide, "_opted_out_again", only_over_theirs), broken("an opt-out over ours is none"):
        check_opt_out_stands([story])


def anybody_lifts(rule: Rule, newest_first: Sequence[rules.Candidate]) -> rules.Choice:
    return rules._strictest(replace(rule, systems=()), newest_first)


def one_claim(name: str, value: object, at: int, clock: fold.Clock) -> tuple[str, Claim]:
    return name, Claim(value, at, clock)


def dated_now(name: str, value: dict[str, str | None], at: int, clock: fold.Clock) -> tuple[str, Claim]:
    dated = isinstance(value, dict) and "status" in value and not value["at"]
    return REAL_CLAIM(name, {**value, "at": moment(at)} if dated else value, at, clock)


REAL_CLAIM = fold._consented
BROKEN: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "the newest word counts": lambda: mutation(rules, "CHOOSERS", rules.CHOOSERS | {"strictest": rules._latest}),
    "anybody may lift": lambda: mutation(rules, "CHOOSERS", rules.CHOOSERS | {"strictest": anybody_lifts}),
    "one claim for both": lambda: mutation(fold, "_consented", one_claim),
    "an opt-in without a date is as old as its report": lambda: mutation(fold, "_consented", dated_now),
    "a new member needs no consent": lambda: mutation(preparing, "consented", lambda golden: True),
    "an opt-out goes with its record": lambda: mutation(projection, "_opt_outs", lambda sources: []),
    "an opt-out is not written": lambda: mutation(preparing, "only_consent", lambda changed: {}),
}


@pytest.mark.parametrize("what", BROKEN)
def test_it_fails_without_what_keeps_it(what: str) -> None:
    with BROKEN[what](), broken(what):
        check_opt_out_stands(shuffled())


def shuffled() -> Iterable[Sequence[tuple[str, bool]]]:
    """All stories of the short length, in an order that meets every kind soon."""
    stories = list(all_stories(3))
    Random(1).shuffle(stories)
    return stories
