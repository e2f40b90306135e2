"""Replay: rebuild claims and golden records from the topics alone, into shadow tables, compare with live, and swap.

Live processing goes on meanwhile; the comparison waits for it only at the very end. What is read and folded in bulk is
`rebuild`; `shadow` does the same event by event, in memory, and is what the bulk is held against.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from hub import fold
from hub.fold import DELETED
from streams import versions
from streams.context import Context, publish_all
from streams.hashes import Hashes
from streams.ledger import change_topics
from streams.log_postgres import Connection
from streams.position import begin, positions
from streams.project import STAGE
from streams.rebuild import HOURS, Options, Rebuild, Told, rebuilding
from streams.records import Offsets
from streams.shadow import Shadow, catch_up, project_all

ROUNDS = 20  # of following, before live processing is held
FEW = 500  # events that are followed while live processing waits


@dataclass(slots=True)
class Difference:
    """One golden record that the rebuild has otherwise than live; None where one side lacks it."""

    golden_id: str
    live: dict[str, Any] | None
    rebuilt: dict[str, Any] | None


@dataclass(slots=True)
class Rebuilt:
    """What a replay found. `hashes` are those of what was rebuilt, per entity and partition, `live` those of live.

    events      distinct events that were folded; read: records that this run read from the log
    left_out    golden records in scope that something out of scope became part of meanwhile
    """

    events: int = 0
    golden: int = 0
    differences: list[Difference] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    live: dict[str, str] = field(default_factory=dict)
    swapped: bool = False
    read: int = 0
    left_out: list[str] = field(default_factory=list)


def _silent(what: str, done: int, of: int) -> None:
    """Tell nobody."""


EVERYTHING = Options()


async def replay(context: Context, swap: bool = False, options: Options = EVERYTHING, told: Told = _silent) -> Rebuilt:
    """Rebuild up to where live processing stands, compare, and with `swap` put the rebuilt rows in place. Goes on with a
    replay that was cut off. Raises Hold where another one is under way."""
    async with rebuilding(context, options, told) as work:
        await work.bulk()
        left_out = await _follow(context, work)
        await _begun(context)
        async with context.pool.acquire() as conn, conn.transaction():
            await versions.in_effect(context, conn)
            upto = await _held(context, conn)
            left_out |= (await work.follow(conn, upto)).left_out
            rebuilt = await _finish(context, conn, swap, options.hashes, work.scope.partial)
        rebuilt.events, rebuilt.read, rebuilt.left_out = await work.events(), work.read, sorted(left_out)
        await work.clear()
    return rebuilt


async def replay_by_event(context: Context, swap: bool = False) -> Rebuilt:
    """The same event by event, in memory: the reference."""
    shadow = Shadow()
    await catch_up(context, shadow, await positions(context.pool, STAGE), lambda done, of: None)
    await _begun(context)
    async with context.pool.acquire() as conn, conn.transaction():
        await versions.in_effect(context, conn)
        await catch_up(context, shadow, await _held(context, conn), lambda done, of: None)
        await conn.execute("truncate hub.shadow_golden, hub.shadow_record, hub.rebuild, hub.rebuild_step")
        await _fill(conn, project_all(context, shadow), shadow)
        rebuilt = await _finish(context, conn, swap, hashes=True, partial=False)
        await conn.execute("truncate hub.shadow_golden, hub.shadow_record")
    rebuilt.events = len(shadow.seen)
    return rebuilt


async def _follow(context: Context, work: Rebuild) -> set[str]:
    """Catch up with live processing until little is left, in transactions of their own."""
    left_out: set[str] = set()
    for _ in range(ROUNDS):
        upto = await positions(context.pool, STAGE)
        await publish_all(context)
        async with context.pool.acquire() as conn, conn.transaction():
            found = await work.follow(conn, upto)
        left_out |= found.left_out
        if found.read <= FEW:
            break
    return left_out


async def _begun(context: Context) -> None:
    """See that live processing has a position wherever it may have one, for what is not there yet cannot be locked. In no
    transaction that holds others: it waits for those who are at the first records of a partition."""
    await begin(context.pool, STAGE, list(await context.log.ends(change_topics(context))))


async def _held(context: Context, conn: Connection) -> Offsets:
    """Where live processing stands, which waits from here on until the transaction ends."""
    rows = await conn.fetch(
        "select topic, partition, next_offset from hub.position where stage = $1 order by 1, 2 for update", STAGE
    )
    await publish_all(context)
    return {(r[0], r[1]): r[2] for r in rows}


async def _finish(context: Context, conn: Connection, swap: bool, hashes: bool, partial: bool) -> Rebuilt:
    """Compare the shadow tables with live, and swap if asked."""
    golden = await conn.fetchval("select count(*) from hub.shadow_golden")
    entities = list(context.model.entities)
    rebuilt = Rebuilt(golden=golden, differences=await _compare(conn, partial, entities))
    if hashes:
        rebuilt.hashes = await _hashes(conn, "hub.shadow_golden")
        rebuilt.live = await _hashes(conn, _live(partial), entities)
    if swap and rebuilt.differences:
        await _swap(conn)
        rebuilt.swapped = True
    return rebuilt


async def _fill(conn: Connection, golden: list[tuple[str, str, str, bool]], shadow: Shadow) -> None:
    await conn.copy_records_to_table("shadow_golden", schema_name="hub", records=golden)
    rows = [
        (*s.id, s.entity, s.golden_id, s.home, orjson.dumps(fold.dump(s.claims)).decode())
        for s in shadow.records.values()
    ]
    await conn.copy_records_to_table("shadow_record", schema_name="hub", records=rows)


def _live(partial: bool) -> str:
    """The golden records that live, of those that are rebuilt; $1 are the entities that are configured."""
    named = " and golden_id in (select golden_id from hub.rebuild_named)" if partial else ""
    return f"(select * from hub.golden where merged_into is null and entity = any($1){named})"  # noqa: S608 - constants


async def _compare(conn: Connection, partial: bool, entities: list[str]) -> list[Difference]:
    """Golden records whose fields or deletion differ, or that only one side has."""
    rows = await conn.fetch(
        "select golden_id, l.fields as live, s.fields as rebuilt, l.deleted as gone, s.deleted as ends"  # noqa: S608
        f" from {_live(partial)} l full join hub.shadow_golden s using (golden_id)"
        " where l.fields is distinct from s.fields or l.deleted is distinct from s.deleted order by golden_id",
        entities,
        timeout=HOURS,
    )
    return [Difference(r["golden_id"], _side(r["live"], r["gone"]), _side(r["rebuilt"], r["ends"])) for r in rows]


async def _hashes(conn: Connection, table: str, *given: list[str]) -> dict[str, str]:
    """The hashes of a table's golden records, a portion at a time."""
    query = f'select golden_id, entity, fields, deleted from {table} t order by golden_id collate "C"'  # noqa: S608
    hashes = Hashes()
    async for row in conn.cursor(query, *given, prefetch=2_000, timeout=HOURS):
        hashes.add((row[0], row[1], orjson.loads(row[2]), row[3]))
    return hashes.told()


def _side(fields: str | None, deleted: bool | None) -> dict[str, Any] | None:
    return None if fields is None else {**orjson.loads(fields), DELETED: bool(deleted)}


async def _swap(conn: Connection) -> None:
    """Put the rebuilt rows in place of the live ones; the next change of each record is planned from there."""
    for statement in SWAP:
        await conn.execute(statement, timeout=HOURS)


SWAP: Iterable[str] = (
    "update hub.golden g set fields = s.fields, deleted = s.deleted, version = g.version + 1, updated_at = now()"
    " from hub.shadow_golden s where g.golden_id = s.golden_id"
    " and (g.fields is distinct from s.fields or g.deleted is distinct from s.deleted)",
    "insert into hub.golden (golden_id, entity, version, fields, deleted)"
    " select golden_id, entity, 1, fields, deleted from hub.shadow_golden on conflict do nothing",
    "update hub.record r set claims = s.claims::json, golden_id = s.golden_id from hub.shadow_record s"
    " where (r.system, r.object, r.external_id) = (s.system, s.object, s.external_id) and s.home <> ''"
    " and (r.claims::jsonb, r.golden_id) is distinct from (s.claims::jsonb, s.golden_id)",
)
