"""Foretelling: the exact writes that targets would get, by the very code that prepares them for delivery.

Writes that wait for others are foretold as if those had been done: a created record stands in as `new:<golden id>`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from hub.model import Model
from hub.receipt import Held as HeldFor
from hub.view import acknowledged
from hub.write import Write
from streams.preparing import Due, Prepared, Stored, prepare_one
from streams.workspace import RecordState

NEW = "new:"


@dataclass(slots=True)
class Foretold:
    """writes   in the order in which they become possible
    kept     (target, outcome, reason) -> golden records that get nothing there"""

    writes: list[Write] = field(default_factory=list)
    kept: dict[tuple[str, str, str], int] = field(default_factory=dict)


def dues(model: Model, stored: Stored, golden_ids: Iterable[str]) -> list[Due]:
    """One row per target and golden record, as `plan` would queue them."""
    return [
        Due(target, id_, stored.goldens[id_][0].entity, stored.goldens[id_][1], 0, None)
        for id_ in golden_ids
        for target in model.targets(stored.goldens[id_][0].entity)
    ]


def at_once(model: Model, stored: Stored, golden_id: str) -> set[tuple[str, str]]:
    """What would be done first for one golden record, comparable between configurations: (target, what)."""
    prepared = [prepare_one(model, stored, due) for due in dues(model, stored, [golden_id])]
    waits = {(p.due.target, "waits") for p in prepared if isinstance(p.verdict, HeldFor)}
    return waits | {(w.target, f"{w.key} {sorted(w.natives.items(), key=str)}") for p in prepared for w in p.writes}


def foretell(model: Model, stored: Stored, golden_ids: Iterable[str]) -> Foretold:
    """Everything that would be written for these golden records until nothing is left to do."""
    found = Foretold()
    stored = replace(stored, records=dict(stored.records), linked=dict(stored.linked))
    waiting = dues(model, stored, golden_ids)
    while waiting:
        prepared = [prepare_one(model, stored, due) for due in waiting]
        written = [write for one in prepared for write in one.writes]
        for one in prepared:
            _pretend(stored, one.writes)
        found.writes += written
        held = [one for one in prepared if isinstance(one.verdict, HeldFor)]
        _note(found, [one for one in prepared if one not in held or not written])
        waiting = [one.due for one in held] if written else []
    return found


def _note(found: Foretold, prepared: Sequence[Prepared]) -> None:
    for one in prepared:
        if one.verdict is None or getattr(one.verdict, "outcome", "") == "unchanged":
            continue
        outcome = getattr(one.verdict, "outcome", "held")
        reason = getattr(one.verdict, "reason", "what it refers to is not there")
        key = (one.due.target, outcome, reason)
        found.kept[key] = found.kept.get(key, 0) + 1


def _pretend(stored: Stored, writes: Sequence[Write]) -> None:
    """As if these had been written and acknowledged."""
    for write in writes:
        records: dict[str, list[RecordState]] = stored.records  # type: ignore[assignment]
        mine = list(records.get(write.golden_id, []))
        id_ = (write.target, write.object, write.external_id or f"{NEW}{write.golden_id}")
        state = next((one for one in mine if one.id == id_), None)
        if state is None:
            state = RecordState(id_, write.mapping.entity.name, write.golden_id, write.golden_id)
            mine.append(state)
        after = replace(state, view=acknowledged(state.view, write.values, {}, 0), gone=write.op == "delete")
        records[write.golden_id] = [after if one.id == id_ else one for one in mine]
