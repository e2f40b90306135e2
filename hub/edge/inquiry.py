"""Inquiry: what a person may ask of a running or a stopped hub. Every answer is plain JSON data; see `render` for looks."""

from collections.abc import Sequence
from typing import Any

import asyncpg
import orjson

from hub.entity import Entity
from hub.errors import Reject
from hub.model import Model
from hub.projection import STEWARD, GoldenField, project
from hub.rules import Choice
from hub.values import moment
from streams import quarantine, watch
from streams.audit_store import latest
from streams.context import Context
from streams.ledger import balance, idle
from streams.preparing import Due, prepare
from streams.quarantine import Chosen
from streams.workspace import RecordState, records_of

Json = dict[str, Any]


async def find(context: Context, entity: str, name: str) -> str:
    """The golden id that `name` means: a golden id, `system:id`, `system/object/id`, or a match key such as an e-mail.
    Raises Reject when there is none, or more than one."""
    rows = await context.pool.fetch(FIND, entity, name, *_record_name(name)) if _may_exist(entity, name) else []
    found = sorted({row["golden_id"] for row in rows})
    if not found:
        raise Reject(f"no {entity} {name!r}: give a golden id, system:id, system/object/id or an e-mail", "unknown")
    if len(found) > 1:
        raise Reject(f"{name!r} means {len(found)} of them: {', '.join(found[:5])}", "ambiguous")
    return await _alive(context, str(found[0]))


FIND = """
select golden_id from hub.golden where entity = $1 and golden_id = $2
union select golden_id from hub.match_key where entity = $1 and kind <> 'record' and value = lower($2)
union select golden_id from hub.record where entity = $1 and system = $3 and external_id = $5 and ($4 = '' or object = $4)
  and golden_id <> ''
"""


async def named(context: Context, entity: str, name: str) -> list[str]:
    """The golden ids that `name` may mean, as they were before any merge. Raises Reject when there is none."""
    rows = await context.pool.fetch(NAMED, entity, name, *_record_name(name)) if _may_exist(entity, name) else []
    if not rows:
        raise Reject(f"no {entity} {name!r}: give a golden id, system:id, system/object/id or an e-mail", "unknown")
    return sorted(row["golden_id"] for row in rows)


NAMED = FIND.replace("union select golden_id from hub.record", "union select home from hub.record")


def _may_exist(*names: str) -> bool:
    """Whether the database can hold such texts at all."""
    return not any("\x00" in name or any("\ud800" <= char <= "\udfff" for char in name) for name in names)


def _record_name(name: str) -> tuple[str, str, str]:
    if name.count("/") >= 2:
        system, object_, external_id = name.split("/", 2)
        return system, object_, external_id
    system, _, external_id = name.partition(":")
    return system, "", external_id


async def _alive(context: Context, golden_id: str) -> str:
    while into := await context.pool.fetchval("select merged_into from hub.golden where golden_id = $1", golden_id):
        golden_id = str(into)
    return golden_id


async def show(context: Context, entity: str, name: str) -> Json:
    """The golden record with provenance, its records in every system, and what is still on its way."""
    golden_id = await find(context, entity, name)
    row = await context.pool.fetchrow("select * from hub.golden where golden_id = $1", golden_id)
    assert row is not None
    fields = {name: GoldenField(*stored) for name, stored in orjson.loads(row["fields"]).items()}
    async with context.pool.acquire() as conn:
        records = (await records_of(conn, [golden_id])).get(golden_id, [])
    waiting = await context.pool.fetch(
        "select target, state, reason, waits_for from hub.write where golden_id = $1 order by target", golden_id
    )
    return {
        "golden_id": golden_id,
        "entity": entity,
        "version": row["version"],
        "deleted": row["deleted"],
        "updated_at": row["updated_at"].isoformat(),
        "fields": {name: field_told(f) for name, f in fields.items()},
        "records": [_record(r) for r in records if r.id[0] != STEWARD],
        "waiting": [dict(w) for w in waiting],
    }


def field_told(field: GoldenField) -> Json:
    """A golden field with its provenance."""
    said = {"value": field.value, "rule": field.rule, "system": field.system, "external_id": field.external_id}
    when = {"at": moment(field.at)} if field.at else {}
    return said | when | {"event_id": field.event_id, "rule_version": field.rule_version, "pinned_by": field.pinned_by}


def _record(state: RecordState) -> Json:
    return {
        "system": state.id[0],
        "object": state.id[1],
        "external_id": state.id[2],
        "gone": state.gone,
        "holds": {name: held.value for name, held in sorted(state.view.items()) if not name.startswith("_")},
    }


async def why(context: Context, entity: str, name: str, field: str) -> Json:
    """Why a field has its value: the winning event with where its payload stands, the losers with the reason each lost,
    the rule and its version, and any pin. Computed anew from the claims, so that it cannot drift from the rules."""
    definition = entity_with(context.model, entity, field)
    golden_id = await find(context, entity, name)
    async with context.pool.acquire() as conn:
        records = (await records_of(conn, [golden_id])).get(golden_id, [])
    return await explain(context, definition, golden_id, records, field)


async def explain(
    context: Context, definition: Entity, golden_id: str, records: Sequence[RecordState], field: str
) -> Json:
    """The same for the records of a golden record as they are given."""
    projected = project(golden_id, definition, [r.source for r in records])
    choice = projected.choices.get(field)
    stored = projected.golden.fields.get(field)
    return {
        "golden_id": golden_id,
        "field": field,
        "known": stored is not None,
        "value": stored.value if stored else None,
        "rule": choice.rule if choice else str(definition.fields[field].rule),
        "rule_version": definition.version,
        "pin": _pin(records, field),
        "winner": await _winner(context, choice, stored),
        "losers": await _losers(context, choice),
        "problems": list(projected.problems),
    }


def entity_with(model: Model, entity: str, field: str) -> Entity:
    """The configured entity. Raises Reject where there is none, or where it has no such field."""
    definition = model.entities.get(entity)
    if definition is None:
        raise Reject(f"no entity {entity!r}; there are {', '.join(sorted(model.entities))}", "unknown")
    if field not in definition.fields:
        raise Reject(f"{entity} has no field {field!r}; it has {', '.join(sorted(definition.fields))}", "unknown")
    return definition


def _pin(records: Sequence[RecordState], field: str) -> Json | None:
    for record in records:
        claim = record.claims.get(field) if record.id[0] == STEWARD else None
        if claim is not None and claim.value is not None:
            return {**claim.value, "event_id": claim.clock.event_id}
    return None


async def _winner(context: Context, choice: Choice | None, stored: GoldenField | None) -> Json | None:
    if choice is None or stored is None:
        return None
    if choice.winner is None:
        return {"system": stored.system or "", "event_id": stored.event_id, **await _where(context, stored.event_id)}
    claim = choice.winner.claim
    return {
        "system": choice.winner.system,
        "object": choice.winner.object,
        "external_id": choice.winner.external_id,
        "at": moment(claim.at),
        "event_id": claim.clock.event_id,
        **await _where(context, claim.clock.event_id),
    }


async def _losers(context: Context, choice: Choice | None) -> list[Json]:
    return [
        {
            "system": candidate.system,
            "object": candidate.object,
            "external_id": candidate.external_id,
            "value": candidate.claim.value,
            "at": moment(candidate.claim.at),
            "reason": reason,
            "event_id": candidate.claim.clock.event_id,
            **await _where(context, candidate.claim.clock.event_id),
        }
        for candidate, reason in (choice.losers if choice else ())
    ]


async def _where(context: Context, event_id: str) -> Json:
    """Where an event's payload stands on the log."""
    row = await context.pool.fetchrow('select topic, partition, "offset" from hub.event where event_id = $1', event_id)
    return {"payload": f"{row['topic']}/{row['partition']}@{row['offset']}"} if row else {}


async def conflicts(context: Context, state: str | None = None, limit: int = 100) -> list[Json]:
    """Conflicts, newest first: both sides, the base, and how they were resolved."""
    rows = await context.pool.fetch(
        "select * from hub.conflict where ($1::text is null or state = $1) order by id desc limit $2", state, limit
    )
    return [_decoded(row, ("value", "base", "golden")) for row in rows]


async def parked(context: Context, limit: int = 100, fingerprint: str = "") -> list[Json]:
    """What waits for a person: records of the log that could not be processed, and writes that were refused."""
    async with context.pool.acquire() as conn:
        events, writes = await quarantine.find(conn, Chosen(fingerprint=fingerprint), limit)
    return [_set_aside("event", row) for row in events] + [_set_aside("write", row) for row in writes]


async def parked_one(context: Context, name: str) -> Json:
    """One of them, whole: an event with what it holds, a write with what is to be written. Raises Reject for no such."""
    async with context.pool.acquire() as conn:
        events, writes = await quarantine.find(conn, Chosen([name]))
        for row in events:
            return {**_set_aside("event", row), "content": await quarantine.content(context, row)}
        for row in writes:
            due = Due(row["target"], row["golden_id"], row["entity"], row["version"], row["attempts"], None)
            (prepared,) = await prepare(conn, context.model, [due])
            values = [{"object": w.object, "op": w.op, "id": w.external_id, **w.values} for w in prepared.writes]
            return {**_set_aside("write", row), "content": values}
    raise Reject(f"nothing is parked as {name!r}: see `hub parked`", "unknown")


def _set_aside(kind: str, row: asyncpg.Record) -> Json:
    told = {name: value for name, value in _decoded(row, ()).items() if name not in ("payload", "key")}
    return {"kind": kind, "name": quarantine.name_of(row), **told}


async def status(context: Context) -> Json:
    """How the hub fares: lag per stage, queue per target, sources, pauses, open circuits, ledger."""
    now = await idle(context)
    ledger = await balance(context)
    queue = await context.pool.fetch("select target, state, count(*) as n from hub.write group by 1, 2 order by 1, 2")
    sources = await context.pool.fetch(
        "select system, stream, complete, changes, polled_at, error, error_since from hub.checkpoint order by 1, 2"
    )
    pauses = await context.pool.fetch("select target, reason, since from hub.pause order by 1")
    circuits = await context.pool.fetch(
        "select target, reason, failures, opened_at, probe_at from hub.breaker where opened_at is not null order by 1"
    )
    golden = await context.pool.fetch(
        "select entity, count(*) as n from hub.golden where merged_into is null and not deleted group by 1 order by 1"
    )
    return {
        "idle": now.done,
        "lag": now.lag,
        "unread": now.unread,
        "golden": {r["entity"]: r["n"] for r in golden},
        "queue": [dict(r) for r in queue],
        "sources": [_decoded(r, ()) for r in sources],
        "paused": [_decoded(r, ()) for r in pauses],
        "audits": [
            {n: v.isoformat() if hasattr(v, "isoformat") else v for n, v in r.items()} for r in await latest(context)
        ],
        "open": [_decoded(r, ()) for r in circuits],
        "unaccounted": ledger.unaccounted,
        "trouble": [{"fault": f.kind.name, "subject": f.subject, "what": str(f)} for f in await watch.look(context)],
    }


def _decoded(row: asyncpg.Record, json_columns: Sequence[str]) -> Json:
    """A row as JSON data: stored JSON parsed, times as text."""
    plain = {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in dict(row).items()}
    return {n: orjson.loads(v) if n in json_columns and v is not None else v for n, v in plain.items()}
