"""Turns: every process that calls an account takes turns at the account's state. Pure: state, ask, time -> grant.

In its turn a process says how many calls it has under way, which were answered since its last turn, and who waits; it
gets permits, each good for one call that starts within START_SECONDS of asking. Permits it did not use are gone with its
next turn. A place in the vendor's window is taken from the grant until `per_seconds` after the *answer*: the vendor
counts a call somewhere between the two, so no rolling window (and with it no fixed one) holds more than it may, whatever
the network does. A process that falls silent is dead after LEASE_SECONDS: its calls under way no longer count against
`concurrency`, and its permits as calls that were over just then.
"""

from collections.abc import Sequence

from connectors.kit import quota
from connectors.kit.allowance import LEASE_SECONDS, Ask, Grant, Holder, Limit, Priority, State, Told

FRESH_SECONDS = 1.0
"""Who waits asks again well within this; what was asked longer ago is no longer wanted."""
LONGEST_PAUSE = 900.0
PACED = Priority.DELIVER
"""From here on calls are spread over a window that is half used, so that a more urgent one soon finds a place."""
ANY = 1_000_000_000


def turn(state: State, limit: Limit, ask: Ask, now: float) -> Grant:
    """Take one turn: change the state, and say what is granted."""
    _forget(state, limit, now)
    before = state.holders.pop(ask.token, Holder(0.0))
    me = Holder(now + LEASE_SECONDS, ask.busy, list(ask.wants), now, before.granted_at)
    for age in ask.settled:
        _use(state, limit, now - age, 1)
    quota.count(state, limit, len(ask.settled), now)
    if ask.told is not None:
        _learn(state, limit, ask.told, me, now)
    if ask.pause:
        state.paused_until = max(state.paused_until, now + ask.pause)
    state.paused_until = min(state.paused_until, now + LONGEST_PAUSE)
    permits = 0 if now < state.paused_until else _granted(state, limit, me, ask.ahead, now)
    me.held += permits
    rivals = [holder for holder in state.holders.values() if _waits(holder, now)]
    if me.held or sum(me.wants):
        state.holders[ask.token] = me
    stopped = quota.stopped(state, Holder(0.0))
    return Grant(
        permits,
        _next_free(state, now) if sum(me.wants) else 0.0,
        max(0.0, state.paused_until - now),
        bool(rivals),
        stopped,
        quota.resumes(limit, now) if stopped < quota.EVERYBODY else 0.0,
    )


def _forget(state: State, limit: Limit, now: float) -> None:
    """Free what is over, and bury the dead. A clock that was set back must not hold places for longer than a window."""
    latest = int((now + limit.per_seconds) * 1000) + 1
    kept, state.used = state.used, {}
    for free_at, places in kept.items():
        if free_at > (now - FRESH_SECONDS) * 1000:
            state.used[min(free_at, latest)] = state.used.get(min(free_at, latest), 0) + places
    for token, holder in list(state.holders.items()):
        if not now < holder.alive_until <= now + 2 * LEASE_SECONDS:
            del state.holders[token]
            _use(state, limit, min(holder.alive_until, now), holder.held)
            quota.count(state, limit, holder.held, now)


def _use(state: State, limit: Limit, ended_at: float, places: int) -> None:
    """Take places for a window from the moment their calls were over; moments close together count as the later one."""
    if limit.calls and places:
        grain = limit.per_seconds * 2  # milliseconds: a five hundredth of the window
        free_at = int((int((ended_at + limit.per_seconds) * 1000 / grain) + 1) * grain) + 1
        state.used[free_at] = state.used.get(free_at, 0) + places


def _learn(state: State, limit: Limit, told: Told, me: Holder, now: float) -> None:
    """Believe the vendor: its limit where it is lower, its day's count, and what others drew on the account.

    Calls of ours that it may not have counted yet, or no longer, are taken for counted: others are never blamed for them.
    """
    quota.learn(state, told, now)
    if told.most is not None:
        state.most = told.most
        if told.left is not None:
            ours = sum(state.used.values()) + state.held + me.held
            theirs, heard_at = max(0, told.most - told.left - ours), state.others[0]
            # Each is a least estimate, by what we had under way; so the greatest of the latest ones.
            if theirs >= state.others[1] or not heard_at <= now <= heard_at + limit.per_seconds / 10:
                state.others = (now, theirs)


def _places(state: State, limit: Limit, me: Holder, now: float) -> float:
    """Places free in the window; infinite where there is no limit."""
    if not limit.calls:
        return float("inf")
    used = sum(places for free_at, places in state.used.items() if free_at > now * 1000)
    others = state.others[1] if state.others[0] > now - limit.per_seconds else 0
    return min(limit.calls, state.most or limit.calls) - used - others - state.held - me.held


def _granted(state: State, limit: Limit, me: Holder, ahead: int, now: float) -> int:
    """Permits for this process: by priority over all processes, evenly within one. `me.wants` keeps what is left."""
    places = _places(state, limit, me, now)
    slots = limit.concurrency - state.held - me.held if limit.concurrency else ANY
    if (probing := quota.probe(state, me, now)) is not None:
        me.wants[probing] -= 1 if min(places, slots) >= 1 else 0
        return int(min(places, slots) >= 1)
    stopped, free = quota.stopped(state, me), max(0, min(places, slots, ANY))
    rivals = [holder for holder in state.holders.values() if _waits(holder, now)]
    total = 0
    for level, wanted in enumerate(me.wants[:stopped]):
        today = min(quota.room(state, me, level), ANY)
        room = max(0, int(min(free - sum(sum(rival.wants[:level]) for rival in rivals), today)) - total)
        given = _share(_paced(state, limit, level, room, places - total, now), wanted, level, me, rivals)
        me.wants[level] -= given
        total += given
        if level >= PACED and limit.calls:
            state.paced = max(state.paced, now) + given * limit.per_seconds / limit.calls
    if not (sum(me.wants) or rivals) and places - total > limit.calls / 2:
        total += max(0, int(min(ahead, free // 2 - total, quota.room(state, me, Priority.BACKFILL) - total)))
    me.granted_at = now if total else me.granted_at
    return total


def _waits(holder: Holder, now: float) -> bool:
    return sum(holder.wants) > 0 and holder.asked_at > now - FRESH_SECONDS


def _paced(state: State, limit: Limit, level: int, room: int, places: float, now: float) -> int:
    """How many of `room` calls may start now: those that can wait, at the window's steady rate once it is half used."""
    if level < PACED or not limit.calls or places > limit.calls / 2:
        return room
    interval = limit.per_seconds / limit.calls
    burst = max(1.0, limit.calls / 20)
    return min(room, max(0, int(burst - (max(state.paced, now) - now) / interval + 1e-6)))


def _share(room: int, wanted: int, level: int, me: Holder, rivals: Sequence[Holder]) -> int:
    """This process's part of the room: by how many wait where; what does not divide, to who got nothing for longest."""
    also = [rival for rival in rivals if rival.wants[level]]
    every = wanted + sum(rival.wants[level] for rival in also)
    if room >= every or not wanted:
        return min(room, wanted)
    part = room * wanted // every
    rest = room - part - sum(room * rival.wants[level] // every for rival in also)
    first = all(me.granted_at <= rival.granted_at for rival in also)
    return min(wanted, part + (rest if first else 0))


def _next_free(state: State, now: float) -> float:
    """Seconds until the next place comes free, 0 where none is taken."""
    coming = [free_at / 1000 - now for free_at in state.used if free_at > now * 1000]
    return min(coming, default=0.0)
