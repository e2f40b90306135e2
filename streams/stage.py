"""A stage: what it reads, who handles it, how much may wait in memory, and how it fares.

A stage hands its handler whatever is ready. A handler that raises is called again with the same batches after a pause, and
the stage is unhealthy meanwhile: nothing is ever skipped, so a handler isolates poison itself. After a crash or a rebalance
batches come again, and handlers must bear that.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, repeat
from typing import Any

from streams import metrics
from streams.records import Batch

Handler = Callable[[list[Batch]], Awaitable[None]]

# What one call of a handler gets at most (one batch alone may exceed the bytes), and what may wait behind it.
CALL_RECORDS = 4_000
CALL_BYTES = 4 * 1024 * 1024
WAITING_RECORDS = 5_000
WAITING_BYTES = 8 * 1024 * 1024

_PAUSES = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Health:
    """How a stage fares. Times are UTC; `handled` counts records since the start, repeated ones again."""

    last_progress_at: datetime | None = None
    handled: int = 0
    _broken: str | None = None
    _failing: dict[tuple[str, int], str] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        """Whether it goes on, as far as is known."""
        return self.last_error is None

    @property
    def last_error(self) -> str | None:
        """Why it does not go on; None where it does."""
        return self._broken or next(iter(self._failing.values()), None)

    def succeeded(self, batches: Sequence[Batch]) -> None:
        """These batches were handled."""
        self.recovered()
        for batch in batches:
            self._failing.pop((batch.topic, batch.partition), None)
        self.last_progress_at = datetime.now(UTC)
        self.handled += sum(len(batch.records) for batch in batches)

    def recovered(self) -> None:
        """The log is there again. What failed for another reason has not gone on yet."""
        self._broken = None

    def assigned(self, partitions: Container[tuple[str, int]]) -> None:
        """The stage takes part with these partitions: what fails in others is another worker's now."""
        self.recovered()
        self._failing = {place: error for place, error in self._failing.items() if place in partitions}

    def failed(self, error: BaseException, batches: Sequence[Batch] = ()) -> None:
        """The stage cannot go on for now: with these batches, or at all."""
        told = f"{type(error).__name__}: {error}"
        self._failing |= {(batch.topic, batch.partition): told for batch in batches}
        self._broken = self._broken if batches else told


@dataclass(slots=True, eq=False)
class Stage:
    """One consumer group and its handler; outlives the Faust app that runs it. Bounds are records in memory.

    busy_since   when the handler was called that has not returned yet, in seconds of time.monotonic()
    """

    name: str
    log_url: str
    topics: tuple[str, ...]
    handler: Handler
    call_records: int = CALL_RECORDS
    waiting_records: int = WAITING_RECORDS
    health: Health = field(default_factory=Health)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    busy_since: float | None = None
    _queue: Any = None
    _handling: int = 0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _moved: asyncio.Event = field(default_factory=asyncio.Event)
    _give_up: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._idle.set()

    @property
    def group(self) -> str:
        """The consumer group that keeps this stage's positions."""
        return f"hub-{self.name}"

    @property
    def outstanding(self) -> int:
        """Records fetched and not yet handled."""
        return sum(len(message.value.records) for message in self._waiting()) + self._handling

    def attach(self, queue: Any) -> None:
        """Batches arrive in this queue from now on (a Faust channel's)."""
        self._queue = queue

    def room(self) -> int:
        """How many more records may be fetched at once now; at most zero means none."""
        waiting = self._waiting()
        if sum(message.serialized_value_size for message in waiting) >= WAITING_BYTES:
            return 0
        room = self.waiting_records - sum(len(message.value.records) for message in waiting)
        return min(room, self.call_records)  # so that no batch is larger than a call

    async def wait_for_room(self, seconds: float) -> None:
        """Return when batches have left the queue, or after `seconds`."""
        self._moved.clear()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._moved.wait(), seconds)

    def take(self, first: Any) -> list[Batch]:
        """The first message and what is ready behind it, within the bounds of one call; one batch per partition.

        Messages of another generation are dropped: they were fetched for an assignment that is over, and come again.
        """
        messages, records, size = [first], len(first.value.records), first.serialized_value_size
        for message in self._waiting():
            records += len(message.value.records)
            size += message.serialized_value_size
            if records > self.call_records or size > CALL_BYTES:
                break
            self._queue.get_nowait()
            if message.generation_id == first.generation_id:
                messages.append(message)
        self._moved.set()
        return _merged(message.value for message in messages)

    async def handle(self, batches: list[Batch], is_current: Callable[[], bool]) -> bool:
        """Call the handler until it succeeds; False when the batches stopped being this worker's before it did."""
        self._handling = sum(len(batch.records) for batch in batches)
        self._idle.clear()
        try:
            for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
                if await self._attempt(batches):
                    return True
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._give_up.wait(), pause)
                if self._give_up.is_set() or not is_current():
                    return False
        finally:
            self._handling = 0
            self._idle.set()
        raise AssertionError("unreachable: the pauses never end")

    async def quiesce(self, seconds: float) -> None:
        """Return when no batch is being handled, or after `seconds`; a batch that keeps failing is given up at once."""
        self._give_up.set()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
        self._give_up.clear()

    async def _attempt(self, batches: list[Batch]) -> bool:
        self.busy_since = time.monotonic()
        metrics.count(metrics.ATTEMPTS, self.name, metrics.HUB)
        try:
            await self.handler(batches)
        except Exception as error:
            metrics.failed(self.name, metrics.HUB, error)
            _log.warning("stage %s: %s: %s; the same batch will be tried again", self.name, type(error).__name__, error)
            self.health.failed(error, batches)
            return False
        finally:
            self.busy_since = None
        self.health.succeeded(batches)
        return True

    def _waiting(self) -> list[Any]:
        return [] if self._queue is None else [event.message for event in self._queue._queue]


def _merged(batches: Iterator[Batch]) -> list[Batch]:
    """One batch for each partition, in the order of their first records."""
    parts: dict[tuple[str, int], list[Batch]] = {}
    for batch in batches:
        parts.setdefault((batch.topic, batch.partition), []).append(batch)
    return [
        some[0] if len(some) == 1 else Batch(topic, partition, tuple(chain.from_iterable(b.records for b in some)))
        for (topic, partition), some in parts.items()
    ]
