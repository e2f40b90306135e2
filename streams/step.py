"""A step of delivery: the writes of leased rows in calls as the target takes them, some at once, each recorded as it ends."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import structlog

from hub.receipt import Receipt, Refused
from hub.write import Write
from streams import receipts
from streams.attempt import Attempt
from streams.faults import INFRASTRUCTURE
from streams.preparing import Prepared

CALLS_ABREAST = 4

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Row:
    """A row of the queue at work: its writes, and the receipts so far."""

    prepared: Prepared
    receipts: dict[str, tuple[Write, Receipt]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every write has its receipt."""
        return len(self.receipts) == len(self.prepared.writes)

    @property
    def result(self) -> tuple[Prepared, list[tuple[Write, Receipt]]]:
        """The row with its receipts, to be recorded."""
        return self.prepared, list(self.receipts.values())


Call = list[tuple[Row, Write]]


class Step:
    """Rows leased under one token, on their way to one target."""

    def __init__(self, attempt: Attempt, token: str) -> None:
        self._attempt = attempt
        self._token = token
        self._rows: list[Row] = []
        self._places = asyncio.Semaphore(CALLS_ABREAST)
        self._recording = asyncio.Lock()

    async def work(self, prepared: Sequence[Prepared], batch: int) -> None:
        """Record what needs no call; then call, until all is done or the target is not to be called any more. Raises
        trouble with the state database, once what is under way has ended."""
        await self._record([Row(p) for p in prepared if not p.writes])
        self._rows = [Row(p) for p in prepared if p.writes]
        if not self._rows:
            return
        async with self._attempt.share.connection() as conn:
            await receipts.leave_intents(conn, [w for row in self._rows for w in row.prepared.writes])
        ended = await asyncio.gather(*map(self._call, calls_of(self._rows, batch)), return_exceptions=True)
        for error in (one for one in ended if isinstance(one, BaseException)):
            raise error

    async def _call(self, pairs: Call) -> None:
        async with self._places:
            if self._attempt.stop:
                return
            try:
                answers = await self._attempt.deliver([write for _, write in pairs])
                for (row, write), receipt in zip(pairs, answers, strict=True):
                    row.receipts[write.key] = (write, receipt)
                await self._record_complete()
            except BaseException:
                self._attempt.stop = True
                raise

    async def _record_complete(self) -> None:
        """All that are complete by now: while one transaction runs, the next gathers."""
        async with self._recording:
            done = [row for row in self._rows if row.complete]
            self._rows = [row for row in self._rows if not row.complete]
            await self._record(done)

    async def _record(self, rows: Sequence[Row]) -> None:
        """An answer that cannot be recorded is garbage: it parks its own row, and no other."""
        if not rows:
            return
        try:
            async with self._attempt.share.place():
                await receipts.record(self._attempt.context, self._token, [row.result for row in rows])
        except INFRASTRUCTURE:
            raise
        except Exception as error:
            if len(rows) == 1:
                rows = [_unreadable(rows[0], error)]
            for row in rows:
                await self._record([row])


def _unreadable(row: Row, error: Exception) -> Row:
    if all(isinstance(r, Refused) and r.code == "connector" for _, r in row.receipts.values()):
        raise error  # it is not the answer
    log.error("an answer cannot be recorded", target=row.prepared.due.target, error=type(error).__name__)
    refused = Refused(f"its answer cannot be recorded: {type(error).__name__}: {error}"[:2_000], "connector")
    return Row(row.prepared, {key: (write, refused) for key, (write, _) in row.receipts.items()})


def calls_of(rows: Sequence[Row], batch: int) -> list[Call]:
    """The writes of all rows, in calls of one object and operation, as large as the target allows."""
    pairs = [(row, write) for row in rows for write in row.prepared.writes]
    pairs.sort(key=lambda pair: (pair[1].object, pair[1].op))
    groups = (list(group) for _, group in groupby(pairs, key=lambda pair: (pair[1].object, pair[1].op)))
    return [group[start : start + batch] for group in groups for start in range(0, len(group), batch)]
