"""What both drivers share: one Faust message stands for a whole batch, and positions follow handled batches only.

Stock Faust keeps one number per record to find out how far it may commit, skips what it takes for old, and treats a record
that it dropped during a rebalance as done. With batches a partition is handled strictly in order, so its position is
simply the end of the last batch that was handled: less work, and nothing can be committed that nobody has handled.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from faust.transport.consumer import Consumer
from faust.types import TP, ConsumerMessage

from streams.records import Batch

# A worker that loses partitions finishes the batch it is handling before another worker may start on them.
QUIESCE_SECONDS = 10.0


class Backlog(Protocol):
    """What a driver asks of the stage that it feeds (`Stage` in streams.app)."""

    def room(self) -> int:
        """How many more records may be fetched now; at most zero means none."""

    async def wait_for_room(self, seconds: float) -> None:
        """Return when there may be room again, or after `seconds`."""

    async def quiesce(self, seconds: float) -> None:
        """Return when no batch is being handled, or after `seconds`."""


class _NeverRead(dict[TP, int | None]):
    """Faust drops messages before its read position, which may lag behind a seek. Reading twice is harmless, losing not."""

    def __getitem__(self, tp: TP) -> None:
        return None


class BatchConsumer(Consumer):
    """A Faust consumer whose messages hold a `Batch` and whose positions are set by `handled`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._read_offset = _NeverRead()
        self._handled: dict[TP, int] = {}

    @abstractmethod
    async def fetch(self, partitions: set[TP], seconds: float, limit: int) -> list[Batch]:
        """At most one batch for each partition and `limit` records in all; empty when none came within `seconds`."""

    def handled(self, batch: Batch) -> None:
        """The batch is done; its partition's position may be committed up to its end."""
        tp = TP(batch.topic, batch.partition)
        self._handled[tp] = max(batch.records[-1].offset + 1, self._handled.get(tp, 0))

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let the batch in hand finish and commit it, so that the next owner repeats nothing."""
        self.stop_flow()
        self.app.flow_control.suspend()
        await self.app.stage.quiesce(QUIESCE_SECONDS)
        await self.commit()
        await super().on_partitions_revoked(revoked)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> dict[TP, list[Batch]]:  # noqa: ASYNC109
        backlog: Backlog = self.app.stage
        if (room := backlog.room()) <= 0:
            await backlog.wait_for_room(timeout)
            return {}
        batches = await self.fetch(active_partitions or set(), timeout, room)
        return {TP(batch.topic, batch.partition): [batch] for batch in batches}

    def _to_message(self, tp: TP, record: Batch) -> ConsumerMessage:
        last = record.records[-1]
        return ConsumerMessage(
            *(tp.topic, tp.partition, last.offset, last.timestamp_us / 1e6, 0, (), None),
            value=record,
            checksum=None,
            serialized_value_size=sum(len(r.value) for r in record.records if r.value),
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    def _filter_tps_with_pending_acks(self, topics: Iterable[Any] | None = None) -> Iterator[TP]:
        return (tp for tp in list(self._handled) if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self._handled.get(tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Holes in the offsets mean nothing here."""

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        """Commit, and remember it only when it worked: what failed is tried again with the next commit."""
        mine = self.assignment()
        wanted = {tp: offset for tp, offset in offsets.items() if tp in mine}
        done = bool(wanted) and await self._commit(wanted)
        if done:
            self._committed_offset.update(wanted)
        return done
