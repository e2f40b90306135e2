"""Replay: rebuild claims and golden records from the topics alone, into shadow tables, compare with live, and swap.

Nothing is asked of a vendor and nothing is written to one. Decisions that were taken once (links, merges, which fields
of an event were the hub's own) are read from their topics and used again, so a rebuild under the same configuration
gives the same golden records. Live processing goes on meanwhile; the comparison waits for it only at the very end.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from hub import fold, projection
from hub.decide import strip
from hub.event import Event, from_avro
from hub.fold import DELETED, Claim, claims_of
from hub.identity import RecordId
from hub.projection import project
from streams import steward
from streams.context import Context, publish
from streams.hashes import partition_hashes
from streams.ledger import change_topics
from streams.log_postgres import Connection
from streams.project import STAGE, expand
from streams.reading import read
from streams.records import Record
from streams.topics import DEADLETTERS, DECISIONS, IDENTITY
from streams.workspace import RecordState

Progress = Callable[[int, int], None]
CHUNK = 5_000


@dataclass(slots=True)
class Difference:
    """One golden record that the rebuild has otherwise than live; None where one side lacks it."""

    golden_id: str
    live: dict[str, Any] | None
    rebuilt: dict[str, Any] | None


@dataclass(slots=True)
class Rebuilt:
    """What a replay found. `hashes` are those of what was rebuilt, per entity and partition, `live` those of live."""

    events: int = 0
    golden: int = 0
    differences: list[Difference] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    live: dict[str, str] = field(default_factory=dict)
    swapped: bool = False


@dataclass(slots=True)
class Shadow:
    """The state being rebuilt."""

    records: dict[RecordId, RecordState] = field(default_factory=dict)
    homes: dict[RecordId, str] = field(default_factory=dict)
    entities: dict[RecordId, str] = field(default_factory=dict)
    merged: dict[str, str | None] = field(default_factory=dict)
    unsaid: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    parked: set[tuple[str, int, int]] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    done: dict[tuple[str, int], int] = field(default_factory=dict)


async def replay(context: Context, swap: bool = False, progress: Progress = lambda done, of: None) -> Rebuilt:
    """Rebuild everything up to where live processing stands, compare, and with `swap` put the rebuilt rows in place."""
    shadow = Shadow()
    await _catch_up(context, shadow, await _positions(context), progress)
    async with context.pool.acquire() as conn, conn.transaction():
        rows = await conn.fetch(
            "select topic, partition, next_offset from hub.position where stage = $1 order by 2, 3 for update", STAGE
        )
        await _publish_all(context)
        await _catch_up(context, shadow, {(r[0], r[1]): r[2] for r in rows}, progress)
        rebuilt = Rebuilt(events=len(shadow.seen))
        golden = _project(context, shadow)
        rebuilt.golden = len(golden)
        await _fill(conn, golden, shadow)
        rebuilt.differences = await _compare(conn)
        rebuilt.hashes = partition_hashes([(g, e, orjson.loads(fields), gone) for g, e, fields, gone in golden])
        rebuilt.live = await _live_hashes(conn)
        if swap and rebuilt.differences:
            await _swap(conn)
            rebuilt.swapped = True
    return rebuilt


async def _publish_all(context: Context) -> None:
    """The last decisions may still be in the outbox."""
    while await context.pool.fetchval("select exists (select from hub.outbox)"):
        if not await publish(context):
            await asyncio.sleep(0.05)  # another worker is at it


async def _positions(context: Context) -> dict[tuple[str, int], int]:
    rows = await context.pool.fetch("select topic, partition, next_offset from hub.position where stage = $1", STAGE)
    return {(r["topic"], r["partition"]): r["next_offset"] for r in rows}


async def _catch_up(context: Context, shadow: Shadow, upto: dict[tuple[str, int], int], progress: Progress) -> None:
    await _read_decisions(context, shadow)
    topics = set(change_topics(context))
    total = sum(end for (topic, _), end in upto.items() if topic in topics)
    for (topic, partition), end in _turns(upto):
        if topic in topics:
            async for record in _records(context, shadow, topic, partition, end):
                if (topic, partition, record.offset) in shadow.parked:
                    continue
                _apply(context, shadow, from_avro(context.codec.decode(record.value)[1]))
                if len(shadow.seen) % 1000 == 0:
                    progress(len(shadow.seen), total)
    progress(total, total)


def _turns(upto: dict[tuple[str, int], int]) -> list[tuple[tuple[str, int], int]]:
    """In which order the partitions are read, and how far at each turn. Any will do, for the fold is a join."""
    return sorted(upto.items())


async def _read_decisions(context: Context, shadow: Shadow) -> None:
    """What was decided, and which records were set aside."""
    ends = await context.log.ends([IDENTITY.name, DECISIONS.name, DEADLETTERS.name])
    for (topic, partition), end in sorted(ends.items()):
        async for record in _records(context, shadow, topic, partition, end):
            name, datum = context.codec.decode(record.value)
            if name == "decision":
                shadow.unsaid[datum["event_id"], datum["external_id"]] = frozenset(datum["unsaid"])
            elif name == "deadletter":
                shadow.parked |= (
                    {(datum["topic"], datum["partition"], datum["offset"])} if datum["stage"] == STAGE else set()
                )
            elif datum["kind"] == "link":
                id_ = (datum["system"], datum["object"], datum["external_id"])
                shadow.homes.setdefault(id_, datum["golden_id"])
                shadow.entities.setdefault(id_, datum["entity"])
            else:
                shadow.merged[datum["golden_id"]] = datum["into"] if datum["kind"] == "merge" else None


async def _records(context: Context, shadow: Shadow, topic: str, partition: int, end: int) -> AsyncIterator[Record]:
    """What has not been read of a partition yet, up to `end`."""
    start = shadow.done.get((topic, partition), 0)
    while start < end:
        chunk = await context.log.read(topic, partition, start, min(CHUNK, end - start))
        if not chunk:
            break
        await context.codec.learn(record.value for record in chunk)
        for record in chunk:
            if record.offset < end:
                yield record
        start = chunk[-1].offset + 1
    shadow.done[topic, partition] = max(start, end)


def _apply(context: Context, shadow: Shadow, event: Event) -> None:
    if event.event_id in shadow.seen:
        return
    shadow.seen.add(event.event_id)
    if event.system == steward.SYSTEM:
        _steward(shadow, event)
        return
    for one in expand(event):
        state = shadow.records.get(one.record)
        reading = read(context.model, one, state)
        home = shadow.homes.get(one.record)
        if reading is None or home is None:
            continue
        state = shadow.records[one.record] = reading.state
        state.home = state.golden_id = home
        unsaid = shadow.unsaid.get((one.event_id, one.external_id), frozenset())
        alive = {} if one.op == "delete" else {DELETED: False}
        said = alive | {name: strip(value) for name, value in reading.values.items() if name not in unsaid}
        state.claims = fold.fold(state.claims, claims_of(said, one.at, one.clock))
        deleted = state.claims.get(DELETED)
        state.gone = bool(deleted and deleted.value)


def _steward(shadow: Shadow, event: Event) -> None:
    said = event.fields()
    if said["action"] not in ("pin", "unpin"):
        return
    id_ = (steward.SYSTEM, steward.OBJECT, event.external_id)
    state = shadow.records.setdefault(id_, RecordState(id_, "", event.external_id, event.external_id))
    value = {n: said.get(n) for n in steward.PIN} if said["action"] == "pin" else None
    state.claims = fold.fold(state.claims, [(said["field"], Claim(value, event.at, event.clock))])


def _project(context: Context, shadow: Shadow) -> list[tuple[str, str, str, bool]]:
    """(golden id, entity, fields as JSON, deleted) of every golden record that lives."""
    groups: dict[str, list[RecordState]] = {}
    for id_, home in shadow.homes.items():  # a record that the hub created counts before it has said anything
        shadow.records.setdefault(id_, RecordState(id_, shadow.entities[id_], home, home))
    for state in shadow.records.values():
        state.golden_id = _root(shadow, state.home)
        groups.setdefault(state.golden_id, []).append(state)
    golden = []
    for golden_id, states in sorted(groups.items()):
        entity = next((s.entity for s in states if s.entity), "")
        if entity:
            made = project(golden_id, context.model.entities[entity], [s.source for s in states]).golden
            golden.append((golden_id, entity, orjson.dumps(projection.dump(made)).decode(), made.deleted))
    return golden


def _root(shadow: Shadow, golden_id: str) -> str:
    while into := shadow.merged.get(golden_id):
        golden_id = into
    return golden_id


async def _fill(conn: Connection, golden: list[tuple[str, str, str, bool]], shadow: Shadow) -> None:
    await conn.execute(
        "create temporary table shadow_golden (golden_id text, entity text, fields jsonb, deleted bool) on commit drop"
    )
    await conn.execute(
        "create temporary table shadow_record (system text, object text, external_id text, golden_id text, claims jsonb)"
        " on commit drop"
    )
    await conn.copy_records_to_table("shadow_golden", records=golden)
    rows = [(*s.id, s.golden_id, orjson.dumps(fold.dump(s.claims)).decode()) for s in shadow.records.values()]
    await conn.copy_records_to_table("shadow_record", records=rows)


async def _compare(conn: Connection) -> list[Difference]:
    """Golden records whose fields or deletion differ. A golden record that only the hub's own creates make up has no
    events behind it and is not compared."""
    rows = await conn.fetch(
        "select golden_id, l.fields as live, s.fields as rebuilt, l.deleted as gone, s.deleted as ends"
        " from (select * from hub.golden where merged_into is null) l full join shadow_golden s using (golden_id)"
        " where l.fields is distinct from s.fields or l.deleted is distinct from s.deleted order by golden_id"
    )
    return [Difference(r["golden_id"], _side(r["live"], r["gone"]), _side(r["rebuilt"], r["ends"])) for r in rows]


async def _live_hashes(conn: Connection) -> dict[str, str]:
    rows = await conn.fetch("select golden_id, entity, fields, deleted from hub.golden where merged_into is null")
    return partition_hashes([(r[0], r[1], orjson.loads(r[2]), r[3]) for r in rows])


def _side(fields: str | None, deleted: bool | None) -> dict[str, Any] | None:
    return None if fields is None else {**orjson.loads(fields), DELETED: bool(deleted)}


async def _swap(conn: Connection) -> None:
    """Put the rebuilt rows in place of the live ones; the next change of each record is planned from there."""
    await conn.execute(
        "update hub.golden g set fields = s.fields, deleted = s.deleted, version = g.version + 1, updated_at = now()"
        " from shadow_golden s where g.golden_id = s.golden_id"
        " and (g.fields is distinct from s.fields or g.deleted is distinct from s.deleted)"
    )
    await conn.execute(
        "insert into hub.golden (golden_id, entity, version, fields, deleted)"
        " select golden_id, entity, 1, fields, deleted from shadow_golden on conflict do nothing"
    )
    await conn.execute(
        "update hub.record r set claims = s.claims, golden_id = s.golden_id from shadow_record s"
        " where (r.system, r.object, r.external_id) = (s.system, s.object, s.external_id)"
        " and (r.claims, r.golden_id) is distinct from (s.claims, s.golden_id)"
    )
