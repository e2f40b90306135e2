"""Budget: how many calls one account may make, shared by everything in this process that calls it.

Readers and writers of one account draw from one budget (`shared`), or one would starve the other into 429s. The
interface (`call`, `pause`, `learn`) is all that callers know, so that a budget kept elsewhere can take its place.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from hub.errors import Limited

MAX_PAUSE = 900.0
PATIENCE = 30.0


class Budget:
    """At most `calls` starts in any `per_seconds` (0: unlimited), at most `concurrency` at once, none during a pause.

    A log of start times rather than a bucket: vendors count in rolling windows, and a bucket that may burst exceeds
    them by up to one bucket. Callers are served in the order they came.
    """

    def __init__(self, calls: int = 0, per_seconds: float = 1.0, concurrency: int = 4) -> None:
        self.per_seconds = per_seconds
        self._starts: deque[float] = deque(maxlen=calls or 1)
        self._limited = calls > 0
        self._slots = asyncio.Semaphore(concurrency)
        self._turn = asyncio.Lock()
        self._paused_until = 0.0

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """Wait for a place, then hold it for one call. Raises Limited instead of waiting through a long pause."""
        async with self._slots:
            async with self._turn:
                await self._wait()
                self._starts.append(time.monotonic())
            yield

    def pause(self, seconds: float) -> None:
        """Start no call for so long (at most 15 minutes): the vendor said so. Calls under way are not disturbed."""
        self._paused_until = max(self._paused_until, time.monotonic() + min(max(seconds, 0.0), MAX_PAUSE))

    def learn(self, remaining: int, seconds: float) -> None:
        """The vendor told how many calls remain in its window of `seconds`; others may be drawing on it too.

        At none left, a tenth of the window passes before the next call: a rolling window frees places bit by bit.
        """
        if remaining <= 0:
            self.pause(seconds / 10)

    async def _wait(self) -> None:
        while True:  # a pause may be declared while we sleep
            seconds = self._until_free(time.monotonic())
            if seconds <= 0:
                return
            if seconds > PATIENCE:
                raise Limited("the vendor asked to pause", seconds)
            await asyncio.sleep(seconds)

    def _until_free(self, now: float) -> float:
        pause = self._paused_until - now
        if not self._limited or len(self._starts) < (self._starts.maxlen or 0):
            return pause
        return max(pause, self._starts[0] + self.per_seconds - now)


_SHARED: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Budget]] = WeakKeyDictionary()


def shared(account: str, calls: int = 0, per_seconds: float = 1.0, concurrency: int = 4) -> Budget:
    """The budget of an account in the running event loop; made at the first call, whose limits then hold.

    `account` must not be a secret: name it by system and a digest, or by the account's public id.
    """
    budgets = _SHARED.setdefault(asyncio.get_running_loop(), {})
    if account not in budgets:
        budgets[account] = Budget(calls, per_seconds, concurrency)
    return budgets[account]
