"""A running hub on three systems, anew for each test that asks for it."""

import asyncio
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

import asyncpg
import pytest

from hub.edge import kafka_local
from hub.edge.embedded import Embedded
from hub.edge.kafka_local import Broker
from tests.e2e.systems import Systems, systems_on


@pytest.fixture
async def systems(postgres: Embedded, tmp_path: Path) -> AsyncIterator[Systems]:
    """Three systems with overlapping, conflicting contents; no hub yet."""
    async with systems_on(postgres, tmp_path) as systems:
        yield systems


@pytest.fixture
async def hub_state(pool: asyncpg.Pool) -> asyncpg.Pool:
    """A pool on a database with the hub's empty tables."""
    async with pool.acquire() as conn:
        await conn.execute(files("streams").joinpath("state.sql").read_text())
    return pool


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """A Kafka broker of the test's own: topics have the same names in every run."""
    directory = tmp_path / "kafka"
    yield await asyncio.to_thread(kafka_local.up, directory, 0)
    await asyncio.to_thread(kafka_local.down, directory)
