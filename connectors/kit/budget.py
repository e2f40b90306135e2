"""Budget: how many calls one account may make, shared by everything that calls it, in every process.

Readers and writers of one account draw from one budget, or one would starve the other into 429s. What is left is known
to a `Keeper`: the state database where there is one (streams.budgets), else this process. A budget asks it for permits
in small blocks (connectors.kit.turns), and gives them to its callers, the most urgent first (connectors.kit.line).
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import structlog

from connectors.kit.allowance import START_SECONDS, Ask, Grant, Limit, Priority, Told
from connectors.kit.keeping import InProcess, Keeper
from connectors.kit.line import Line
from connectors.kit.turns import LONGEST_PAUSE
from hub.errors import Limited

PATIENCE = 30.0
"""A caller waits through so many seconds of pause or silence of the keeper; of a longer one it is told."""
TURN_SECONDS = 0.25
"""At most so long between the turns of a budget that has calls under way or callers waiting."""
SHORTEST, RETRY_SECONDS = 0.005, 0.5

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _News:
    """What the keeper has not heard yet."""

    settled: list[float] = field(default_factory=list)
    pause: float = 0.0
    told: Told | None = None

    def __bool__(self) -> bool:
        return bool(self.settled or self.pause or self.told)


class Budget:
    """One account's budget in this process. Without a keeper it is this object's own; without a limit, four at once."""

    def __init__(self, account: str = "", limit: Limit | None = None, keeper: Keeper | None = None) -> None:
        self.account, self.limit = account, limit or Limit()
        self._keeper = keeper or InProcess()
        self._token = uuid.uuid4().hex
        self._line = Line()
        self._news = _News()
        self._busy = self._permits = self._begun = 0
        self._expire = self._paused_until = 0.0
        self._last = Grant()
        self._turns: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """Wait for a permit, then hold it for one call. Raises Limited where it is not to be had within patience: the
        vendor asked for a long pause, the day's calls are kept for more urgent ones, the keeper is silent."""
        await self._permit()
        try:
            yield
        finally:
            self._settle()

    def pause(self, seconds: float) -> None:
        """Start no call for so long (at most 15 minutes), in any process: the vendor said so."""
        seconds = min(max(seconds, 0.0), LONGEST_PAUSE)
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)
        self._news.pause = max(self._news.pause, seconds)
        self._go()

    def learn(self, told: Told) -> None:
        """The vendor told its own counts; others may be drawing on the account too."""
        self._news.told = told
        self._go(urgent=False)

    async def aclose(self) -> None:
        """Tell the keeper what it has not heard yet, and that this process needs nothing more."""
        if self._turns is not None:
            self._turns.cancel()
            await asyncio.wait([self._turns])
            self._permits = self._begun = 0
            with suppress(Exception):
                await self._turn()

    async def _permit(self) -> None:
        now = time.monotonic()
        if (left := self._paused_until - now) > PATIENCE:
            raise Limited("the vendor asked to pause", left)
        waiter = self._line.join(now)
        self._serve()
        if not waiter.placed.done():
            self._go()
        try:
            await waiter.placed
        except asyncio.CancelledError:
            if not self._line.leave(waiter):
                self._settle()
            raise

    def _settle(self) -> None:
        """A call is over. Its permit serves again where only calls at once are limited and nobody is to be preferred."""
        self._busy -= 1
        self._news.settled.append(time.monotonic())
        if not self.limit.calls and not self._last.contested and self._last.stopped == len(Priority):
            self._permits += 1
            self._serve()
        self._go(urgent=self._last.contested or len(self._line) > 0)

    def _serve(self) -> None:
        now = time.monotonic()
        while len(self._line) and self._permits and self._paused_until <= now < self._expire:
            self._permits -= 1
            self._busy += 1
            self._begun += 1
            self._line.first(now).placed.set_result(None)

    def _go(self, urgent: bool = True) -> None:
        """See to it that a turn is taken: at once, or in the course of things."""
        if urgent:
            self._wake.set()
        if self._turns is None or self._turns.done():
            self._turns = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        answered = time.monotonic()
        while len(self._line) or self._busy or self._permits or self._news:
            self._wake.clear()
            try:
                rest = await self._turn()
                answered = time.monotonic()
            except Exception as error:  # whatever keeps the state: it is asked again, and callers wait
                log.warning("the budget cannot be asked", account=self.account, error=type(error).__name__)
                if time.monotonic() - answered > PATIENCE:
                    self._line.refuse(lambda _: True, f"the budget of {self.account} cannot be asked", RETRY_SECONDS)
                rest = RETRY_SECONDS
            await asyncio.sleep(rest)
            if not len(self._line):
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), TURN_SECONDS)

    async def _turn(self) -> float:
        """Ask once; gives the seconds before which asking again makes no sense."""
        news, self._news, self._permits = self._news, _News(), 0
        ahead, self._begun = max(2, self._begun) if self._begun or len(self._line) else 0, 0
        began = time.monotonic()
        ages = [began - answered for answered in news.settled]
        ask = Ask(self._token, self._busy, ages, self._line.wants(began), ahead, news.pause, news.told)
        try:
            grant = await self._keeper.turn(self.account, self.limit, ask)
        except BaseException:  # it may have been heard: told again it counts twice, which errs on the safe side
            now = self._news
            self._news = _News(news.settled + now.settled, max(news.pause, now.pause), now.told or news.told)
            raise
        return self._take(grant, began)

    def _take(self, grant: Grant, began: float) -> float:
        self._last = grant
        self._permits += grant.permits
        self._expire = began + START_SECONDS
        self._paused_until = max(self._paused_until, time.monotonic() + grant.paused if grant.paused else 0.0)
        self._serve()
        kept = f"the day's calls of {self.account} are kept for more urgent ones"
        self._line.refuse(lambda waiter: waiter.priority >= grant.stopped, kept, grant.resumes)
        if grant.paused > PATIENCE:
            self._line.refuse(lambda _: True, "the vendor asked to pause", grant.paused)
        if not len(self._line):
            return SHORTEST
        gap = self.limit.per_seconds / 100 if self.limit.calls else 4 * SHORTEST
        return min(TURN_SECONDS, max(gap, SHORTEST, grant.wait, grant.paused))


class Budgets:
    """The budgets of one process, by account, on one keeper."""

    def __init__(self, keeper: Keeper | None = None) -> None:
        self.keeper = keeper or InProcess()
        self._made: dict[str, Budget] = {}

    def of(self, account: str, limit: Limit) -> Budget:
        """The budget of an account; made at the first call, whose limit then holds. `account` must not be a secret: name
        it by system and a digest, or by its public id."""
        if account not in self._made:
            self._made[account] = Budget(account, limit, self.keeper)
        return self._made[account]

    async def aclose(self) -> None:
        """Give everything back."""
        for budget in self._made.values():
            await budget.aclose()


_using: ContextVar[Budgets | None] = ContextVar("budgets", default=None)
_local: WeakKeyDictionary[asyncio.AbstractEventLoop, Budgets] = WeakKeyDictionary()


@contextmanager
def using(budgets: Budgets) -> Iterator[None]:
    """Connectors made in this block draw from these budgets."""
    token = _using.set(budgets)
    try:
        yield
    finally:
        _using.reset(token)


def inherited() -> Budgets | None:
    """The budgets of the block this is in; for a connector to ask for as it is made."""
    return _using.get()


def local() -> Budgets:
    """Budgets that this process alone knows of, one for the running event loop."""
    return _local.setdefault(asyncio.get_running_loop(), Budgets())
