"""Bisect: the event found by halves is one after which the invariant no longer held, in as few folds as promised."""

import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil, log2
from typing import Any

import pytest

from hub.config import invariants
from hub.edge import bisect
from hub.edge.bisect import Search
from hub.errors import Reject
from hub.projection import Golden, GoldenField
from streams import past
from streams.past import Step
from tests.promises.mutations import broken, mutation
from tests.stages.conftest import hub
from tests.stages.histories import live
from tests.stages.model import CONTACT
from tests.stages.support import Stages, empty

__all__ = ["hub"]

LONG = os.environ.get("HUB_LONG") == "1"
INVARIANTS = ("phone is not null", "city is null or city == 'Bonn'", "not deleted", "len(coalesce(name, '')) < 4")


async def linear(hub: Stages, text: str, golden_ids: Sequence[str]) -> list[bool]:
    """Whether the invariant held of all of them, after each place in the order of processing."""
    invariant = invariants.parse(text, CONTACT)
    things = [(id_, await past.load(hub.context, id_)) for id_ in golden_ids]
    numbers = sorted({step.number for _, thing in things for step in thing.steps})
    verdicts = []
    for number in numbers:
        held = True
        for golden_id, thing in things:
            made = (await past.fold(hub.context, thing, len(upto(thing.steps, number)))).golden(golden_id)
            held = held and invariant.holds(made.golden if made else None)
        verdicts.append(held)
    return verdicts


def upto(steps: Sequence[Step], number: int) -> list[Step]:
    return [step for step in steps if step.number <= number]


async def check_found(hub: Stages, seed: int) -> int:
    """Every invariant over a random history, for all and for one record; how many searches found something."""
    one = await empty(hub)
    await live(one, seed, 40)
    found = 0
    for text in INVARIANTS:
        every = await bisect.bisect(one.context, "contact", text)
        for name in (None, *await broken_ones(one, text)):
            told = await bisect.bisect(one.context, "contact", text, name)
            ids = [name] if name else await broken_ones(one, text)
            if told["holds"]:
                assert not ids, f"seed {seed}: {text} is told to hold of {ids}"
                continue
            verdicts = await linear(one, text, ids)
            numbers = sorted({s.number for id_ in ids for s in (await past.load(one.context, id_)).steps})
            at = numbers.index(told["first"]["processed"])
            where = f"seed {seed}: {text} for {name or 'all'}: place {at} of {len(verdicts)}: {verdicts}"
            assert not verdicts[at], f"{where}: it held after what was found"
            assert at == 0 or verdicts[at - 1], f"{where}: it was broken before"
            assert told["folds"] <= ceil(log2(max(len(verdicts), 1))), f"{where}: {told['folds']} folds"
            assert told["steps"] == len(verdicts), where
            found += 1
        assert every["broken"] == len(await broken_ones(one, text)), f"seed {seed}: {text}"
    return found


async def broken_ones(hub: Stages, text: str) -> list[str]:
    invariant = invariants.parse(text, CONTACT)
    goldens = (await hub.goldens()).items()
    return sorted(id_ for id_, g in goldens if g.entity == "contact" and not invariant.holds(g))


async def test_what_is_found_by_halves_is_what_a_linear_search_finds(
    hub: Stages, seeds: Callable[[int], Sequence[int]], figures: Callable[..., None]
) -> None:
    chosen = seeds(40 if LONG else 2)
    found = [await check_found(hub, seed) for seed in chosen]
    assert sum(found) > len(chosen), "hardly any invariant was broken"
    figures("P7", histories=len(chosen), bisections=sum(found))


async def check_ever(hub: Stages, seed: int) -> tuple[int, int]:
    """Everything that was ever broken is found, with each time that it was; how many times it was mended, and searches."""
    one = await empty(hub)
    await live(one, seed, 40)
    mended = searches = 0
    for text in INVARIANTS:
        told = await bisect.bisect(one.context, "contact", text, ever=True)
        ids = [row[0] for row in await one.context.pool.fetch(EVER)]
        wanted = {id_: spans for id_ in ids if (spans := await spans_of(one, text, id_))}
        found = {one_["golden_id"]: [spanned(time) for time in one_["times"]] for one_ in told["breaks"]}
        assert found == wanted, f"seed {seed}: {text}"
        assert told["holds"] == (not wanted)
        mended += sum(until is not None for spans in wanted.values() for _, until in spans)
        if not wanted:
            continue
        verdicts = await linear(one, text, sorted(wanted))
        numbers = sorted({s.number for id_ in wanted for s in (await past.load(one.context, id_)).steps})
        at = numbers.index(told["first"]["processed"])
        assert not verdicts[at], f"seed {seed}: {text} held after what was found"
        assert at == 0 or verdicts[at - 1], f"seed {seed}: {text} was broken before"
        assert told["folds"] <= ceil(log2(max(told["steps"], 1))), f"seed {seed}: {told['folds']} of {told['steps']}"
        searches += 1
    return mended, searches


EVER = "select distinct golden_id from hub.identity where kind = 'link' and entity = 'contact'"


def spanned(time: dict[str, Any]) -> tuple[int, int | None]:
    return time["since"]["processed"], time["until"] and time["until"]["processed"]


async def spans_of(hub: Stages, text: str, golden_id: str) -> list[tuple[int, int | None]]:
    """The same place by place, each folded from the beginning."""
    numbers = sorted({s.number for s in (await past.load(hub.context, golden_id)).steps})
    verdicts = [True, *await linear(hub, text, [golden_id]), True]
    ends = [n for n, (a, b) in zip(numbers, pairwise(verdicts), strict=False) if not a and b]
    starts = [n for n, (a, b) in zip(numbers, pairwise(verdicts), strict=False) if a and not b]
    return [(start, next((end for end in ends if end > start), None)) for start in starts]


async def test_what_was_broken_and_mended_is_found(hub: Stages, seeds: Callable[[int], Sequence[int]]) -> None:
    found = [await check_ever(hub, seed) for seed in seeds(20 if LONG else 1)]
    assert sum(mended for mended, _ in found) > 3, "hardly anything was mended"


async def test_the_check_fails_where_only_the_present_counts(hub: Stages) -> None:
    whole = Search.breaks

    def still(self: Search, *one: Any) -> list[tuple[int, int | None]]:
        return [time for time in whole(self, *one) if time[1] is None]

    with mutation(Search, "breaks", still), broken("what was mended is not found"):
        await check_ever(hub, 0)


def one_off(self: Search) -> int:
    """A search that goes one place too far."""
    numbers = self.numbers()
    return numbers[min(len(numbers) - 1, numbers.index(first(self)) + 1)]


def one_by_one(self: Search) -> int:
    """A search that asks of every place."""
    return next(number for number in self.numbers() if not self.holds(number))


first = Search.first


@pytest.mark.parametrize("instead", [one_off, one_by_one])
async def test_the_check_of_what_is_found_fails_with(hub: Stages, instead: Any) -> None:
    with mutation(Search, "first", instead), broken(instead.__doc__ or ""):
        await check_found(hub, 0)


def golden(deleted: bool = False, **values: Any) -> Golden:
    return Golden("contact_1", "contact", {name: GoldenField(value) for name, value in values.items()}, deleted)


@pytest.mark.parametrize(
    ("text", "values", "holds"),
    [
        ("phone is not null", {"phone": "+491"}, True),
        ("phone is not null", {"phone": None}, False),
        ("phone is not NULL", {}, False),
        ("phone is null", {}, True),
        ("name == 'null is not null'", {"name": "null is not null"}, True),
        ("email is null or lower(email) == email", {"email": "A@b.example"}, False),
        ("len(name) > 2", {}, False),
        ("phone is not null", {"deleted": True}, True),
        ("not deleted", {"deleted": True}, False),
    ],
)
def test_an_invariant(text: str, values: dict[str, Any], holds: bool) -> None:
    assert invariants.parse(text, CONTACT).holds(golden(**values)) is holds


def test_a_decimal_compares_as_a_number() -> None:
    from tests.stages.model import COMPANY

    made = Golden("company_1", "company", {"revenue": GoldenField("1000.50")})
    assert invariants.parse("revenue > 999.9", COMPANY).holds(made)
    assert not invariants.parse("revenue >= 2000", COMPANY).holds(made)


@pytest.mark.parametrize(
    "text", ["phon is not null", "phone = 'x'", "phone is", "__import__('os')", "[x for x in name]", "x" * 3_000, ""]
)
def test_what_is_no_invariant_is_refused(text: str) -> None:
    with pytest.raises(Reject):
        invariants.parse(text, CONTACT)
