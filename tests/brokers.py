"""Kafka brokers that tests share."""

import asyncio

from aiokafka.admin import AIOKafkaAdminClient

from hub.edge import kafka_local
from hub.edge.kafka_local import Broker


async def emptied(broker: Broker) -> Broker:
    """The broker, running and without topics: those of a hub have the same names in every test."""
    await asyncio.to_thread(kafka_local.up, broker.data_dir, broker.port)
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.url.removeprefix("kafka://"))
    await admin.start()
    try:
        if topics := [name for name in await admin.list_topics() if not name.startswith("__")]:
            await admin.delete_topics(topics)
    finally:
        await admin.close()
    return broker
