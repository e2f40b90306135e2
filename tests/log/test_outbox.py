"""The outbox: whatever a call emitted is on the log after it, in order, however much it was."""

import uuid
from importlib.resources import files

import asyncpg
import pytest

from hub.edge.kafka_local import Broker
from hub.model import Model
from streams.context import Context, emit, publish
from streams.log import KafkaLog, NewRecord
from streams.registry import Codec, TableRegistry
from streams.topics import Topic

pytestmark = pytest.mark.kafka


async def test_publishing_ends_when_the_outbox_is_empty(pool: asyncpg.Pool, kafka: Broker) -> None:
    topic, log = Topic(f"outbox.{uuid.uuid4().hex}", key="one", partitions=1), KafkaLog(kafka.url)
    await log.ensure_topics([topic])
    await pool.execute(files("streams").joinpath("state.sql").read_text())
    context = Context(Model({}, {}, "v1"), pool, log, Codec(TableRegistry(pool)))
    async with pool.acquire() as conn, conn.transaction():
        await emit(context, conn, [NewRecord(topic.name, b"key", b"%d" % n) for n in range(7)])
    assert await publish(context, limit=2) == 7
    assert not await pool.fetchval("select exists (select from hub.outbox)")
    assert [record.value for record in await log.read(topic.name, 0, 0, 100)] == [b"%d" % n for n in range(7)]
    await log.close()
