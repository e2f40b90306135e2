"""The state database of budgets, and the two places where budgets are kept."""

from collections.abc import AsyncIterator
from importlib.resources import files

import asyncpg
import pytest

from connectors.kit.budget import Budgets
from streams import budgets


@pytest.fixture
async def state(database: str) -> str:
    """The address of a fresh state database."""
    conn = await asyncpg.connect(database)
    await conn.execute("set client_min_messages = warning")
    await conn.execute(files("streams").joinpath("state.sql").read_text())
    await conn.close()
    return database


@pytest.fixture(params=["process", "database"])
async def kept(request: pytest.FixtureRequest, state: str) -> AsyncIterator[Budgets]:
    """Budgets, kept in this process and in the state database."""
    if request.param == "process":
        made = Budgets()
        yield made
        await made.aclose()
    else:
        async with budgets.shared(state) as made:
            yield made
