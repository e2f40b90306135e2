"""Decided: what was decided once, read from the log: which fields of events were no claims, why records were linked."""

from collections.abc import AsyncIterator, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.identity import RecordId
from streams.context import Context
from streams.project import STAGE
from streams.records import Offsets, Record
from streams.topics import DEADLETTERS, DECISIONS, IDENTITY

CHUNK = 5_000
TOPICS = (IDENTITY.name, DECISIONS.name, DEADLETTERS.name)


@dataclass(slots=True)
class Decided:
    """unsaid: (event id, external id) -> the fields that were no claims, and whether it answered a write of the hub
    reasons: record -> the key by which it was linked, or another reason
    parked: where events stand that were set aside"""

    unsaid: dict[tuple[str, str], tuple[frozenset[str], bool]] = field(default_factory=dict)
    reasons: dict[RecordId, str] = field(default_factory=dict)
    parked: set[tuple[str, int, int]] = field(default_factory=set)


async def read_decided(context: Context, only: Container[RecordId] | None = None) -> Decided:
    """Everything that was decided so far; with `only`, about these records."""
    found = Decided()
    async for name, datum in told(context, TOPICS):
        id_ = (datum.get("system"), datum.get("object"), datum.get("external_id"))
        if only is None or name == "deadletter" or id_ in only:
            _note(found, name, datum)
    return found


async def told(
    context: Context, topics: Iterable[str], done: Offsets | None = None
) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """What stands on these topics by now, decoded: its name and its content. With `done`, from where that stands; it is moved
    on when a partition is read."""
    done = {} if done is None else done
    for (topic, partition), end in sorted((await context.log.ends(topics)).items()):
        start = done.get((topic, partition), 0)
        async for record in through(context, topic, partition, end, start=start):
            yield context.codec.decode(record.value)
        done[topic, partition] = max(start, end)


def parked_place(datum: Mapping[str, Any]) -> tuple[str, int, int] | None:
    """Where the change stands that a dead letter is about; None where it is about something else."""
    return (datum["topic"], datum["partition"], datum["offset"]) if datum["stage"] == STAGE else None


async def read_parked(context: Context) -> set[tuple[str, int, int]]:
    """(topic, partition, offset) of every change that was set aside."""
    return {place async for _, datum in told(context, [DEADLETTERS.name]) if (place := parked_place(datum))}


def _note(found: Decided, name: str, datum: Mapping[str, Any]) -> None:
    if name == "decision":
        found.unsaid[datum["event_id"], datum["external_id"]] = (frozenset(datum["unsaid"]), datum["echo"])
    elif name == "deadletter" and (place := parked_place(datum)):
        found.parked.add(place)
    elif name == "identity" and datum["kind"] == "link":
        found.reasons.setdefault((datum["system"], datum["object"], datum["external_id"]), datum["reason"])


async def through(
    context: Context, topic: str, partition: int, end: int, keys: Iterable[bytes] | None = None, start: int = 0
) -> AsyncIterator[Record]:
    """The records of a partition from `start` up to `end`; with `keys` only theirs. Their schemas are known to the codec."""
    wanted = None if keys is None else set(keys)
    while start < end:
        chunk = await context.log.read(topic, partition, start, min(CHUNK, end - start))
        if not chunk:
            return
        mine = [r for r in chunk if r.offset < end and (wanted is None or r.key in wanted)]
        await context.codec.learn(record.value for record in mine)
        for record in mine:
            yield record
        start = chunk[-1].offset + 1
