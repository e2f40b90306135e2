"""The past of one thing: its golden record, and what each system held, after any step of what the hub processed.

Read by an index: the places of the thing's events and receipts, its links and merges. The payloads come from the log, and
are folded by the code that rebuilds everything (`shadow`). A step is one event or receipt that was processed, or a merge;
its number is its place in the order of processing, its time that of the transaction that processed it, by the clock of the
state database. So an answer is the same whenever it is asked for.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
import orjson

from hub.errors import Reject
from hub.event import Event, from_avro
from hub.identity import RecordId, root
from hub.model import Model
from hub.projection import Projected, project
from streams import in_force, past_index, shadow, sight, steward
from streams.context import Context
from streams.decided import Decided
from streams.in_force import InForce
from streams.records import Place
from streams.rereading import Unsaid as Redecided
from streams.rereading import reread_thing
from streams.topics import RECEIPTS
from streams.workspace import RecordState

TAKEN = ("applied", "unchanged")
TURN = 100
"""After so many steps whatever else the process does has a turn."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that was processed. `kind` is event, receipt, deployment, move, merge or unmerge; `id` that of the event, or
    the write's key; `golden_id` and `into` tell of a merge, or of an unmerge, which gives `golden_id` back; `record` is what
    was moved to `golden_id`; `deployed` the configuration that took effect."""

    number: int
    at: int
    kind: str
    id: str
    place: Place | None = None
    golden_id: str = ""
    into: str = ""
    reason: str = ""
    record: RecordId | None = None
    deployed: InForce | None = None


Unsaid = dict[tuple[str, str], frozenset[str]]
Decision = tuple[int, frozenset[str], bool]
"""The number of the deployment that took it (0: it was taken when the event was processed), fields that are no claims, and
whether the event answered a write of the hub."""


@dataclass(slots=True)
class Past:
    """What is known of one thing's past without reading its payloads. `ids` are all golden ids that merges ever brought
    together with it; `homes` the golden id that each record was linked to first, and `linked` the number of the step that
    linked it; `decided` is all that was ever decided of its events, the first of each when that was processed;
    `first` what was in force before the first step (None: what the process works by)."""

    ids: frozenset[str]
    entity: str
    homes: dict[RecordId, str]
    linked: dict[RecordId, int]
    steps: list[Step] = field(default_factory=list)
    decided: dict[tuple[str, str], list[Decision]] = field(default_factory=dict)
    entities: dict[str, str] = field(default_factory=dict)
    first: InForce | None = None

    def unsaid(self) -> Unsaid:
        """What events did not claim when they were processed."""
        return {key: some[0][1] for key, some in self.decided.items()}

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
    receipts = await context.pool.fetch(RECEIVED, ids)
    made = {r["key"]: r["processed"] for r in reversed(receipts) if r["outcome"] in TAKEN}
    linked = {_record(r): r["processed"] or made.get(r["event_id"], 0) for r in reversed(links)}
    events = await _events(context, [*homes, *((steward.SYSTEM, steward.OBJECT, id_) for id_ in ids)])
    decided = _decided(await context.pool.fetch(DECIDED, [row["event_id"] for row in events]))
    moves = [row for row in identity if row["kind"] != "link"]
    steps, first = _in_force(_steps(events, receipts, moves), await in_force.deployments(context))
    return Past(
        frozenset(ids), links[0]["entity"], homes, linked, steps, decided,
        {row["golden_id"]: row["entity"] for row in identity}, first,
    )  # fmt: skip


def _decided(rows: Iterable[asyncpg.Record]) -> dict[tuple[str, str], list[Decision]]:
    """All decisions about each event and record, in order. What was first decided anew had been claimed until then."""
    found: dict[tuple[str, str], list[Decision]] = {}
    for row in rows:
        some = found.setdefault((row["event_id"], row["external_id"]), [])
        some += [] if some or not row["deployment"] else [(0, frozenset(), False)]
        some.append((row["deployment"], frozenset(row["unsaid"]), row["echo"]))
    return found


def _in_force(steps: list[Step], known: Sequence[InForce]) -> tuple[list[Step], InForce | None]:
    """The steps with the deployments among them, and what was in force before the first."""
    if not (steps and known):
        return steps, None
    first = in_force.before(known, steps[0].number, steps[0].at)
    later = [one for one in known if (one.number > steps[0].number if one.number else one.at >= steps[0].at)]
    taken = [Step(_number(steps, one), one.at, "deployment", one.id, reason=one.reason, deployed=one) for one in later]
    return sorted([*steps, *taken], key=_order), first


def _number(steps: Sequence[Step], one: InForce) -> int:
    """Where a deployment has its place; one from before they had numbers behind what was processed by its time."""
    return one.number or max((step.number for step in steps if step.at <= one.at), default=0)


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
select i.*, coalesce(e.processed, d.processed) as processed, coalesce(e.processed_at, d.at) as processed_at
from hub.identity i left join hub.event e using (event_id)
  left join hub.deployment d on d.processed > 0 and i.event_id = 'configuration/' || d.processed
where i.golden_id = any($1) order by i.partition, i."offset"
"""
RECEIVED = 'select * from hub.receipt where golden_id = any($1) order by processed, partition, "offset"'
DECIDED = "select * from hub.decision where event_id = any($1) order by deployment"
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
    return sorted(known, key=_order)


ORDER = {"event": 0, "receipt": 0, "deployment": 1, "move": 2, "merge": 2, "unmerge": 2}


def _order(step: Step) -> tuple[int, int]:
    return step.number, ORDER[step.kind]


def _receipt(events: Sequence[Step], row: asyncpg.Record) -> Step:
    """A receipt from before receipts had numbers comes behind what was processed by its time."""
    number = row["processed"] or max((s.number for s in events if s.at <= row["at"]), default=0)
    place = (RECEIPTS.name, row["partition"], row["offset"])
    return Step(number, row["at"], "receipt", row["key"], place, row["golden_id"])


def _move(known: Sequence[Step], row: asyncpg.Record) -> Step:
    """A merge is found at the end of a transaction; here it comes right behind the last of this thing's own steps in it."""
    id_, record = row["event_id"], _record(row) if row["kind"] == "move" else None
    told = (row["golden_id"], row["into_id"] or "", row["reason"], record)
    if row["processed"] is None:  # no event led to it, but somebody's decision
        own = max((s.number for s in known if s.at <= row["at"]), default=0)
        return Step(own, row["at"], row["kind"], "", None, *told)
    number, at = row["processed"], row["processed_at"]
    own = max((s.number for s in known if s.at == at and s.number <= number), default=number)
    return Step(own, at, row["kind"], id_, None, *told)


@dataclass(slots=True)
class Then:
    """A thing as it was: its steps folded one after the other, each by the configuration that was in force.

    `fixed` are the decisions that deployments took anew, where they are not to be taken again (of a part of the events they
    could come out otherwise); `redecided` those that they took."""

    model: Model
    configuration: str
    past: Past
    built: shadow.Shadow
    sights: dict[RecordId, RecordState] = field(default_factory=dict)
    number: int = 0
    events: dict[Place, Event] = field(default_factory=dict)
    redecided: dict[int, Redecided] = field(default_factory=dict)
    fixed: Mapping[int, Redecided] | None = None
    frozen: dict[str, Projected] = field(default_factory=dict)

    def take(self, step: Step, told: Any) -> None:
        """Fold one more step. `told` is what it said, as it stands on the log."""
        self.number = max(self.number, step.number)
        if step.kind in ("merge", "unmerge"):
            self.built.merged[step.golden_id] = step.into if step.kind == "merge" else None
        elif step.kind == "move" and step.record:
            self.built.homes[step.record] = step.golden_id
        elif step.deployed is not None:
            self._deploy(step.number, step.deployed.model)
            self.configuration = step.deployed.version
        elif step.kind == "event" and told is not None and step.place:
            self.events[step.place] = told
            shadow.apply(self.model, self.built, told)
            sight.see(self.model, self.sights, told, self.built.unsaid)
        elif told is not None and told["outcome"] in TAKEN:
            sight.acknowledge(self.model, self.sights, told, self.past.linked, step.number)

    def _deploy(self, number: int, new: Model) -> None:
        """What a deployment did to the thing's records: those that the new mappings read otherwise were read again."""
        if self.past.entity not in new.entities and self.past.entity in self.model.entities:
            self.frozen = {id_: one for id_ in self.past.ids if (one := self.golden(id_))}
        events = [self.events[place] for place in sorted(self.events)]
        fixed = None if self.fixed is None else self.fixed.get(number, {})
        made = reread_thing(self.model, new, self._live(), events, self._decided(number), fixed)
        for id_ in made.changed:
            self.built.records[id_] = replace(made.records[id_])
            self.sights[id_] = replace(made.records[id_])
        self.model, self.redecided[number] = new, made.unsaid

    def _live(self) -> dict[RecordId, RecordState]:
        """The thing's records with what they claim and what they hold."""
        ids = (id_ for id_ in self.built.records.keys() | self.sights.keys() if id_[0] != steward.SYSTEM)
        live = {}
        for id_ in sorted(ids):
            seen = self.sights.get(id_)
            state = self.built.records.get(id_) or RecordState(id_, self.past.entity)
            live[id_] = replace(state, view=seen.view, gone=seen.gone) if seen else replace(state)
        return live

    def _decided(self, number: int) -> Decided:
        """What was decided about the thing's events before a deployment."""
        last = {key: [one for one in some if one[0] < number][-1:] for key, some in self.past.decided.items()}
        return Decided({key: one[1:] for key, some in last.items() for one in some})

    def root(self, golden_id: str) -> str:
        """The golden id under which a golden id lived then."""
        return root(self.built.merged, golden_id)

    def members(self, golden_id: str) -> list[RecordState]:
        """The records that belonged to a golden record, and the pins."""
        known = self.built.records
        records = [
            known.get(id_) or RecordState(id_, self.past.entity, home=home)
            for id_, home in sorted(self.built.homes.items())
            if self.past.linked[id_] <= self.number and self.root(home) == golden_id
        ]
        pins = [s for id_, s in known.items() if id_[0] == steward.SYSTEM and self.root(s.home) == golden_id]
        return records + pins if records else []

    def golden(self, golden_id: str) -> Projected | None:
        """The golden record; None while there was none of this id, or it was part of another."""
        entity = self.model.entities.get(self.past.entities.get(golden_id, self.past.entity))
        members = self.members(golden_id)
        if entity is None:  # what the configuration does not know stays as it was
            return self.frozen.get(golden_id) if members else None
        return project(golden_id, entity, [m.source for m in members]) if members else None


def begin(context: Context, past: Past, fixed: Then | None = None) -> Then:
    """The thing before its first step; with what deployments decided as it was in `fixed`."""
    entities = dict.fromkeys(past.homes, past.entity)
    built = shadow.Shadow(homes=dict(past.homes), entities=entities, unsaid=past.unsaid())
    model = past.first.model if past.first else context.model
    configuration = past.first.version if past.first else context.configuration or model.version
    return Then(model, configuration, past, built, fixed=fixed.redecided if fixed else None)


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
        then.take(step, told.get(step.place) if step.place else None)
    return then


def stored(fields: str) -> dict[str, list[Any]]:
    """The fields of a golden record as hub.golden keeps them."""
    parsed: dict[str, list[Any]] = orjson.loads(fields)
    return parsed
