"""Attempt: one call of a target with some writes, and what every way in which it may end means (see hub.failure)."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from connectors.kit.allowance import Priority
from connectors.kit.line import calling
from hub.errors import AuthError, Fatal, Limited, Reject, Retry
from hub.failure import Failure
from hub.receipt import Applied, Deferred, Held, Receipt, Refused, Unchanged, failure_of
from hub.write import Write
from streams import breaker, consenting, metrics, receipts, tracing
from streams.context import Context, now
from streams.faults import INFRASTRUCTURE, where
from streams.share import Share

log = structlog.get_logger(__name__)

MAX_REASON = 2_000
WITNESSES = 2
NO_ANSWER = (Failure.outage, Failure.limited)


@dataclass(slots=True)
class Attempt:
    """Calls of one target in one step. `stop`: no more of them, the target is not to be called now; `error`: what was
    wrong with the last call, None where nothing was; `moved` is told whenever something went on."""

    context: Context
    target: str
    share: Share
    moved: Callable[[], None] = lambda: None
    stop: bool = False
    error: str | None = None
    called: bool = False

    async def deliver(self, writes: Sequence[Write]) -> list[Receipt]:
        """One receipt for each write, whatever the connector does."""
        kept = await self._withheld(writes)
        made = [write for write in writes if write.key not in kept]
        answers = iter(await self._call(made) if made else [])
        return [consenting.WITHHELD if write.key in kept else next(answers) for write in writes]

    async def _withheld(self, writes: Sequence[Write]) -> set[str]:
        if not any(write.mapping.marketing for write in writes):
            return set()
        async with self.share.connection() as conn:
            return await consenting.withheld(conn, writes)

    async def _call(self, writes: Sequence[Write]) -> list[Receipt]:
        self.moved()
        self.called = True
        metrics.count(metrics.ATTEMPTS, "deliver", self.target, by=len(writes))
        try:
            working = tracing.working("deliver", (w.trace for w in writes), {"hub.target": self.target})
            with calling(Priority.DELIVER), working:
                connector = await self.context.connector(self.target)
                answers = await self.context.bounded(connector.deliver(writes), f"writing to {self.target}")
                answers = _checked(writes, answers)
                if connector.manifest.clocked:
                    answers = [_not_ahead(answer, now()) for answer in answers]
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"[:MAX_REASON]
            metrics.failed("deliver", self.target, error, by=len(writes))
            handle = next(handle for kinds, handle in HANDLERS if isinstance(error, kinds))
            return await handle(self, writes, error)
        await self._answered(answers)
        return answers

    async def _answered(self, answers: Sequence[Receipt]) -> None:
        self.error = None
        metrics.answered(self.target, answers)
        if any(failure_of(answer) not in NO_ANSWER for answer in answers):
            async with self.share.connection() as conn:
                await breaker.answered(self.context, conn, self.target)

    async def _limited(self, writes: Sequence[Write], error: Limited) -> list[Receipt]:
        return [Deferred(str(error), error.after, failure=Failure.limited) for _ in writes]

    async def _outage(self, writes: Sequence[Write], error: Exception) -> list[Receipt]:
        """Is it the target, or one of these? Two of them, each alone, tell: if one goes well, the others are sifted."""
        if len(writes) > 1:
            return await self._told_apart(writes)
        after = getattr(error, "after", None)
        async with self.share.connection() as conn:
            opened = await breaker.failed(self.context, conn, self.target, self.error or "", after)
        self.stop = self.stop or opened
        return [Deferred(self.error or "", after, failure=Failure.outage)]

    async def _told_apart(self, writes: Sequence[Write]) -> list[Receipt]:
        told: list[Receipt] = []
        await self._tried(writes)
        for write in writes[:WITNESSES]:
            told += await self.deliver([write])
            if failure_of(told[-1]) is not Failure.outage:
                return told + await self._halves(writes[len(told) :])
        return told + [told[-1] for _ in writes[len(told) :]]

    async def _tried(self, writes: Sequence[Write]) -> None:
        """Note that these are tried once more: what the next try finds there may be what this one left."""
        async with self.share.connection() as conn:
            await receipts.leave_intents(conn, writes)

    async def _halves(self, writes: Sequence[Write]) -> list[Receipt]:
        middle = (len(writes) + 1) // 2
        return [receipt for some in (writes[:middle], writes[middle:]) if some for receipt in await self.deliver(some)]

    async def _refused_credentials(self, writes: Sequence[Write], error: AuthError) -> list[Receipt]:
        async with self.share.connection() as conn:
            await receipts.pause(self.context, conn, self.target, str(error), error.generation)
        self.stop = True
        return [Deferred(f"paused: {error}", 0.0, failure=Failure.auth) for _ in writes]

    async def _refused(self, writes: Sequence[Write], error: Reject) -> list[Receipt]:
        return [Refused(error.reason, error.code) for _ in writes]

    async def _broken(self, writes: Sequence[Write], error: Exception) -> list[Receipt]:
        """A connector that breaks on a batch breaks on one of its writes: find it, spare the others."""
        if len(writes) > 1:
            await self._tried(writes)
            return [receipt for write in writes for receipt in await self.deliver([write])]
        if not isinstance(error, Fatal):
            log.error("connector failed", target=self.target, error=type(error).__name__, where=where(error))
        return [Refused(self.error or "", "connector")]


Handler = Callable[[Attempt, Sequence[Write], Any], Awaitable[list[Receipt]]]
HANDLERS: tuple[tuple[tuple[type[BaseException], ...], Handler], ...] = (
    ((Limited,), Attempt._limited),
    ((Retry, *INFRASTRUCTURE), Attempt._outage),
    ((AuthError,), Attempt._refused_credentials),
    ((Reject,), Attempt._refused),
    ((Exception,), Attempt._broken),
)
"""What is done about an error that a call raises: the first that fits."""


class Garbage(Exception):
    """A connector answered what is no answer."""


def _checked(writes: Sequence[Write], answers: Any) -> list[Receipt]:
    """One receipt for each write, or Garbage; a delete of what is gone is done."""
    if not isinstance(answers, list | tuple) or len(answers) != len(writes):
        raise Garbage(f"a list of {len(writes)} receipts was expected, not {type(answers).__name__}")
    for answer in answers:
        if not isinstance(answer, Applied | Unchanged | Deferred | Held | Refused):
            raise Garbage(f"a receipt was expected, not {type(answer).__name__}")
    return [_done(write, answer) for write, answer in zip(writes, answers, strict=True)]


def _not_ahead(answer: Receipt, at: int) -> Receipt:
    """As for events, a clock is never ahead of when we saw it: or what the target says next would look older."""
    if isinstance(answer, Applied | Unchanged) and answer.order > at:
        return replace(answer, order=at)
    return answer


def _done(write: Write, answer: Receipt) -> Receipt:
    gone = write.op == "delete" and isinstance(answer, Refused) and failure_of(answer) is Failure.gone
    return Unchanged(str(write.external_id)) if gone else answer
