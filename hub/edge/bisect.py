"""Bisect: the first event after which an invariant no longer held, by a binary search over what was processed."""

from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from hub.config.invariants import Invariant, parse
from hub.edge import history
from hub.edge.inquiry import Json
from hub.errors import Reject
from hub.projection import load
from hub.values import moment
from streams import past, past_index
from streams.context import Context
from streams.past import Past
from streams.records import Place

RECORDS = 1_000


@dataclass(slots=True)
class Search:
    """A search over golden records that break an invariant, after the last place or, with `until`, after that one. `folds`
    counts how often their steps were folded to search."""

    context: Context
    invariant: Invariant
    things: list[tuple[str, Past]]
    told: dict[Place, Any] = field(default_factory=dict)
    folds: int = 0
    until: int | None = None

    def numbers(self) -> list[int]:
        """The places at which anything happened to any of them, in the order of processing."""
        found = {step.number for _, thing in self.things for step in thing.steps}
        return sorted(n for n in found if self.until is None or n <= self.until)

    def holds(self, number: int) -> bool:
        """Whether the invariant held of all of them after everything up to a place."""
        self.folds += 1
        return not any(self.broken(one, thing, number) for one, thing in self.things)

    def broken(self, golden_id: str, thing: Past, number: int) -> bool:
        """Whether one of them broke it then."""
        then = past.begin(self.context, thing)
        for step in thing.steps:
            if step.number <= number:
                then.take(step, self.told.get(step.place) if step.place else None)
        made = then.golden(golden_id)
        return not self.invariant.holds(made.golden if made else None)

    def breaks(self, golden_id: str, thing: Past) -> list[tuple[int, int | None]]:
        """Every time that one of them broke it: the place after which it did, and the one that mended it, if any. The steps
        are folded once for all."""
        then, held, found = past.begin(self.context, thing), True, list[tuple[int, int | None]]()
        for number, steps in groupby(thing.steps, lambda step: step.number):
            for step in steps:
                then.take(step, self.told.get(step.place) if step.place else None)
            made = then.golden(golden_id)
            holds = self.invariant.holds(made.golden if made else None)
            if held and not holds:
                found.append((number, None))
            elif holds and not held:
                found[-1] = (found[-1][0], number)
            held = holds
        return found

    def first(self) -> int:
        """A place after which it is broken and before which it held; it is known to be broken after the last."""
        numbers = self.numbers()
        low, high = 0, len(numbers) - 1  # broken after numbers[high]; it held before numbers[low], or nothing was there
        while low < high:
            middle = (low + high) // 2
            if self.holds(numbers[middle]):
                low = middle + 1
            else:
                high = middle
        return numbers[high]


async def bisect(
    context: Context, entity: str, text: str, name: str | None = None, limit: int = RECORDS, ever: bool = False
) -> Json:
    """The first event after which an invariant, that is broken now, no longer held: of one record, or of all of an entity.
    Where it came and went, one of the events after which it no longer held. At most ceil(log2 n) folds for n steps.

    Over an entity at most `limit` records that break it now are searched, those that were linked first; the answer says
    how many there are. With `ever` those that broke it at any time, also where that was mended, and `breaks` tells of each
    when; to find them the steps of the first `limit` records are folded once."""
    if entity not in context.model.entities:
        raise Reject(f"no entity {entity!r}; there are {', '.join(sorted(context.model.entities))}", "unknown")
    invariant = parse(text, context.model.entities[entity])
    if ever:
        return await _ever(context, entity, text, invariant, name, limit)
    broken, count = await _broken_now(context, entity, invariant, name, limit)
    answer = {"entity": entity, "invariant": text, "broken": count, "searched": len(broken), "holds": not broken}
    if not broken:
        return {**answer, "steps": 0, "folds": 0, "first": None}
    search = Search(context, invariant, broken)
    for _, thing in broken:
        search.told |= await past.read(context, thing.steps)
    number = search.first()
    return {**answer, "steps": len(search.numbers()), "folds": search.folds, "first": _first(search, number)}


async def _ever(context: Context, entity: str, text: str, invariant: Invariant, name: str | None, limit: int) -> Json:
    ids, count = await _every(context, entity, name, limit)
    search, breaks = Search(context, invariant, []), list[Json]()
    for golden_id in ids:
        one = Search(context, invariant, [(golden_id, await past.load(context, golden_id))])
        one.told = await past.read(context, one.things[0][1].steps)
        if times := one.breaks(*one.things[0]):
            search.things += one.things
            search.told |= one.told
            last = one.numbers()[-1] if times[-1][1] is None else times[-1][1] - 1
            search.until = max(search.until or 0, last)
            breaks.append({"golden_id": golden_id, "times": [_time(one.things[0][1], *time) for time in times]})
    answer = {"entity": entity, "invariant": text, "ever": True, "records": count, "searched": len(ids)}
    answer |= {"broken": len(breaks), "holds": not breaks, "breaks": breaks}
    if not breaks:
        return {**answer, "steps": 0, "folds": 0, "first": None}
    number = search.first()
    return {**answer, "steps": len(search.numbers()), "folds": search.folds, "first": _first(search, number)}


async def _every(context: Context, entity: str, name: str | None, limit: int) -> tuple[list[str], int]:
    """The golden ids that there ever were, at most `limit`, and how many there are; or the one that is named."""
    if name:
        return [(await history.find(context, entity, name))[1]], 1
    await past_index.catch_up(context)
    rows = await context.pool.fetch(EVERY, entity, limit)
    return [row["golden_id"] for row in rows], rows[0]["count"] if rows else 0


EVERY = """
select golden_id, count(*) over () as count from hub.identity
where kind = 'link' and entity = $1 group by golden_id order by min(at), golden_id limit $2
"""


def _time(thing: Past, since: int, until: int | None) -> Json:
    """When one was broken, by the steps that broke and that mended it."""
    steps = {step.number: step for step in reversed(thing.steps)}
    return {"since": history.step_told(steps[since]), "until": history.step_told(steps[until]) if until else None}


async def _broken_now(
    context: Context, entity: str, invariant: Invariant, name: str | None, limit: int
) -> tuple[list[tuple[str, Past]], int]:
    """The golden records that break the invariant as things stand, by their stored values, and how many there are."""
    golden_id = await _alive(context, entity, name) if name else None
    ids: list[str] = []
    async with context.pool.acquire() as conn, conn.transaction():
        async for row in conn.cursor(LIVING, entity, golden_id):
            if not invariant.holds(load(row["golden_id"], entity, past.stored(row["fields"]), row["deleted"])):
                ids.append(row["golden_id"])
    return [(id_, await past.load(context, id_)) for id_ in ids[:limit]], len(ids)


LIVING = """
select golden_id, fields, deleted from hub.golden
where entity = $1 and merged_into is null and ($2::text is null or golden_id = $2) order by golden_id
"""


async def _alive(context: Context, entity: str, name: str) -> str:
    thing, named = await history.find(context, entity, name)
    return (await past.fold(context, thing, len(thing.steps))).root(named)


def _first(search: Search, number: int) -> Json:
    """The step at that place, and the golden records that broke the invariant by it."""
    found = [(one, thing, step) for one, thing in search.things for step in thing.steps if step.number == number]
    ids = sorted({one for one, thing, _ in found if search.broken(one, thing, number)})
    thing, step = next(((thing, step) for one, thing, step in found if one in ids), found[0][1:])
    said = search.told.get(step.place) if step.place else None
    return {
        "processed": step.number, "processed_at": moment(step.at), "kind": step.kind, "id": step.id, "golden_ids": ids,
        **history.told_of(thing, step, said),
    }  # fmt: skip
