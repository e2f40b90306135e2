"""The past of one thing: its golden record, and what each system held, after any step of what the hub processed.

Read by an index: the places of the thing's events and receipts, its links and merges. The payloads come from the log, and
are folded by the code that rebuilds everything (`shadow`). A step is one event or receipt that was processed, or a merge;
its number is its place in the order of processing, its time that of the transaction that processed it, by the clock of the
state database. So an answer is the same whenever it is asked for.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson

from hub.errors import Reject
from hub.event import from_avro
from hub.identity import RecordId, root
from hub.model import Model
from hub.projection import Projected, project
from streams import past_index, shadow, sight, steward
from streams.context import Context
from streams.records import Place
from streams.topics import RECEIPTS
from streams.workspace import RecordState

TAKEN = ("applied", "unchanged")
TURN = 100
"""After so many steps whatever else the process does has a turn."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that was processed. `kind` is event, receipt, merge or unmerge; `id` that of the event, or the write's key;
    `golden_id` and `into` tell of a merge, or of an unmerge, which gives `golden_id` back."""

    number: int
    at: int
    kind: str
    id: str
    place: Place | None = None
    golden_id: str = ""
    into: str = ""
    reason: str = ""


@dataclass(slots=True)
class Past:
    """What is known of one thing's past without reading its payloads. `ids` are all golden ids that merges ever brought
    together with it; `homes` the golden id that each record was linked to first (or moved to, by a person's decision about
    all of them), and `linked` the number of the step that linked it."""

    ids: frozenset[str]
    entity: str
    homes: dict[RecordId, str]
    linked: dict[RecordId, int]
    unsaid: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def upto(self, at: int) -> int:
        """How many steps had been processed at an instant, in microseconds since 1970."""
        return max((n for n, step in enumerate(self.steps, 1) if step.at <= at), default=0)

    def after(self, event_id: str) -> int:
        """How many steps had been processed right after an event. Raises Reject where it is none of this thing's."""
        places = [n for n, step in enumerate(self.steps, 1) if step.id == event_id]
        if not places:
            raise Reject(f"event {event_id!r} is none of this record's: see `hub history`", "unknown")
        return places[-1]


async def load(context: Context, golden_id: str) -> Past:
    """The past of the thing that a golden id is, or is part of. Raises Reject where no record was ever linked to it."""
    await past_index.catch_up(context)
    ids = [row["id"] for row in await context.pool.fetch(TOGETHER, golden_id)]
    identity = await context.pool.fetch(IDENTITIES, ids)
    links = [row for row in identity if row["kind"] == "link"]
    if not links:
        raise Reject(f"no record was ever linked to {golden_id!r}", "unknown")
    homes = {_record(row): row["golden_id"] for row in reversed(links)}
    homes |= {_record(row): row["golden_id"] for row in identity if row["kind"] == "move"}
    receipts = await context.pool.fetch(RECEIVED, ids)
    made = {r["key"]: r["processed"] for r in reversed(receipts) if r["outcome"] in TAKEN}
    linked = {_record(r): r["processed"] or made.get(r["event_id"], 0) for r in reversed(links)}
    events = await _events(context, [*homes, *((steward.SYSTEM, steward.OBJECT, id_) for id_ in ids)])
    decisions = await context.pool.fetch(DECIDED, [row["event_id"] for row in events])
    unsaid = {(r["event_id"], r["external_id"]): frozenset(r["unsaid"]) for r in decisions}
    moves = [row for row in identity if row["kind"] in ("merge", "unmerge")]
    return Past(frozenset(ids), links[0]["entity"], homes, linked, unsaid, _steps(events, receipts, moves))


TOGETHER = """
with recursive thing (id) as (select $1::text union select n.id from thing t cross join lateral (
  select into_id from hub.identity where golden_id = t.id and into_id is not null
  union all select other.golden_id from hub.identity mine join hub.identity other using (system, object, external_id)
    where mine.golden_id = t.id and other.kind = 'move'
  union all select first.golden_id from hub.identity mine join hub.identity first using (system, object, external_id)
    where mine.golden_id = t.id and mine.kind = 'move'
  union all select golden_id from hub.identity where into_id = t.id) n (id)) select id from thing order by 1
"""
IDENTITIES = """
select i.*, e.processed, e.processed_at from hub.identity i left join hub.event e using (event_id)
where i.golden_id = any($1) order by partition, "offset"
"""
RECEIVED = 'select * from hub.receipt where golden_id = any($1) order by processed, partition, "offset"'
DECIDED = "select event_id, external_id, unsaid from hub.decision where event_id = any($1)"
EVENTS = """
with known as (select * from unnest($1::text[], $2::text[], $3::text[]) as k (system, object, external_id))
select event_id, topic, partition, "offset", processed, processed_at from hub.event join known
  using (system, object, external_id)
union
select event_id, topic, partition, "offset", processed, processed_at from hub.event e join known k
  on e.also is not null and e.also @> array[k.external_id] and (e.system, e.object) = (k.system, k.object)
order by processed
"""


def _record(row: asyncpg.Record) -> RecordId:
    return (row["system"], row["object"], row["external_id"])


async def _events(context: Context, records: Sequence[RecordId]) -> list[asyncpg.Record]:
    columns = ([r[n] for r in records] for n in range(3))
    return list(await context.pool.fetch(EVENTS, *columns))


def _steps(
    events: Sequence[asyncpg.Record], receipts: Iterable[asyncpg.Record], moves: Iterable[asyncpg.Record]
) -> list[Step]:
    """Everything in the order in which it was processed."""
    known = [
        Step(r["processed"], r["processed_at"], "event", r["event_id"], (r["topic"], r["partition"], r["offset"]))
        for r in events
    ]
    known += [_receipt(known, row) for row in receipts]
    known += [_move(known, row) for row in moves]
    return sorted(known, key=lambda step: (step.number, ORDER[step.kind]))


ORDER = {"event": 0, "receipt": 0, "merge": 1, "unmerge": 1}


def _receipt(events: Sequence[Step], row: asyncpg.Record) -> Step:
    """A receipt from before receipts had numbers comes behind what was processed by its time."""
    number = row["processed"] or max((s.number for s in events if s.at <= row["at"]), default=0)
    place = (RECEIPTS.name, row["partition"], row["offset"])
    return Step(number, row["at"], "receipt", row["key"], place, row["golden_id"])


def _move(known: Sequence[Step], row: asyncpg.Record) -> Step:
    """A merge is found at the end of a transaction; here it comes right behind the last of this thing's own steps in it."""
    if row["processed"] is None:  # no event led to it, but somebody's decision
        own = max((s.number for s in known if s.at <= row["at"]), default=0)
        return Step(own, row["at"], row["kind"], "", None, row["golden_id"], row["into_id"], row["reason"])
    number, at = row["processed"], row["processed_at"]
    own = max((s.number for s in known if s.at == at and s.number <= number), default=number)
    return Step(own, at, row["kind"], row["event_id"], None, row["golden_id"], row["into_id"], row["reason"])


@dataclass(slots=True)
class Then:
    """A thing as it was: its steps folded one after the other. `told` is what the last step said, as it stands on the log."""

    model: Model
    past: Past
    built: shadow.Shadow
    sights: dict[RecordId, RecordState] = field(default_factory=dict)
    number: int = 0

    def take(self, context: Context, step: Step, told: Any) -> None:
        """Fold one more step."""
        self.number = max(self.number, step.number)
        if step.kind == "merge":
            self.built.merged[step.golden_id] = step.into
        elif step.kind == "unmerge":
            self.built.merged[step.golden_id] = None
        elif step.kind == "event" and told is not None:
            shadow.apply(context, self.built, told)
            sight.see(self.model, self.sights, told, self.past.unsaid)
        elif told is not None and told["outcome"] in TAKEN:
            sight.acknowledge(self.model, self.sights, told, self.past.linked, step.number)

    def root(self, golden_id: str) -> str:
        """The golden id under which a golden id lived then."""
        return root(self.built.merged, golden_id)

    def members(self, golden_id: str) -> list[RecordState]:
        """The records that belonged to a golden record, and the pins."""
        known = self.built.records
        records = [
            known.get(id_) or RecordState(id_, self.past.entity, home=home)
            for id_, home in sorted(self.past.homes.items())
            if self.past.linked[id_] <= self.number and self.root(home) == golden_id
        ]
        pins = [s for id_, s in known.items() if id_[0] == steward.SYSTEM and self.root(s.home) == golden_id]
        return records + pins if records else []

    def golden(self, golden_id: str) -> Projected | None:
        """The golden record; None while there was none of this id, or it was part of another."""
        members = self.members(golden_id)
        return (
            project(golden_id, self.model.entities[self.past.entity], [m.source for m in members]) if members else None
        )


def begin(context: Context, past: Past) -> Then:
    """The thing before its first step."""
    entities = dict.fromkeys(past.homes, past.entity)
    return Then(context.model, past, shadow.Shadow(homes=dict(past.homes), entities=entities, unsaid=past.unsaid))


async def read(context: Context, steps: Sequence[Step]) -> dict[Place, Any]:
    """What stands on the log at these steps: events, and receipts as they were written. What retention removed is left out."""
    found = await context.log.pick(step.place for step in steps if step.place)
    await context.codec.learn(record.value for record in found)
    told: dict[Place, Any] = {}
    for record in found:
        name, datum = context.codec.decode(record.value)
        told[record.topic, record.partition, record.offset] = from_avro(datum) if name == "event" else datum
    return told


async def fold(context: Context, past: Past, count: int) -> Then:
    """The thing after its first `count` steps."""
    steps = past.steps[:count]
    told = await read(context, steps)
    then = begin(context, past)
    for n, step in enumerate(steps):
        if n % TURN == 0:
            await asyncio.sleep(0)
        then.take(context, step, told.get(step.place) if step.place else None)
    return then


def stored(fields: str) -> dict[str, list[Any]]:
    """The fields of a golden record as hub.golden keeps them."""
    parsed: dict[str, list[Any]] = orjson.loads(fields)
    return parsed
