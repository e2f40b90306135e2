"""Calling: a connector is given so many seconds, and is then cut off, whatever it is doing."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog

T = TypeVar("T")
GRACE_SECONDS = 2.0

log = structlog.get_logger(__name__)

LEFT: set[asyncio.Task[Any]] = set()
"""Calls that do not end although they were told to. Kept, so that what they hold is known to be held."""


_IN_HAND: Counter[str] = Counter()


def in_hand() -> list[str]:
    """What is being called now."""
    return list(+_IN_HAND)


class CutOff(TimeoutError):
    """A connector took too long; what it did until then is not known."""


async def bounded(work: Awaitable[T], seconds: float, what: str) -> T:
    """The result of the call, or CutOff after `seconds`. A call that bears its cancellation is left behind: whoever waits
    goes on all the same. Should it end well just then, its result counts."""
    task = asyncio.ensure_future(work)
    _IN_HAND[what] += 1
    task.add_done_callback(lambda _: _IN_HAND.subtract([what]))
    try:
        await asyncio.wait({task}, timeout=seconds)
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.wait({task}, timeout=GRACE_SECONDS)
    except asyncio.CancelledError:
        await _end(task)
        raise
    if not task.done():
        _leave(task, what)
    elif not task.cancelled() and task.exception() is None:
        return task.result()
    raise CutOff(f"{what} took longer than {seconds:g} s and was cut off")


async def _end(task: asyncio.Task[Any]) -> None:
    """Cancel it, and wait for a moment: what it works on is closed next, and must not be at work any more."""
    task.cancel()
    _keep(task)
    await asyncio.wait({task}, timeout=GRACE_SECONDS)


def _leave(task: asyncio.Task[Any], what: str) -> None:
    log.error("a call cannot be stopped", what=what, left=len(LEFT) + 1)
    _keep(task)


def _keep(task: asyncio.Task[Any]) -> None:
    LEFT.add(task)
    task.add_done_callback(_ended)


def _ended(task: asyncio.Task[Any]) -> None:
    LEFT.discard(task)
    if not task.cancelled():
        task.exception()  # taken note of, or asyncio complains


@asynccontextmanager
async def closing(pages: AsyncGenerator[T, None]) -> AsyncIterator[AsyncGenerator[T, None]]:
    """Close the pages of a source at once in the end, but for one that cannot be stopped."""
    try:
        yield pages
    finally:
        if not getattr(pages, "ag_running", False):
            await pages.aclose()


async def paced(pages: AsyncGenerator[T, None], seconds: float, what: str) -> AsyncIterator[T]:
    """The pages of a source, each within so many seconds."""
    while (page := await bounded(_next(pages), seconds, what)) is not None:
        yield page


async def _next(pages: AsyncGenerator[T, None]) -> T | None:
    return await anext(pages, None)
