"""How often to look at the slot: a look without a find costs as much as the log that it reads again."""

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
