"""Reading: an event interpreted by its mapping, with the record it speaks of and the keys that identify it."""

from dataclasses import dataclass, field
from typing import Any

from hub.decide import Decision
from hub.event import Event
from hub.fold import DELETED
from hub.identity import Key, keys, own_key
from hub.mapping import Decoded, ObjectMap, decode, identifiers
from hub.model import Model
from hub.values import Value
from streams.workspace import RecordState


@dataclass(slots=True)
class Reading:
    """One event on its way through a batch; `rekeyed` where the record's keys are others than before."""

    event: Event
    mapping: ObjectMap
    state: RecordState
    values: dict[str, Value]
    invalid: dict[str, tuple[Any, str]] = field(default_factory=dict)
    keys: frozenset[Key] = frozenset()
    rekeyed: bool = False
    linked_now: bool = False
    decision: Decision | None = None

    @property
    def unheard(self) -> frozenset[str]:
        """Fields that are written to this system and never believed from it."""
        return self.mapping.unheard

    @property
    def near_miss(self) -> bool:
        """Whether it is a write of the hub that came back with other content."""
        return bool(self.decision and self.decision.near_miss)

    @property
    def said(self) -> dict[str, Value]:
        """The fields that the system changed, of those that it is asked for."""
        return self.decision.said if self.decision else {}


def read(model: Model, event: Event, state: RecordState | None) -> Reading | None:
    """Interpret an event; None where its object is not configured."""
    mapping = model.mapping(event.system, event.object)
    if mapping is None:
        return None
    state = state or RecordState(event.record, mapping.entity.name)
    if event.op == "delete":
        held = state.keys | {own_key(event.record)}
        return Reading(event, mapping, state, {DELETED: True}, keys=held, rekeyed=held != state.keys)
    natives = event.fields()
    decoded = decode(mapping, natives)
    held = _keys(mapping, event, decoded, natives, state)
    return Reading(event, mapping, state, decoded.values, decoded.invalid, held, rekeyed=held != state.keys)


def _keys(
    mapping: ObjectMap, event: Event, decoded: Decoded, natives: dict[str, Any], state: RecordState
) -> frozenset[Key]:
    """The record's keys now: what the event tells, and what it leaves unknown as it was."""
    told = frozenset(keys(mapping.entity, state.id, decoded.values, identifiers(mapping, natives)))
    if event.merged:
        told |= {own_key((event.system, event.object, old)) for old in event.merged}
    if told == state.keys or not state.keys:
        return told
    silent = {name for name in mapping.entity.match if name not in decoded.values}
    foreign_told = all(f.natives[0] in natives for f in mapping.identifying)
    return told | {k for k in state.keys if k[0] in silent or (k[0] in ("golden", "record") and not foreign_told)}
