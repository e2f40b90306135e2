"""What-if: what another configuration would change, computed from the log and the state, and nothing of it done.

The result is complete: `applying` does just this, and nothing else. No system is called.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hub import projection
from hub.errors import Reject
from hub.identity import RecordId
from hub.model import Model
from hub.projection import STEWARD, Golden, Projected, project
from hub.values import Value, is_reference
from hub.write import Write
from streams import conflicts
from streams.conflicts import CONTESTED, Conflict
from streams.context import Context
from streams.foretelling import Foretold, at_once, foretell
from streams.log_postgres import Connection
from streams.position import positions
from streams.preparing import Stored
from streams.project import STAGE
from streams.regrouping import Regrouped, regroup
from streams.rereading import Reread, reread
from streams.workspace import GoldenState, RecordState, every_golden, every_record, records_of

Upto = Mapping[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class Scope:
    """Which golden records are looked at: all; `sample` of them, always the same ones; or those that changes observed
    between `since` and `until` (microseconds) speak of."""

    sample: int | None = None
    since: int | None = None
    until: int | None = None

    @property
    def whole(self) -> bool:
        """Whether everything is looked at, as it must be before it is done."""
        return self.sample is None and self.since is None and self.until is None


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of one golden record with another value; None also where it is not known. `rule` chooses it now."""

    golden_id: str
    entity: str
    field: str
    before: Value
    after: Value
    rule: str = ""


@dataclass(slots=True)
class Outlook:
    """What would change.

    events, looked_at   how many events were read and golden records looked at
    reread, regrouped   records and identities as they would be
    goldens             golden records with what would be stored: `changed` ones get a new version, others only another
                        rule version beside the same values; `ended` ones live on inside another
    opened, closed      conflicts, and rows of hub.conflict
    foretold            the writes
    """

    events: int
    looked_at: int
    reread: Reread
    regrouped: Regrouped
    goldens: dict[str, GoldenState] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    fields: list[FieldChange] = field(default_factory=list)
    opened: list[Conflict] = field(default_factory=list)
    closed: list[Mapping[str, Any]] = field(default_factory=list)
    foretold: Foretold = field(default_factory=Foretold)

    @property
    def writes(self) -> list[Write]:
        """The writes that targets would get."""
        return self.foretold.writes

    @property
    def regroups(self) -> tuple[int, int]:
        """How many golden records would become part of another, and how many would be set apart."""
        into, parts = self.regrouped.merged.values(), self.regrouped.split.values()
        return sum(one is not None for one in into), sum(map(len, parts))

    @property
    def nothing(self) -> bool:
        """Whether nothing that anybody sees would change."""
        return not (self.changed or self.ended or self.opened or self.closed or self.writes)


@dataclass(slots=True)
class _State:
    """The state as it is, in memory."""

    records: dict[RecordId, RecordState]
    goldens: dict[str, GoldenState]
    open: list[Mapping[str, Any]]
    known: set[tuple[str, str, str]]
    apart: list[tuple[str, str]]
    chosen: set[str] | None


async def whatif(context: Context, old: Model, new: Model, scope: Scope = Scope()) -> Outlook:
    """What `new` in place of `old` would change, as of one moment, with nothing stopped and nothing locked."""
    async with context.pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        return await foresee(context, conn, old, new, scope)


async def foresee(context: Context, conn: Connection, old: Model, new: Model, scope: Scope = Scope()) -> Outlook:
    """The same within the caller's transaction."""
    state = await _load(conn, scope, context.most_records)
    live = {i: s for i, s in state.records.items() if state.chosen is None or s.golden_id in state.chosen}
    made = await reread(context, old, new, live, await positions(conn, STAGE), whole=state.chosen is None)
    regrouped = regroup(made, old, new, {g: s.merged_into for g, s in state.goldens.items()}, state.apart)
    found = Outlook(made.events, 0, made, regrouped)
    projected = _project(found, state, new)
    if state.chosen is not None:
        await _load_referenced(conn, state, projected)
    rest = {i: s for i, s in state.records.items() if i not in made.records}
    _compare(found, state, new, projected)
    _contest(found, state, old, new, projected)
    _write(found, state, old, new, rest)
    return found


async def _load(conn: Connection, scope: Scope, most: int) -> _State:
    """What is looked at, and no more: memory grows with the scope. Raises Reject for more than `most` records."""
    chosen = None if scope.whole else await _chosen(conn, scope)
    await _bounded(conn, chosen, most)
    records = await every_record(conn) if chosen is None else await _records(conn, chosen)
    homes = None if chosen is None else sorted(chosen | {state.home for state in records.values()})
    goldens = await every_golden(conn, homes)
    ids = None if chosen is None else sorted(goldens)
    rows = await conn.fetch(
        "select * from hub.conflict where $1::text[] is null or golden_id = any($1) order by id", ids
    )
    return _State(
        records=records,
        goldens=goldens,
        open=[dict(r) for r in rows if r["state"] == "open"],
        known={(r["event_id"], r["field"], r["state"]) for r in rows},
        apart=[(r["one"], r["other"]) for r in await conn.fetch("select one, other from hub.apart")],
        chosen=chosen,
    )


async def _bounded(conn: Connection, chosen: set[str] | None, most: int) -> None:
    count = await conn.fetchval(
        "select count(*) from hub.record where $1::text[] is null or golden_id = any($1)",
        None if chosen is None else sorted(chosen),
    )
    if count > most:
        raise Reject(
            f"{count:,} records are more than the {most:,} that are held in memory at once (some gigabytes for a million): look"
            " at a part (`hub whatif --sample 10000`), or set HUB_WHATIF_RECORDS where there is memory for more",
            "too-many",
        )


async def _records(conn: Connection, golden_ids: Iterable[str]) -> dict[RecordId, RecordState]:
    return {one.id: one for some in (await records_of(conn, golden_ids)).values() for one in some}


async def _load_referenced(conn: Connection, state: _State, projected: Mapping[str, Projected]) -> None:
    """What those in scope refer to, before or after: writes name it by its ids in the target."""
    before = (row[0] for one in state.goldens.values() for row in one.fields.values())
    after = (value for made in projected.values() for value in made.golden.values().values())
    refs = {(v["system"], v["object"], str(v["id"])) for v in (*before, *after) if is_reference(v)}
    rows = await conn.fetch(
        "select distinct golden_id from hub.record join unnest($1::text[], $2::text[], $3::text[])"
        " as k (system, object, external_id) using (system, object, external_id) where golden_id <> ''",
        *([ref[i] for ref in refs] for i in range(3)),
    )
    others = sorted({row["golden_id"] for row in rows} - state.goldens.keys())
    state.goldens |= await every_golden(conn, others)
    state.records |= {id_: one for id_, one in (await _records(conn, others)).items() if id_ not in state.records}


async def _chosen(conn: Connection, scope: Scope) -> set[str]:
    """The golden records in scope; a sample is drawn by a hash of their ids, so that it is the same every time."""
    cursor = conn.cursor(
        "select golden_id from hub.golden g where merged_into is null and ($1::bigint is null and $2::bigint is null"
        " or exists (select from hub.event e join hub.record r using (system, object, external_id)"
        " where r.golden_id = g.golden_id and e.observed_at >= coalesce($1, 0)"
        " and e.observed_at < coalesce($2, 9223372036854775807)))"
        " order by encode(sha256(golden_id::bytea), 'hex') limit $3",
        scope.since, scope.until, scope.sample, prefetch=5_000,
    )  # fmt: skip
    return {row["golden_id"] async for row in cursor}


def _project(found: Outlook, state: _State, new: Model) -> dict[str, Projected]:
    """Every golden record in scope as the new configuration has it."""
    groups: dict[str, list[RecordState]] = {}
    for one in found.reread.records.values():
        if one.golden_id:
            groups.setdefault(one.golden_id, []).append(one)
    projected = {}
    for id_, records in sorted(groups.items()):
        entity = new.entities.get(next((r.entity for r in records if r.id[0] != STEWARD), records[0].entity))
        if entity is not None:
            projected[id_] = project(id_, entity, [r.source for r in records])
    found.looked_at = len(projected)
    return projected


def _compare(found: Outlook, state: _State, new: Model, projected: Mapping[str, Projected]) -> None:
    """Fields, values and identities that differ from what is stored."""
    for id_, made in projected.items():
        stored = state.goldens.get(id_) or GoldenState(id_, made.golden.entity)
        fields = projection.dump(made.golden)
        before = {} if stored.merged_into else {name: row[0] for name, row in stored.fields.items()}
        after = made.golden.values()
        moved = stored.version == 0 or stored.merged_into is not None
        if moved or before != after or stored.deleted != made.golden.deleted:
            found.changed.add(id_)
        if id_ in found.changed or fields != stored.fields:
            found.goldens[id_] = replace(
                stored, fields=fields, deleted=made.golden.deleted, merged_into=None, entity=made.golden.entity
            )
        found.fields += [
            FieldChange(id_, made.golden.entity, n, before.get(n), after.get(n), _rule(made, n))
            for n in sorted(before.keys() | after.keys())
            if before.get(n) != after.get(n)
        ]
    _end(found, state, projected)


def _rule(made: Projected, name: str) -> str:
    return made.golden.fields[name].rule if name in made.golden.fields else ""


def _end(found: Outlook, state: _State, projected: Mapping[str, Projected]) -> None:
    """Golden records that are part of another one now; those that gave or took records get a new version."""
    left = {s.golden_id for i, s in state.records.items() if i in found.reread.records and s.golden_id}
    for id_ in left - projected.keys():
        into = found.regrouped.merged.get(id_) or _heir(found, state, id_)
        stored = state.goldens.get(id_)
        if stored is not None and into is not None and stored.merged_into is None:
            found.goldens[id_] = replace(stored, merged_into=into)
            found.ended.add(id_)
    for id_, into in found.regrouped.merged.items():  # those that were part of something else before
        stored = state.goldens.get(id_)
        if into is not None and stored is not None and stored.merged_into not in (None, into):
            found.goldens[id_] = replace(stored, merged_into=into)
            found.ended.add(id_)
    for place, before in state.records.items():
        after = found.reread.records.get(place)
        if after is not None and after.golden_id != before.golden_id:
            found.changed |= {before.golden_id, after.golden_id} & projected.keys()
    for id_ in found.changed & projected.keys():
        if id_ not in found.goldens:
            found.goldens[id_] = replace(state.goldens[id_])


def _heir(found: Outlook, state: _State, golden_id: str) -> str | None:
    """Where the records of a golden record without any went."""
    gone = (i for i, s in state.records.items() if s.golden_id == golden_id and i in found.reread.records)
    return min({found.reread.records[i].golden_id for i in gone} - {golden_id}, default=None)


def _contest(found: Outlook, state: _State, old: Model, new: Model, projected: Mapping[str, Projected]) -> None:
    """Conflicts that end, and those that begin: where a value changed, or a rule asks a person for the first time."""
    records = found.reread.records
    for row in state.open:
        record = records.get((row["system"], row["object"], row["external_id"]))
        if record is not None and record.golden_id in projected and not _still(new, row, projected[record.golden_id]):
            found.closed.append(row)
    values = {(change.golden_id, change.field) for change in found.fields}
    heard = defaultdict(list)
    for one in records.values():
        if one.golden_id in projected and one.id[0] != STEWARD and new.mapping(*one.id[:2]) is not None:
            heard[one.golden_id].append(one)
    for golden_id, states in heard.items():
        for conflict in conflicts.met(projected[golden_id], states, new.entities):
            new_value = (golden_id, conflict.field) in values
            if (new_value or (conflict.open and not _reviewed(old, conflict))) and not _known(state, conflict):
                found.opened.append(conflict)


def _still(new: Model, row: Mapping[str, Any], projected: Projected) -> bool:
    entity = new.entities.get(projected.golden.entity)
    review = entity is not None and row["field"] in entity.fields and entity.fields[row["field"]].rule.review
    return (row["rule"] == CONTESTED or review) and conflicts.stands(row, projected)


def _reviewed(old: Model, one: Conflict) -> bool:
    entity = old.entities.get(one.entity.name)
    return entity is not None and one.field in entity.fields and entity.fields[one.field].rule.review


def _known(state: _State, one: Conflict) -> bool:
    if one.open:
        return (one.event_id, one.field, "open") in state.known
    return any((one.event_id, one.field, kind) in state.known for kind in ("open", "resolved"))


def _write(found: Outlook, state: _State, old: Model, new: Model, rest: Mapping[RecordId, RecordState]) -> None:
    """The writes of everything that changes; what only its target sees otherwise changes, too."""
    after = _stored(state, found, {**rest, **found.reread.records}, new)
    before = _stored(state, None, state.records, old)
    here = [g for g in after.goldens if state.chosen is None or g in state.chosen or g in found.changed]
    for id_ in sorted(here):
        if id_ in found.changed or id_ in found.ended:
            continue
        if at_once(new, after, id_) != (at_once(old, before, id_) if id_ in before.goldens else set()):
            found.changed.add(id_)
            found.goldens.setdefault(id_, replace(state.goldens[id_]))
    for id_ in found.changed | found.ended:
        found.goldens[id_].version += 1
    after = _stored(state, found, {**rest, **found.reread.records}, new)
    found.foretold = foretell(new, after, sorted(found.changed & after.goldens.keys()))


def _stored(state: _State, found: Outlook | None, records: Mapping[RecordId, RecordState], model: Model) -> Stored:
    """What `preparing` compares, of before or of after."""
    rows = {**state.goldens, **(found.goldens if found else {})}
    goldens: dict[str, tuple[Golden, int]] = {}
    for id_, row in rows.items():
        if row.merged_into is None and row.entity in model.entities:
            goldens[id_] = (projection.load(id_, row.entity, row.fields, row.deleted), row.version)
    by_golden: dict[str, list[RecordState]] = {}
    for one in sorted(records.values(), key=lambda s: s.id):
        by_golden.setdefault(one.golden_id, []).append(one)
    linked = {id_: one.golden_id for id_, one in records.items()}
    return Stored(goldens, by_golden, linked, _reviews(state, found))


def _reviews(state: _State, found: Outlook | None) -> set[tuple[str, str, str, str]]:
    closed = {row["id"] for row in found.closed} if found else set()
    reviews = {(r["system"], r["object"], r["external_id"], r["field"]) for r in state.open if r["id"] not in closed}
    opened: Sequence[Conflict] = found.opened if found else ()
    mine = ((c.candidate, c.field) for c in opened if c.open)
    return reviews | {(m.system, m.object, m.external_id, name) for m, name in mine}


def summary(found: Outlook) -> dict[str, Any]:
    """Counts of everything, for a document or a table."""
    return {
        "events": found.events,
        "golden_records": found.looked_at,
        "changed": len(found.changed),
        "fields": _counts(f"{c.entity}.{c.field}" for c in found.fields),
        "conflicts_opened": sum(c.open for c in found.opened),
        "conflicts_closed": len(found.closed),
        "merged": found.regroups[0],
        "split": found.regroups[1],
        "writes": _counts(f"{w.target}.{w.object} {w.op}" for w in found.writes),
    }


def _counts(names: Iterable[str]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for name in names:
        counted[name] = counted.get(name, 0) + 1
    return dict(sorted(counted.items()))
