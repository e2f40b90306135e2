"""A day's calls on the sandbox's account: who stops first, and what a person is told."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
import httpx
import orjson
import pytest

from connectors.hubspot.api import Api
from connectors.hubspot.connector import HubSpot
from connectors.hubspot.sandbox import create_app
from connectors.kit import quota
from connectors.kit.allowance import Limit, Priority
from connectors.kit.budget import using
from connectors.kit.line import calling
from connectors.kit.sandbox import serve
from hub.edge import gauges
from hub.errors import Retry
from streams import budgets, metrics
from streams.context import Context
from streams.topics import ALERTS
from tests.promises.mutations import broken, mutation
from tests.stages.model import model
from tests.stages.support import make

TOKEN = "pat-na1-only-for-tests"
DAY = 100
LIMIT = Limit(190, 10.0, 0)


@pytest.fixture
async def context(state: str) -> AsyncIterator[Context]:
    """A hub's state and log on PostgreSQL."""
    async with asyncpg.create_pool(state, min_size=1) as pool:
        yield (await make(pool, model())).context


@asynccontextmanager
async def account(state: str) -> AsyncIterator[tuple[Api, httpx.AsyncClient]]:
    """An account with so many calls a day, and its control API."""
    async with serve(create_app()) as running, httpx.AsyncClient(base_url=running.url) as control:
        (await control.post("/_sandbox/seed", json={"token": TOKEN, "limits": {"daily": DAY}})).raise_for_status()
        async with budgets.shared(state) as shared:
            with using(shared):
                connector = HubSpot("hubspot", {"access_token": TOKEN, "base_url": running.url}, {})
            yield connector._connected().api, control
            await connector.close()


async def used_up(api: Api, priority: Priority) -> None:
    """Call until told to stop."""
    with calling(priority):
        for _ in range(DAY + 1):
            try:
                await api.account()
            except Retry:
                return
    raise AssertionError(f"{priority.name} was never stopped")


async def left(control: httpx.AsyncClient) -> int:
    """The calls left today, by the sandbox's own journal."""
    calls = (await control.get("/_sandbox/requests")).json()["requests"]
    assert not [call for call in calls if call["status"] == 429], "a call was refused"
    return DAY - len(calls)


async def alerts(context: Context) -> list[str]:
    """The states of all alerts about quotas, in order."""
    await budgets.watch(context)
    records = await context.log.read(ALERTS.name, 0, 0, 100)
    told = [context.codec.decode(record.value or b"")[1] for record in records]
    return [alert["state"] for alert in told if alert["name"] == "quota_nearly_used"]


async def check_the_least_urgent_stop_first(state: str) -> dict[str, int]:
    """Use up the day, the least urgent first; gives what each priority left to the others."""
    kept: dict[str, int] = {}
    async with account(state) as (api, control):
        for priority in reversed(Priority):
            await used_up(api, priority)
            kept[priority.name.lower()] = await left(control)
    assert list(kept.values()) == [10, 5, 2, 1, 0], kept
    return kept


async def test_the_least_urgent_stop_first(state: str, figures: Callable[..., None]) -> None:
    figures(
        "B1", **{f"left_by_{name}": calls for name, calls in (await check_the_least_urgent_stop_first(state)).items()}
    )


async def test_the_least_urgent_stop_first_fails_without_shares(state: str) -> None:
    with mutation(quota, "KEPT", (0.0,) * 5), broken("shares of the day"):
        await check_the_least_urgent_stop_first(state)


async def test_a_person_is_told_once_and_again_when_it_is_over(state: str, context: Context) -> None:
    async with account(state) as (api, control):
        await api.account()
        assert await alerts(context) == []
        await used_up(api, Priority.BACKFILL)
        assert await alerts(context) == ["raised"]
        assert await alerts(context) == ["raised"]
        samples = {(m.name, labels[0][:8]): value for m, labels, value in await gauges.accounts(context)}
        assert samples[metrics.BUDGET_DAY.name, "hubspot/"] == 0.1
        (await control.post("/_sandbox/seed", json={"limits": {"daily": 1000}})).raise_for_status()
        await api.account()
    assert await alerts(context) == ["raised", "cleared"]


async def test_the_accounts_are_told_as_gauges(state: str, context: Context) -> None:
    async with budgets.shared(state) as shared:
        budget = shared.of("vendor/1", LIMIT)
        async with budget.call():
            pass
        budget.pause(20.0)
    samples = {m.name: value for m, _, value in await gauges.accounts(context)}
    assert samples == {
        metrics.BUDGET_CALLS.name: 1, metrics.BUDGET_WAITING.name: 0, metrics.BUDGET_PAUSED.name: 1,
        metrics.BUDGET_DAY.name: 1.0,
    }  # fmt: skip
    kept = await context.pool.fetchval("select state from hub.budget")
    assert orjson.loads(kept)["holders"] == {}
