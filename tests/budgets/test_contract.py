"""What every budget promises, wherever it is kept: starts in a window, calls at once, pauses, priorities, quotas."""

import asyncio
import time

import pytest

from connectors.kit.allowance import Ask, Grant, Limit, Priority, Told
from connectors.kit.budget import Budget, Budgets, inherited, local, using
from connectors.kit.keeping import InProcess
from connectors.kit.line import calling
from hub.errors import Retry

# The window is counted from a call's answer by the budget and from its start by these tests, so it is never shorter.
WINDOW = 0.2


async def starts(budget: Budget, calls: int) -> list[float]:
    """When so many calls started, that were all wanted at once."""
    begun: list[float] = []

    async def one() -> None:
        async with budget.call():
            begun.append(time.monotonic())

    await asyncio.gather(*[one() for _ in range(calls)])
    return begun


def twin(kept: Budgets, account: str, limit: Limit) -> Budget:
    """The same account's budget as another process holds it."""
    return Budget(account, limit, kept.keeper)


async def test_no_window_holds_more_starts_than_allowed_by_all_processes_together(kept: Budgets) -> None:
    limit = Limit(5, WINDOW, 50)
    both = [kept.of("a", limit), twin(kept, "a", limit)]
    begun = sorted(at for some in await asyncio.gather(*[starts(one, 12) for one in both]) for at in some)
    assert len(begun) == 24
    assert all(later - earlier >= WINDOW for earlier, later in zip(begun, begun[5:], strict=False))


async def test_no_more_calls_at_once_than_allowed_and_all_are_served(kept: Budgets) -> None:
    at_once = most = 0

    async def one(budget: Budget) -> None:
        nonlocal at_once, most
        async with budget.call():
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.01)
            at_once -= 1

    both = [kept.of("a", Limit(concurrency=3)), twin(kept, "a", Limit(concurrency=3))]
    await asyncio.gather(*[one(budget) for _ in range(15) for budget in both])
    assert (most, at_once) == (3, 0)


async def test_nothing_starts_during_a_pause_that_another_process_was_asked_for(kept: Budgets) -> None:
    limit = Limit(1, 0.1)
    here, there = kept.of("a", limit), twin(kept, "a", limit)
    waiting = asyncio.create_task(starts(here, 3))
    await asyncio.sleep(0.05)
    there.pause(0.4)
    declared = time.monotonic()
    await starts(there, 1)
    assert time.monotonic() - declared >= 0.39
    begun = await waiting
    assert not [at for at in begun if declared + 0.1 < at < declared + 0.39]


async def test_a_long_pause_is_told_instead_of_waited_through_also_to_who_waits_already(kept: Budgets) -> None:
    limit = Limit(1, 60.0)
    here, there = kept.of("a", limit), twin(kept, "a", limit)
    await starts(here, 1)
    waiting = [asyncio.create_task(starts(budget, 1)) for budget in (here, there)]
    await asyncio.sleep(0)
    there.pause(120.0)
    for task in (*waiting, asyncio.create_task(starts(there, 1))):
        with pytest.raises(Retry) as told:
            await asyncio.wait_for(task, 20)
        assert told.value.after is not None
        assert 90 < told.value.after <= 120


async def test_a_cancelled_or_failed_call_gives_its_place_back(kept: Budgets) -> None:
    budget = kept.of("a", Limit(concurrency=1))

    async def fail() -> None:
        async with budget.call():
            raise RuntimeError("told")

    for _ in range(3):
        task = asyncio.create_task(fail())
        await asyncio.wait([task])
        assert isinstance(task.exception(), RuntimeError)
    async with budget.call():
        waiting = asyncio.create_task(starts(budget, 1))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.wait([waiting])
    assert len(await starts(budget, 2)) == 2


async def order(kept: Budgets, limit: Limit, *priorities: Priority) -> list[Priority]:
    """In what order callers are served that all wait for the one permit."""
    served: list[Priority] = []
    budget = kept.of("a", limit)

    async def one(priority: Priority) -> None:
        with calling(priority):
            async with budget.call():
                served.append(priority)

    async with budget.call():
        waiting = [asyncio.create_task(one(priority)) for priority in priorities]
        await asyncio.sleep(0.02)
    await asyncio.gather(*waiting)
    return served


async def test_the_most_urgent_goes_first_and_of_equals_the_first(kept: Budgets) -> None:
    served = await order(kept, Limit(concurrency=1), *reversed(Priority), *Priority)
    assert served == sorted([*Priority, *Priority])


async def test_another_process_that_waits_for_less_does_not_go_before_a_more_urgent_one(kept: Budgets) -> None:
    limit, served = Limit(concurrency=1), []

    async def one(budget: Budget, priority: Priority) -> None:
        with calling(priority):
            async with budget.call():
                served.append(priority)
                await asyncio.sleep(0.05)

    here, there = kept.of("a", limit), twin(kept, "a", limit)
    async with here.call():
        waiting = [asyncio.create_task(one(here, Priority.BACKFILL)) for _ in range(4)]
        waiting += [asyncio.create_task(one(there, Priority.REFETCH)) for _ in range(4)]
        await asyncio.sleep(0.4)  # both have said that they wait
    await asyncio.gather(*waiting)
    assert served == [Priority.REFETCH] * 4 + [Priority.BACKFILL] * 4


async def test_the_vendors_lower_limit_is_believed_and_what_others_draw_is_left_to_them(kept: Budgets) -> None:
    budget = kept.of("a", Limit(10, 60.0, 50))
    await starts(budget, 1)
    budget.learn(Told(most=6, left=2))  # one call of ours, three of others
    await budget.aclose()  # whoever closes has told the keeper everything
    assert await granted(budget, 10) == 2


async def granted(budget: Budget, wanted: int) -> int:
    """How many of so many calls start without a wait for the window."""
    tasks = [asyncio.create_task(starts(budget, 1)) for _ in range(wanted)]
    await asyncio.sleep(1.0)
    done = sum(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return done


async def test_near_the_end_of_the_day_the_least_urgent_stop_first(kept: Budgets) -> None:
    budget = kept.of("a", Limit(concurrency=0))
    may: dict[int, list[bool]] = {}
    for left in (1000, 80, 40, 15, 8, 0):
        await starts(budget, 1)
        budget.learn(Told(daily_most=1000, daily_left=left))
        await budget.aclose()
        may[left] = [await is_served(budget, priority) for priority in Priority]
    assert may == {
        1000: [True, True, True, True, True],
        80: [True, True, True, True, False],
        40: [True, True, True, False, False],
        15: [True, True, False, False, False],
        8: [True, False, False, False, False],
        0: [False, False, False, False, False],
    }


async def is_served(budget: Budget, priority: Priority) -> bool:
    """Whether a call of this priority starts; if not, its caller must be told when to come back."""
    with calling(priority):
        (told,) = await asyncio.gather(starts(budget, 1), return_exceptions=True)
    assert not isinstance(told, Retry) or 0 < (told.after or 0) <= 900
    return not isinstance(told, BaseException)


@pytest.mark.parametrize("forgiving", [True, False])
async def test_a_silent_keeper_is_asked_again_and_told_of_after_patience(
    kept: Budgets, monkeypatch: pytest.MonkeyPatch, forgiving: bool
) -> None:
    monkeypatch.setattr("connectors.kit.budget.RETRY_SECONDS", 0.01)
    monkeypatch.setattr("connectors.kit.budget.PATIENCE", 30.0 if forgiving else 0.05)

    class Silent:
        left = 5 if forgiving else 1_000

        async def turn(self, *asked):  # type: ignore[no-untyped-def]
            self.left -= 1
            if self.left >= 0:
                raise ConnectionRefusedError("the database is away")
            return await kept.keeper.turn(*asked)

    budget = Budget("a", Limit(5, 60.0), Silent())
    if forgiving:
        assert len(await starts(budget, 3)) == 3
    else:
        with pytest.raises(Retry, match="cannot be asked"):
            await starts(budget, 1)
        await budget.aclose()


async def test_connectors_take_the_budgets_of_the_block_they_are_made_in(kept: Budgets) -> None:
    with using(kept):
        assert inherited() is kept
    assert inherited() is None
    assert local() is local()
    assert kept.of("a/1", Limit(10)) is kept.of("a/1", Limit(99))
    assert kept.of("a/1", Limit()) is not kept.of("a/2", Limit())


async def test_a_budget_that_is_closed_right_after_a_call_asks_for_no_more() -> None:
    asked: list[Ask] = []

    class Listening(InProcess):
        async def turn(self, account: str, limit: Limit, ask: Ask) -> Grant:
            asked.append(ask)
            return await super().turn(account, limit, ask)

    budget = Budget("a", Limit(5, WINDOW, 50), Listening())
    async with budget.call():
        pass
    await budget.aclose()
    assert (asked[-1].ahead, asked[-1].busy) == (0, 0), asked[-1]
