"""Reasons: why a field has its value, or had it then, down to the payload and the mapping; and the proof by recomputing."""

import ast
from collections.abc import Collection, Sequence
from typing import Any

from hub.edge import history, inquiry
from hub.edge.inquiry import Json
from hub.entity import Entity
from hub.errors import Reject
from hub.event import Event
from hub.fold import DELETED, field_of
from hub.mapping import decode
from hub.model import Model
from hub.projection import GoldenField
from streams import past
from streams.context import Context
from streams.past import Past, Then
from streams.records import Place


async def why(
    context: Context,
    entity: str,
    name: str,
    field: str,
    at: str | None = None,
    proof: bool = False,
    limit: int | None = None,
) -> Json:
    """Why a field has its value, or had it at an instant or after an event: what `inquiry.explain` tells, and of the
    winner's and the losers' events who changed it, through which channel, and how the mapping reads it. With `proof` the
    value computed anew from the cited events alone, and what it would be without them. Raises Reject, also
    for more than `limit` steps."""
    thing, named = await history.find(context, entity, name, limit)
    count = history.steps_until(thing, at)
    told = await past.read(context, thing.steps[:count])
    then = taken(context, thing, count, told)
    definition = inquiry.entity_with(then.model, entity, field)
    golden_id = then.root(named)
    members = then.members(golden_id)
    if not members:
        raise Reject(f"{golden_id} was not known then", "unknown")
    answer = await inquiry.explain(context, definition, golden_id, members, field)
    events = {event.event_id: event for event in told.values() if isinstance(event, Event)}
    for claim in (answer["winner"], *answer["losers"]):
        if claim and claim["event_id"] in events:
            claim |= source(then.model, events[claim["event_id"]], field)
    answer |= {"at": at, "configuration": then.configuration}
    if proof:
        answer["proof"] = Proof(context, thing, count, told).of(definition, golden_id, field)
    return answer


def taken(
    context: Context,
    thing: Past,
    count: int,
    told: dict[Place, Any],
    only: Collection[str] | None = None,
    without: str = "",
    fixed: Then | None = None,
) -> Then:
    """The thing after its first `count` steps: of its events all, or `only` these, or all `without` one, with what was
    decided about them as it was in `fixed`."""
    then = past.begin(context, thing, fixed)
    for step in thing.steps[:count]:
        counts = step.kind != "event" or (step.id != without and (only is None or step.id in only))
        then.take(step, told.get(step.place) if step.place and counts else None)
    return then  # fmt: skip


def source(model: Model, event: Event, field: str) -> Json:
    """Where a claim comes from: its channel, who changed it where the source tells, and how the mapping reads it."""
    told = {"channel": event.channel, "author": history.author(event), "op": event.op}
    mapping = model.mapping(event.system, event.object)
    if mapping is None:
        return told
    natives = event.fields()
    read = decode(mapping, natives)
    transforms = [
        {
            "natives": {name: natives[name] for name in entry.natives if name in natives},
            "codec": entry.codec.name if entry.codec else None,
            "options": dict(entry.options),
            "type": mapping.kind(field),
            "value": read.values.get(field),
        }
        for entry in mapping.fields
        if entry.name == field
    ]
    return told | {"transforms": transforms}


class Proof:
    """Recomputes a value from the events that it cites, and without each of them."""

    def __init__(self, context: Context, thing: Past, count: int, told: dict[Place, Any]) -> None:
        self.context, self.thing, self.count, self.told = context, thing, count, told
        self.whole = taken(context, thing, count, told)

    def of(self, definition: Entity, golden_id: str, field: str) -> Json:
        """`cited` events and their places; the value by them alone and whether it is the same, provenance included; and for
        each event that decides, what the value would be if it had never come, by which other event."""
        cited = self.cited(definition, golden_id, field)
        value = self._field(self.whole, golden_id, field)
        alone = self._field(self._taken(only=cited), golden_id, field)
        places = {s.id: "{}/{}@{}".format(*s.place) for s in self.thing.steps if s.id in cited and s.place}
        return {
            "cited": places,
            "value": alone.value if alone else None,
            "holds": alone == value,
            "without": [self._dropped(id_, value, golden_id, field) for id_ in self.deciding(golden_id, field)],
        }

    def cited(self, definition: Entity, golden_id: str, field: str) -> set[str]:
        """The events behind every claim that the field's rule looks at, pins and deletes among them."""
        looked_at = needed(definition, field)
        return {
            claim.clock.event_id
            for member in self.whole.members(golden_id)
            for name, claim in member.claims.items()
            if name == DELETED or field_of(name) in looked_at
        }

    def deciding(self, golden_id: str, field: str) -> Sequence[str]:
        """The event that the value comes from; of a value that no single claim carries, all that claim the field."""
        value = self._field(self.whole, golden_id, field)
        if value is not None and value.event_id:
            return [value.event_id]
        members = self.whole.members(golden_id)
        return sorted({c.clock.event_id for m in members for n, c in m.claims.items() if field_of(n) == field})

    def _dropped(self, event_id: str, value: GoldenField | None, golden_id: str, field: str) -> Json:
        other = self._field(self._taken(without=event_id), golden_id, field)
        by = {"system": other.system, "external_id": other.external_id, "event_id": other.event_id} if other else None
        return {
            "event_id": event_id,
            "known": other is not None,
            "value": other.value if other else None,
            "by": by,
            "changes": other is None or value is None or other.value != value.value,
        }

    def _taken(self, only: Collection[str] | None = None, without: str = "") -> Then:
        return taken(self.context, self.thing, self.count, self.told, only, without, self.whole)

    def _field(self, then: Then, golden_id: str, field: str) -> GoldenField | None:
        made = then.golden(golden_id)
        return made.golden.fields.get(field) if made else None


def needed(definition: Entity, field: str) -> set[str]:
    """The fields whose claims a field's value depends on: its own, and those that its rule looks at."""
    found: set[str] = set()
    waiting = {field}
    while waiting:
        name = waiting.pop()
        found.add(name)
        rule = definition.fields[name].rule
        names = {n.id for n in ast.walk(ast.parse(rule.expression.strip())) if isinstance(n, ast.Name)}
        waiting |= ({rule.field, *names} & definition.fields.keys()) - found
    return found
