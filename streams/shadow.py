"""Shadow: claims and golden records rebuilt from the topics alone, in memory.

Nothing is asked of a vendor and nothing is written to one. Decisions that were taken once (links, merges, which fields
of an event were the hub's own) are read from their topics and used again, so a rebuild under the same configuration
gives the same golden records.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from hub import fold, projection
from hub.decide import strip
from hub.event import Event, from_avro
from hub.fold import DELETED, Claim, claims_of
from hub.identity import RecordId, root
from hub.model import Model
from hub.projection import project
from streams import steward
from streams.context import Context
from streams.decided import TOPICS, parked_place, through, told
from streams.ledger import change_topics
from streams.project import expand
from streams.reading import read
from streams.workspace import RecordState

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Shadow:
    """The state being rebuilt."""

    records: dict[RecordId, RecordState] = field(default_factory=dict)
    homes: dict[RecordId, str] = field(default_factory=dict)
    entities: dict[RecordId, str] = field(default_factory=dict)
    merged: dict[str, str | None] = field(default_factory=dict)
    unsaid: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    parked: set[tuple[str, int, int]] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    done: dict[tuple[str, int], int] = field(default_factory=dict)


async def catch_up(context: Context, shadow: Shadow, upto: dict[tuple[str, int], int], progress: Progress) -> None:
    """Read on from where the shadow stands: decisions to their end, changes up to these offsets."""
    await read_decisions(context, shadow)
    topics = set(change_topics(context))
    total = sum(end for (topic, _), end in upto.items() if topic in topics)
    for (topic, partition), end in turns(upto):
        if topic in topics:
            start = shadow.done.get((topic, partition), 0)
            async for record in through(context, topic, partition, end, start=start):
                if (topic, partition, record.offset) in shadow.parked:
                    continue
                apply(context.model, shadow, from_avro(context.codec.decode(record.value)[1]))
                if len(shadow.seen) % 1000 == 0:
                    progress(len(shadow.seen), total)
            shadow.done[topic, partition] = max(start, end)
    progress(total, total)


def turns(upto: dict[tuple[str, int], int]) -> list[tuple[tuple[str, int], int]]:
    """In which order the partitions are read, and how far at each turn. Any will do, for the fold is a join."""
    return sorted(upto.items())


async def read_decisions(context: Context, shadow: Shadow) -> None:
    """What was decided since the shadow stood where it stands, and which records were set aside."""
    async for name, datum in told(context, TOPICS, shadow.done):
        if name == "decision":
            shadow.unsaid[datum["event_id"], datum["external_id"]] = frozenset(datum["unsaid"])
        elif name == "deadletter":
            shadow.parked |= {place} if (place := parked_place(datum)) else set()
        else:
            _identify(shadow, datum)


def _identify(shadow: Shadow, datum: Mapping[str, Any]) -> None:
    id_ = (datum["system"], datum["object"], datum["external_id"])
    if datum["kind"] == "link":
        shadow.homes.setdefault(id_, datum["golden_id"])
        shadow.entities.setdefault(id_, datum["entity"])
    elif datum["kind"] == "move":
        shadow.homes[id_] = datum["golden_id"]
    else:
        shadow.merged[datum["golden_id"]] = datum["into"] if datum["kind"] == "merge" else None


def apply(model: Model, shadow: Shadow, event: Event) -> None:
    """Fold one event; one that was seen before changes nothing."""
    if event.event_id in shadow.seen:
        return
    shadow.seen.add(event.event_id)
    if event.system == steward.SYSTEM:
        _steward(shadow, event)
        return
    for one in expand(event):
        state = shadow.records.get(one.record)
        reading = read(model, one, state)
        if reading is None:
            continue
        home = shadow.homes.get(one.record, "")  # none: it ended before it was seen, and may be seen yet
        state = shadow.records[one.record] = reading.state
        state.home = state.golden_id = home
        unsaid = shadow.unsaid.get((one.event_id, one.external_id), frozenset())
        alive = {} if one.op == "delete" else {DELETED: False}
        told = alive | reading.values
        said = {name: strip(value) for name, value in told.items() if name not in unsaid}
        state.claims = fold.fold(state.claims, claims_of(said, one.at, one.clock))
        deleted = state.claims.get(DELETED)
        state.gone = bool(deleted and deleted.value)


def _steward(shadow: Shadow, event: Event) -> None:
    said = event.fields()
    if said["action"] not in ("pin", "unpin"):
        return
    id_ = (steward.SYSTEM, steward.OBJECT, event.external_id)
    state = shadow.records.setdefault(id_, RecordState(id_, "", event.external_id, event.external_id))
    value = {n: said.get(n) for n in steward.PIN} if said["action"] == "pin" else None
    state.claims = fold.fold(state.claims, [(said["field"], Claim(value, event.at, event.clock))])


def project_all(context: Context, shadow: Shadow) -> list[tuple[str, str, str, bool]]:
    """(golden id, entity, fields as JSON, deleted) of every golden record that lives."""
    groups: dict[str, list[RecordState]] = {}
    for id_, home in shadow.homes.items():  # a record that the hub created counts before it has said anything
        shadow.records.setdefault(id_, RecordState(id_, shadow.entities[id_], home, home))
    for state in (s for s in shadow.records.values() if s.home):
        state.golden_id = root(shadow.merged, state.home)
        groups.setdefault(state.golden_id, []).append(state)
    golden = []
    for golden_id, states in sorted(groups.items()):
        entity = next((s.entity for s in states if s.entity), "")
        if entity in context.model.entities:
            made = project(golden_id, context.model.entities[entity], [s.source for s in states]).golden
            golden.append((golden_id, entity, orjson.dumps(projection.dump(made)).decode(), made.deleted))
    return golden
