"""Deletes that wait for a person: listed, approved or discarded. Either decision is an event."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import asyncpg

from hub.change import Change
from hub.errors import Reject
from streams import metrics
from streams.audit import auditable, dated, tell
from streams.audit_store import COLUMNS, Row, event_of
from streams.capture import append, to_records
from streams.context import Context
from streams.log_postgres import Connection
from streams.scanning import cut
from streams.workspace import peek_records


async def waiting(context: Context) -> list[dict[str, Any]]:
    """Audits whose deletes wait, oldest first, each with the ids of the records that are gone."""
    rows = await context.pool.fetch(
        "select a.id, a.system, a.object, a.known, a.reason, a.ended, array_agg(d.external_id order by 1) as gone"
        " from hub.audit a join hub.drift d on d.audit_id = a.id and d.kind = 'extra'"
        " where a.state = 'waiting' group by a.id order by a.id"
    )
    return [dict(r) for r in rows]


async def approve(context: Context, number: int, author: str, reason: str) -> Row:
    """Capture the deletes of an audit: of those records that are gone still, for each is asked for once more. Raises
    Reject where nothing waits under this number."""
    row, ids = await _found(context.pool, number)
    _, scanner = await auditable(context, row.system, row.object)
    changes: list[Change] = []
    for some in cut(ids):
        changes += [c for c in await scanner.look(some) if c.op == "delete" and c.external_id in some]
    async with context.pool.acquire() as conn:
        states = await peek_records(conn, row.system, row.object, ids)
    gone = [c for c in changes if (state := states.get(c.external_id)) is not None and not state.gone]
    records = await to_records(context, [dated(c, states[c.external_id]) for c in gone])
    decided = replace(row, state="approved", reason=reason, deleted=len(gone))
    async with context.pool.acquire() as conn, conn.transaction():
        await _decide(conn, decided)
        await append(context, conn, [*records, event_of(context, decided, author=author)])
    metrics.captured(gone)
    await tell(context, decided, {"waiting"})
    return decided


async def discard(context: Context, number: int, author: str, reason: str) -> Row:
    """Let the records live. Raises Reject where nothing waits under this number."""
    row, _ = await _found(context.pool, number)
    decided = replace(row, state="discarded", reason=reason)
    async with context.pool.acquire() as conn, conn.transaction():
        await _decide(conn, decided)
        await append(context, conn, [event_of(context, decided, author=author)])
    await tell(context, decided, {"waiting"})
    return decided


async def _found(pool: asyncpg.Pool, number: int) -> tuple[Row, Sequence[str]]:
    row = await pool.fetchrow("select * from hub.audit where id = $1 and state = 'waiting'", number)
    if row is None:
        raise Reject(f"no deletes wait under {number}: see hub scans list", "unknown")
    rows = await pool.fetch(
        "select external_id from hub.drift where audit_id = $1 and kind = 'extra' order by 1", number
    )
    return Row(**{name: row[name] for name in (*COLUMNS, "id")}), [r["external_id"] for r in rows]


async def _decide(conn: Connection, row: Row) -> None:
    """Only one decision counts, whoever decides at the same time."""
    decided = await conn.fetchval(
        "update hub.audit set state = $2, reason = $3, deleted = $4 where id = $1 and state = 'waiting' returning true",
        row.id, row.state, row.reason, row.deleted,
    )  # fmt: skip
    if not decided:
        raise Reject(f"{row.id} was decided meanwhile", "unknown")
