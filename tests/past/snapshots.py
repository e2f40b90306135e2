"""Snapshots: what live wrote, copied by triggers in the transaction that wrote it. The oracle of the past."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import orjson

from hub import projection
from streams import past
from streams.past import Past, Then
from streams.steward import SYSTEM
from tests.stages.support import Stages

TRIGGERS = """
create schema if not exists seen;
create table if not exists seen.golden (n bigserial, at bigint, golden_id text, fields jsonb, deleted bool, merged_into text);
create table if not exists seen.record (n bigserial, at bigint, system text, object text, external_id text, golden_id text,
  view jsonb, gone bool);
create or replace function seen.golden() returns trigger language plpgsql as $$ begin
  insert into seen.golden (at, golden_id, fields, deleted, merged_into)
    values (hub.moment(), new.golden_id, new.fields, new.deleted, new.merged_into);
  return null; end $$;
create or replace function seen.record() returns trigger language plpgsql as $$ begin
  insert into seen.record (at, system, object, external_id, golden_id, view, gone)
    values (hub.moment(), new.system, new.object, new.external_id, new.golden_id, new.view, new.gone);
  return null; end $$;
create or replace trigger seen after insert or update on hub.golden for each row execute function seen.golden();
create or replace trigger seen after insert or update on hub.record for each row execute function seen.record();
"""


async def watch(hub: Stages) -> Stages:
    """From here on every golden record and every view is copied whenever it is written."""
    await hub.context.pool.execute(TRIGGERS)
    await hub.context.pool.execute("truncate seen.golden, seen.record")
    return hub


@dataclass(frozen=True)
class Instant:
    """A golden record and an instant, in microseconds since 1970."""

    golden_id: str
    at: int


async def instants(hub: Stages, random: Random, count: int) -> list[Instant]:
    """Golden records that there ever were, each with an instant: at, right before, right after or between transactions."""
    pool = hub.context.pool
    ids = [r[0] for r in await pool.fetch("select distinct golden_id from seen.golden order by 1")]
    times = [r[0] for r in await pool.fetch("select distinct at from seen.golden union select at from seen.record")]
    drawn = [random.choice(times) + random.choice((-1, 0, 0, 1, random.randint(-20_000, 20_000))) for _ in range(count)]
    return [Instant(random.choice(ids), at) for at in drawn]


async def live(hub: Stages, one: Instant) -> dict[str, Any] | None:
    """What live held then: None where there was no such golden record, or it was part of another."""
    row = await hub.context.pool.fetchrow(
        "select fields, deleted, merged_into from seen.golden where golden_id = $1 and at <= $2 order by n desc limit 1",
        one.golden_id, one.at,
    )  # fmt: skip
    if row is None or row["merged_into"]:
        return None
    records = await hub.context.pool.fetch(
        "select * from (select distinct on (system, object, external_id) * from seen.record where at <= $2"
        " order by system, object, external_id, n desc) r where golden_id = $1 and system <> $3 order by 2, 3, 4, 5",
        one.golden_id, one.at, SYSTEM,
    )  # fmt: skip
    return {
        "fields": orjson.loads(row["fields"]),
        "deleted": row["deleted"],
        "records": {(r["system"], r["object"], r["external_id"]): _held(r["view"], r["gone"]) for r in records},
    }


def _held(view: str, gone: bool) -> dict[str, Any]:
    return {**{n: row[0] for n, row in orjson.loads(view).items() if not n.startswith("_")}, "gone": gone}


async def rebuilt(hub: Stages, one: Instant, known: dict[str, Past]) -> dict[str, Any] | None:
    """The same by the index and the log."""
    if one.golden_id not in known:
        known[one.golden_id] = await past.load(hub.context, one.golden_id)
    thing = known[one.golden_id]
    return as_held(await past.fold(hub.context, thing, thing.upto(one.at)), one.golden_id)


def as_held(then: Then, golden_id: str) -> dict[str, Any] | None:
    """A golden record as it was, and what each system held."""
    made = then.golden(golden_id)
    if made is None:
        return None
    return {
        "fields": projection.dump(made.golden),
        "deleted": made.golden.deleted,
        "records": {m.id: _seen(then, m.id) for m in then.members(golden_id) if m.id[0] != SYSTEM},
    }


def _seen(then: Then, id_: tuple[str, str, str]) -> dict[str, Any]:
    state = then.sights.get(id_)
    held = {n: h.value for n, h in state.view.items() if not n.startswith("_")} if state else {}
    return {**held, "gone": bool(state and state.gone)}


async def assert_as_live(hub: Stages, drawn: Sequence[Instant], seed: int) -> int:
    """Every pair as live had it; how many of them were golden records that there were."""
    known: dict[str, Past] = {}
    there = 0
    for one in drawn:
        wrote, found = await live(hub, one), await rebuilt(hub, one, known)
        assert found == wrote, f"seed {seed}: {one}: {_difference(found, wrote)}"
        there += wrote is not None
    return there


def _difference(found: Any, wrote: Any) -> str:
    if found is None or wrote is None:
        return f"rebuilt {'nothing' if found is None else 'one'}, live {'nothing' if wrote is None else 'one'}"
    return "; ".join(
        f"{part}: rebuilt {found[part]}, live {wrote[part]}" for part in found if found[part] != wrote[part]
    )
