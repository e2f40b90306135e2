"""The event log on Kafka (or anything that speaks its protocol)."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import stamina
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.structs import ConsumerRecord

from streams.records import Block, NewRecord, Offsets, Place, Record, UnknownTopicError, block_of, partition_of
from streams.topics import Topic

_READ_SECONDS = 1.0
# A read of one partition waits for the poll that the former read left behind.
_POLL_MS = 20
_GAP = 100
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
        self._clients = _Clients(servers(url))
        self._reading = asyncio.Lock()
        self._partitions: dict[str, int] = {}

    async def ensure_topics(self, topics: Iterable[Topic]) -> None:
        """Create the topics that are missing, with the brokers' default replication; returns when the brokers tell of them.
        Raises UnknownTopicError where they do not within 30 s."""
        admin = await self._clients.admin()
        existing = set(await admin.list_topics())
        missing = [topic for topic in topics if topic.name not in existing]
        if not missing:
            return
        answer = await admin.create_topics([_new_topic(topic) for topic in missing])
        for name, code, reason in answer.topic_errors:
            if code not in (0, TopicAlreadyExistsError.errno):
                raise for_code(code)(f"cannot create topic {name}: {reason}")
        async for attempt in stamina.retry_context(UnknownTopicError, attempts=None, wait_max=0.5, timeout=30.0):
            with attempt:
                await self._learn(await self._clients.producer(), {topic.name for topic in missing})

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Append through an idempotent producer with acks=all. After an error the records may or may not be there."""
        producer = await self._clients.producer()
        await self._learn(producer, {record.topic for record in records})
        parts: dict[tuple[str, int], list[NewRecord]] = {}
        for record in records:
            partition = partition_of(record.key, self._partitions[record.topic])
            parts.setdefault((record.topic, partition), []).append(record)
        try:
            await asyncio.gather(*(_send(producer, *place, part) for place, part in parts.items()))
        except KafkaError:
            # An idempotent producer that gave a record up is of no more use.
            await self._clients.close(AIOKafkaProducer)
            raise

    async def read(self, topic: str, partition: int, start: int, limit: int) -> list[Record]:
        """Up to `limit` records from offset `start` on; waits a little for brokers that are slow to answer."""
        consumer = await self._clients.consumer()
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

    async def block(self, topic: str, partition: int, start: int, limit: int, head: bytes) -> Block | None:
        """The same, if all their values begin with `head`."""
        return block_of(await self.read(topic, partition, start, limit), head)

    async def pick(self, places: Iterable[Place]) -> list[Record]:
        """The records at these places; those that stand near each other by one read."""
        picked: list[Record] = []
        for topic, partition, offsets in _runs(places):
            limit = offsets[-1] - offsets[0] + 1
            found = await self.read(topic, partition, offsets[0], limit)
            picked += [record for record in found if record.offset in set(offsets)]
        return picked

    async def ends(self, topics: Iterable[str]) -> Offsets:
        """The next offset of every partition."""
        consumer = await self._clients.consumer()
        found = await consumer.end_offsets(await self._all_partitions(topics))
        return {(tp.topic, tp.partition): offset for tp, offset in found.items()}

    async def starts(self, topics: Iterable[str]) -> Offsets:
        """The first retained offset of every partition."""
        consumer = await self._clients.consumer()
        found = await consumer.beginning_offsets(await self._all_partitions(topics))
        return {(tp.topic, tp.partition): offset for tp, offset in found.items()}

    @stamina.retry(on=GroupCoordinatorNotAvailableError, attempts=20, wait_max=1.0, timeout=20.0)
    async def committed(self, group: str, topics: Iterable[str]) -> Offsets:
        """The next offset the group will handle, per partition; a young cluster may still be making room for positions."""
        admin = await self._clients.admin()
        wanted = await self._all_partitions(topics)
        found = await admin.list_consumer_group_offsets(group, partitions=wanted)
        return {(tp.topic, tp.partition): max(0, found[tp].offset if tp in found else 0) for tp in wanted}

    async def close(self) -> None:
        """Flush and disconnect."""
        await self._clients.close()

    async def _all_partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        wanted = set(topics)
        await self._learn(await self._clients.producer(), wanted)
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


class _Clients:
    """The clients of one cluster, each connected when first asked for."""

    def __init__(self, bootstrap: list[str]) -> None:
        self._servers = bootstrap
        self._opening = asyncio.Lock()
        self._open: dict[type[Any], Any] = {}

    async def producer(self) -> AIOKafkaProducer:
        """The idempotent producer."""
        settings = {"enable_idempotence": True, "acks": "all", "max_batch_size": _BATCH_BYTES}
        return await self._opened(AIOKafkaProducer, settings)

    async def consumer(self) -> AIOKafkaConsumer:
        """A consumer without a group."""
        return await self._opened(AIOKafkaConsumer, {"enable_auto_commit": False, "fetch_max_wait_ms": _POLL_MS})

    async def admin(self) -> AIOKafkaAdminClient:
        """The administration client."""
        return await self._opened(AIOKafkaAdminClient, {})

    async def close(self, kind: type[Any] | None = None) -> None:
        """Close one kind of client, or all; the next use opens another."""
        for one in [kind] if kind else list(self._open):
            if client := self._open.pop(one, None):
                await _stop(client)

    async def _opened(self, kind: type[Any], settings: dict[str, Any]) -> Any:
        async with self._opening:
            if kind not in self._open:
                client = kind(bootstrap_servers=self._servers, **settings)
                try:
                    await client.start()
                except BaseException:
                    await _stop(client)  # or its connections stay
                    raise
                self._open[kind] = client
            return self._open[kind]


async def _stop(client: Any) -> None:
    await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())


def _runs(places: Iterable[Place]) -> list[tuple[str, int, list[int]]]:
    """Places as runs of one partition in which no gap is so wide that a read of its own would be cheaper."""
    runs: list[tuple[str, int, list[int]]] = []
    for topic, partition, offset in sorted(set(places)):
        if runs and runs[-1][:2] == (topic, partition) and offset - runs[-1][2][-1] < _GAP:
            runs[-1][2].append(offset)
        else:
            runs.append((topic, partition, [offset]))
    return runs


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


def _new_topic(topic: Topic) -> NewTopic:
    configs = {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "retention.ms": str(int(topic.retention.total_seconds() * 1000)) if topic.retention else "-1",
    }
    return NewTopic(topic.name, topic.partitions, -1, replica_assignments={}, topic_configs=configs)
