"""Both logs, behind one fixture: every test that asks for `log` or `log_url` runs on PostgreSQL and on Kafka."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from streams.log import Log, open_log
from streams.topics import Topic
from tests.log.support import Worker


@pytest.fixture(params=["postgres", pytest.param("kafka", marks=pytest.mark.kafka)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def log_url(kind: str, request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("database") if kind == "postgres" else request.getfixturevalue("kafka").url)


@pytest.fixture
async def log(log_url: str, kind: str) -> AsyncIterator[Log]:
    pool = await asyncpg.create_pool(log_url, min_size=1) if kind == "postgres" else None
    log = open_log(log_url, pool)
    yield log
    await log.close()
    if pool:
        await pool.close()


@pytest.fixture
async def topic(log: Log) -> Topic:
    topic = Topic(f"test.{uuid.uuid4().hex[:12]}", key="any")
    await log.ensure_topics([topic])
    return topic


@pytest.fixture
def stage() -> str:
    return f"stage-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def start_worker(log_url: str, stage: str, topic: Topic, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    started: list[Worker] = []

    def start(delay: float = 0.0) -> Worker:
        started.append(Worker(log_url, stage, topic.name, tmp_path / f"worker-{len(started)}", delay))
        return started[-1]

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.kill()
