"""Heartbeat: how late the event loop is. A connector that computes instead of waiting holds up everything in its process;
it cannot be cut off, but it is seen, and the log says which calls were in hand."""

import asyncio
import time
from collections import deque

import structlog

from streams import calling

BEAT_SECONDS = 0.25
WINDOW_SECONDS = 60.0
LATE_SECONDS = 1.0

log = structlog.get_logger(__name__)

_late: deque[tuple[float, float]] = deque()


def worst() -> float:
    """The most by which the loop was late in the last minute, in seconds."""
    _forget(time.monotonic())
    return max((seconds for _, seconds in _late), default=0.0)


async def forever() -> None:
    """Measure until cancelled."""
    while True:
        in_hand = calling.in_hand()
        began = time.monotonic()
        await asyncio.sleep(BEAT_SECONDS)
        late = time.monotonic() - began - BEAT_SECONDS
        _late.append((began, late))
        _forget(began)
        if late > LATE_SECONDS:
            log.warning(
                "the event loop was blocked", seconds=round(late, 1), calls=sorted({*in_hand, *calling.in_hand()})
            )


def _forget(now: float) -> None:
    while _late and _late[0][0] < now - WINDOW_SECONDS:
        _late.popleft()
