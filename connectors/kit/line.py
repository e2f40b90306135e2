"""Line: the callers that wait for a permit of one budget in this process, the most urgent first."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from connectors.kit.allowance import Priority
from hub.errors import Limited

AGING_SECONDS = 10.0
"""Who waits gets one priority more urgent each time this is over, but never as urgent as what a person waits for."""

_priority: ContextVar[Priority] = ContextVar("priority", default=Priority.INTERACTIVE)


@contextmanager
def calling(priority: Priority) -> Iterator[None]:
    """Calls of this block, and of tasks begun in it, are so urgent."""
    token = _priority.set(priority)
    try:
        yield
    finally:
        _priority.reset(token)


@dataclass(eq=False, slots=True)
class Waiter:
    """One caller: its priority, since when it waits (seconds), and what it waits on."""

    priority: Priority
    since: float
    placed: asyncio.Future[None]

    def level(self, now: float) -> int:
        """Its priority, after waiting so long."""
        return max(min(self.priority, Priority.REFETCH), self.priority - int((now - self.since) / AGING_SECONDS))


class Line:
    """Callers that wait."""

    def __init__(self) -> None:
        self._waiting: list[Waiter] = []

    def __len__(self) -> int:
        return sum(not waiter.placed.done() for waiter in self._waiting)  # a cancelled one may not have left yet

    def join(self, now: float) -> Waiter:
        """Stand in line, as urgent as the code that runs."""
        waiter = Waiter(_priority.get(), now, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        return waiter

    def first(self, now: float) -> Waiter:
        """Take out who is next: the most urgent, and of those who waits for longest."""
        waiting = (waiter for waiter in self._waiting if not waiter.placed.done())
        first = min(waiting, key=lambda waiter: (waiter.level(now), waiter.since))
        self._waiting.remove(first)
        return first

    def leave(self, waiter: Waiter) -> bool:
        """Give up waiting; False where it was served already."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
            return True
        return waiter.placed.cancelled() or waiter.placed.exception() is not None

    def wants(self, now: float) -> list[int]:
        """How many wait, by priority."""
        wants = [0] * len(Priority)
        for waiter in self._waiting:
            wants[waiter.level(now)] += not waiter.placed.done()
        return wants

    def refuse(self, whom: Callable[[Waiter], bool], why: str, after: float) -> None:
        """Tell some callers to try again later."""
        refused = [waiter for waiter in self._waiting if whom(waiter) and not waiter.placed.done()]
        self._waiting = [waiter for waiter in self._waiting if waiter not in refused]
        for waiter in refused:
            waiter.placed.set_exception(Limited(why, after))
