"""What every log promises, whichever keeps it: one suite over PostgreSQL and Kafka."""

import asyncio

import asyncpg
import pytest

from hub.edge.kafka_local import Broker
from streams.log import KafkaLog, Log, NewRecord, PostgresLog, Record, UnknownTopicError, open_log, partition_of
from streams.records import Block
from streams.topics import Topic
from tests.brokers import emptied
from tests.log.support import by_key, everything, numbered


async def read_all(log: Log, topic: Topic) -> list[Record]:
    return [r for partition in range(topic.partitions) for r in await log.read(topic.name, partition, 0, 100_000)]


async def test_a_record_comes_back_as_it_was_appended(log: Log, topic: Topic) -> None:
    records = [
        NewRecord(topic.name, b"key", b"\x00\xffvalue", (("trace", b"\x01"), ("trace", b"\x02"))),
        NewRecord(topic.name, b"key", None),
        NewRecord(topic.name, b"key", b""),
    ]
    await log.append(records)
    found = await log.read(topic.name, partition_of(b"key", topic.partitions), 0, 10)
    assert [(r.topic, r.key, r.value, r.headers) for r in found] == [
        (r.topic, r.key, r.value, r.headers) for r in records
    ]
    assert [r.offset for r in found] == [0, 1, 2]
    assert all(found[0].timestamp_us <= r.timestamp_us for r in found)


async def test_records_of_one_key_keep_their_order_and_one_partition(log: Log, topic: Topic) -> None:
    for start in range(0, 1_000, 100):
        await log.append(numbered(topic.name, start, start + 100))
    found = await read_all(log, topic)
    assert len(found) == 1_000
    assert all(numbers == sorted(numbers) for numbers in by_key(found).values())
    assert all(r.partition == partition_of(r.key, topic.partitions) for r in found)


async def test_reading_starts_where_asked_and_stops_at_the_limit_or_the_end(log: Log, topic: Topic) -> None:
    await log.append([NewRecord(topic.name, b"one", b"%d" % n) for n in range(10)])
    partition = partition_of(b"one", topic.partitions)
    assert [r.offset for r in await log.read(topic.name, partition, 3, 4)] == [3, 4, 5, 6]
    assert [r.offset for r in await log.read(topic.name, partition, 8, 4)] == [8, 9]
    assert await log.read(topic.name, partition, 10, 4) == []
    assert await log.read(topic.name, (partition + 1) % topic.partitions, 0, 4) == []


async def test_records_are_picked_by_their_places(log: Log, topic: Topic) -> None:
    await log.append(numbered(topic.name, 0, 400))
    every = await read_all(log, topic)
    chosen = every[::7] + every[3:9]
    places = [(r.topic, r.partition, r.offset) for r in chosen]
    picked = await log.pick([*places, places[0], (topic.name, 0, 1_000_000)])
    key = lambda r: (r.partition, r.offset)  # noqa: E731
    assert sorted(picked, key=key) == sorted({(r.partition, r.offset): r for r in chosen}.values(), key=key)
    assert await log.pick([]) == []


async def test_a_block_holds_what_a_read_gives(log: Log, topic: Topic) -> None:
    values = [b"head %d" % n for n in range(10)]
    # Beginning otherwise, too short, or none.
    others = [b"\xff\xff1", b"heat", b"head", b"gead 1", b"heae 1", b"", None]
    await log.append([NewRecord(topic.name, b"one", value) for value in [*values, b"head ", *others]])
    partition = partition_of(b"one", topic.partitions)
    assert await log.block(topic.name, partition, 3, 4, b"head ") == Block(3, 6, [b"one"] * 4, b"".join(values[3:7]))
    assert await log.block(topic.name, partition, 9, 2, b"head ") == Block(9, 10, [b"one"] * 2, b"head 9head ")
    for n in range(len(others) + 1):  # and where nothing is
        assert await log.block(topic.name, partition, 11 + n, 1, b"head ") is None, n
    assert await log.block(topic.name, partition, 9, 3, b"head ") is None
    assert await log.block(topic.name, partition, 9, 1, b"") == Block(9, 9, [b"one"], b"head 9")
    assert await log.block(topic.name, partition, 17, 1, b"") is None
    assert await log.block(topic.name, partition, 11, 1, b"\xff\xff") == Block(11, 11, [b"one"], b"\xff\xff1")
    assert await log.block(topic.name, partition, 10, 2, b"\xff\xff") is None


async def test_ends_starts_and_positions_of_an_untouched_topic_are_zero(log: Log, topic: Topic) -> None:
    nothing = {(topic.name, partition): 0 for partition in range(topic.partitions)}
    assert await log.ends([topic.name]) == nothing
    assert await log.starts([topic.name]) == nothing
    assert await log.committed("hub-nobody", [topic.name]) == nothing


async def test_a_topic_that_does_not_exist_is_refused(log: Log, topic: Topic) -> None:
    with pytest.raises(UnknownTopicError, match=r"test\.missing"):
        await log.append([NewRecord("test.missing", b"key", b"")])


async def test_ensuring_topics_again_changes_nothing(log: Log, topic: Topic) -> None:
    await log.append(numbered(topic.name, 0, 20))
    before = await log.ends([topic.name])
    await log.ensure_topics([topic])
    await log.append(numbered(topic.name, 20, 40))
    assert sum((await log.ends([topic.name])).values()) == 40
    assert sum(before.values()) == 20


@pytest.mark.kafka
async def test_topics_can_be_appended_to_as_soon_as_they_are_ensured(broker: Broker) -> None:
    """A broker tells of a new topic some time after it was created, and of a deleted one too: a second or two."""
    topics = [Topic(f"test.new.{n}", key="key") for n in range(20)]
    for _ in range(4):
        log = KafkaLog(broker.url)
        await log.ensure_topics(topics)
        await log.append([NewRecord(topic.name, b"key", b"") for topic in topics])
        assert sum((await log.ends([topic.name for topic in topics])).values()) == len(topics)
        await log.close()
        await emptied(broker)


async def test_offsets_have_no_gaps_and_appear_in_order_under_concurrent_appenders(
    log: Log, log_url: str, kind: str, topic: Topic
) -> None:
    """Eight appenders; on PostgreSQL each on its own connection, and every third transaction rolls back."""
    appenders, rounds, size = 8, 12, 10
    watching = asyncio.create_task(watch_for_gaps(log, topic, appenders * rounds * size))
    async with asyncio.TaskGroup() as group:
        for n in range(appenders):
            append = append_some_rolled_back if kind == "postgres" else append_all
            group.create_task(append(log_url, topic, n * 1_000, rounds, size))
    await asyncio.wait_for(watching, 60)
    found = await read_all(log, topic)
    assert {(r.partition, r.offset) for r in found} == everything(await log.ends([topic.name]))
    assert len({r.value for r in found}) == appenders * rounds * size == len(found)


async def watch_for_gaps(log: Log, topic: Topic, total: int) -> None:
    """Follow every partition as it grows: what is read must continue where the last reading ended, without a hole."""
    position = dict.fromkeys(range(topic.partitions), 0)
    while sum(position.values()) < total:
        for partition in position:
            offsets = [r.offset for r in await log.read(topic.name, partition, position[partition], 7)]
            assert offsets == list(range(position[partition], position[partition] + len(offsets)))
            position[partition] += len(offsets)


async def append_all(log_url: str, topic: Topic, first: int, rounds: int, size: int) -> None:
    log = open_log(log_url)
    for n in range(rounds):
        await log.append(numbered(topic.name, first + n * size, first + (n + 1) * size))
    await log.close()


async def append_some_rolled_back(log_url: str, topic: Topic, first: int, rounds: int, size: int) -> None:
    async with asyncpg.create_pool(log_url, min_size=1, max_size=1) as pool:
        log = PostgresLog(pool)
        for n in range(rounds):
            records = numbered(topic.name, first + n * size, first + (n + 1) * size)
            async with pool.acquire() as conn:
                lost = conn.transaction()
                await lost.start()
                await log.append_in(conn, records)
                await lost.rollback()
            await log.append(records)
