"""A stage's bounds, merging and retries, and the workers around it, without any log."""

import asyncio
from types import SimpleNamespace

import mode
import pytest

from streams import topics
from streams.app import Workers
from streams.log import Batch, Record, open_log
from streams.stage import Stage
from streams.topics import Topic


def batch(partition: int, first: int, last: int, size: int = 1) -> Batch:
    records = tuple(Record("t", partition, n, b"k", b"x" * size, (), 0) for n in range(first, last + 1))
    return Batch("t", partition, records)


def message(value: Batch, generation: int = 1) -> SimpleNamespace:
    size = sum(len(record.value or b"") for record in value.records)
    return SimpleNamespace(value=value, serialized_value_size=size, generation_id=generation)


async def nothing(_batches: list[Batch]) -> None:
    """A handler that is never called."""


def stage(*waiting: SimpleNamespace, call_records: int = 100, waiting_records: int = 100) -> Stage:
    """A stage with these messages in its queue, as Faust's events hold them."""
    one = Stage("test", "postgresql://", ("t",), nothing, call_records, waiting_records)
    queue: asyncio.Queue[SimpleNamespace] = asyncio.Queue()
    for message in waiting:
        queue.put_nowait(SimpleNamespace(message=message))
    one.attach(queue)
    return one


def test_a_call_gets_what_is_ready_merged_per_partition() -> None:
    one = stage(message(batch(1, 0, 4)), message(batch(0, 5, 9)), message(batch(1, 5, 5)))
    taken = one.take(message(batch(0, 0, 4)))
    assert [(b.partition, [r.offset for r in b.records]) for b in taken] == [
        (0, list(range(10))),
        (1, [0, 1, 2, 3, 4, 5]),
    ]
    assert one.outstanding == 0


def test_a_call_gets_no_more_records_than_its_bound() -> None:
    one = stage(message(batch(0, 5, 9)), message(batch(0, 10, 14)), call_records=10)
    taken = one.take(message(batch(0, 0, 4)))
    assert [r.offset for b in taken for r in b.records] == list(range(10))
    assert one.outstanding == 5


def test_what_was_fetched_for_an_assignment_that_is_over_is_dropped() -> None:
    one = stage(message(batch(0, 5, 9), generation=1), message(batch(0, 0, 0), generation=2))
    taken = one.take(message(batch(1, 0, 0), generation=2))
    assert [(b.partition, len(b.records)) for b in taken] == [(1, 1), (0, 1)]


def test_there_is_room_until_enough_records_or_bytes_wait() -> None:
    assert stage(message(batch(0, 0, 3)), waiting_records=10).room() == 6
    assert stage(message(batch(0, 0, 11)), waiting_records=10).room() < 0
    assert stage(message(batch(0, 0, 0, size=17 * 1024 * 1024)), waiting_records=10).room() == 0


async def test_a_failing_batch_is_given_up_when_its_partitions_are_revoked() -> None:
    called = asyncio.Event()

    async def fail(_batches: list[Batch]) -> None:
        called.set()
        raise OSError

    one = Stage("test", "postgresql://", ("t",), fail)
    handling = asyncio.create_task(one.handle([batch(0, 0, 0)], lambda: True))
    await called.wait()
    await one.quiesce(10)
    assert await handling is False
    assert not one.health.healthy


async def test_a_batch_in_hand_may_finish_when_its_partitions_are_revoked() -> None:
    go = asyncio.Event()

    async def slow(_batches: list[Batch]) -> None:
        await go.wait()

    one = Stage("test", "postgresql://", ("t",), slow)
    handling = asyncio.create_task(one.handle([batch(0, 0, 6)], lambda: True))
    await asyncio.sleep(0)
    assert one.outstanding == 7
    quiescing = asyncio.create_task(one.quiesce(10))
    await asyncio.sleep(0)
    go.set()
    await quiescing
    assert await handling is True
    assert one.health.handled == 7


class Broken(mode.Service):  # type: ignore[misc]
    """A service that crashes as soon as it runs."""

    @mode.Service.task  # type: ignore[untyped-decorator]
    async def _break(self) -> None:
        raise ZeroDivisionError("a fault of the program")


async def test_a_service_that_crashes_ends_the_workers_with_its_error() -> None:
    workers = Workers([], [Broken()])
    await workers.start()
    with pytest.raises(ZeroDivisionError, match="a fault of the program"):
        await workers.wait()
    await workers.stop()


async def test_services_are_started_in_order_and_stopped_in_reverse() -> None:
    told: list[str] = []

    class Telling(mode.Service):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        async def on_start(self) -> None:
            told.append(f"start {self.name}")

        async def on_stop(self) -> None:
            told.append(f"stop {self.name}")

    workers = Workers([], [Telling("one"), Telling("two")])
    await workers.start()
    waiting = asyncio.create_task(workers.wait())
    await workers.stop()
    await waiting
    assert told == ["start one", "start two", "stop two", "stop one"]


@pytest.mark.parametrize("name", ["", "Upper", "with space", "-leading", "a" * 201, "ümlaut", "semi;colon"])
def test_a_topic_name_that_some_log_would_refuse_is_refused_at_once(name: str) -> None:
    with pytest.raises(ValueError, match="must match"):
        Topic(name, key="any")


def test_the_topic_functions_name_and_keep_topics_as_the_design_says() -> None:
    changes, notices = topics.changes_topic("crm", "contact"), topics.notices_topic("hubspot")
    golden = topics.golden_topic("person")
    assert (changes.name, changes.retention, changes.compacted) == ("hub.changes.crm.contact", None, False)
    assert notices.name == "hub.notices.hubspot"
    assert notices.retention is not None
    assert notices.retention.days == 7
    assert (golden.name, golden.compacted) == ("hub.golden.person", True)
    assert len({topic.name for topic in topics.STATIC}) == len(topics.STATIC)


@pytest.mark.parametrize("url", ["mysql://x", "postgresql://x", "nonsense"])
def test_an_address_that_no_log_can_use_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"postgresql|pool"):
        open_log(url)
