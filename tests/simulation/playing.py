"""Playing a schedule to its end, judging what came of it, and showing the shortest schedule that fails."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hub.mapping import decode
from hub.values import Value, same
from tests.simulation.twin import Twin
from tests.simulation.vendor import Own, Row, Vendor
from tests.simulation.world import Step, World, at_once, schedule, shortened

FIELDS = ("name", "phone")


@dataclass
class Played:
    """A world that has come to rest; `last` are the writes of each record after the last step, that changed it."""

    world: World
    last: Counter[str] = field(default_factory=Counter)
    rounds: int = 0

    @property
    def twin(self) -> Twin:
        """The hub."""
        assert isinstance(self.world.hub, Twin)
        return self.world.hub

    @property
    def near_misses(self) -> int:
        """How many reports were a real edit of what the hub had just written."""
        return sum(one.near_miss for one in self.twin.said)

    def value(self, vendor: Vendor, row: Row, name: str) -> Value:
        """What a record holds, in canonical form."""
        mapping = self.twin.model.mapping(vendor.system, "contacts")
        assert mapping is not None
        return decode(mapping, row.fields).values.get(name)


Judge = Callable[[Played], None]


def played(world: World, steps: Sequence[Step]) -> Played:
    """Begin, run the schedule, come to rest. AssertionError where it never does."""
    at_once(world.begin())
    at_once(world.run(steps))
    before = _writes(world)
    rounds = at_once(world.rest())
    return Played(world, _writes(world) - before, rounds)


def _writes(world: World) -> Counter[str]:
    return Counter({f"{s}/{id_}": n for s, v in world.vendors.items() for id_, n in v.changed.items()})


def play(seed: int, make: Callable[[], World], judge: Judge, length: int = 40) -> Played:
    """Play the schedule of a seed and judge it; a failure tells the seed and the shortest schedule that fails."""
    steps = schedule(seed, length)
    try:
        return _judged(make, judge, steps)
    except AssertionError as error:
        least = shortened(steps, lambda some: _failure(make, judge, some) is not None)
        told = f"{_failure(make, judge, least)}\nschedule: {', '.join(map(str, least)) or 'nothing happens'}"
        raise AssertionError(f"seed {seed} (again with --seed {seed}): {told}") from error


def _judged(make: Callable[[], World], judge: Judge, steps: Sequence[Step]) -> Played:
    end = played(make(), steps)
    judge(end)
    return end


def _failure(make: Callable[[], World], judge: Judge, steps: Sequence[Step]) -> str | None:
    try:
        _judged(make, judge, steps)
    except AssertionError as error:
        return str(error)
    return None


def check_no_edit_is_suppressed(end: Played) -> None:
    """Every edit that a system reported is heard, unless a later one of the same record was reported before it."""
    for vendor in end.world.vendors.values():
        for own in (o for o in vendor.owns if o.genuine and o.field in FIELDS):
            reports = [n for n, one in enumerate(end.twin.said) if _reports(one.event.fields(), own, one.event.record)]
            heard = any(one.event.record[::2] == (own.system, own.id) and _agrees(one.values.get(own.field), own.value)
                        for one in end.twin.said)  # fmt: skip
            newer = {o.value for o in vendor.owns if (o.id, o.field) == (own.id, own.field) and o.version > own.version}
            earlier = end.twin.said[: reports[0]] if reports else []
            passed = any(e.event.record[::2] == (own.system, own.id) and e.event.fields().get(own.field) in newer
                         for e in earlier)  # fmt: skip
            assert heard or passed or not reports, f"suppressed: {own}"


def _reports(fields: dict[str, Value], own: Own, record: tuple[str, str, str]) -> bool:
    return record[::2] == (own.system, own.id) and fields.get(own.field) == own.value


def _agrees(said: Value, own: Value) -> bool:
    return said is not None and str(said).strip() == str(own).strip()


def check_only_people_are_heard(end: Played) -> None:
    """Nothing becomes a claim but what people and automations have put there: no echo in whatever words."""
    for one in end.twin.said:
        vendor = end.world.vendors[one.event.system]
        owned = [own.value for own in vendor.owns if own.id == one.event.external_id]
        for name in FIELDS:
            if one.values.get(name) is not None:
                assert any(_agrees(one.values[name], own) for own in owned), f"an echo was heard: {one}"


def check_nothing_is_doubled(end: Played) -> None:
    """No system has two records of one person."""
    for vendor in end.world.vendors.values():
        mails = [str(row.fields.get("email")).casefold() for row in vendor.rows.values() if not row.deleted]
        assert len(mails) == len(set(mails)), f"{vendor.system} has a person twice: {vendor.rows}"


def check_nothing_waits(end: Played) -> None:
    """Nothing is due that is put off again and again."""
    due = [place for place, row in end.twin.queue.items() if row.state == "due"]
    assert not due, f"put off for ever: {due}"


def check_all_agree(end: Played) -> None:
    """Every system holds the golden value, or what it makes of it by itself, or a person was asked."""
    asked = {review[1:5] for review in end.twin.reviews.values()}
    for (system, object_, id_), state in end.twin.records.items():
        vendor, golden = end.world.vendors[system], end.twin.goldens[state.golden_id]
        row = vendor.rows[id_]
        for name in FIELDS:
            wanted = golden.fields[name][0] if name in golden.fields else None
            held = end.value(vendor, row, name)
            own_words = row.written.get(name) == wanted
            done = same(held, wanted) or own_words or (system, object_, id_, name) in asked
            assert done or row.deleted, f"{system}/{id_} {name}: {held!r}, not {wanted!r}"


def check_the_newest_word_counts(end: Played) -> None:
    """Where the newest word counts and nobody rewrites, the golden value is the edit with the latest time, by the time
    that its record had when it was first reported."""
    for golden in end.twin.goldens.values():
        mine = {s.id[::2] for s in end.twin.records.values() if s.golden_id == golden.golden_id}
        for name in FIELDS:
            owns = [
                o for v in end.world.vendors.values() for o in v.owns if o.field == name and (o.system, o.id) in mine
            ]
            dated = [(at, own) for own in owns if (at := _reported_at(end, own)) is not None]
            newest = [own for at, own in dated if at == max(when for when, _ in dated)]
            if len({own.system for own in newest}) == 1:
                value = str(newest[-1].value).strip()
                assert same(golden.fields[name][0], value), f"{golden.fields[name]} instead of {newest[-1]}"


def _reported_at(end: Played, own: Own) -> int | None:
    times = (s.event.at for s in end.twin.said if _reports(s.event.fields(), own, s.event.record))
    return next(times, None)
