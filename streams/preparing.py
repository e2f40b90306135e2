"""Preparing: from a due row of the write queue to the writes that bring one target in line, or the reason for none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from hub import projection
from hub.diff import NoWrite, admits, consented, diff, fresh, only_consent
from hub.fold import DELETED
from hub.mapping import ObjectMap, encode, writable
from hub.model import Model
from hub.projection import Golden
from hub.receipt import Held as HeldFor
from hub.values import Value, is_reference
from hub.view import invalid
from hub.write import Write
from streams.conflicts import under_review
from streams.log_postgres import Connection
from streams.workspace import RecordState, records_of


@dataclass(frozen=True, slots=True)
class Due:
    """A leased row of the write queue; `attempts` and `failed_at` (None: never) are of failed tries before this one."""

    target: str
    golden_id: str
    entity: str
    version: int
    attempts: int
    trace: str | None
    failed_at: datetime | None = None


@dataclass(slots=True)
class Prepared:
    """What is to be done for a due row: writes, or `verdict` where there is nothing to call the target for."""

    due: Due
    version: int
    golden: Golden | None = None
    writes: list[Write] = field(default_factory=list)
    verdict: NoWrite | HeldFor | None = None
    records: dict[str, RecordState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stored:
    """What the state knows about a set of golden records and what they refer to."""

    goldens: Mapping[str, tuple[Golden, int]]
    records: Mapping[str, list[RecordState]]
    linked: Mapping[tuple[str, str, str], str]
    reviews: set[tuple[str, str, str, str]]


async def prepare(conn: Connection, model: Model, dues: Sequence[Due]) -> list[Prepared]:
    """Compare golden records with what the target is known to hold."""
    stored = await _load(conn, dues)
    return [prepare_one(model, stored, due) for due in dues]


async def _load(conn: Connection, dues: Sequence[Due]) -> Stored:
    goldens = await _goldens(conn, [d.golden_id for d in dues])
    refs = {_ref(value) for golden, _ in goldens.values() for value in golden.values().values() if is_reference(value)}
    rows = await conn.fetch(
        "select system, object, external_id, golden_id from hub.record join unnest($1::text[], $2::text[], $3::text[])"
        " as k (system, object, external_id) using (system, object, external_id)",
        *([ref[i] for ref in refs] for i in range(3)),
    )
    linked = {(r["system"], r["object"], r["external_id"]): r["golden_id"] for r in rows}
    others = set(linked.values()) - goldens.keys()
    goldens |= await _goldens(conn, sorted(others))
    records = await records_of(conn, list(goldens))
    return Stored(goldens, records, linked, await under_review(conn, [d.golden_id for d in dues]))


async def _goldens(conn: Connection, ids: Sequence[str]) -> dict[str, tuple[Golden, int]]:
    rows = await conn.fetch(
        "select golden_id, entity, version, fields, deleted from hub.golden"
        " where golden_id = any($1) and merged_into is null",
        list(ids),
    )
    return {
        r["golden_id"]: (
            projection.load(r["golden_id"], r["entity"], orjson.loads(r["fields"]), r["deleted"]),
            r["version"],
        )
        for r in rows
    }


def prepare_one(model: Model, stored: Stored, due: Due) -> Prepared:
    """The same of one row, from what is stored."""
    if due.golden_id not in stored.goldens:
        return Prepared(due, due.version, verdict=NoWrite("superseded", "part of another golden record now"))
    golden, version = stored.goldens[due.golden_id]
    prepared = Prepared(due, version, golden)
    mappings = model.targets(due.entity).get(due.target, [])
    existing = [r for r in stored.records.get(due.golden_id, []) if r.id[0] == due.target]
    if golden.deleted:
        _deletes(prepared, mappings, existing)
    else:
        _upserts(model, stored, prepared, mappings, existing)
    return prepared


def _deletes(prepared: Prepared, mappings: Sequence[ObjectMap], existing: Sequence[RecordState]) -> None:
    by_object = {m.object: m for m in mappings}
    for record in existing:
        mapping = by_object.get(record.id[1])
        if mapping is not None and not record.gone and mapping.on_delete == "delete":
            prepared.records[record.id[2]] = record
            prepared.writes.append(_write(prepared, mapping, "delete", record.id[2], {DELETED: True}))
    if not prepared.writes:
        prepared.verdict = NoWrite("unchanged", "nothing left to delete")


def _upserts(
    model: Model, stored: Stored, prepared: Prepared, mappings: Sequence[ObjectMap], existing: Sequence[RecordState]
) -> None:
    assert prepared.golden is not None
    live = [r for r in existing if not r.gone]
    verdict: NoWrite | HeldFor | None = None
    for mapping in mappings:
        verdict = admits(prepared.golden, mapping)
        records = [r for r in live if r.id[1] == mapping.object]
        if verdict is not None and not records:
            continue
        values = _resolve(model, stored, prepared, mapping)
        if isinstance(values, NoWrite):
            verdict = values
        elif records:  # the rest need not wait for what it refers to
            verdict = _updates(stored, prepared, mapping, records, values.known)
            verdict = values.waits or verdict
        else:
            verdict = values.waits or _create(prepared, mapping, existing, values.known)
        break
    prepared.verdict = verdict or (None if prepared.writes else NoWrite("unchanged"))


def _updates(
    stored: Stored, prepared: Prepared, mapping: ObjectMap, records: Sequence[RecordState], values: Mapping[str, Value]
) -> NoWrite | None:
    assert prepared.golden is not None
    allowed = not mapping.marketing or consented(prepared.golden)
    withheld = False
    for place, record in enumerate(sorted(records, key=lambda r: _seniority(r, mapping, values))):
        changed = diff(values, mapping, record.view, primary=place == 0)
        changed = {n: v for n, v in changed.items() if (*record.id, n) not in stored.reviews}
        send = changed if allowed else only_consent(changed)
        withheld = withheld or (not allowed and not send)
        if send:
            prepared.records[record.id[2]] = record
            prepared.writes.append(_write(prepared, mapping, "update", record.id[2], send, record))
    return NoWrite("held-for-consent", "no opt-in") if withheld else None


def _seniority(record: RecordState, mapping: ObjectMap, values: Mapping[str, Value]) -> tuple[bool, int, str]:
    """Of several records of one thing in one target, the one that holds the unique values already comes first."""
    unique = [f.name for f in mapping.fields if f.unique]
    holds = all(n in record.view and record.view[n].value == values.get(n) for n in unique)
    return (not holds, len(record.id[2]), record.id[2])


def _create(
    prepared: Prepared, mapping: ObjectMap, existing: Sequence[RecordState], values: Mapping[str, Value]
) -> NoWrite | None:
    assert prepared.golden is not None
    left = [r for r in existing if r.gone]
    if left and mapping.entity.on_delete(mapping.system) == "detach":
        return NoWrite("filtered", "it was deleted there, and left the golden record")
    if not mapping.create:
        return NoWrite("filtered", "records are not created there")
    if mapping.marketing and not consented(prepared.golden):
        return NoWrite("held-for-consent", "no opt-in")
    told = fresh(values, mapping)
    if not told.keys() - mapping.constants.keys():
        return NoWrite("filtered", "nothing is known that could be written there")
    prepared.writes.append(_write(prepared, mapping, "create", None, told))
    return None


def _write(
    prepared: Prepared,
    mapping: ObjectMap,
    op: Any,
    external_id: str | None,
    values: dict[str, Value],
    record: RecordState | None = None,
) -> Write:
    view = record.view if record else {}
    return Write(
        target=mapping.system,
        object=mapping.object,
        golden_id=prepared.due.golden_id,
        version=prepared.version,
        op=op,
        mapping=mapping,
        external_id=external_id,
        values=values,
        natives=encode(mapping, values),
        expected={name: view[name].value for name in values if name in view and not invalid(view[name].value)},
        trace=prepared.due.trace,
    )


@dataclass(frozen=True, slots=True)
class Resolved:
    """Golden values with references in the target's own terms; `waits`: for what must be written before the others."""

    known: dict[str, Value]
    waits: HeldFor | None = None


def _resolve(model: Model, stored: Stored, prepared: Prepared, mapping: ObjectMap) -> Resolved | NoWrite:
    """The golden values as the target can take them now, or why it takes none."""
    assert prepared.golden is not None
    values = prepared.golden.values()
    waits: HeldFor | None = None
    for entry in writable(mapping):
        value = values.get(entry.name)
        if value is None or mapping.kind(entry.name) != "ref":
            continue
        there = _there(model, stored, prepared, mapping, entry.object, value)
        if isinstance(there, HeldFor):
            waits = waits or there
            del values[entry.name]
            continue
        if there is None and mapping.entity.fields[entry.name].required:
            return NoWrite("filtered", f"its {entry.name} is not in {mapping.system}")
        if there is None:
            del values[entry.name]
        else:
            values[entry.name] = {"system": mapping.system, "object": entry.object, "id": there}
    return Resolved(values, waits)


def _there(
    model: Model, stored: Stored, prepared: Prepared, mapping: ObjectMap, object_: str, ref: Mapping[str, str]
) -> str | HeldFor | None:
    """The external id of the referenced thing in the target; what to wait for; or None if it will never be there."""
    golden_id = stored.linked.get(_ref(ref))
    if golden_id is None or golden_id not in stored.goldens:
        return HeldFor("/".join(_ref(ref))) if _configured(model, ref) else None
    here = [r.id[2] for r in stored.records.get(golden_id, []) if r.id[:2] == (mapping.system, object_) and not r.gone]
    if here:
        held = prepared_ref(prepared, stored, mapping, object_)
        return held if held in here else min(here, key=lambda id_: (len(id_), id_))
    other = model.mapping(mapping.system, object_)
    golden = stored.goldens[golden_id][0]
    comes = other is not None and other.create and not golden.deleted and admits(golden, other) is None
    return HeldFor(golden_id) if comes and not (other and other.marketing and not consented(golden)) else None


def prepared_ref(prepared: Prepared, stored: Stored, mapping: ObjectMap, object_: str) -> str | None:
    """The id that the target's record refers to now, so that of several records of one thing the same one is kept."""
    for record in stored.records.get(prepared.due.golden_id, []):
        if record.id[:2] == (mapping.system, mapping.object):
            for held in record.view.values():
                if is_reference(held.value) and held.value["object"] == object_:
                    return str(held.value["id"])
    return None


def _configured(model: Model, ref: Mapping[str, str]) -> bool:
    return model.mapping(ref["system"], ref["object"]) is not None


def _ref(value: Mapping[str, str]) -> tuple[str, str, str]:
    return (value["system"], value["object"], value["id"])
