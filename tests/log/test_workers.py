"""What workers promise on either log: nothing is lost or skipped, whoever dies, joins, leaves or fails."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from functools import partial

import asyncpg
import psutil  # type: ignore[import-untyped]
import pytest

from streams.app import StageApp, Workers, stage_app
from streams.log import Batch, Log, NewRecord, PostgresLog
from streams.stage import CALL_RECORDS, WAITING_RECORDS
from streams.topics import Topic
from streams.transports.membership import Membership
from streams.transports.sharing import SharingConsumer
from tests.log.support import Worker, everything, numbered, until
from tests.promises.mutations import broken, mutation

Start = Callable[..., Worker]


class Seen:
    """A handler that remembers what it was given."""

    def __init__(self) -> None:
        self.calls: list[list[Batch]] = []

    async def __call__(self, batches: list[Batch]) -> None:
        self.calls.append(batches)

    def has(self, records: int) -> bool:
        return len(self.handled()) == records

    def handled(self) -> list[tuple[int, int]]:
        return [(b.partition, r.offset) for call in self.calls for b in call for r in b.records]


async def caught_up(log: Log, stage: str, topic: Topic) -> None:
    """Wait until the group's positions have reached the ends."""

    async def equal() -> bool:
        return await log.committed(f"hub-{stage}", [topic.name]) == await log.ends([topic.name])

    await until(equal)


def assert_nothing_skipped(handled: list[tuple[int, int]]) -> None:
    """A worker goes forward without a hole; it may go back (redelivery), but never jump ahead of what it has seen."""
    top: dict[int, int] = defaultdict(lambda: -1)
    for partition, offset in handled:
        assert offset <= top[partition] + 1, f"partition {partition} jumped from {top[partition]} to {offset}"
        top[partition] = max(top[partition], offset)


async def test_a_stage_gets_every_record_in_order_and_its_position_follows(
    log: Log, log_url: str, topic: Topic, stage: str
) -> None:
    seen = Seen()
    workers = Workers([stage_app(stage, log_url, [topic.name], seen)])
    await log.append(numbered(topic.name, 0, 1_000))
    await workers.start()
    await workers.ready()
    await log.append(numbered(topic.name, 1_000, 2_000))
    await until(lambda: len(seen.handled()) == 2_000)
    await caught_up(log, stage, topic)
    await workers.stop()
    assert_nothing_skipped(seen.handled())
    assert set(seen.handled()) == everything(await log.ends([topic.name]))
    for call in seen.calls:
        places = [(batch.topic, batch.partition) for batch in call]
        assert len(places) == len(set(places)), "one batch per partition and call"


async def test_a_stage_that_starts_again_goes_on_where_it_left(
    log: Log, log_url: str, topic: Topic, stage: str
) -> None:
    first, second = Seen(), Seen()
    for n, seen in enumerate((first, second)):
        await log.append(numbered(topic.name, n * 100, (n + 1) * 100))
        workers = Workers([stage_app(stage, log_url, [topic.name], seen)])
        await workers.start()
        await until(partial(seen.has, 100))
        await workers.stop()
    assert not set(first.handled()) & set(second.handled())


async def test_what_was_not_committed_comes_again_after_a_kill(
    log: Log, topic: Topic, start_worker: Start, stage: str
) -> None:
    """The first worker dies in the middle; the second starts from the committed position and skips nothing."""
    await log.append(numbered(topic.name, 0, 3_000))
    first = start_worker(delay=0.15)
    await until(lambda: len(first.handled()) >= 400)
    first.kill()
    position = await log.committed(f"hub-{stage}", [topic.name])
    assert sum(position.values()) <= len(set(first.handled()))
    second = start_worker()
    every = everything(await log.ends([topic.name]))
    not_committed = {(p, offset) for p, offset in every if offset >= position[topic.name, p]}
    await until(lambda: set(second.handled()) == not_committed)
    second.stop()
    assert set(first.handled()) | set(second.handled()) == every


async def test_two_workers_lose_nothing_when_one_is_killed_again_and_again(
    log: Log, topic: Topic, start_worker: Start
) -> None:
    enough = asyncio.Event()
    appending = asyncio.create_task(append_slowly(log, topic, 1_000_000, enough))
    survivor, victims = start_worker(), []
    for _ in range(3):
        victims.append(start_worker(delay=0.05))
        await until(lambda: len(victims[-1].handled()) >= 100)
        victims[-1].kill()
    enough.set()
    await appending
    every = everything(await log.ends([topic.name]))

    def missing() -> set[tuple[int, int]]:
        return every.difference(*(w.handled() for w in [survivor, *victims]))

    try:
        await until(lambda: not missing())
    except TimeoutError:
        left = sorted(missing())
        pytest.fail(f"{len(left)} of {len(every)} records are handled by nobody, the first are {left[:5]}")
    survivor.stop()


async def test_workers_share_the_partitions_and_lose_nothing_when_one_joins_and_leaves(
    log: Log, log_url: str, topic: Topic, stage: str
) -> None:
    """While records keep coming: the second joins, both work, the first leaves, the second goes on alone."""
    first, second = Seen(), Seen()
    one, two = (Workers([stage_app(stage, log_url, [topic.name], seen)]) for seen in (first, second))
    appending = asyncio.create_task(append_slowly(log, topic, 4_000))
    await one.start()
    await until(lambda: len(first.handled()) >= 200)
    await two.start()
    await until(lambda: len(second.handled()) >= 200)
    await until(lambda: len({p for p, _ in first.handled()[-100:]}) < topic.partitions)
    await one.stop()
    await appending
    every = everything(await log.ends([topic.name]))
    await until(lambda: set(first.handled()) | set(second.handled()) == every)
    await two.stop()
    repeated = len(first.handled()) + len(second.handled()) - len(every)
    assert repeated == 0, "workers that leave in order commit what they handled"


async def append_slowly(log: Log, topic: Topic, total: int, enough: asyncio.Event | None = None) -> None:
    for start in range(0, total, 40):
        if enough and enough.is_set():
            return
        await log.append(numbered(topic.name, start, start + 40))
        await asyncio.sleep(0.03)


async def test_a_handler_that_fails_gets_the_same_batches_again_and_nothing_is_skipped(
    log: Log, log_url: str, topic: Topic, stage: str
) -> None:
    seen, failing, unhealthy = Seen(), [True], []

    async def handle(batches: list[Batch]) -> None:
        await seen(batches)
        if failing[0]:
            raise ConnectionRefusedError("the database is away")

    await log.append(numbered(topic.name, 0, 500))
    app = stage_app(stage, log_url, [topic.name], handle)
    workers = Workers([app])
    await workers.start()
    await until(lambda: len(seen.calls) >= 3)
    unhealthy.append((app.stage.health.healthy, app.stage.health.last_error))
    assert all(call == seen.calls[0] for call in seen.calls)
    assert sum((await log.committed(f"hub-{stage}", [topic.name])).values()) == 0
    failing[0] = False
    await until(lambda: app.stage.health.handled >= 500)
    await caught_up(log, stage, topic)
    assert unhealthy == [(False, "ConnectionRefusedError: the database is away")]
    assert app.stage.health.healthy
    assert app.stage.health.last_error is None
    assert app.stage.health.last_progress_at is not None
    await workers.stop()
    assert_nothing_skipped(seen.handled())


async def test_a_slow_handler_with_a_large_backlog_holds_bounded_memory(
    log: Log, log_url: str, topic: Topic, stage: str
) -> None:
    """150 MB wait on the log. What is fetched and not handled stays under the bound, and so does the process."""
    size, count = 10_000, 15_000
    for start in range(0, count, 500):
        await log.append(numbered(topic.name, start, start + 500, size=size))
    process = psutil.Process()
    before = process.memory_info().rss
    most = {"outstanding": 0, "rss": 0, "call": 0}
    apps: list[StageApp] = []

    async def slow(batches: list[Batch]) -> None:
        most["call"] = max(most["call"], sum(len(batch.records) for batch in batches))
        for _ in range(4):
            await asyncio.sleep(0.05)
            most["outstanding"] = max(most["outstanding"], apps[0].stage.outstanding)
            most["rss"] = max(most["rss"], process.memory_info().rss - before)

    apps.append(stage_app(stage, log_url, [topic.name], slow))
    workers = Workers(apps)
    await workers.start()
    await until(lambda: apps[0].stage.health.handled >= count // 4)
    await workers.stop()
    assert 0 < most["call"] <= CALL_RECORDS
    assert most["outstanding"] <= CALL_RECORDS + WAITING_RECORDS
    assert most["outstanding"] * size < 40_000_000, "16 MiB wait at most, a fetch and a call are 8 MiB each"
    assert most["rss"] < 120_000_000


async def test_no_more_records_than_the_bounds_are_in_hand(log: Log, log_url: str, topic: Topic, stage: str) -> None:
    await log.append(numbered(topic.name, 0, 5_000))
    most = {"outstanding": 0, "call": 0}
    apps: list[StageApp] = []

    async def slow(batches: list[Batch]) -> None:
        most["call"] = max(most["call"], sum(len(batch.records) for batch in batches))
        for _ in range(5):
            await asyncio.sleep(0.002)
            most["outstanding"] = max(most["outstanding"], apps[0].stage.outstanding)

    apps.append(stage_app(stage, log_url, [topic.name], slow, call_records=100, waiting_records=150))
    workers = Workers(apps)
    await workers.start()
    await until(lambda: apps[0].stage.health.handled >= 5_000)
    await workers.stop()
    assert 0 < most["call"] <= 100
    assert 100 < most["outstanding"] <= 100 + 150


async def test_a_record_larger_than_the_bounds_still_gets_through(
    log: Log, log_url: str, topic: Topic, stage: str
) -> None:
    seen = Seen()
    await log.append([NewRecord(topic.name, b"k", b"x" * 900_000) for _ in range(30)])
    workers = Workers([stage_app(stage, log_url, [topic.name], seen)])
    await workers.start()
    await until(lambda: len(seen.handled()) == 30)
    await workers.stop()


async def check_leaves_in_order(database: str, pool: asyncpg.Pool) -> None:
    """A worker that is told to stop while it asks for partitions gets its answer, and is a member no longer."""
    topic, taking, broken_by = Topic("test.leaving", key="any"), asyncio.Event(), list[Exception]()
    await PostgresLog(pool).ensure_topics([topic])
    take = Membership.take

    async def slowly(self: Membership, wanted: set[int]) -> set[int]:
        taking.set()
        try:
            await self._conn.execute("select pg_sleep(0.5)")
            return await take(self, wanted)
        except Exception as error:
            broken_by.append(error)
            raise

    with mutation(Membership, "take", slowly):
        workers = Workers([stage_app("leaving", database, [topic.name], Seen())])
        await workers.start()
        await asyncio.wait_for(taking.wait(), 60)
        await workers.stop()
    assert not broken_by, f"it was cut off: {broken_by}"
    sessions = "select count(*) from pg_stat_activity where application_name = 'hub-leaving'"
    assert await pool.fetchval(sessions) == 0, "it left its session behind"


async def test_a_worker_that_stops_while_it_asks_for_partitions_leaves_in_order(
    database: str, pool: asyncpg.Pool
) -> None:
    await check_leaves_in_order(database, pool)


async def test_the_check_of_leaving_fails_where_two_talk_at_once(database: str, pool: asyncpg.Pool) -> None:
    async def at_once(self: SharingConsumer) -> None:
        assert self._membership
        await self._membership.leave()

    with mutation(SharingConsumer, "_leave", at_once), broken("two talk over one session"):
        await check_leaves_in_order(database, pool)
