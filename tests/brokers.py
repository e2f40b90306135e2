"""Kafka brokers that tests share."""

import asyncio

import stamina
from aiokafka.admin import AIOKafkaAdminClient

from hub.edge import kafka_local
from hub.edge.kafka_local import Broker


async def emptied(broker: Broker) -> Broker:
    """The broker, running and without topics: those of a hub have the same names in every test."""
    await asyncio.to_thread(kafka_local.up, broker.data_dir, broker.port)
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.url.removeprefix("kafka://"))
    await admin.start()
    try:
        await admin.delete_topics(await _topics(admin))
        await _gone(admin)
    finally:
        await admin.close()
    return broker


@stamina.retry(on=AssertionError, attempts=None, wait_max=0.1, timeout=60.0)
async def _gone(admin: AIOKafkaAdminClient) -> None:
    """Deleted topics are listed on for a second or two, and who makes sure of one would find it there."""
    assert not await _topics(admin)


async def _topics(admin: AIOKafkaAdminClient) -> list[str]:
    return [name for name in await admin.list_topics() if not name.startswith("__")]
