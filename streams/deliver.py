"""Deliver: the write queue -> the targets. Leases due rows, calls the target in batches, and records every receipt."""

import asyncio
import itertools
import uuid
from collections.abc import Sequence

import structlog

from connectors.kit.connector import Connector
from hub.errors import AuthError, Reject, Retry
from hub.receipt import Deferred, Receipt, Refused
from hub.write import Write
from streams import receipts
from streams.context import Context
from streams.faults import INFRASTRUCTURE
from streams.preparing import Prepared, prepare
from streams.queue import lease, primed, release_waiting

log = structlog.get_logger(__name__)

ROWS = 500


class Deliverer:
    """Delivers to one target, until stopped. Several may run, in one process or many: rows are leased."""

    def __init__(self, context: Context, target: str) -> None:
        self.context = context
        self.target = target
        self.connector: Connector = context.connectors[target]
        self.lease = uuid.uuid4().hex
        self.healthy = True
        self.last_error: str | None = None

    async def step(self) -> int:
        """Deliver what is due now; returns how many rows of the queue were worked on."""
        async with self.context.pool.acquire() as conn:
            if not await primed(conn, self.context.model.systems) or await receipts.paused(conn, self.target):
                return 0
            await release_waiting(conn, self.target)
            dues = await lease(conn, self.target, self.lease, ROWS)
            prepared = await prepare(conn, self.context.model, dues) if dues else []
        if prepared:
            await self._work(prepared)
        return len(prepared)

    async def _work(self, prepared: Sequence[Prepared]) -> None:
        decided = [p for p in prepared if not p.writes]
        await receipts.record(self.context, self.lease, [(p, []) for p in decided])
        writing = [p for p in prepared if p.writes]
        async with self.context.pool.acquire() as conn:
            await receipts.leave_intents(conn, [w for p in writing for w in p.writes])
        for some in _portions(writing, max(1, self.connector.manifest.limits.batch)):
            results = await self._call(some)
            await receipts.record(self.context, self.lease, results)

    async def _call(self, prepared: Sequence[Prepared]) -> list[tuple[Prepared, list[tuple[Write, Receipt]]]]:
        """Call the target for these rows; every write gets a receipt, whatever happens."""
        results: dict[int, list[tuple[Write, Receipt]]] = {id(p): [] for p in prepared}
        flat = [(p, w) for p in prepared for w in p.writes]
        order = sorted(flat, key=lambda pw: (pw[1].object, pw[1].op))
        for _, group in itertools.groupby(order, key=lambda pw: (pw[1].object, pw[1].op)):
            pairs = list(group)
            answers = await self._deliver([w for _, w in pairs])
            for (p, w), receipt in zip(pairs, answers, strict=True):
                results[id(p)].append((w, receipt))
        return [(p, results[id(p)]) for p in prepared]

    async def _deliver(self, writes: Sequence[Write]) -> list[Receipt]:
        try:
            answers = await (await self.context.connector(self.target)).deliver(writes)
            self.healthy, self.last_error = True, None
        except Retry as error:
            return self._all(writes, error, Deferred(str(error), error.after))
        except AuthError as error:
            async with self.context.pool.acquire() as conn:
                await receipts.pause(self.context, conn, self.target, str(error))
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
        return [receipt for _ in writes]


def _portions(prepared: Sequence[Prepared], writes: int) -> list[list[Prepared]]:
    """Rows in portions of at most so many writes; a row with more is a portion of its own."""
    portions: list[list[Prepared]] = [[]]
    count = 0
    for one in prepared:
        if portions[-1] and count + len(one.writes) > writes:
            portions.append([])
            count = 0
        portions[-1].append(one)
        count += len(one.writes)
    return [portion for portion in portions if portion]


async def forever(deliverer: Deliverer, wake: asyncio.Event, idle_seconds: float = 1.0) -> None:
    """Step until cancelled; wait for a wake-up where nothing is due. Trouble with the state database is waited out."""
    while True:
        try:
            worked = await deliverer.step()
        except INFRASTRUCTURE as error:
            deliverer.healthy, deliverer.last_error = False, f"{type(error).__name__}: {error}"
            worked = 0
        if not worked:
            wake.clear()
            await _within(wake, idle_seconds)


async def _within(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
