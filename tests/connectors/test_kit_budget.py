"""Budgets: starts in a window, calls at once, pauses."""

import asyncio
import time

import pytest

from connectors.kit.budget import Budget, shared
from hub.errors import Retry


async def _starts(budget: Budget, calls: int) -> list[float]:
    starts: list[float] = []

    async def one() -> None:
        async with budget.call():
            starts.append(time.monotonic())

    await asyncio.gather(*[one() for _ in range(calls)])
    return starts


async def test_no_window_holds_more_starts_than_allowed() -> None:
    starts = await _starts(Budget(calls=5, per_seconds=0.2, concurrency=50), 17)
    # The budget's clock is read before the caller's, so a window seen by callers may be shorter by a hair.
    assert all(later - earlier >= 0.19 for earlier, later in zip(starts, starts[5:], strict=False))


async def test_no_more_calls_at_once_than_allowed_and_all_are_served() -> None:
    budget, at_once, most = Budget(concurrency=3), 0, 0

    async def one() -> None:
        nonlocal at_once, most
        async with budget.call():
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.01)
            at_once -= 1

    await asyncio.gather(*[one() for _ in range(20)])
    assert (most, at_once) == (3, 0)


async def test_nothing_starts_during_a_pause_even_one_declared_while_waiting() -> None:
    budget = Budget(calls=1, per_seconds=0.1)
    waiting = asyncio.create_task(_starts(budget, 2))
    await asyncio.sleep(0.05)
    declared = time.monotonic()
    budget.pause(0.3)
    starts = await waiting
    assert max(starts) - declared >= 0.29


async def test_none_left_by_the_vendors_count_makes_a_pause_and_some_left_none() -> None:
    budget = Budget()
    budget.learn(3, 10.0)
    assert budget._until_free(time.monotonic()) <= 0
    budget.learn(0, 10.0)
    assert 0.5 < budget._until_free(time.monotonic()) <= 1.0


async def test_a_long_pause_is_told_instead_of_waited_through() -> None:
    budget = Budget()
    budget.pause(120.0)
    with pytest.raises(Retry) as told:
        async with budget.call():
            raise AssertionError("a call was started")
    assert told.value.after is not None
    assert 100 < told.value.after <= 120


async def test_a_cancelled_or_failed_call_gives_its_place_back() -> None:
    budget = Budget(concurrency=1)

    async def fail() -> None:
        async with budget.call():
            raise RuntimeError("told")

    for _ in range(3):
        task = asyncio.create_task(fail())
        await asyncio.wait([task])
        assert isinstance(task.exception(), RuntimeError)
    assert len(await _starts(budget, 2)) == 2


async def test_one_account_has_one_budget() -> None:
    assert shared("a/1", 10) is shared("a/1", 99)
    assert shared("a/1") is not shared("a/2")
