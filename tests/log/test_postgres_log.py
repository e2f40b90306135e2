"""What only the log in PostgreSQL can do: appends inside the caller's transaction, retention, compaction, fair shares."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from streams.log import NewRecord, PostgresLog, partition_of
from streams.log_maintenance import compact, expire, maintain
from streams.topics import Topic
from streams.transports.membership import RECORDS_CHANNEL, Membership
from tests.log.support import until

PLAIN = Topic("test.plain", key="any")
SHORT = Topic("test.short", key="any", retention=timedelta(days=7))
COMPACTED = Topic("test.compacted", key="any", compacted=True, partitions=2)


@pytest.fixture
async def log(pool: asyncpg.Pool) -> PostgresLog:
    log = PostgresLog(pool)
    await log.ensure_topics([PLAIN, SHORT, COMPACTED])
    return log


async def test_a_record_is_visible_only_after_the_commit_of_its_transaction(
    pool: asyncpg.Pool, log: PostgresLog
) -> None:
    partition = partition_of(b"key", PLAIN.partitions)
    async with pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await log.append_in(conn, [NewRecord(PLAIN.name, b"key", b"value")])
        assert await log.read(PLAIN.name, partition, 0, 10) == []
        assert (await log.ends([PLAIN.name]))[PLAIN.name, partition] == 0
        await transaction.commit()
    assert [r.value for r in await log.read(PLAIN.name, partition, 0, 10)] == [b"value"]
    assert (await log.ends([PLAIN.name]))[PLAIN.name, partition] == 1


async def test_records_and_state_are_one_commit(pool: asyncpg.Pool, log: PostgresLog) -> None:
    await pool.execute("create table state (n int)")

    async def fail() -> None:
        async with pool.acquire() as conn, conn.transaction():
            await conn.execute("insert into state values (1)")
            await log.append_in(conn, [NewRecord(PLAIN.name, b"key", b"value")])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await pool.fetchval("select count(*) from state") == 0
    assert sum((await log.ends([PLAIN.name])).values()) == 0


async def test_an_append_wakes_the_readers_of_its_partitions_when_it_commits(
    pool: asyncpg.Pool, log: PostgresLog, database: str
) -> None:
    told: list[object] = []
    listening = await asyncpg.connect(database)
    await listening.add_listener(RECORDS_CHANNEL, lambda *event: told.append(event[3]))
    async with pool.acquire() as conn:
        lost = conn.transaction()
        await lost.start()
        await log.append_in(conn, [NewRecord(PLAIN.name, b"key", b"rolled back")])
        await lost.rollback()
        await log.append([NewRecord(PLAIN.name, b"key", b"committed")])
    partition_id = await pool.fetchval("select partition_id from hub_log.record")
    await until(lambda: bool(told))
    assert told == [str(partition_id)]
    await listening.close()


async def test_a_later_append_waits_for_an_earlier_one_to_the_same_partition(
    pool: asyncpg.Pool, log: PostgresLog
) -> None:
    """So offsets follow the order of commits: a reader never sees a higher offset before a lower one."""
    async with pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await log.append_in(conn, [NewRecord(PLAIN.name, b"key", b"first")])
        second = asyncio.create_task(log.append([NewRecord(PLAIN.name, b"key", b"second")]))
        waiting = "select count(*) from pg_locks where not granted"
        await until(lambda: pool.fetchval(waiting))
        assert not second.done()
        await transaction.commit()
    await second
    found = await log.read(PLAIN.name, partition_of(b"key", PLAIN.partitions), 0, 10)
    assert [r.value for r in found] == [b"first", b"second"]


async def test_appenders_that_touch_partitions_in_opposite_order_do_not_deadlock(
    pool: asyncpg.Pool, log: PostgresLog
) -> None:
    records = [NewRecord(PLAIN.name, b"%d" % n, b"") for n in range(20)]
    await asyncio.gather(*(log.append(records if n % 2 else records[::-1]) for n in range(60)))
    assert sum((await log.ends([PLAIN.name])).values()) == 60 * 20


async def test_expiry_deletes_what_is_older_than_the_retention_and_leaves_offsets_alone(
    pool: asyncpg.Pool, log: PostgresLog
) -> None:
    for topic in (PLAIN, SHORT, COMPACTED):
        await log.append([NewRecord(topic.name, b"key", b"old")])
    await pool.execute("update hub_log.record set timestamp_us = timestamp_us - $1", 8 * 86_400 * 1_000_000)
    await log.append([NewRecord(SHORT.name, b"key", b"new")])
    assert await expire(pool) == 1
    partition = partition_of(b"key", SHORT.partitions)
    assert [(r.offset, r.value) for r in await log.read(SHORT.name, partition, 0, 10)] == [(1, b"new")]
    assert (await log.starts([SHORT.name]))[SHORT.name, partition] == 1
    assert (await log.ends([SHORT.name]))[SHORT.name, partition] == 2
    assert sum((await log.starts([PLAIN.name])).values()) == 0


async def test_the_start_of_an_emptied_partition_is_its_end(pool: asyncpg.Pool, log: PostgresLog) -> None:
    await log.append([NewRecord(SHORT.name, b"key", b"old")])
    await pool.execute("update hub_log.record set timestamp_us = 0")
    await expire(pool)
    assert await log.starts([SHORT.name]) == await log.ends([SHORT.name])


async def test_compaction_keeps_the_newest_of_every_key(pool: asyncpg.Pool, log: PostgresLog) -> None:
    for n in range(5):
        await log.append([NewRecord(COMPACTED.name, b"key-%d" % key, b"%d" % n) for key in range(10)])
    before = await log.ends([COMPACTED.name])
    assert await compact(pool, COMPACTED.name) == 40
    left = [r for p in range(2) for r in await log.read(COMPACTED.name, p, 0, 100)]
    assert {(r.key, r.value) for r in left} == {(b"key-%d" % key, b"4") for key in range(10)}
    assert await log.ends([COMPACTED.name]) == before
    await log.append([NewRecord(COMPACTED.name, b"key-0", b"5")])
    assert sum((await log.ends([COMPACTED.name])).values()) == 51
    assert await compact(pool, COMPACTED.name) == 1


async def test_compaction_keeps_a_tombstone_until_readers_have_had_time_to_see_it(
    pool: asyncpg.Pool, log: PostgresLog
) -> None:
    await log.append([NewRecord(COMPACTED.name, b"gone", b"value"), NewRecord(COMPACTED.name, b"gone", None)])
    assert await compact(pool, COMPACTED.name) == 1
    await pool.execute("update hub_log.record set timestamp_us = timestamp_us - $1", 25 * 3_600 * 1_000_000)
    assert await maintain(pool) == 1
    assert await pool.fetchval("select count(*) from hub_log.record") == 0


@pytest.mark.parametrize(("members", "shares"), [(1, [8]), (2, [4, 4]), (3, [3, 3, 2]), (5, [2, 2, 2, 1, 1])])
async def test_members_share_partitions_evenly_and_never_hold_one_together(
    log: PostgresLog, database: str, members: int, shares: list[int]
) -> None:
    topics = [PLAIN.name, SHORT.name]
    joined = [await join(database, topics) for _ in range(members)]
    wanted = [await member.share() for member in joined]
    for member, share in zip(joined, wanted, strict=True):
        await member.take(share)
    held = [id_ for member in joined for id_ in member.held]
    assert sorted(map(len, wanted), reverse=True) == shares
    assert sorted(held) == sorted(set(held))
    assert len(held) == 8
    for member in joined:
        await member.leave()


async def test_what_a_dead_member_held_is_free_at_once(log: PostgresLog, database: str) -> None:
    dead, alive = await join(database, [PLAIN.name]), await join(database, [PLAIN.name])
    everything = set(dead.partitions)
    await dead.take(everything)
    assert await alive.take(everything) == set()
    dead.abandon()
    async with asyncio.timeout(120):
        while len(alive.held) < len(everything):
            await alive.take(everything)
    assert await alive.share() == everything
    await alive.leave()


async def test_joining_and_leaving_is_told_to_the_other_members(log: PostgresLog, database: str) -> None:
    told: list[object] = []
    first = await join(database, [PLAIN.name], told)
    second = await join(database, [PLAIN.name])
    await until(lambda: len(told) >= 2)
    heard = len(told)
    await second.leave()
    await until(lambda: len(told) > heard)
    await first.leave()


async def join(database: str, topics: list[str], told: list[object] | None = None) -> Membership:
    heard: list[object] = [] if told is None else told
    return await Membership.join(
        database, "hub-test", topics, on_records=lambda: None, on_change=lambda: heard.append("change")
    )


# Hashes that Kafka's own tests expect of its Java client (UtilsTest, murmur2).
JAVA_HASHES = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("key", JAVA_HASHES)
def test_a_key_falls_into_the_partition_that_kafkas_java_client_gives_it(key: bytes) -> None:
    assert partition_of(key, 1_000) == (JAVA_HASHES[key] & 0x7FFFFFFF) % 1_000
