"""Conflicts: claims that lost against differing ones, with both sides and the base, resolved by the rule or left open."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson

from hub.entity import Entity
from hub.fold import field_of
from hub.identity import RecordId
from hub.projection import Projected, differs
from hub.rules import Candidate, Choice
from hub.values import Value
from streams import metrics
from streams.context import Context
from streams.log_postgres import Connection
from streams.reading import Reading
from streams.records import NewRecord
from streams.topics import CONFLICTS
from streams.workspace import RecordState


@dataclass(frozen=True, slots=True)
class Conflict:
    """A claim that lost against a differing one; `base` is what its system held before, None where that is not known.

    A `contested` one may have won: its record keeps putting other content in place of what the hub writes.
    """

    golden_id: str
    entity: Entity
    field: str
    candidate: Candidate
    choice: Choice
    base: Value = None
    contested: bool = False

    @property
    def event_id(self) -> str:
        """The event that made the losing claim."""
        return self.candidate.claim.clock.event_id

    @property
    def open(self) -> bool:
        """Whether a person must look at it: the rule says so, and none has decided yet."""
        if self.contested:
            return True
        return self.entity.fields[self.field].rule.review and self.choice.rule != PINNED

    @property
    def rule(self) -> str:
        """The rule that chose, or that the field is contested."""
        return CONTESTED if self.contested else self.choice.rule


PINNED = "pin"
CONTESTED = "contested"


def find(
    by_golden: Mapping[str, Sequence[Reading]],
    projected: Mapping[str, Projected],
    joined: Mapping[str, Sequence[RecordState]],
    entities: Mapping[str, Entity],
) -> list[Conflict]:
    """The conflicts that these readings bring about. `joined` are the golden records that have just got a record or
    another golden record: there every value that a record still holds against the golden one counts, whoever came last."""
    found = []
    for golden_id, readings in by_golden.items():
        for reading in readings if golden_id in projected else ():
            contested = _contested(golden_id, reading, projected[golden_id])
            names = {c.field for c in contested}
            found += contested
            found += [c for c in _of(golden_id, reading, projected[golden_id]) if c.field not in names]
    known = {(c.event_id, c.field) for c in found}
    for golden_id, states in joined.items():
        against = met(projected[golden_id], states, entities)
        found += [c for c in against if (c.event_id, c.field) not in known]
    return found


def _of(golden_id: str, reading: Reading, projected: Projected) -> list[Conflict]:
    entity, event_id = reading.mapping.entity, reading.event.event_id
    found = []
    for name in reading.said:
        choice = projected.choices.get(name)
        if choice is None or not choice.losers or entity.fields[name].kind == "ref":
            continue  # references of two systems are the same thing under two names; they are compared when written
        for mine, _ in choice.losers:
            if mine.claim.clock.event_id == event_id and _is(mine, reading):
                break
        else:
            continue
        if differs(choice, mine):
            base = reading.decision.bases.get(name) if reading.decision else None
            found.append(Conflict(golden_id, entity, name, mine, choice, base))
    return found


def _contested(golden_id: str, reading: Reading, projected: Projected) -> list[Conflict]:
    """The fields that a record and the rest of the hub's world write to and fro, whoever won just now."""
    found = []
    decision = reading.decision
    for name in decision.contested if decision else ():
        choice, claim = projected.choices.get(name), reading.state.claims.get(name)
        if decision and choice is not None and claim is not None:
            mine, base = Candidate(*reading.state.id, claim), decision.bases.get(name)
            found.append(Conflict(golden_id, reading.mapping.entity, name, mine, choice, base, contested=True))
    return found


def met(projected: Projected, states: Iterable[RecordState], entities: Mapping[str, Entity]) -> list[Conflict]:
    """The values of these records of one golden record that lost, as far as they still hold them."""
    golden_id, lost = projected.golden.golden_id, _losers(projected)
    return [
        conflict
        for state in states
        for conflict in _still_held(golden_id, entities[state.entity], state, lost.get(state.id, ()))
    ]


def _losers(projected: Projected) -> dict[RecordId, list[tuple[str, Candidate, Choice]]]:
    """Of each record its claims that lost, by field, and against which choice."""
    lost: dict[RecordId, list[tuple[str, Candidate, Choice]]] = {}
    for name, choice in projected.choices.items():
        for one, _ in choice.losers:
            lost.setdefault((one.system, one.object, one.external_id), []).append((name, one, choice))
    return lost


def _still_held(
    golden_id: str, entity: Entity, state: RecordState, lost: Iterable[tuple[str, Candidate, Choice]]
) -> list[Conflict]:
    found = []
    for name, mine, choice in lost:
        held = state.view.get(name)
        if held is None or held.ours or held.value != mine.claim.value or entity.fields[name].kind == "ref":
            continue
        if differs(choice, mine):
            found.append(Conflict(golden_id, entity, name, mine, choice))
    return found


def _is(candidate: Candidate, reading: Reading) -> bool:
    return (candidate.system, candidate.object, candidate.external_id) == reading.event.record


async def store(
    context: Context, conn: Connection, found: Sequence[Conflict], projected: Mapping[str, Projected]
) -> list[NewRecord]:
    """Keep new conflicts, close open ones that are none any longer; returns the events of it."""
    await _close(conn, projected)
    if not found:
        return []
    rows = [row_of(c) for c in found]
    for of, amount in Counter((str(row["entity"]), str(row["state"])) for row in rows).items():
        metrics.count(metrics.CONFLICTS, *of, by=amount)
    await conn.execute(
        "insert into hub.conflict (golden_id, entity, field, event_id, system, object, external_id, value, base, golden,"
        " winner_event_id, rule, state) select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[],"
        " $6::text[], $7::text[], $8::jsonb[], $9::jsonb[], $10::jsonb[], $11::text[], $12::text[], $13::text[])"
        " on conflict (event_id, field) do nothing",
        *([v.decode() if isinstance(v := row[name], bytes) else v for row in rows] for name in rows[0]),
    )
    return [
        NewRecord(CONFLICTS.name, str(row["golden_id"]).encode(), context.codec.encode("conflict", row)) for row in rows
    ]


def row_of(conflict: Conflict) -> dict[str, object]:
    """A conflict as it is stored, and as its event tells it."""
    mine, winner = conflict.candidate, conflict.choice.winner
    return {
        "golden_id": conflict.golden_id, "entity": conflict.entity.name, "field": conflict.field,
        "event_id": conflict.event_id, "system": mine.system, "object": mine.object, "external_id": mine.external_id,
        "value": orjson.dumps(mine.claim.value), "base": orjson.dumps(conflict.base),
        "golden": orjson.dumps(conflict.choice.value), "winner_event_id": winner.claim.clock.event_id if winner else "",
        "rule": conflict.rule, "state": "open" if conflict.open else "resolved",
    }  # fmt: skip


async def _close(conn: Connection, projected: Mapping[str, Projected]) -> None:
    """An open conflict ends when its claim is no longer a differing loser: agreed on, replaced, or pinned. A contested
    field waits for a person's word."""
    rows = await conn.fetch(
        "select id, golden_id, field, event_id, rule from hub.conflict where state = 'open' and golden_id = any($1)",
        list(projected),
    )
    over = [row["id"] for row in rows if not stands(row, projected[row["golden_id"]])]
    if over:
        await conn.execute("update hub.conflict set state = 'resolved' where id = any($1::bigint[])", over)


def stands(row: asyncpg.Record | Mapping[str, Any], projected: Projected) -> bool:
    """Whether an open conflict is one still."""
    if row["rule"] == CONTESTED:
        return True
    choice = projected.choices.get(field_of(row["field"]))
    if choice is None or choice.rule == PINNED:
        return False
    return any(c.claim.clock.event_id == row["event_id"] and differs(choice, c) for c, _ in choice.losers)


async def under_review(conn: Connection, golden_ids: Sequence[str]) -> set[tuple[str, str, str, str]]:
    """(system, object, external id, field) of open conflicts: there the target's own value stays untouched."""
    rows = await conn.fetch(
        "select system, object, external_id, field from hub.conflict where state = 'open' and golden_id = any($1)",
        list(golden_ids),
    )
    return {(r["system"], r["object"], r["external_id"], r["field"]) for r in rows}
