"""Services: what runs beside the stages in a worker: polling, delivering, and upkeep. Each is a `mode` service."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import mode
import structlog

from hub.change import Change
from streams import budgets, capture, deliver, heartbeat, metrics, overdue, past_index, steward, tally
from streams.auditing import Plan
from streams.auditing import forever as audits_forever
from streams.backfill import Backfill
from streams.capture import Capture, to_records
from streams.context import Context, publish
from streams.deliver import Deliverer
from streams.faults import INFRASTRUCTURE
from streams.log import PostgresLog
from streams.log_maintenance import maintain
from streams.plan import WAKE

log = structlog.get_logger(__name__)

UPKEEP_SECONDS = 2.0
SWEEP_TURNS = 1_800  # hourly


class Loop(mode.Service):
    """Runs one coroutine for as long as the worker lives."""

    abstract = False

    def __init__(self, name: str, body: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self.name = name
        self._body = body
        self._running: asyncio.Task[None] | None = None

    @property
    def label(self) -> str:
        """Its name in logs."""
        return self.name

    async def on_start(self) -> None:
        """Start the coroutine; if it ends by an error, so does the worker."""
        self._running = asyncio.ensure_future(self._watched())

    async def _watched(self) -> None:
        try:
            await self._body()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("service ended", service=self.name)
            await self.crash(error)

    async def on_stop(self) -> None:
        """Cancel it, and wait until it has let go."""
        if self._running is not None:
            await ended(self._running)


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel a task, and return when it is over. Again and again: a connection that breaks just then raises its own error
    in place of the cancellation, and the task goes on."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=1.0)


def capturing(captures: Sequence[Capture]) -> list[Loop]:
    """A loop per stream, which also reads its snapshots."""
    return [Loop(f"capture-{c.system}-{c.stream.name}", lambda c=c: _capture(c)) for c in captures]  # type: ignore[misc]


async def _capture(one: Capture) -> None:
    await capture.forever(one, Backfill(one.context, one.system, one.stream))


def delivering(context: Context, deliverers: Sequence[Deliverer]) -> list[Loop]:
    """A loop per target, all woken by the plan stage's notification."""
    wakes = {d.target: asyncio.Event() for d in deliverers}
    loops = [Loop(f"deliver-{d.target}", lambda d=d: deliver.forever(d, wakes[d.target])) for d in deliverers]  # type: ignore[misc]
    return [*loops, Loop("deliver-wake", lambda: _listen(context, list(wakes.values())))]


async def _listen(context: Context, wakes: Sequence[asyncio.Event]) -> None:
    """Turn database notifications into wake-ups; without a connection the deliverers still look once a second."""

    def woken(*_: object) -> None:
        for wake in wakes:
            wake.set()

    while True:
        try:
            async with context.pool.acquire() as conn:
                await conn.add_listener(WAKE, woken)
                try:
                    while True:
                        await asyncio.sleep(5.0)
                        await conn.fetchval("select 1")
                finally:
                    await conn.remove_listener(WAKE, woken)
        except INFRASTRUCTURE:
            await asyncio.sleep(1.0)


def auditing(context: Context, plans: Sequence[Plan]) -> list[Loop]:
    """A loop per system that is audited."""
    return [Loop(f"audit-{plan.system}", lambda plan=plan: audits_forever(context, plan)) for plan in plans]  # type: ignore[misc]


def gate(context: Context) -> Loop:
    """Let writes begin once every system was read."""
    return Loop("gate", lambda: _open_gate(context))


async def _open_gate(context: Context) -> None:
    await capture.open_gate(context)
    await asyncio.Event().wait()


def beating() -> Loop:
    """Measure how late the event loop is."""
    return Loop("heartbeat", heartbeat.forever)


def upkeep(context: Context) -> Loop:
    """Expire pins, empty the outbox after a crash, forget old intents, watch budgets, alert of what waits too long,
    index the past, compact the PostgreSQL log."""
    return Loop("upkeep", lambda: _upkeep(context))


async def _upkeep(context: Context) -> None:
    turn = 0
    while True:
        try:
            await publish(context)
            await expire_pins(context)
            await budgets.watch(context)
            await overdue.look(context)
            await past_index.catch_up(context, chunks=2)
            if turn % SWEEP_TURNS == SWEEP_TURNS - 1:
                await _sweep(context)
        except INFRASTRUCTURE as error:
            log.warning("upkeep waits", error=str(error))
        turn += 1
        await asyncio.sleep(UPKEEP_SECONDS)


async def _sweep(context: Context) -> None:
    await tally.forget(context)
    await context.pool.execute("delete from hub.intent where at < now() - interval '1 day'")
    if isinstance(context.log, PostgresLog):
        await maintain(context.pool)


async def expire_pins(context: Context) -> int:
    """End pins whose time has come by an event, so that a replay ends them at the same place; how many."""
    rows = await context.pool.fetch(
        "select external_id, c.key as field from hub.record, jsonb_each(claims::jsonb) c where system = $1 and object = $2"
        " and c.value -> 0 ->> 'expires_at' <= $3",
        steward.SYSTEM, steward.OBJECT, datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    )  # fmt: skip
    await order(
        context, [(r["external_id"], {"action": "unpin", "field": r["field"], "author": "expiry"}) for r in rows]
    )
    return len(rows)


async def order(context: Context, decisions: Sequence[tuple[str, dict[str, object]]]) -> None:
    """Append stewards' decisions: (golden id, payload as in streams.steward)."""
    changes = [
        Change(steward.SYSTEM, steward.OBJECT, golden_id, said, channel="steward") for golden_id, said in decisions
    ]
    stamped = [Change(c.system, c.object, c.external_id, c.fields, at=_micros(), channel=c.channel) for c in changes]
    if stamped:
        await context.log.append(await to_records(context, stamped))
        metrics.captured(stamped)


def _micros() -> int:
    return int(datetime.now(UTC).timestamp() * 1_000_000)
