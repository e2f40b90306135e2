"""Sight: what each system held of a record, seen again from its events and from the receipts of what was written to it.

The same code decides as did then. What the hub's own open writes explained is on the log as the decision that those fields
were not said; so a write that explains them stands in for those that were open.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from hub import view
from hub.decide import decide
from hub.event import Event
from hub.fold import DELETED
from hub.identity import RecordId
from hub.model import Model
from hub.view import observed
from hub.write import Intent
from streams.project import expand, gone_now, unadmitted
from streams.reading import Reading, read
from streams.steward import SYSTEM
from streams.workspace import RecordState

Sights = dict[RecordId, RecordState]
Unsaid = Mapping[tuple[str, str], frozenset[str]]


def see(model: Model, sights: Sights, event: Event, unsaid: Unsaid) -> None:
    """Take in what an event reported."""
    for one in expand(event) if event.system != SYSTEM else ():
        known = sights.get(one.record)
        reading = read(model, one, known)
        if reading is None:
            continue
        sights[one.record] = reading.state
        if known is None and event.op == "delete":  # it ended before it was seen
            reading.state.view[DELETED] = observed(None, True, one.clock.order)
            reading.state.gone = True
        else:
            _take(reading, unsaid.get((one.event_id, one.external_id), frozenset()))


def _take(reading: Reading, unsaid: frozenset[str]) -> None:
    event, state = reading.event, reading.state
    if event.op != "delete" and (state.gone or DELETED in state.view):
        reading.values[DELETED] = False
    explained = {name: reading.values[name] for name in unsaid if name in reading.values}
    open_ = [Intent(event.intent or "", event.system, event.object, "", event.external_id, explained)]
    decision = decide(event, reading.values, state.view, open_ if explained else (), reading.unheard)
    state.view = decision.view | unadmitted(reading)
    state.gone = gone_now(event, state)


def acknowledge(
    model: Model, sights: Sights, receipt: Mapping[str, Any], linked: Mapping[RecordId, int], number: int
) -> None:
    """Take in what a write brought about, by its receipt."""
    id_ = (receipt["target"], receipt["object"], str(receipt["external_id"]))
    mapping = model.mapping(*id_[:2])
    if mapping is None:
        return
    if (
        id_ not in sights or linked.get(id_, 0) >= number > 0
    ):  # created by this very write, whatever was known of its id
        sights[id_] = RecordState(id_, mapping.entity.name)
    state = sights[id_]
    written, stored = orjson.loads(receipt["written"]), orjson.loads(receipt["stored"])
    state.view = view.acknowledged(state.view, written, stored, receipt["order"], receipt["at"])
    state.gone = state.gone or receipt["op"] == "delete"
