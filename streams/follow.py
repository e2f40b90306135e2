"""Follow: what came after a rebuild's bulk, folded event by event into the shadow tables.

The records and golden records concerned are loaded, the reference (streams.shadow) folds and projects them, and they are
stored again, all in the caller's transaction. So this may run while live processing goes on, again and again, and at last
with live processing held.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import asyncpg
import orjson

from hub import fold
from hub.event import Event, from_avro
from hub.identity import RecordId, root
from streams import shadow, steward
from streams.bulk_work import Files
from streams.context import Context
from streams.decided import through
from streams.log_postgres import Connection
from streams.project import expand
from streams.rebuild_state import State, step, steps
from streams.records import Offsets
from streams.scope import Scope
from streams.shadow import Shadow
from streams.workspace import RecordState

BATCH = 2_000
T = TypeVar("T", str, RecordId)


@dataclass(slots=True)
class Followed:
    """What following did. `left_out` are golden records that a partial rebuild can no longer tell, for something that it
    has not read became part of them meanwhile."""

    read: int = 0
    left_out: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Following:
    """One following at work; `built` holds the records at hand and what was decided since the bulk."""

    context: Context
    conn: Connection
    built: Shadow
    bulk: Mapping[str, str | None]
    named: frozenset[str] | None
    touched: set[str] = field(default_factory=set)
    found: Followed = field(default_factory=Followed)

    @property
    def merged(self) -> dict[str, str | None]:
        """Where every golden id has gone."""
        return {**self.bulk, **self.built.merged}


async def follow(
    context: Context, scope: Scope, state: State, files: Files, conn: Connection, upto: Offsets
) -> Followed:
    """Bring the shadow tables from where they stand to these positions."""
    stands = {**state.upto, **_places(await steps(conn, "follow"))}
    topics = set(scope.topics(context.model))
    ends = {place: end for place, end in upto.items() if place[0] in topics and end > stands.get(place, 0)}
    at = Following(context, conn, Shadow(done=dict(state.since)), files.spill.merged(), await _named(conn, scope))
    await shadow.read_decisions(context, at.built)
    await _regroup(at)
    ids = [event.event_id async for event in _events(at, stands, ends)]
    at.built.seen = await _seen(conn, files, ids) if ids else set()
    known = set(at.built.seen)
    await _link(at)
    batch: list[Event] = []
    async for event in _events(at, stands, ends):
        batch.append(event)
        if len(batch) >= BATCH:
            await _apply(at, batch)
            batch = []
    await _apply(at, batch)
    await _note(conn, at.built.seen - known, ends)
    await _project(at)
    at.found.read = len(ids)
    return at.found


async def _events(at: Following, stands: Offsets, ends: Offsets) -> AsyncIterator[Event]:
    for (topic, partition), end in sorted(ends.items()):
        async for record in through(at.context, topic, partition, end, start=stands.get((topic, partition), 0)):
            if (topic, partition, record.offset) not in at.built.parked:
                yield from_avro(at.context.codec.decode(record.value)[1])


async def _regroup(at: Following) -> None:
    """Move the records of golden ids that were merged, or given back, since the bulk."""
    before, after = dict(at.bulk), at.merged
    moved = {g: (root(before, g), root(after, g)) for g in after if root(before, g) != root(after, g)}
    together = {one for pair in moved.values() for one in pair}
    at.touched |= together
    await at.conn.executemany(
        "update hub.shadow_record set golden_id = $3 where golden_id in ($1, $2, $3) and home = $1",
        [(home, was, now) for home, (was, now) in moved.items()],
    )
    if at.named is not None and moved:
        at.found.left_out = together & at.named
        at.named -= together
        await at.conn.execute("delete from hub.rebuild_named where golden_id = any($1)", sorted(together))


async def _link(at: Following) -> None:
    """Records that were linked since the bulk count before they have said anything."""
    for ids in _parts(at.built.homes):
        await _load(at, ids)
        await _store(at)


async def _apply(at: Following, events: Sequence[Event]) -> None:
    one_by_one = [one for event in events for one in expand(event)]
    await _load(at, {one.record for one in one_by_one})
    for event in events:
        if at.named is None or any(_in_scope(at, one) for one in expand(event)):
            shadow.apply(at.context.model, at.built, event)
    await _store(at)


def _in_scope(at: Following, event: Event) -> bool:
    """Whether the record belongs to what a partial rebuild is about, or has not been linked yet and may come to."""
    if event.system != steward.SYSTEM and event.record in at.built.records and event.record not in at.built.homes:
        return True
    home = event.external_id if event.system == steward.SYSTEM else at.built.homes.get(event.record, "")
    return at.named is not None and root(at.merged, home) in at.named


async def _load(at: Following, ids: Iterable[RecordId]) -> None:
    """The records as the shadow tables have them; the first home that a record was given counts."""
    at.built.records.clear()
    wanted = sorted(set(ids))
    rows = await at.conn.fetch(
        "select s.* from hub.shadow_record s join unnest($1::text[], $2::text[], $3::text[])"
        " as k (system, object, external_id) using (system, object, external_id)",
        *([id_[n] for id_ in wanted] for n in range(3)),
    )  # fmt: skip
    for row in rows:
        state = _state(row)
        at.built.records[state.id] = state
        if state.home and state.id[0] != steward.SYSTEM:
            at.built.homes[state.id], at.built.entities[state.id] = state.home, state.entity
    for id_ in wanted:
        if home := at.built.homes.get(id_):
            known = at.built.records.setdefault(id_, RecordState(id_, at.built.entities[id_]))
            known.home = known.golden_id = home


def _state(row: asyncpg.Record) -> RecordState:
    id_ = (row["system"], row["object"], row["external_id"])
    claims = fold.load(orjson.loads(row["claims"]))
    return RecordState(id_, row["entity"], row["golden_id"], row["home"], claims, stored=True)


async def _store(at: Following) -> None:
    """Put the records at hand back, and remember whose golden records they are."""
    merged, kept = at.merged, []
    for state in at.built.records.values():
        state.golden_id = root(merged, state.home)
        if at.named is None or state.golden_id in at.named or state.stored:
            kept.append(state)
    at.touched |= {state.golden_id for state in kept if state.home}
    await at.conn.executemany(
        "insert into hub.shadow_record (system, object, external_id, entity, golden_id, home, claims)"
        " values ($1, $2, $3, $4, $5, $6, $7) on conflict (system, object, external_id) do update"
        " set entity = $4, golden_id = $5, home = $6, claims = $7",
        [(*s.id, s.entity, s.golden_id, s.home, orjson.dumps(fold.dump(s.claims)).decode()) for s in kept],
    )


async def _project(at: Following) -> None:
    """Choose every golden record anew that was touched; one that has no records any more is no more."""
    for golden_ids in _parts(at.touched):
        rows = await at.conn.fetch("select * from hub.shadow_record where golden_id = any($1)", list(golden_ids))
        states = {state.id: state for state in map(_state, rows)}
        made = shadow.project_all(at.context, Shadow(records=states, merged=at.merged))
        await at.conn.execute("delete from hub.shadow_golden where golden_id = any($1)", list(golden_ids))
        kept = [row for row in made if at.named is None or row[0] in at.named]
        await at.conn.copy_records_to_table("shadow_golden", schema_name="hub", records=kept)


def _parts(names: Collection[T]) -> Iterator[list[T]]:
    ordered = sorted(names)
    return (ordered[n : n + BATCH] for n in range(0, len(ordered), BATCH))


async def _seen(conn: Connection, files: Files, ids: Sequence[str]) -> set[str]:
    """Which of these events were folded already."""
    rows = await conn.fetch("select event_id from hub.rebuild_seen where event_id = any($1)", list(ids))
    return {row["event_id"] for row in rows} | files.spill.seen(ids)


async def _note(conn: Connection, folded: Iterable[str], ends: Offsets) -> None:
    await conn.copy_records_to_table("rebuild_seen", schema_name="hub", records=[(one,) for one in folded])
    for (topic, partition), end in ends.items():
        await step(conn, "follow", f"{topic} {partition}", end)


def _places(done: Mapping[str, int]) -> Offsets:
    return {(name.rpartition(" ")[0], int(name.rpartition(" ")[2])): end for name, end in done.items()}


async def _named(conn: Connection, scope: Scope) -> frozenset[str] | None:
    if not scope.partial:
        return None
    return frozenset(row["golden_id"] for row in await conn.fetch("select golden_id from hub.rebuild_named"))
