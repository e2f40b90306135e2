"""A running hub on three systems, anew for each test that asks for it."""

from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

import asyncpg
import pytest

from hub.edge.embedded import Embedded
from tests.e2e.systems import Systems, systems_on


@pytest.fixture
async def systems(postgres: Embedded, tmp_path: Path) -> AsyncIterator[Systems]:
    """Three systems with overlapping, conflicting contents; no hub yet."""
    async with systems_on(postgres, tmp_path, scale=0.02) as systems:
        yield systems


@pytest.fixture
async def hub_state(pool: asyncpg.Pool) -> asyncpg.Pool:
    """A pool on a database with the hub's empty tables."""
    async with pool.acquire() as conn:
        await conn.execute(files("streams").joinpath("state.sql").read_text())
    return pool
