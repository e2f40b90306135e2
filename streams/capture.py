"""Capture: every system -> the log. Polls streams page by page; a checkpoint is stored only after its changes."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import orjson
import structlog

from connectors.kit.allowance import Priority
from connectors.kit.connector import Checkpoint, Page, Stream
from connectors.kit.line import calling
from hub import event
from hub.change import Change
from hub.errors import Fatal, HubError, Retry, Unauthorized
from hub.event import Event
from hub.identity import RecordId
from schemas.wire import WireError
from streams import alerts, aside, metrics, tally, tracing
from streams.calling import bounded, closing, paced
from streams.context import Context, now
from streams.faults import INFRASTRUCTURE
from streams.log import PostgresLog
from streams.log_postgres import Connection
from streams.project import STAGE
from streams.queue import mark_primed
from streams.receipts import pause
from streams.records import NewRecord
from streams.sources import LOOK_SECONDS, Orders
from streams.topics import changes_topic

PAUSE = 4.0

log = structlog.get_logger(__name__)


class Spread:
    """How long a poll waits between its pages, so that all that a system has to tell since the last poll does not keep others'
    edits waiting: a few times as long as a page took to store, and in all at most half of the seconds between two polls."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds / 2

    def pause(self, took: float) -> float:
        """Seconds to wait after a page that took so long."""
        pause = min(PAUSE * took, self._left)
        self._left -= pause
        return pause


class Capture:
    """Polls one stream of one system. Whoever holds the stream's lock polls; others stand by."""

    def __init__(self, context: Context, system: str, stream: Stream) -> None:
        self.context = context
        self.system = system
        self.stream = stream
        self.healthy = True
        self.last_error: str | None = None
        self.orders = Orders(context, system, stream.name)
        self.name = f"{system}/{stream.name}"
        self._complete = False  # what the first read yields is no habit
        self._noted = -1.0
        self.busy_since: float | None = None  # of the poll in hand, when it last moved; seconds of time.monotonic()

    async def step(self) -> int:
        """Read until nothing is left for now, or the stream is halted; returns how many changes were captured."""
        began = datetime.now(UTC)
        checkpoint = await self._checkpoint()
        # A first complete reading can wait; what happens now cannot.
        with calling(Priority.POLL if self._complete else Priority.BACKFILL):
            captured, ended = await self._read(checkpoint)
        if ended:
            await self._reached_end(began)
            self.healthy, self.last_error = True, None
        return captured

    async def _read(self, checkpoint: Checkpoint | None) -> tuple[int, bool]:
        """How many changes were captured, and whether nothing was left; a stream that is halted ends before."""
        captured, pause, spread = 0, 0.0, Spread(self.stream.seconds if self._complete else 0.0)
        connector = await self.context.connector(self.system)
        # Closed at once when storing a page fails: a source may hold a transaction open while it is read.
        async with closing(connector.poll(self.stream.name, checkpoint)) as pages:
            seconds = self.context.patience.call_seconds
            async for page in paced(pages, seconds, f"reading {self.name}"):
                await asyncio.sleep(pause)
                began = time.monotonic()
                await self._store(page)
                self.busy_since = time.monotonic()
                await bounded(page.acknowledge(), seconds, f"acknowledging {self.name}")
                captured += len(page.changes)
                if await self.orders.halted():
                    return captured, False
                pause = spread.pause(time.monotonic() - began)
        return captured, True

    async def _checkpoint(self) -> Checkpoint | None:
        row = await self.context.pool.fetchrow(
            "select state, complete from hub.checkpoint where system = $1 and stream = $2",
            self.system,
            self.stream.name,
        )
        self._complete = bool(row and row["complete"])
        return orjson.loads(row["state"]) if row is not None else None

    async def _store(self, page: Page) -> None:
        """Changes first, then the checkpoint: a crash between them reads the page again, and its events are known."""
        records = await to_records(self.context, page.changes)
        async with self.context.pool.acquire() as conn, conn.transaction():
            await conn.execute(
                "insert into hub.checkpoint as c (system, stream, state, changes) values ($1, $2, $3, $4)"
                " on conflict (system, stream) do update set state = excluded.state,"
                " changes = c.changes + excluded.changes",
                self.system, self.stream.name, orjson.dumps(page.checkpoint).decode(), len(page.changes),
            )  # fmt: skip
            if self._complete and page.changes:
                newest = max((c.at for c in page.changes if c.at is not None), default=None)
                await tally.add(self.context, conn, tally.YIELD, self.name, len(page.changes), newest)
            await append(self.context, conn, records)
        metrics.captured(page.changes)

    async def _reached_end(self, began: datetime) -> None:
        async with self.context.pool.acquire() as conn, conn.transaction():
            await conn.execute(
                "insert into hub.checkpoint (system, stream, state, complete, polled_at) values ($1, $2, 'null', true, $3)"
                " on conflict (system, stream) do update set complete = true, polled_at = $3,"
                " error = null, error_since = null", self.system, self.stream.name, began,
            )  # fmt: skip
            await self._looked(conn)

    async def _looked(self, conn: Connection) -> None:
        """Note once a period that was looked: without it a silence of the source could not be told from one of the hub."""
        period = time.time() // self.context.watch.period_seconds
        if self._complete and period != self._noted:
            await tally.add(self.context, conn, tally.YIELD, self.name, 0)
            self._noted = period
        self._complete = True

    async def failed(self, error: Exception) -> None:
        """Note trouble with the system, where others can see it."""
        self.healthy, self.last_error = False, f"{type(error).__name__}: {error}"
        metrics.failed("capture", self.system, error)
        await self.context.pool.execute(
            "insert into hub.checkpoint (system, stream, state, error, error_since) values ($1, $2, 'null', $3, now())"
            " on conflict (system, stream) do update set error = $3,"
            " error_since = coalesce(hub.checkpoint.error_since, now())",
            self.system, self.stream.name, self.last_error[:2_000],
        )  # fmt: skip


async def to_records(
    context: Context,
    changes: Sequence[Change],
    parents: Mapping[RecordId, str | None] | None = None,
    observed: int | None = None,
) -> list[NewRecord]:
    """Envelope changes as events for the log; those that it cannot take are parked. Where a source has neither version
    nor clock, the record's previous event stands in for them. `parents` are the traces that records' changes come in
    with; they were seen at `observed` (microseconds; now by default)."""
    observed, traced = observed or now(), tracing.on()
    looked = [(change, aside.unfit(change)) for change in changes]
    unfit = [(change, why) for change, why in looked if why]
    changes = [change for change, why in looked if not why]
    previous = await _previous(context, [c for c in changes if c.version is None and c.at is None])
    records = []
    for change in changes:
        key = (change.system, change.object, change.external_id)
        trace = _trace(change, observed, (parents or {}).get(key)) if traced else None
        try:
            captured, value = _enveloped(context, change, observed, previous.get(key, ""), trace)
        except WireError as error:
            unfit.append((change, str(error)))
            continue
        if key in previous:
            previous[key] = captured.event_id
        records.append(NewRecord(changes_topic(*key[:2]).name, change.external_id.encode(), value))
    await aside.set_aside(context, unfit)
    return records


def _enveloped(
    context: Context, change: Change, observed: int, previous: str, trace: str | None
) -> tuple[Event, bytes]:
    """A change as an event, and that as the log keeps it. Of one that is too large only what is mapped; raises WireError
    where that is still too large, or a number of it is beyond 64 bits."""
    captured = event.record(change, observed, previous, trace)
    value = context.codec.encode("event", captured.to_avro())
    if len(value) <= aside.MAX_EVENT_BYTES:
        return captured, value
    less = aside.mapped(context.model, change)
    if len(less.fields) == len(change.fields):
        raise WireError(
            "unencodable", f"an event of {len(value)} bytes, of which the log takes {aside.MAX_EVENT_BYTES}"
        )
    return _enveloped(context, less, observed, previous, trace)


def _trace(change: Change, observed: int, parent: str | None) -> str | None:
    attributes: tracing.Attributes = {"hub.system": change.system, "hub.object": change.object, "hub.op": change.op}
    return tracing.begin("capture", attributes | {"hub.channel": change.channel}, observed, parent)


async def _previous(context: Context, changes: Sequence[Change]) -> dict[tuple[str, str, str], str]:
    if not changes:
        return {}
    rows = await context.pool.fetch(
        "select system, object, external_id, last_event from hub.record join unnest($1::text[], $2::text[], $3::text[])"
        " as k (system, object, external_id) using (system, object, external_id)",
        [c.system for c in changes], [c.object for c in changes], [c.external_id for c in changes],
    )  # fmt: skip
    known = {(r["system"], r["object"], r["external_id"]): r["last_event"] for r in rows}
    return {key: known.get(key, "") for c in changes for key in [(c.system, c.object, c.external_id)]}


async def append(context: Context, conn: Connection, records: Sequence[NewRecord]) -> None:
    """Durable when the caller's transaction is (PostgreSQL log), or at once (Kafka)."""
    if isinstance(context.log, PostgresLog):
        await context.log.append_in(conn, records)
    elif records:
        await context.log.append(records)


async def prime(context: Context, system: str) -> bool:
    """Open the gate for a system once all its streams were read completely and all of it is folded."""
    streams = context.connectors[system].streams()
    complete = await context.pool.fetchval(
        "select count(*) from hub.checkpoint where system = $1 and stream = any($2) and complete",
        system, [s.name for s in streams],
    )  # fmt: skip
    if complete < len(streams):
        return False
    topics = [changes_topic(s, o).name for s, o in context.model.mappings if s == system]
    if await behind(context, STAGE, topics):
        return False
    async with context.pool.acquire() as conn:
        await mark_primed(conn, system)
    return True


async def behind(context: Context, stage: str, topics: Sequence[str]) -> int:
    """How many records of these topics the stage has not processed."""
    ends = await context.log.ends(topics)
    starts = await context.log.starts(topics)
    rows = await context.pool.fetch(
        "select topic, partition, next_offset from hub.position where stage = $1 and topic = any($2)", stage, topics
    )
    done = {(r["topic"], r["partition"]): r["next_offset"] for r in rows}
    return sum(max(0, end - max(done.get(key, 0), starts.get(key, 0))) for key, end in ends.items())


class Interlude(Protocol):
    """What else is done with a stream by whoever polls it: `turn` after each poll, and at least every second.

    waiting   whether the next turn waits for a poll
    """

    @property
    def waiting(self) -> bool: ...

    async def turn(self) -> float:
        """Do a bounded piece; seconds until there may be more to do."""

    async def close(self) -> None:
        """Let go: another worker may go on."""


async def forever(capture: Capture, between: Interlude) -> None:
    """Poll until cancelled, while holding the stream's lock. Trouble is noted, waited out, and never ends the loop."""
    while True:
        try:
            async with capture.context.pool.acquire() as conn:
                await _poll_under_lock(capture, between, conn)
        except INFRASTRUCTURE as error:
            metrics.failed("capture", capture.system, error)
            capture.healthy, capture.last_error = False, f"{type(error).__name__}: {error}"
            await asyncio.sleep(1.0)


async def _poll_under_lock(capture: Capture, between: Interlude, conn: Connection) -> None:
    name = f"{capture.system}/{capture.stream.name}"
    if not await conn.fetchval("select pg_try_advisory_lock(hashtextextended($1, 7))", name):
        capture.healthy, capture.last_error = True, None  # another worker polls this stream
        await asyncio.sleep(2.0)
        return
    try:
        while True:
            await _poll_until_halted(capture, between, conn)
            await between.close()
            capture.healthy, capture.last_error = True, None
            await capture.orders.overdue(conn)
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        await between.close()
        await conn.execute("select pg_advisory_unlock(hashtextextended($1, 7))", name)


async def _poll_until_halted(capture: Capture, between: Interlude, conn: Connection) -> None:
    """Poll when it is time, or when the interlude waits for it. The lock lives with the connection that is asked whether to
    go on: no connection, no polling."""
    due, wake = 0.0, capture.context.poll_now
    while not await capture.orders.halted(conn):
        if between.waiting or wake.is_set() or time.monotonic() >= due:
            began, seconds = time.monotonic(), capture.stream.seconds
            await _step(capture)
            due = max(began + seconds, time.monotonic() + seconds / 5)
        wait = LOOK_SECONDS
        if capture.healthy and not await capture.orders.halted():
            capture.busy_since = time.monotonic()
            wait = await between.turn()
            capture.busy_since = None
        await _pause(max(0.0, min(wait, due - time.monotonic())), wake)


async def _step(capture: Capture) -> None:
    capture.busy_since = time.monotonic()
    metrics.count(metrics.ATTEMPTS, "capture", capture.system)
    try:
        await capture.step()
    except Retry as error:
        await capture.failed(error)
        capture.busy_since = None
        await asyncio.sleep(error.after or 1.0)
    except Unauthorized as error:  # one alert for the system, whichever of its parts is the first to need a person
        async with capture.context.pool.acquire() as conn:
            await pause(capture.context, conn, capture.system, str(error), error.generation)
        await capture.failed(error)
        await asyncio.sleep(5.0)
    except Fatal as error:
        if capture.healthy:
            await alerts.raised(
                capture.context, "source_stopped", f"{capture.system}/{capture.stream.name}", str(error)
            )
        await capture.failed(error)
        await asyncio.sleep(15.0)
    except HubError as error:
        await capture.failed(error)
        await asyncio.sleep(5.0)
    except INFRASTRUCTURE:
        raise
    except Exception as error:
        log.exception("source failed", system=capture.system, stream=capture.stream.name)
        await capture.failed(error)
        await asyncio.sleep(5.0)
    finally:
        capture.busy_since = None


async def _pause(seconds: float, wake: asyncio.Event) -> None:
    """Wait for the next poll; whoever waits for the hub to be idle may ask for it earlier."""
    try:
        await asyncio.wait_for(wake.wait(), seconds)
        await asyncio.sleep(min(seconds, 0.25))
    except TimeoutError:
        return


async def open_gate(context: Context) -> None:
    """Prime systems as their first complete reads are folded, until all are."""
    waiting = set(context.connectors)
    while waiting:
        try:
            waiting -= {system for system in sorted(waiting) if await prime(context, system)}
        except INFRASTRUCTURE as error:
            log.warning("the gate waits", error=str(error))
        await asyncio.sleep(0.2)
