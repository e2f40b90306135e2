"""Turns in virtual time: no window is ever exceeded, whatever dies or dawdles; and what there is, is used and shared."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from connectors.kit import quota, turns
from connectors.kit.allowance import Ask, Limit, Priority, State, Told
from connectors.kit.turns import turn
from tests.budgets.simulated import Process, Simulation
from tests.e2e.systems import LONG
from tests.promises.mutations import broken, mutation

HUBSPOT = Limit(190, 10.0, 0)
LEVELS = len(Priority)


def wants(priority: Priority, count: int) -> list[int]:
    return [count if level == priority else 0 for level in range(LEVELS)]


def chaos(seed: int) -> Simulation:
    """Up to five processes at a tight limit, of which some die at some time and others begin."""
    world = Simulation(Limit(seed % 17 + 3, (1.0, 3.0, 10.0)[seed % 3], 0), seed)
    for number in range(seed % 5 + 1):
        process = Process(world, f"p{number}", Priority(seed % LEVELS), 8)
        if number % 2:
            world.at(world.now + world.random.random() * 15, process.die)
            world.at(world.now + 10, lambda n=number: Process(world, f"q{n}", Priority.DELIVER, 8))  # type: ignore[misc]
    world.run(30)
    return world


def check_no_window_is_exceeded(seeds: Sequence[int]) -> int:
    """Over all seeds; gives how many calls there were."""
    calls = 0
    for seed in seeds:
        world = chaos(seed)
        calls += len(world.arrived)
        assert world.fullest() <= world.limit.calls, f"seed {seed}: {world.fullest()} calls in a window: {world.limit}"
        assert world.arrived, f"seed {seed}: nothing was called"
    return calls


def test_no_window_is_exceeded(seeds: Callable[[int], Sequence[int]], figures: Callable[..., None]) -> None:
    tried = seeds(5_000 if LONG else 60)
    calls = check_no_window_is_exceeded(tried)
    figures("B1", simulated_runs=len(tried), calls=calls, windows_exceeded=0)


def _answers_forgotten(state: State, limit: Limit, ended_at: float, places: int) -> None:
    """A place that is free from the call's answer on."""


def _dead_forgotten(state: State, limit: Limit, now: float) -> None:
    """Burying the dead with all that they held."""
    for holder in state.holders.values():
        if holder.alive_until <= now:
            holder.held = 0
    _forget(state, limit, now)


def _from_the_grant(state: State, limit: Limit, ended_at: float, places: int) -> None:
    """A place that is taken for a window from before the answer, as if calls took no time."""
    _use(state, limit, ended_at - 1.0, places)


_forget, _use = turns._forget, turns._use


@pytest.mark.parametrize(
    ("mechanism", "twin"),
    [("_use", _answers_forgotten), ("_use", _from_the_grant), ("_forget", _dead_forgotten)],
    ids=["places", "answers", "the dead"],
)
def test_no_window_is_exceeded_fails_without(mechanism: str, twin: Any) -> None:
    with mutation(turns, mechanism, twin), broken(mechanism):
        check_no_window_is_exceeded(range(60))


def test_at_most_so_many_at_once_and_the_slots_of_the_dead_come_back() -> None:
    state, limit = State(), Limit(concurrency=10)
    assert turn(state, limit, Ask("a", wants=wants(Priority.POLL, 20)), 100.0).permits == 10
    assert turn(state, limit, Ask("b", wants=wants(Priority.POLL, 20)), 101.0).permits == 0
    assert turn(state, limit, Ask("a", busy=10), 104.0).permits == 0
    assert turn(state, limit, Ask("b", wants=wants(Priority.POLL, 20)), 108.9).permits == 0
    assert turn(state, limit, Ask("b", wants=wants(Priority.POLL, 20)), 109.1).permits == 10


def test_the_dead_give_their_places_back_a_window_after_their_lease() -> None:
    state, limit = State(), Limit(10, 20.0, 0)
    assert turn(state, limit, Ask("a", wants=wants(Priority.DELIVER, 10)), 100.0).permits == 10
    assert turn(state, limit, Ask("b", wants=wants(Priority.DELIVER, 10)), 124.9).permits == 0
    assert turn(state, limit, Ask("b", wants=wants(Priority.DELIVER, 10)), 125.2).permits == 10


def test_what_is_allowed_is_used_and_evenly() -> None:
    """Four processes at the limit, calls of a fifth of a second at most."""
    world = Simulation(HUBSPOT, 7, slowest=0.2, dawdle=0.0)
    for number in range(4):
        Process(world, f"p{number}", Priority.DELIVER, 6)
    world.run(110)
    steady = sum(world.arrived[0] + 10 <= at < world.arrived[0] + 100 for at in world.arrived)
    assert 0.97 * 9 * 190 <= steady <= 9 * 190
    assert max(world.served.values()) < 1.2 * min(world.served.values()), world.served


def test_calls_that_can_wait_are_spread_so_that_an_urgent_one_finds_a_place() -> None:
    """A backlog, and then, every few seconds, one webhook."""
    waited = {}
    for bulk in (Priority.DELIVER, Priority.REFETCH):
        world = Simulation(HUBSPOT, 3, slowest=0.1, dawdle=0.0)
        for number in range(3):
            Process(world, f"p{number}", bulk, 30)
        world.run(40)
        waited[bulk] = _until_served(world)
    assert waited[Priority.DELIVER] <= 0.5
    assert waited[Priority.REFETCH] > 2.0, "without spreading all places come free at once, so this proves nothing"


def _until_served(world: Simulation) -> float:
    """The longest that a single urgent call waited, of twenty."""
    longest = 0.0
    for number in range(20):
        world.run(0.7)
        began = world.now
        while not turn(
            world.state, world.limit, Ask(f"u{number}", wants=wants(Priority.REFETCH, 1)), world.now
        ).permits:
            world.run(0.05)
        turn(world.state, world.limit, Ask(f"u{number}", settled=[0.0]), world.now)
        longest = max(longest, world.now - began)
    return longest


def check_urgent_calls_go_first() -> None:
    """Another process's waiting webhooks keep the places that come free; what they leave goes on."""
    state, limit = State(), Limit(10, 10.0, 0)
    assert turn(state, limit, Ask("bulk", wants=wants(Priority.DELIVER, 10)), 100.0).permits == 10
    turn(state, limit, Ask("bulk", settled=[0.0] * 10, wants=wants(Priority.DELIVER, 10)), 100.5)
    assert turn(state, limit, Ask("hook", wants=wants(Priority.REFETCH, 3)), 110.0).permits == 0
    got = turn(state, limit, Ask("bulk", wants=wants(Priority.DELIVER, 10)), 110.6).permits
    assert got == 7, f"{got} of 10 free places, although a more urgent process waits for 3"
    assert turn(state, limit, Ask("hook", wants=wants(Priority.REFETCH, 3)), 110.7).permits == 3


def test_urgent_calls_go_first() -> None:
    check_urgent_calls_go_first()


def test_urgent_calls_go_first_fails_without_priorities() -> None:
    with mutation(turns, "_waits", lambda holder, now: False), broken("priorities"):
        check_urgent_calls_go_first()


def test_the_vendors_counts_are_believed() -> None:
    state, limit = State(), Limit(190, 10.0, 0)
    turn(state, limit, Ask("a", wants=wants(Priority.REFETCH, 10)), 100.0)
    turn(state, limit, Ask("a", settled=[0.0] * 10, told=Told(most=100, left=30)), 101.0)  # 60 calls by others
    assert turn(state, limit, Ask("a", wants=wants(Priority.REFETCH, 100)), 101.1).permits == 30
    # Ours that came free meanwhile are not blamed on others.
    turn(state, limit, Ask("a", settled=[0.0] * 30, told=Told(most=100, left=60)), 105.0)
    turn(state, limit, Ask("a", told=Told(most=100, left=70)), 115.3)
    assert turn(state, limit, Ask("a", wants=wants(Priority.REFETCH, 200)), 115.4).permits == 100


def test_a_day_begins_at_the_accounts_midnight() -> None:
    berlin = 1_795_388_400.0  # 2026-11-23T00:00:00+01:00
    state, limit = State(), Limit(concurrency=0, daily=100, zone="Europe/Berlin")
    turn(state, limit, Ask("a", settled=[0.0] * 95), berlin - 60)
    stopped = turn(state, limit, Ask("a", wants=wants(Priority.POLL, 1)), berlin - 50)
    assert (stopped.permits, stopped.stopped, stopped.resumes) == (0, Priority.POLL, 50.0)
    assert turn(state, limit, Ask("a", wants=wants(Priority.POLL, 1)), berlin + 1).permits == 1


def test_at_the_end_of_a_day_one_call_in_a_while_asks_whether_it_is_over() -> None:
    state, limit = State(), Limit(concurrency=0)
    turn(state, limit, Ask("a", told=Told(daily_most=100, daily_left=0)), 100_000.0)
    for later, permits in ((10, 0), (890, 0), (quota.PROBE_SECONDS, 1), (quota.PROBE_SECONDS + 1, 0)):
        asked = turn(state, limit, Ask("a", wants=wants(Priority.POLL, 5)), 100_000.0 + later)
        assert asked.permits == permits, later
    turn(state, limit, Ask("a", settled=[0.0], told=Told(daily_most=100, daily_left=100)), 100_902.0)
    assert turn(state, limit, Ask("a", wants=wants(Priority.POLL, 5)), 100_903.0).permits == 5


def test_a_clock_that_is_set_back_holds_places_for_no_longer_than_a_window() -> None:
    state, limit = State(), Limit(10, 10.0, 10)
    turn(state, limit, Ask("a", wants=wants(Priority.DELIVER, 10), pause=0.0), 5_000.0)
    assert turn(state, limit, Ask("b", wants=wants(Priority.DELIVER, 10)), 1_000.0).permits == 0
    assert turn(state, limit, Ask("b", wants=wants(Priority.DELIVER, 10)), 1_010.1).permits == 10
