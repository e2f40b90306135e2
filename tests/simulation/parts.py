"""What the twin keeps: rows of its write queue, what events said, and logs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hub.event import Event
from hub.receipt import Receipt
from hub.values import Value
from hub.write import Write
from streams.records import Record, partition_of
from streams.topics import PARTITIONS

Partition = tuple[str, int]


@dataclass
class Queued:
    """A row of the write queue."""

    entity: str
    version: int
    state: str = "due"
    leased: bool = False


@dataclass
class Said:
    """What one event said and did not say, as it was decided."""

    event: Event
    values: dict[str, Value]
    near_miss: bool


def by_key(writes: Sequence[Write], answers: Sequence[Receipt]) -> dict[str, Receipt]:
    """The answers, each by the key of its write."""
    return dict(zip((w.key for w in writes), answers, strict=True))


def append(log: dict[Partition, list[Record]], topic: str, key: bytes, value: Any) -> None:
    """Append to the partition of the key, as the log does."""
    partition = partition_of(key, PARTITIONS)
    records = log[topic, partition]
    records.append(Record(topic, partition, len(records), key, value, (), 0))
