"""How often to look at the slot, and to move it on: either costs as much as the log that it reads again."""

import asyncio
import time
from typing import Any

SHARE = 4.0
CHEAP_SECONDS = 0.02
LONGEST_SECONDS = 1.0


class Pace:
    """Knows when a look is needless, and spends at most a fifth of the time on looks that find nothing."""

    def __init__(self) -> None:
        self._nothing: Any = None
        self._began = 0.0
        self._until = 0.0

    async def needless(self, behind: Any, upto: int) -> bool:
        """Whether the log behind this place still ends where nothing was found. Else waits until a look is due."""
        if (behind, upto) == self._nothing:
            return True
        await asyncio.sleep(max(0.0, self._until - time.monotonic()))
        self._began = time.monotonic()
        return False

    def looked(self, behind: Any, upto: int, found: bool) -> None:
        """A look at the log behind a place and at least up to `upto` is over."""
        now = time.monotonic()
        took = now - self._began
        self._nothing = None if found else (behind, upto)
        self._until = now + min(SHARE * took, LONGEST_SECONDS) if not found and took > CHEAP_SECONDS else 0.0


RELEASE_SECONDS = 0.25


class Moves:
    """Knows when to move the slot on. A look leaves out what was delivered, so it need not be moved behind every page: a few
    times a second, and at once after so many bytes, or where so many rows of a look were delivered before."""

    def __init__(self, bytes_: int, rows: int) -> None:
        self._bytes, self._rows = bytes_, rows
        self._moved, self._to = 0.0, 0

    def due(self, lsn: int, rows: int) -> bool:
        """Whether to move it to this place now, for the last look had so many rows; who asks and hears so does it."""
        now = time.monotonic()
        if now - self._moved < RELEASE_SECONDS and lsn - self._to < self._bytes and rows < self._rows:
            return False
        self._moved, self._to = now, lsn
        return True
