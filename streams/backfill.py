"""Backfill: an object read again while its stream is captured, chunk by chunk, between two polls.

The watermark algorithm of DBLog (Andreakis and Papapanagiotou, 2020), with the hub's own log in the place of the
database's: mark the log's ends (low), read a chunk, poll the stream to its end, mark the log's ends again (high), and
drop each row whose record has an event between the marks that is as new or newer; the poll brings that one. Rows that
are left are appended as of the low mark: a row is never newer than what it was read as, by its own version, and by the
time before it was asked for where versions tie. So an event that comes after the high mark wins too.

The chunk is held until the poll after it went well, and its checkpoint is stored with its rows: a crash reads it again.
"""

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import asyncpg
import orjson
import structlog

from connectors.kit.allowance import Priority
from connectors.kit.connector import Page, Stream
from connectors.kit.line import calling
from hub.change import Change
from hub.errors import HubError, Retry
from hub.event import from_avro
from streams import metrics, sources
from streams.capture import append, to_records
from streams.context import Context, now
from streams.faults import INFRASTRUCTURE
from streams.records import Offsets
from streams.sources import progress, told
from streams.topics import changes_topic

log = structlog.get_logger(__name__)

WAIT_SECONDS = 5.0
READ = 1_000


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows that were read and not appended yet. `low` are the log's ends before, `asked_at` the time before (us);
    `page` is None behind the last chunk; `begun` tells the request from an earlier one of the same object."""

    object: str
    begun: datetime
    page: Page | None
    low: Offsets
    asked_at: int


class Backfill:
    """The snapshots of one stream, one after the other. `turn` is to be called after each poll that reached its end."""

    def __init__(self, context: Context, system: str, stream: Stream) -> None:
        self.context = context
        self.system = system
        self.stream = stream
        self._chunk: Chunk | None = None
        self._pages: AsyncGenerator[Page, None] | None = None
        self._of: tuple[str, datetime | None] = ("", None)
        self._due = 0.0

    @property
    def waiting(self) -> bool:
        """Whether a chunk waits for the poll after it."""
        return self._chunk is not None

    async def turn(self) -> float:
        """Append the chunk in hand, and read the next one if it is due; seconds until there may be more to do."""
        try:
            await self._append()
            if time.monotonic() >= self._due:
                await self._read()
        except INFRASTRUCTURE:
            await self.close()
            raise
        except Exception as error:
            await self._failed(error)
        return max(0.0, self._due - time.monotonic()) if self._chunk is None else 0.0

    async def close(self) -> None:
        """Forget what is in hand: another process may go on from the checkpoint."""
        self._chunk, self._of = None, ("", None)
        if self._pages is not None:
            await self._pages.aclose()
            self._pages = None

    async def _read(self) -> None:
        row = await self._wanted()
        if row is None:
            self._due = time.monotonic() + sources.LOOK_SECONDS
            await self.close()
            return
        object_ = row["object"]
        if self._of != (object_, row["started_at"]) or self._pages is None:
            await self._begin(object_, row)
        assert self._pages is not None
        asked_at, low = now(), await self.context.log.ends([changes_topic(self.system, object_).name])
        with calling(Priority.BACKFILL):
            page = await anext(self._pages, None)
        self._chunk = Chunk(object_, row["started_at"], page, low, asked_at)
        self._due = time.monotonic() + (len(page.changes) / row["rate"] if page else 0.0)

    async def _begin(self, object_: str, row: asyncpg.Record) -> None:
        await self.close()
        connector = await self.context.connector(self.system)
        checkpoint = orjson.loads(row["checkpoint"]) if row["checkpoint"] else None
        self._pages = connector.snapshot(self.stream.name, object_, checkpoint)
        self._of = (object_, row["started_at"])

    async def _wanted(self) -> asyncpg.Record | None:
        return await self.context.pool.fetchrow(
            "select object, checkpoint, rate, started_at from hub.snapshot where system = $1 and stream = $2"
            " and state = 'running' order by started_at, object limit 1", self.system, self.stream.name,
        )  # fmt: skip

    async def _append(self) -> None:
        chunk, self._chunk = self._chunk, None
        if chunk is None:
            return
        if chunk.page is None:
            await self._done(chunk)
            return
        kept = current(chunk.page.changes, await self._window(chunk))
        records = await to_records(
            self.context, [replace(c, channel="snapshot") for c in kept], observed=chunk.asked_at
        )
        rows, dropped = len(chunk.page.changes), len(chunk.page.changes) - len(kept)
        async with self.context.pool.acquire() as conn, conn.transaction():
            row = await conn.fetchrow(
                "update hub.snapshot set checkpoint = $3, rows = rows + $4, dropped = dropped + $5, moved_at = now(),"
                " error = null where system = $1 and object = $2 and started_at = $6 and state = 'running'"
                " returning rows, dropped, total",
                self.system, chunk.object, orjson.dumps(chunk.page.checkpoint).decode(), rows, dropped, chunk.begun,
            )  # fmt: skip
            if row is None:  # paused or stopped meanwhile: what was read is read again, or not wanted any more
                await self.close()
                return
            said = progress(self.system, chunk.object, "running", *row)
            await append(self.context, conn, [*records, told(self.context, said)])
        metrics.captured(replace(c, channel="snapshot") for c in kept)

    async def _window(self, chunk: Chunk) -> dict[str, int]:
        """The newest order of each record that has events between the low mark and now."""
        high = await self.context.log.ends([changes_topic(self.system, chunk.object).name])
        newest: dict[str, int] = {}
        for (topic, partition), end in high.items():
            start = chunk.low.get((topic, partition), 0)
            while start < end and (records := await self.context.log.read(topic, partition, start, READ)):
                await self.context.codec.learn(record.value for record in records)
                for event in (from_avro(self.context.codec.decode(record.value)[1]) for record in records):
                    newest[event.external_id] = max(event.clock.order, newest.get(event.external_id, 0))
                start = records[-1].offset + 1
        return newest

    async def _done(self, chunk: Chunk) -> None:
        await self.close()
        row = await self.context.pool.fetchrow(
            "update hub.snapshot set state = 'done', ended_at = now(), error = null where system = $1 and object = $2"
            " and started_at = $3 and state = 'running' returning rows, dropped, total",
            self.system, chunk.object, chunk.begun,
        )  # fmt: skip
        if row is not None:
            await sources.tell(self.context, [progress(self.system, chunk.object, "done", *row)])

    async def _failed(self, error: Exception) -> None:
        """Noted with the snapshot, and tried again from its checkpoint; the stream itself goes on."""
        object_, words = self._of[0], f"{type(error).__name__}: {error}"
        if not isinstance(error, HubError):
            log.exception("snapshot failed", system=self.system, object=object_)
        await self.close()
        metrics.failed("snapshot", self.system, error)
        after = error.after if isinstance(error, Retry) else None
        self._due = time.monotonic() + (after or WAIT_SECONDS)
        row = await self.context.pool.fetchrow(
            "with old as (select error from hub.snapshot where system = $1 and object = $2)"
            " update hub.snapshot set error = $3 where system = $1 and object = $2 and state = 'running'"
            " returning rows, dropped, total, (select error from old) is distinct from $3 as news",
            self.system, object_, words[:2_000],
        )  # fmt: skip
        if row is not None and row["news"]:
            counts = (row["rows"], row["dropped"], row["total"])
            await sources.tell(self.context, [progress(self.system, object_, "failed", *counts, words)])


def current(rows: Sequence[Change], window: Mapping[str, int]) -> list[Change]:
    """The rows that no event of their record between the marks has overtaken, by the record's own clock."""
    return [row for row in rows if window.get(row.external_id, -1) < _order(row)]


def _order(row: Change) -> int:
    order = row.version if row.version is not None else row.at
    return 0 if order is None else order
