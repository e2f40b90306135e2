"""Projecting: the golden records that a batch touched, chosen anew, with conflicts, versions and what they owe the ledger."""

from collections import Counter
from collections.abc import Collection, Sequence

import orjson

from hub import projection
from hub.diff import diff
from hub.model import Model
from hub.projection import STEWARD, Projected, project
from streams import conflicts, linking, metrics, outcomes
from streams.context import Context
from streams.log_postgres import Connection
from streams.reading import Reading
from streams.records import NewRecord
from streams.topics import golden_topic
from streams.workspace import GoldenState, RecordState, records_of, save_golden


async def project_all(
    context: Context,
    conn: Connection,
    readings: Sequence[Reading],
    goldens: dict[str, GoldenState],
    forced: Collection[str] = (),
    ended: Collection[str] = (),
) -> list[NewRecord]:
    """Project every golden record that the readings touched and store what changed; returns the events of it.

    `forced` ones get a new version whatever their fields say (their records or pins changed); `ended` ones are no more.
    """
    by_golden: dict[str, list[Reading]] = {}
    for reading in readings:
        by_golden.setdefault(reading.state.golden_id, []).append(reading)
    at_hand = {reading.state.id: reading.state for reading in readings}
    sources = await records_of(conn, by_golden.keys() | set(forced), at_hand)
    rekeyed = {g: states for g, states in sources.items() if g in forced or _rekeyed(by_golden.get(g, []))}
    await linking.claim_keys(conn, rekeyed, context.model.entities, readings)
    projected = {g: _project(context.model, g, sources[g], goldens) for g in sorted(sources)}
    joined = {g: sources[g] for g in projected if g in forced or any(r.linked_now for r in by_golden.get(g, []))}
    clashes = conflicts.find(by_golden, projected, joined, context.model.entities)
    bumped = {
        g
        for g, made in projected.items()
        if _bump(context.model, made, goldens[g], sources[g], by_golden.get(g, []), g in forced)
    }
    for golden_id in ended:
        goldens[golden_id].version += 1
    changed = [goldens[g] for g in sorted(bumped | set(ended))]
    await save_golden(conn, changed)
    for entity, amount in Counter(state.entity for state in changed).items():
        metrics.count(metrics.GOLDEN, entity, by=amount)
    emitted = await conflicts.store(context, conn, clashes, projected)
    await outcomes.open_rows(context.model, conn, by_golden, goldens, bumped, clashes)
    return emitted + [golden_event(context, state, by_golden.get(state.golden_id, [])) for state in changed]


def _rekeyed(readings: Sequence[Reading]) -> bool:
    return any(r.rekeyed or r.linked_now for r in readings)


def _project(
    model: Model, golden_id: str, sources: Sequence[RecordState], goldens: dict[str, GoldenState]
) -> Projected:
    entity = model.entities[next(s.entity for s in sources)]
    goldens.setdefault(golden_id, GoldenState(golden_id, entity.name))
    return project(golden_id, entity, [s.source for s in sources])


def _bump(
    model: Model,
    projected: Projected,
    stored: GoldenState,
    sources: Sequence[RecordState],
    readings: Sequence[Reading],
    forced: bool,
) -> bool:
    """Take over the new fields; a new version is due if they changed, or if some record is out of line with them."""
    fields = projection.dump(projected.golden)
    values_before = {name: row[0] for name, row in stored.fields.items()}
    changed = values_before != projected.golden.values() or stored.deleted != projected.golden.deleted
    fresh = forced or stored.version == 0 or any(r.linked_now for r in readings)
    said = any(r.said for r in readings)
    if not (changed or fresh or (said and fields != stored.fields) or _out_of_line(model, projected, sources)):
        return False
    stored.fields, stored.deleted = fields, projected.golden.deleted
    stored.version += 1
    return True


def _out_of_line(model: Model, projected: Projected, sources: Sequence[RecordState]) -> bool:
    values = projected.golden.values()
    entity = model.entities[projected.golden.entity]
    plain = {
        name: value for name, value in values.items() if name in entity.fields and entity.fields[name].kind != "ref"
    }
    for state in sources:
        mapping = model.mapping(state.id[0], state.id[1])
        if mapping is not None and not state.gone and state.id[0] != STEWARD and diff(plain, mapping, state.view):
            return True
    return False


def golden_event(context: Context, state: GoldenState, readings: Sequence[Reading] = ()) -> NewRecord:
    """A golden record as it is now; of several readings that led to it, the last is its cause."""
    last = readings[-1].event if readings else None
    datum = {
        "golden_id": state.golden_id,
        "entity": state.entity,
        "version": state.version,
        "fields": orjson.dumps(state.fields),
        "deleted": state.deleted,
        "merged_into": state.merged_into,
        "cause": last.event_id if last else "",
        "trace": next((r.event.trace for r in reversed(readings) if r.event.trace), None),
    }
    return NewRecord(golden_topic(state.entity).name, state.golden_id.encode(), context.codec.encode("golden", datum))
