"""Quota: an account's calls of a day. Pure. Near its end the least urgent calls stop first.

The day ends at midnight of `Limit.zone`. The vendor's word goes before our own count, so a wrong zone or calls by others
mend themselves: a day that is over too early ends at the vendor's next answer, and where nothing is left one call in
PROBE_SECONDS asks anew.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from connectors.kit.allowance import Holder, Limit, Priority, State, Told

PROBE_SECONDS = 900.0
KEPT = (0.0, 0.01, 0.02, 0.05, 0.10)
"""By priority: the share of a day's calls that is kept for more urgent ones."""
EVERYBODY = len(Priority)


def count(state: State, limit: Limit, calls: int, now: float) -> None:
    """Count calls, in the account's day that `now` falls in."""
    if state.daily_most is None:
        state.daily_most = limit.daily or None
    if (today := _local(limit, now).date().isoformat()) != state.day:
        state.day, state.daily_left, state.told_at = today, state.daily_most, now
    if state.daily_left is not None:
        state.daily_left = max(0, state.daily_left - calls)


def learn(state: State, told: Told, now: float) -> None:
    """Take the vendor's count of the day."""
    if told.daily_left is not None:
        state.daily_most = told.daily_most or state.daily_most
        state.daily_left, state.told_at = told.daily_left, now


def room(state: State, me: Holder, priority: int) -> float:
    """Calls of today that such a caller may still use, beside those under way; infinite where no quota is known."""
    if state.daily_left is None:
        return float("inf")
    return state.daily_left - me.held - state.held - (state.daily_most or 0) * KEPT[priority]


def stopped(state: State, me: Holder) -> int:
    """The first priority that today's calls are no longer spent on; `EVERYBODY` where all may go on."""
    if not state.daily_most:
        return EVERYBODY
    return next((priority for priority in Priority if room(state, me, priority) <= 0), EVERYBODY)


def probe(state: State, me: Holder, now: float) -> int | None:
    """The priority that may make one call although it is stopped, to hear what the vendor says; None for none."""
    waiting = next((p for p, wanted in enumerate(me.wants) if wanted), None)
    if waiting is None or waiting < stopped(state, me) or now - state.told_at < PROBE_SECONDS:
        return None
    state.told_at = now
    return waiting


def resumes(limit: Limit, now: float) -> float:
    """Seconds after which who was stopped should try again."""
    return min(_to_midnight(limit, now), PROBE_SECONDS)


def _local(limit: Limit, now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC if limit.zone == "UTC" else ZoneInfo(limit.zone))


def _to_midnight(limit: Limit, now: float) -> float:
    tomorrow = _local(limit, now) + timedelta(days=1)
    return max(1.0, tomorrow.replace(hour=0, minute=0, second=0, microsecond=0).timestamp() - now)
