"""Deliver: the write queue -> the targets. Leases due rows, calls the target in batches, and records every receipt."""

import asyncio
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby

import structlog

from connectors.kit.allowance import Priority
from connectors.kit.connector import Connector
from connectors.kit.line import calling
from hub.errors import AuthError, Reject, Retry
from hub.receipt import Deferred, Receipt, Refused
from hub.write import Write
from streams import metrics, receipts, tracing
from streams.context import Context
from streams.faults import INFRASTRUCTURE
from streams.preparing import Prepared, prepare
from streams.queue import LEASE_SECONDS, lease, primed, release, release_waiting, renew

log = structlog.get_logger(__name__)

ROWS = 1_000
CALLS_ABREAST = 4


class Deliverer:
    """Delivers to one target, until stopped. Several may run, in one process or many: rows are leased."""

    def __init__(self, context: Context, target: str) -> None:
        self.context = context
        self.target = target
        self.connector: Connector = context.connectors[target]
        self.lease = uuid.uuid4().hex
        self.healthy = True
        self.last_error: str | None = None
        self.busy_since: float | None = None  # of the step in hand, when it last moved; seconds of time.monotonic()
        self.outage: str | None = None  # what was wrong with the state database at the last step

    async def step(self) -> int:
        """Deliver what is due now; returns how many rows of the queue were worked on."""
        async with self.context.pool.acquire() as conn:
            if not await primed(conn, self.context.model.systems) or await receipts.paused(conn, self.target):
                return 0
            await renew(conn, self.lease)
            await release_waiting(conn, self.target)
            dues = await lease(conn, self.target, self.lease, ROWS)
            prepared = await prepare(conn, self.context.model, dues) if dues else []
        try:
            await self._work(prepared)
        finally:
            await self._give_back(len(prepared))
        return len(prepared)

    async def _give_back(self, rows: int) -> None:
        """Rows that are still leased were not finished: they are due again at once."""
        if rows:
            with suppress(*INFRASTRUCTURE):
                async with self.context.pool.acquire() as conn:
                    await release(conn, self.lease)

    async def _work(self, prepared: Sequence[Prepared]) -> None:
        await receipts.record(self.context, self.lease, [(p, []) for p in prepared if not p.writes])
        rows = [Row(p, {}) for p in prepared if p.writes]
        if rows:
            async with self.context.pool.acquire() as conn:
                await receipts.leave_intents(conn, [w for row in rows for w in row.prepared.writes])
            calls = _calls(rows, max(1, self.connector.manifest.limits.batch))
            for some in _abreast(calls, CALLS_ABREAST):
                self.busy_since = time.monotonic()
                await asyncio.gather(*map(self._call, some))
                done = [row for row in rows if row.complete]
                rows = [row for row in rows if not row.complete]
                await receipts.record(self.context, self.lease, [row.result for row in done])

    async def _call(self, pairs: Sequence[tuple["Row", Write]]) -> None:
        answers = await self._deliver([write for _, write in pairs])
        for (row, write), receipt in zip(pairs, answers, strict=True):
            row.receipts[write.key] = (write, receipt)

    async def _deliver(self, writes: Sequence[Write]) -> list[Receipt]:
        metrics.count(metrics.ATTEMPTS, "deliver", self.target, by=len(writes))
        try:
            working = tracing.working("deliver", (w.trace for w in writes), {"hub.target": self.target})
            with calling(Priority.DELIVER), working:
                answers = await (await self.context.connector(self.target)).deliver(writes)
            self.healthy, self.last_error = True, None
            metrics.answered(self.target, answers)
        except Retry as error:
            return self._all(writes, error, Deferred(str(error), error.after))
        except AuthError as error:
            async with self.context.pool.acquire() as conn:
                await receipts.pause(self.context, conn, self.target, str(error), error.generation)
            return self._all(writes, error, Deferred(f"paused: {error}"))
        except Reject as error:
            return self._all(writes, error, Refused(error.reason, error.code))
        except INFRASTRUCTURE as error:
            return self._all(writes, error, Deferred(f"{type(error).__name__}: {error}"))
        except Exception as error:
            log.exception("connector failed", target=self.target)
            return await self._one_by_one(writes, error)
        return list(answers)

    async def _one_by_one(self, writes: Sequence[Write], error: Exception) -> list[Receipt]:
        """A connector that breaks on a batch breaks on one of its writes: find it, spare the others."""
        if len(writes) == 1:
            return self._all(writes, error, Refused(f"{type(error).__name__}: {error}", "connector"))
        return [receipt for write in writes for receipt in await self._deliver([write])]

    def _all(self, writes: Sequence[Write], error: BaseException, receipt: Receipt) -> list[Receipt]:
        self.healthy, self.last_error = False, f"{type(error).__name__}: {error}"
        metrics.failed("deliver", self.target, error, by=len(writes))
        return [receipt for _ in writes]


@dataclass(slots=True)
class Row:
    """A row of the queue at work: its writes, and the receipts so far."""

    prepared: Prepared
    receipts: dict[str, tuple[Write, Receipt]]

    @property
    def complete(self) -> bool:
        """Whether every write has its receipt."""
        return len(self.receipts) == len(self.prepared.writes)

    @property
    def result(self) -> tuple[Prepared, list[tuple[Write, Receipt]]]:
        """The row with its receipts, to be recorded."""
        return self.prepared, list(self.receipts.values())


Call = list[tuple[Row, Write]]


def _calls(rows: Sequence[Row], batch: int) -> list[Call]:
    """The writes of all rows, in calls of one object and operation, as large as the target allows."""
    pairs = [(row, write) for row in rows for write in row.prepared.writes]
    pairs.sort(key=lambda pair: (pair[1].object, pair[1].op))
    groups = (list(group) for _, group in groupby(pairs, key=lambda pair: (pair[1].object, pair[1].op)))
    return [group[start : start + batch] for group in groups for start in range(0, len(group), batch)]


def _abreast(calls: Sequence[Call], width: int) -> Iterator[Sequence[Call]]:
    for start in range(0, len(calls), width):
        yield calls[start : start + width]


async def forever(deliverer: Deliverer, wake: asyncio.Event, idle_seconds: float = 1.0) -> None:
    """Step until cancelled; wait for a wake-up where nothing is due. Trouble with the state database is waited out."""
    alive = asyncio.create_task(_stay_alive(deliverer))
    try:
        while True:
            worked = await _step(deliverer)
            if not worked:
                wake.clear()
                await _within(wake, idle_seconds)
    finally:
        alive.cancel()


async def _step(deliverer: Deliverer) -> int:
    deliverer.busy_since = time.monotonic()
    outage, deliverer.outage = deliverer.outage, None
    try:
        worked = await deliverer.step()
    except INFRASTRUCTURE as error:
        metrics.failed("deliver", deliverer.target, error)
        deliverer.outage = f"{type(error).__name__}: {error}"
        deliverer.healthy, deliverer.last_error = False, deliverer.outage
        return 0
    finally:
        deliverer.busy_since = None
    if outage and deliverer.last_error == outage:  # the state database answers again, and nothing else is wrong
        deliverer.healthy, deliverer.last_error = True, None
    return worked


async def _stay_alive(deliverer: Deliverer) -> None:
    """Renew the lease also while a vendor takes its time."""
    while True:
        with suppress(*INFRASTRUCTURE):
            async with deliverer.context.pool.acquire() as conn:
                await renew(conn, deliverer.lease)
        await asyncio.sleep(LEASE_SECONDS / 3)


async def _within(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
