"""Decided: what was decided once, read from the log: which fields of events were no claims, why records were linked."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from hub.identity import RecordId
from streams.context import Context
from streams.project import STAGE
from streams.records import Record
from streams.topics import DEADLETTERS, DECISIONS, IDENTITY

CHUNK = 5_000


@dataclass(slots=True)
class Decided:
    """unsaid: (event id, external id) -> the fields that were no claims, and whether it answered a write of the hub
    reasons: record -> the key by which it was linked, or another reason
    parked: where events stand that were set aside"""

    unsaid: dict[tuple[str, str], tuple[frozenset[str], bool]] = field(default_factory=dict)
    reasons: dict[RecordId, str] = field(default_factory=dict)
    parked: set[tuple[str, int, int]] = field(default_factory=set)


async def read_decided(context: Context) -> Decided:
    """Everything that was decided so far."""
    found = Decided()
    for topic in (IDENTITY, DECISIONS, DEADLETTERS):
        for (name, partition), end in sorted((await context.log.ends([topic.name])).items()):
            async for record in through(context, name, partition, end):
                _note(found, *context.codec.decode(record.value))
    return found


def _note(found: Decided, name: str, datum: dict) -> None:  # type: ignore[type-arg]
    if name == "decision":
        found.unsaid[datum["event_id"], datum["external_id"]] = (frozenset(datum["unsaid"]), datum["echo"])
    elif name == "deadletter" and datum["stage"] == STAGE:
        found.parked.add((datum["topic"], datum["partition"], datum["offset"]))
    elif name == "identity" and datum["kind"] == "link":
        found.reasons.setdefault((datum["system"], datum["object"], datum["external_id"]), datum["reason"])


async def through(
    context: Context, topic: str, partition: int, end: int, keys: Iterable[bytes] | None = None
) -> AsyncIterator[Record]:
    """The records of a partition up to `end`; with `keys` only theirs. Their schemas are known to the codec."""
    start, wanted = 0, None if keys is None else set(keys)
    while start < end:
        chunk = await context.log.read(topic, partition, start, min(CHUNK, end - start))
        if not chunk:
            return
        mine = [r for r in chunk if r.offset < end and (wanted is None or r.key in wanted)]
        await context.codec.learn(record.value for record in mine)
        for record in mine:
            yield record
        start = chunk[-1].offset + 1
