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
    """Pages until nothing is left for now: by turns a page of a snapshot and what the feed has."""
    stored = checkpoint or {}
    database = await _database(session, stored)
    position = await feed.resume(stored.get("position"))
    snapshots = Snapshots(session, index, feed, stored.get("tables", {}), page)
    await snapshots.begin()
    begun = checkpoint is not None

    def here() -> dict[str, Any]:
        return {"database": database, "stream": feed.stream, "position": position, "tables": snapshots.dump()}

    patience = Patience()
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
        if rows is not None or moved:
            patience = Patience()
        elif snapshots.done:
            return
        else:
            await patience.wait(snapshots.waiting)


class Patience:
    """A poll that ended before every table was read would pass for complete. So it waits a little, then says why."""

    def __init__(self) -> None:
        self._until = time.monotonic() + PATIENCE_SECONDS

    async def wait(self, tables: Sequence[str]) -> None:
        """A moment. Raises Retry when there were too many."""
        if time.monotonic() > self._until:
            what = f"the first reading of {', '.join(tables)} waits for transactions that are older than it"
            raise Retry(f"{what}: see xact_start in pg_stat_activity, and pg_prepared_xacts", after=1.0)
        await asyncio.sleep(WAIT_SECONDS)


async def _database(session: Session, stored: Checkpoint) -> str:
    """The database's identity. Raises Fatal where it is another one than the checkpoint's: positions mean nothing there."""
    async with session.connection() as conn:
        identity = str(await conn.fetchval("SELECT system_identifier FROM pg_control_system()"))
    if stored.get("database", identity) != identity:
        raise Fatal(f"this is another database cluster than the one that was read so far: {RESET}")
    return identity
