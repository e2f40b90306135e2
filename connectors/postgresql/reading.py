"""Single records as they are now."""

from collections.abc import Sequence

import asyncpg

from connectors.postgresql.mapped import Index, Mapped
from connectors.postgresql.position import WAL_CLOCK
from connectors.postgresql.session import Session
from hub.change import Change, Notice


async def read_records(session: Session, index: Index, notices: Sequence[Notice], clock: str) -> list[Change]:
    """The records that notices speak of, in their order; one that is not there as a delete."""
    async with session.connection() as conn, conn.transaction():
        return [await _read(conn, index.objects[n.object], n.external_id, clock or WAL_CLOCK) for n in notices]


async def _read(conn: asyncpg.Connection, mapped: Mapped, external_id: str, clock: str) -> Change:
    """Locked for a moment: a change that is about to commit must be in what is read, for its version may be lower."""
    sql = f"SELECT {mapped.selection(clock)} FROM {mapped.table.sql} WHERE {mapped.where()} FOR SHARE"  # noqa: S608 - quoted
    row = await conn.fetchrow(sql, *mapped.key_of(external_id))
    if row is not None:
        return mapped.read(dict(row), "read")
    version = await conn.fetchval(f"SELECT {clock}")
    return mapped.change(external_id, None, version=version, channel="read")
