"""Polling: snapshots of tables and the feed of their changes, interleaved into one stream of pages.

The checkpoint holds the identity of the database, the place in the feed, and how far each table was read.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from connectors.kit.connector import Checkpoint, Page
from connectors.postgresql.feed import Feed
from connectors.postgresql.mapped import Index
from connectors.postgresql.session import Session
from connectors.postgresql.slot import RESET
from connectors.postgresql.snapshot import Snapshots
from hub.errors import Fatal, Retry

PATIENCE_SECONDS = 2.0
WAIT_SECONDS = 0.02


async def poll(
    session: Session, index: Index, feed: Feed, checkpoint: Checkpoint | None, page: int
) -> AsyncGenerator[Page, None]:
    """Pages until all is read that was there at the beginning: by turns a page of a snapshot and what the feed has. So a
    poll has an end, however busy the database is."""
    stored = checkpoint or {}
    database = await _database(session, stored)
    position = await feed.resume(stored.get("position"))
    snapshots = Snapshots(session, index, feed, stored.get("tables", {}), page)
    await snapshots.begin()
    begun = checkpoint is not None

    def here() -> dict[str, Any]:
        return {"database": database, "stream": feed.stream, "position": position, "tables": snapshots.dump()}

    patience, end = Patience(), await feed.end()
    while True:
        rows = await snapshots.step()
        if rows is not None or not begun:
            begun = True
            yield Page(rows or (), here())
        moved = False
        async with aclosing(feed.batches(position)) as batches:
            async for batch in batches:
                moved, position = True, batch.position
                yield Page(batch.changes, here(), batch.acknowledge)
                if feed.passed(position, end):
                    break
        if snapshots.done and (not moved or feed.passed(position, end)):
            return
        if rows is not None or moved:
            patience = Patience()
        else:
            await patience.wait(snapshots.waiting)


async def snapshot(
    session: Session, index: Index, feed: Feed, object_: str, checkpoint: Checkpoint | None, page: int
) -> AsyncGenerator[Page, None]:
    """One object's table read again, in chunks. What makes it fit the feed (its version and barrier) is in the first
    checkpoint, before any row is read, so that waiting for older transactions goes on where it was."""
    stored = {object_: checkpoint} if checkpoint else {}
    snapshots = Snapshots(session, index, feed, stored, page, only=object_)
    await snapshots.begin()
    yield Page((), snapshots.dump()[object_])
    while not snapshots.done:
        rows = await snapshots.step()
        if rows is None:
            raise Retry(_waits("the snapshot", snapshots.waiting), after=1.0)
        yield Page(rows, snapshots.dump()[object_])


def _waits(what: str, tables: Sequence[str]) -> str:
    why = "waits for transactions that are older than it: see xact_start in pg_stat_activity, and pg_prepared_xacts"
    return f"{what} of {', '.join(tables)} {why}"


class Patience:
    """A poll that ended before every table was read would pass for complete. So it waits a little, then says why."""

    def __init__(self) -> None:
        self._until = time.monotonic() + PATIENCE_SECONDS

    async def wait(self, tables: Sequence[str]) -> None:
        """A moment. Raises Retry when there were too many."""
        if time.monotonic() > self._until:
            raise Retry(_waits("the first reading", tables), after=1.0)
        await asyncio.sleep(WAIT_SECONDS)


async def _database(session: Session, stored: Checkpoint) -> str:
    """The database's identity. Raises Fatal where it is another one than the checkpoint's: positions mean nothing there."""
    async with session.connection() as conn:
        identity = str(await conn.fetchval("SELECT system_identifier FROM pg_control_system()"))
    if stored.get("database", identity) != identity:
        raise Fatal(f"this is another database cluster than the one that was read so far: {RESET}")
    return identity
