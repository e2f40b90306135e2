"""The log goes away and comes back under running workers: they wait, say so, and lose nothing."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import pytest

from hub.edge import embedded, kafka_local
from hub.edge.embedded import Embedded
from hub.edge.kafka_local import Broker
from streams.app import Workers, stage_app
from streams.log import Batch, KafkaLog, Log, PostgresLog
from streams.topics import Topic
from tests.log.support import everything, numbered, until


class Seen:
    """What a handler was given."""

    def __init__(self) -> None:
        self.places: set[tuple[int, int]] = set()

    async def __call__(self, batches: list[Batch]) -> None:
        self.places |= {(batch.partition, record.offset) for batch in batches for record in batch.records}


@pytest.fixture
def own_postgres() -> Iterator[Embedded]:
    """A server that this test may break."""
    with TemporaryDirectory(prefix="hub-test-", ignore_cleanup_errors=True) as directory:
        server = embedded.start(Path(directory) / "data")
        yield server
        server.stop()


async def append_through_outages(log: Log, topic: Topic, start: int, end: int) -> None:
    """Append, again and again until it worked: records may be there twice, but not fail to be there."""
    for n in range(start, end, 50):
        async with asyncio.timeout(240):
            while True:
                try:
                    await log.append(numbered(topic.name, n, n + 50))
                    break
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await asyncio.sleep(0.1)


async def test_workers_survive_a_restart_of_postgresql(own_postgres: Embedded) -> None:
    url, seen, topic = await own_postgres.create("hub"), Seen(), Topic("test.outage", key="any")
    async with asyncpg.create_pool(url, min_size=1) as pool:
        log = PostgresLog(pool)
        await log.ensure_topics([topic])
        workers = Workers([stage_app("survivor", url, [topic.name], seen)])
        await workers.start()
        await append_through_outages(log, topic, 0, 500)
        await until(lambda: len(seen.places) == 500)
        await asyncio.to_thread(own_postgres.restart)
        await append_through_outages(log, topic, 500, 1_000)
        every = everything(await log.ends([topic.name]))
        await until(lambda: seen.places == every)
        assert len(every) >= 1_000
        await workers.stop()


async def test_workers_wait_for_a_postgresql_that_is_not_there_yet(own_postgres: Embedded) -> None:
    url, seen, topic = await own_postgres.create("hub"), Seen(), Topic("test.outage", key="any")
    async with asyncpg.create_pool(url, min_size=1) as pool:
        log = PostgresLog(pool)
        await log.ensure_topics([topic])
        await log.append(numbered(topic.name, 0, 100))
    own_postgres.stop()
    app = stage_app("waiting", url, [topic.name], seen)
    workers = Workers([app])
    await workers.start()
    await until(lambda: not app.stage.health.healthy)
    assert app.stage.health.last_error
    own_postgres.start_again()
    await until(lambda: len(seen.places) == 100)
    assert app.stage.health.healthy
    await workers.stop()


@pytest.mark.kafka
async def test_workers_survive_a_restart_of_the_broker(kafka: Broker) -> None:
    seen, topic = Seen(), Topic("test.outage", key="any")
    log = KafkaLog(kafka.url)
    await log.ensure_topics([topic])
    app = stage_app("kafka-survivor", kafka.url, [topic.name], seen)
    workers = Workers([app])
    await workers.start()
    await log.append(numbered(topic.name, 0, 500))
    await until(lambda: len(seen.places) == 500)
    await asyncio.to_thread(kafka_local.down, kafka.data_dir)
    await until(lambda: not app.stage.health.healthy)
    back = asyncio.create_task(asyncio.to_thread(kafka_local.up, kafka.data_dir))
    await append_through_outages(log, topic, 500, 1_000)
    await back
    every = everything(await log.ends([topic.name]))
    await until(lambda: seen.places >= every)
    await until(lambda: app.stage.health.healthy)
    assert len(every) >= 1_000
    await workers.stop()
    await log.close()


@pytest.mark.kafka
async def test_workers_wait_for_a_broker_that_is_not_there_yet(kafka: Broker) -> None:
    seen, topic = Seen(), Topic("test.outage.later", key="any")
    log = KafkaLog(kafka.url)
    await log.ensure_topics([topic])
    await log.append(numbered(topic.name, 0, 100))
    await log.close()
    await asyncio.to_thread(kafka_local.down, kafka.data_dir)
    app = stage_app("kafka-waiting", kafka.url, [topic.name], seen)
    workers = Workers([app])
    await workers.start()
    await until(lambda: not app.stage.health.healthy)
    await asyncio.to_thread(kafka_local.up, kafka.data_dir)
    await until(lambda: len(seen.places) == 100)
    assert app.stage.health.healthy
    await workers.stop()
