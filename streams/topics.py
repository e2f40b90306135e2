"""The topics of the event log: one literal table, with key, partitions, retention and compaction of each.

Topic names are lower-case ASCII letters, digits, `_`, `.` and `-`, at most 200 characters, so that every log and every
metrics system accepts them as they are.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

PARTITIONS = 4
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,199}")


@dataclass(frozen=True, slots=True)
class Topic:
    """A named, partitioned sequence of records.

    `retention` is the age after which records may be deleted (None: never). A compacted topic keeps at least the newest
    record of every key, whatever its age. `key` says in words what orders its records.
    """

    name: str
    key: str
    partitions: int = PARTITIONS
    retention: timedelta | None = None
    compacted: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"topic name {self.name!r} must match [a-z0-9_.-] and start with a letter or digit")
        if self.partitions < 1:
            raise ValueError(f"topic {self.name} needs at least one partition, not {self.partitions}")


IDENTITY = Topic("hub.identity", key="golden id")
CONFLICTS = Topic("hub.conflicts", key="golden id")
RECEIPTS = Topic("hub.receipts", key="target and golden id")
DECISIONS = Topic("hub.decisions", key="the event's record: which of its fields were the hub's own echo")
DEADLETTERS = Topic("hub.deadletters", key="the parked event's own key")
ALERTS = Topic("hub.alerts", key="what the alert is about", partitions=1, retention=timedelta(days=90))
AUDITS = Topic("hub.audits", key="system, object and external id")
SOURCES = Topic("hub.sources", key="system and object or stream", partitions=1, retention=timedelta(days=90))
CONFIGURATION = Topic("hub.configuration", key="nothing: the versions in their order", partitions=1)

STATIC: tuple[Topic, ...] = (
    IDENTITY, CONFLICTS, RECEIPTS, DECISIONS, DEADLETTERS, ALERTS, AUDITS, SOURCES, CONFIGURATION,
)  # fmt: skip


def changes_topic(system: str, obj: str) -> Topic:
    """Every change that `system` reported of its object type `obj`, in order per record, kept for ever."""
    return Topic(f"hub.changes.{system}.{obj}", key="external id")


def notices_topic(system: str) -> Topic:
    """Webhook notifications of `system` that carry no values and wait for a refetch; seven days."""
    return Topic(f"hub.notices.{system}", key="external id", retention=timedelta(days=7))


@cache
def golden_topic(entity: str) -> Topic:
    """The projections of `entity`; the newest of each golden id is kept."""
    return Topic(f"hub.golden.{entity}", key="golden id", compacted=True)
