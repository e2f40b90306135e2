"""Deliver: the write queue -> the targets. Leases due rows, calls the target in batches, and records every receipt.

Each target has a deliverer of its own, with its own share of database connections, and calls are cut off, so that a target
that hangs, breaks or answers garbage is in no other's way. Within a target, rows that failed before go a lane of their own.
"""

import asyncio
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress

import structlog

from connectors.kit.connector import Connector
from streams import breaker, metrics, probing, versions
from streams.attempt import Attempt
from streams.breaker import Circuit
from streams.context import Context
from streams.faults import INFRASTRUCTURE, where
from streams.log_postgres import Connection
from streams.preparing import Prepared, prepare
from streams.queue import LEASE_SECONDS, Lane, lease, primed, release, release_waiting, renew
from streams.share import Share
from streams.step import Step

log = structlog.get_logger(__name__)

ROWS = 1_000
BROKEN_SECONDS = 5.0


class Deliverer:
    """Delivers to one target, until stopped. Several may run, in one process or many: rows are leased."""

    def __init__(self, context: Context, target: str) -> None:
        self.context = context
        self.target = target
        self.lease = uuid.uuid4().hex
        self.healthy = True
        self.last_error: str | None = None
        self.outage: str | None = None  # what was wrong with the state database at the last step
        self.moved: dict[Lane, float] = {}  # when the step in hand of each lane last moved
        self.share = Share(context.pool)

    @property
    def connector(self) -> Connector:
        """The target's connector, opened or not."""
        return self.context.connectors[self.target]

    @property
    def busy_since(self) -> float | None:
        """When work in hand last moved, in seconds of time.monotonic(); of two lanes the one that moved longer ago."""
        return min(self.moved.values(), default=None)

    def token(self, lane: Lane) -> str:
        """What rows of this lane are leased under."""
        return f"{self.lease}-{lane.name}"

    async def step(self, lane: Lane = Lane.any) -> int:
        """Deliver what is due now; returns how many rows of the queue were worked on."""
        async with self.share.connection() as conn:
            if not await primed(conn, self.context.model.systems):
                return 0
            if await probing.paused(self.context, conn, self.target):
                return 0
            circuit = await breaker.admit(conn, self.target, 2 * self.context.patience.call_seconds)
            if circuit is Circuit.open:
                return 0
            prepared = await self._leased(conn, lane, circuit)
        attempt = Attempt(self.context, self.target, self.share, lambda: self._moved(lane))
        try:
            await Step(attempt, self.token(lane)).work(prepared, max(1, self.connector.manifest.limits.batch))
        finally:
            await self._settle(attempt, lane, circuit, prepared)
        return len(prepared)

    async def _leased(self, conn: Connection, lane: Lane, circuit: Circuit) -> list[Prepared]:
        """What this step works on: a probe with a single write, whichever comes first, else all that is due in the lane."""
        async with conn.transaction():
            await versions.in_effect(self.context, conn)
            await renew(conn, self.token(lane))
            await release_waiting(conn, self.target)
            rows, taken = (1, Lane.any) if circuit is Circuit.half_open else (ROWS, lane)
            dues = await lease(conn, self.target, self.token(lane), rows, taken)
        return await prepare(conn, self.context.model, dues) if dues else []

    def _moved(self, lane: Lane) -> None:
        self.moved[lane] = time.monotonic()

    async def _settle(self, attempt: Attempt, lane: Lane, circuit: Circuit, prepared: Sequence[Prepared]) -> None:
        """Rows that are still leased were not finished, and a probe that found nothing to try was none."""
        if attempt.called:
            self.healthy, self.last_error = attempt.error is None, attempt.error
        with suppress(*INFRASTRUCTURE):
            async with self.share.connection() as conn:
                if prepared:
                    await release(conn, self.token(lane))
                if circuit is Circuit.half_open and not attempt.called:
                    await breaker.give_back(conn, self.target)


async def forever(deliverer: Deliverer, wake: asyncio.Event, idle_seconds: float = 1.0) -> None:
    """Step until cancelled; wait for a wake-up where nothing is due. Trouble with the state database is waited out."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_stay_alive(deliverer))
        tasks.create_task(_lane(deliverer, Lane.fresh, wake, idle_seconds))
        tasks.create_task(_lane(deliverer, Lane.again, asyncio.Event(), idle_seconds))


async def _lane(deliverer: Deliverer, lane: Lane, wake: asyncio.Event, idle_seconds: float) -> None:
    while True:
        if not await _step(deliverer, lane):
            wake.clear()
            await _within(wake, idle_seconds)


async def _step(deliverer: Deliverer, lane: Lane) -> int:
    deliverer.moved[lane] = time.monotonic()
    outage, deliverer.outage = deliverer.outage, None
    try:
        worked = await deliverer.step(lane)
    except INFRASTRUCTURE as error:
        metrics.failed("deliver", deliverer.target, error)
        deliverer.outage = f"{type(error).__name__}: {error}"
        deliverer.healthy, deliverer.last_error = False, deliverer.outage
        return 0
    except Exception as error:  # a fault of the hub with this target: the others go on
        log.error("delivery failed", target=deliverer.target, error=type(error).__name__, where=where(error))
        metrics.failed("deliver", deliverer.target, error)
        deliverer.healthy, deliverer.last_error = False, f"{type(error).__name__}: {error}"
        await asyncio.sleep(BROKEN_SECONDS)
        return 0
    finally:
        deliverer.moved.pop(lane, None)
    if outage and deliverer.last_error == outage:  # the state database answers again, and nothing else is wrong
        deliverer.healthy, deliverer.last_error = True, None
    return worked


async def _stay_alive(deliverer: Deliverer) -> None:
    """Renew the leases also while a vendor takes its time."""
    while True:
        with suppress(*INFRASTRUCTURE):
            async with deliverer.context.pool.acquire() as conn:
                for lane in (Lane.fresh, Lane.again):
                    await renew(conn, deliverer.token(lane))
        await asyncio.sleep(LEASE_SECONDS / 3)


async def _within(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
