"""What an event log is: an append-only, partitioned sequence of records, kept by PostgreSQL or by Kafka.

Both keep the same promises, and one contract suite runs against both: records of one key stay in the order they were
appended (the same key always lands in the same partition, on either log); offsets ascend without gaps in commit order as
they are assigned (retention and compaction may remove some later); a record becomes visible only after its append is
durable.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Protocol

import msgspec
from aiokafka.partitioner import murmur2

from streams.topics import Topic

Headers = tuple[tuple[str, bytes], ...]
Offsets = dict[tuple[str, int], int]
Place = tuple[str, int, int]
"""Where a record stands: topic, partition, offset."""


class NewRecord(msgspec.Struct, frozen=True, gc=False):
    """A record to append. The key decides its partition; `value` None is a tombstone: the key is gone."""

    topic: str
    key: bytes
    value: bytes | None
    headers: Headers = ()


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record as the log keeps it. `timestamp_us` is the time of the append in microseconds since 1970, UTC."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    headers: Headers
    timestamp_us: int


class Batch(msgspec.Struct, frozen=True):
    """Records of one partition that follow each other; never empty, offsets ascending."""

    topic: str
    partition: int
    records: tuple[Record, ...]


class Block(msgspec.Struct, frozen=True, gc=False):
    """Records of one partition that follow each other, from the first offset to the last, and whose values all begin alike:
    their keys, and their values laid behind each other. Never empty."""

    first: int
    last: int
    keys: list[bytes]
    values: bytes


class Log(Protocol):
    """What the hub needs of an event log. Every method may raise the driver's connection errors; all are safe to repeat,
    but a repeated `append` may leave the records twice."""

    async def ensure_topics(self, topics: Iterable[Topic]) -> None:
        """Create the topics that do not exist; existing ones keep their partitions."""

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Append in order; returns when every record is durable. Raises UnknownTopicError for a topic that does not exist."""

    async def read(self, topic: str, partition: int, start: int, limit: int) -> list[Record]:
        """Up to `limit` records at or after offset `start`, those that exist now; empty at the end of the partition."""

    async def block(self, topic: str, partition: int, start: int, limit: int, head: bytes) -> Block | None:
        """The records that `read` gives, if there are any and their values all begin with `head`."""

    async def pick(self, places: Iterable[Place]) -> list[Record]:
        """The records that stand at these places, in any order; those that retention removed are left out."""

    async def ends(self, topics: Iterable[str]) -> Offsets:
        """The offset that the next append to each partition will get."""

    async def starts(self, topics: Iterable[str]) -> Offsets:
        """The offset of the first retained record of each partition; equal to its end when there is none."""

    async def committed(self, group: str, topics: Iterable[str]) -> Offsets:
        """The next offset that the consumer group will handle, for each partition; 0 where it has handled none."""

    async def close(self) -> None:
        """Release every connection; appends already returned stay durable."""


class UnknownTopicError(LookupError):
    """A topic was used before `ensure_topics` created it."""


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key: Kafka's own default (murmur2), so that both logs agree. Cached, for it is pure Python."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def block_of(records: Sequence[Record], head: bytes) -> Block | None:
    """See `Log.block`."""
    values = [record.value for record in records if record.value is not None and record.value.startswith(head)]
    if not values or len(values) < len(records):
        return None
    return Block(records[0].offset, records[-1].offset, [record.key for record in records], b"".join(values))
