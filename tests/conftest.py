"""Real parts for every test: an embedded PostgreSQL and a local Kafka broker, each started once and only when asked for."""

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import pytest

from hub.edge import embedded, kafka_local
from hub.edge.embedded import Embedded
from hub.edge.kafka_local import Broker
from hub.edge.main import collect_seldom
from tests.brokers import emptied


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--seed N` runs simulations with that seed only, to see a failure again."""
    parser.addoption("--seed", type=int, default=None, help="run every simulation with this seed only")


def pytest_collection_finish() -> None:
    """The collector as in the hub's own processes."""
    collect_seldom()


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> Callable[[int], Sequence[int]]:
    """The seeds of a simulation: so many, or the one of `--seed`."""
    one = request.config.getoption("seed")
    return lambda count: range(count) if one is None else [one]


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Note what a test of a promise counted: figures("P1", events=50_000, kills=12). Printed at the end of the run, and
    written to the file that HUB_REPORT names."""

    def note(promise: str, **counted: object) -> None:
        told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in counted.items())
        request.node.user_properties.append((promise, told))

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures of the promises, after the tests."""
    told = [
        {
            "promise": name,
            "test": report.nodeid,
            "outcome": report.outcome,
            "figures": value,
            "seconds": report.duration,
        }
        for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed"))
        if report.when == "call"
        for name, value in report.user_properties
    ]
    told.sort(key=lambda one: (int(one["promise"][1:]), one["test"]))
    for one in told:
        terminalreporter.write_line("{promise} {figures} ({test} {outcome})".format(**one))
    if path := os.environ.get("HUB_REPORT"):
        Path(path).write_text(json.dumps(told, indent=2) + "\n")


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


@pytest.fixture
async def broker(kafka: Broker) -> Broker:
    """The same broker, emptied."""
    return await emptied(kafka)


@pytest.fixture
async def own_broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """A Kafka broker of the test's own, for one that kills workers: a broker waits for those until their time is over."""
    directory = tmp_path / "kafka"
    yield await asyncio.to_thread(kafka_local.up, directory, 0)
    await asyncio.to_thread(kafka_local.down, directory)
