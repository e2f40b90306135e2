"""Replay: rebuild claims and golden records from the topics alone, into shadow tables, compare with live, and swap.

Live processing goes on meanwhile; the comparison waits for it only at the very end. What is read and folded is `shadow`.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson

from hub import fold
from hub.fold import DELETED
from streams import versions
from streams.context import Context, publish
from streams.hashes import partition_hashes
from streams.log_postgres import Connection
from streams.project import STAGE
from streams.shadow import Progress, Shadow, catch_up, project_all


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


async def replay(context: Context, swap: bool = False, progress: Progress = lambda done, of: None) -> Rebuilt:
    """Rebuild everything up to where live processing stands, compare, and with `swap` put the rebuilt rows in place."""
    shadow = Shadow()
    await catch_up(context, shadow, await _positions(context), progress)
    async with context.pool.acquire() as conn, conn.transaction():
        await versions.in_effect(context, conn)
        rows = await conn.fetch(
            "select topic, partition, next_offset from hub.position where stage = $1 order by 2, 3 for update", STAGE
        )
        await _publish_all(context)
        await catch_up(context, shadow, {(r[0], r[1]): r[2] for r in rows}, progress)
        rebuilt = Rebuilt(events=len(shadow.seen))
        golden = project_all(context, shadow)
        rebuilt.golden = len(golden)
        await _fill(conn, golden, shadow)
        rebuilt.differences = await _compare(conn, list(context.model.entities))
        rebuilt.hashes = partition_hashes([(g, e, orjson.loads(fields), gone) for g, e, fields, gone in golden])
        rebuilt.live = await _live_hashes(conn, list(context.model.entities))
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


async def _compare(conn: Connection, entities: list[str]) -> list[Difference]:
    """Golden records whose fields or deletion differ. A golden record that only the hub's own creates make up has no
    events behind it and is not compared."""
    rows = await conn.fetch(
        "select golden_id, l.fields as live, s.fields as rebuilt, l.deleted as gone, s.deleted as ends"
        " from (select * from hub.golden where merged_into is null and entity = any($1)) l"
        " full join shadow_golden s using (golden_id)"
        " where l.fields is distinct from s.fields or l.deleted is distinct from s.deleted order by golden_id",
        entities,
    )
    return [Difference(r["golden_id"], _side(r["live"], r["gone"]), _side(r["rebuilt"], r["ends"])) for r in rows]


async def _live_hashes(conn: Connection, entities: list[str]) -> dict[str, str]:
    rows = await conn.fetch(
        "select golden_id, entity, fields, deleted from hub.golden where merged_into is null and entity = any($1)",
        entities,
    )
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
