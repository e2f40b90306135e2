"""Allowance: what a vendor lets an account do, what is known of it, and the words in which processes ask for calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import msgspec

LEASE_SECONDS = 5.0
"""Within this a process takes its next turn, or it counts as dead."""
START_SECONDS = 4.0
"""Within this a granted call starts; the rest of the lease is for its way to the vendor."""


class Priority(IntEnum):
    """Whose call goes first. Each is also the index of its share in `Ask.wants`."""

    INTERACTIVE = 0
    REFETCH = 1
    DELIVER = 2
    POLL = 3
    BACKFILL = 4


@dataclass(frozen=True, slots=True)
class Limit:
    """What a vendor lets one account do; 0 is no limit.

    calls, per_seconds  calls in any so many seconds
    concurrency         calls at once
    daily               calls from midnight to midnight in `zone`, where it is known before the vendor tells
    """

    calls: int = 0
    per_seconds: float = 1.0
    concurrency: int = 4
    daily: int = 0
    zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Told:
    """What the vendor said of its own counts in an answer; None where it did not.

    most, left             calls in a window: allowed, and left after this one
    daily_most, daily_left the same of the day
    """

    most: int | None = None
    left: int | None = None
    daily_most: int | None = None
    daily_left: int | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """One process's turn.

    busy     calls under way
    settled  of each call answered since the last turn: the seconds since its answer
    wants    callers that wait, by priority
    ahead    permits it would like beyond that, for calls soon to come
    pause    seconds for which the vendor asked for no calls
    """

    token: str
    busy: int = 0
    settled: Sequence[float] = ()
    wants: Sequence[int] = (0,) * len(Priority)
    ahead: int = 0
    pause: float = 0.0
    told: Told | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """What a turn gave.

    permits    calls that may start within START_SECONDS of asking
    wait       seconds after which it is worth asking again
    paused     seconds for which nobody may call
    contested  whether others wait too: a call's end must be told at once
    stopped    priorities from this one on get nothing today; `resumes` is in how many seconds to try again
    """

    permits: int = 0
    wait: float = 0.0
    paused: float = 0.0
    contested: bool = False
    stopped: int = len(Priority)
    resumes: float = 0.0


class Holder(msgspec.Struct):
    """A living process: permits it may be using, and who waits there."""

    alive_until: float
    held: int = 0
    wants: list[int] = []
    asked_at: float = 0.0
    granted_at: float = 0.0


class State(msgspec.Struct):
    """What is known of an account. Times are seconds of the keeper's clock.

    used         places in the vendor's window by when they come free (milliseconds), kept a second longer than that
    holders      living processes by token
    paced        until when calls that can wait have had their share of the rate
    most, others the window as the vendor told it: its limit; (heard when, calls that others made in it)
    day, daily_* the account's date, and of its calls: how many, how many are left, when that was last heard
    """

    used: dict[int, int] = {}
    holders: dict[str, Holder] = {}
    paused_until: float = 0.0
    paced: float = 0.0
    most: int | None = None
    others: tuple[float, int] = (0.0, 0)
    day: str = ""
    daily_most: int | None = None
    daily_left: int | None = None
    told_at: float = 0.0

    @property
    def held(self) -> int:
        """Permits that living processes may be using."""
        return sum(holder.held for holder in self.holders.values())
