"""Real parts for every test: an embedded PostgreSQL and a local Kafka broker, each started once and only when asked for."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import pytest

from hub.edge import embedded, kafka_local
from hub.edge.embedded import Embedded
from hub.edge.kafka_local import Broker


@pytest.fixture(scope="session")
def postgres() -> Iterator[Embedded]:
    """An embedded PostgreSQL server for the whole run."""
    # Not below pytest's own directory: it is closed to others, and as root the server runs as another user.
    with TemporaryDirectory(prefix="hub-test-", ignore_cleanup_errors=True) as directory:
        server = embedded.start(Path(directory) / "data")
        yield server
        server.leave()


@pytest.fixture
async def database(postgres: Embedded) -> AsyncIterator[str]:
    """The address of a fresh, empty database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield await postgres.create(name)
    conn = await asyncpg.connect(postgres.url())
    await conn.execute(f"drop database {name} with (force)")
    await conn.close()


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool on the fresh database."""
    async with asyncpg.create_pool(database, min_size=1) as pool:
        yield pool


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A Kafka broker for the whole run; tests that use it carry the marker `kafka`."""
    data_dir: Path = tmp_path_factory.mktemp("kafka")
    yield kafka_local.up(data_dir, port=0)
    kafka_local.down(data_dir)
