"""The event log on Kafka (or anything that speaks its protocol)."""

import asyncio
from collections.abc import Iterable, Sequence

import stamina
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.structs import ConsumerRecord

from streams.records import NewRecord, Offsets, Record, UnknownTopicError, partition_of
from streams.topics import Topic

_READ_SECONDS = 1.0
# A read of one partition waits for the poll that the former read left behind.
_POLL_MS = 20
# Below what brokers accept at once by default (1 MiB); a larger record goes alone.
_BATCH_BYTES = 512 * 1024


def servers(url: str) -> list[str]:
    """The bootstrap servers of a `kafka://host:port[,host:port]` address."""
    return [server for server in url.removeprefix("kafka://").rstrip("/").split(",") if server]


def record_of(found: ConsumerRecord) -> Record:
    """A record from aiokafka's; Kafka counts time in milliseconds, and other programs may leave the key out."""
    return Record(
        found.topic,
        found.partition,
        found.offset,
        found.key or b"",
        found.value,
        tuple(found.headers),
        found.timestamp * 1000,
    )


class KafkaLog:
    """A `Log` on the brokers of a `kafka://` address; connects when first used."""

    def __init__(self, url: str) -> None:
        self._servers = servers(url)
        self._producer: AIOKafkaProducer | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._admin: AIOKafkaAdminClient | None = None
        self._opening = asyncio.Lock()
        self._reading = asyncio.Lock()
        self._partitions: dict[str, int] = {}

    async def ensure_topics(self, topics: Iterable[Topic]) -> None:
        """Create the topics that are missing, with the brokers' default replication."""
        admin = await self._open_admin()
        existing = set(await admin.list_topics())
        missing = [topic for topic in topics if topic.name not in existing]
        if not missing:
            return
        answer = await admin.create_topics([_new_topic(topic) for topic in missing])
        for name, code, reason in answer.topic_errors:
            if code not in (0, TopicAlreadyExistsError.errno):
                raise for_code(code)(f"cannot create topic {name}: {reason}")

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Append through an idempotent producer with acks=all. After an error the records may or may not be there."""
        producer = await self._open_producer()
        await self._learn(producer, {record.topic for record in records})
        parts: dict[tuple[str, int], list[NewRecord]] = {}
        for record in records:
            partition = partition_of(record.key, self._partitions[record.topic])
            parts.setdefault((record.topic, partition), []).append(record)
        try:
            await asyncio.gather(*(_send(producer, *place, part) for place, part in parts.items()))
        except KafkaError:
            # An idempotent producer that gave a record up is of no more use.
            self._producer = None
            await producer.stop()
            raise

    async def read(self, topic: str, partition: int, start: int, limit: int) -> list[Record]:
        """Up to `limit` records from offset `start` on; waits a little for brokers that are slow to answer."""
        consumer = await self._open_consumer()
        tp = TopicPartition(topic, partition)
        async with self._reading:
            end = (await consumer.end_offsets([tp]))[tp]
            first = (await consumer.beginning_offsets([tp]))[tp]
            position, records = max(start, first), list[Record]()
            consumer.assign([tp])
            consumer.seek(tp, position)
            while position < end and len(records) < limit:
                found = await consumer.getmany(tp, timeout_ms=_READ_SECONDS * 1000, max_records=limit - len(records))
                records += [record_of(one) for one in found.get(tp, [])]
                position = await consumer.position(tp)
            consumer.pause(tp)  # or it would go on polling
            return records

    async def ends(self, topics: Iterable[str]) -> Offsets:
        """The next offset of every partition."""
        consumer = await self._open_consumer()
        found = await consumer.end_offsets(await self._all_partitions(topics))
        return {(tp.topic, tp.partition): offset for tp, offset in found.items()}

    async def starts(self, topics: Iterable[str]) -> Offsets:
        """The first retained offset of every partition."""
        consumer = await self._open_consumer()
        found = await consumer.beginning_offsets(await self._all_partitions(topics))
        return {(tp.topic, tp.partition): offset for tp, offset in found.items()}

    @stamina.retry(on=GroupCoordinatorNotAvailableError, attempts=20, wait_max=1.0, timeout=20.0)
    async def committed(self, group: str, topics: Iterable[str]) -> Offsets:
        """The next offset the group will handle, per partition; a young cluster may still be making room for positions."""
        admin = await self._open_admin()
        wanted = await self._all_partitions(topics)
        found = await admin.list_consumer_group_offsets(group, partitions=wanted)
        return {(tp.topic, tp.partition): max(0, found[tp].offset if tp in found else 0) for tp in wanted}

    async def close(self) -> None:
        """Flush and disconnect."""
        producer, consumer, admin = self._producer, self._consumer, self._admin
        self._producer = self._consumer = self._admin = None
        for client in (producer, consumer):
            if client:
                await client.stop()
        if admin:
            await admin.close()

    async def _all_partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        wanted = set(topics)
        await self._learn(await self._open_producer(), wanted)
        return [TopicPartition(topic, n) for topic in sorted(wanted) for n in range(self._partitions[topic])]

    async def _learn(self, producer: AIOKafkaProducer, topics: set[str]) -> None:
        """Remember how many partitions the topics have; the hub never changes that."""
        if not (unknown := topics - self._partitions.keys()):
            return
        cluster = await producer.client.fetch_all_metadata()
        for topic in unknown:
            if not (partitions := cluster.partitions_for_topic(topic)):
                raise UnknownTopicError(f"topic {topic} does not exist; ensure_topics creates it")
            self._partitions[topic] = len(partitions)

    async def _open_producer(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._servers, enable_idempotence=True, acks="all", max_batch_size=_BATCH_BYTES
                )
                await _started(producer)
                self._producer = producer
            return self._producer

    async def _open_consumer(self) -> AIOKafkaConsumer:
        async with self._opening:
            if self._consumer is None:
                consumer = AIOKafkaConsumer(
                    bootstrap_servers=self._servers, enable_auto_commit=False, fetch_max_wait_ms=_POLL_MS
                )
                await _started(consumer)
                self._consumer = consumer
            return self._consumer

    async def _open_admin(self) -> AIOKafkaAdminClient:
        async with self._opening:
            if self._admin is None:
                admin = AIOKafkaAdminClient(bootstrap_servers=self._servers)
                await admin.start()
                self._admin = admin
            return self._admin


async def _send(producer: AIOKafkaProducer, topic: str, partition: int, records: Sequence[NewRecord]) -> None:
    """Send the records of one partition in batches, which costs a fraction of sending them one by one."""
    waiting, batch = [], producer.create_batch()
    for record in records:
        fields = {"key": record.key, "value": record.value, "timestamp": None, "headers": list(record.headers)}
        if batch.append(**fields) is None:
            waiting.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(**fields)
    waiting.append(await producer.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*waiting)


async def _started(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    """Start a client; one that cannot connect is stopped again, so that it leaves nothing running."""
    try:
        await client.start()
    except BaseException:
        await client.stop()
        raise


def _new_topic(topic: Topic) -> NewTopic:
    configs = {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "retention.ms": str(int(topic.retention.total_seconds() * 1000)) if topic.retention else "-1",
    }
    return NewTopic(topic.name, topic.partitions, -1, replica_assignments={}, topic_configs=configs)
