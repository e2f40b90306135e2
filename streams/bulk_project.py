"""Bulk projection: golden records of many things, by the rules that look at one field's claims only in a few comparisons.

`truth`, `latest` and `oldest` pick one claim by an order, so they are compiled into one. Every other rule, pinned things and
those with a deleted record are projected by `hub.projection`, as ever: the former for their own fields only.
"""

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from hub import fold, projection
from hub.entity import Entity, Field
from hub.fold import DELETED
from hub.projection import STEWARD, Source, project
from streams.bulk_fold import Folded

Golden = tuple[str, str, str, bool]
"""(golden id, entity, fields as JSON, deleted)."""
Pick = Callable[[Sequence[tuple[str, Any]]], int]
VALUE, AT, _, OBSERVED, EVENT_ID = range(5)


class Projector:
    """Projects things of one entity."""

    def __init__(self, entity: Entity) -> None:
        self.entity = entity
        self.picks = {f.name: (_pick(f), str(f.rule)) for f in entity.fields.values() if _simple(f)}
        self.rest = _rest(entity, self.picks.keys())

    def golden(self, golden_id: str, records: Sequence[Folded]) -> Golden:
        """The golden record of these records, which are all of one thing."""
        if any(_odd(record) for record in records):
            return dump(golden_id, self.entity, records)
        ordered = sorted(records, key=lambda r: (r.system, r.object, r.external_id))
        fields = {name: row for name in self.picks if (row := self._field(name, ordered))}
        if self.rest:
            made = project(golden_id, self.rest, [_source(r) for r in ordered]).golden
            fields |= {n: row for n, row in projection.dump(made).items() if n not in self.picks}
        return (golden_id, self.entity.name, orjson.dumps(fields, option=orjson.OPT_SORT_KEYS).decode(), False)

    def _field(self, name: str, records: Sequence[Folded]) -> list[Any] | None:
        """Value and provenance, as GoldenField stores them."""
        claims = [(record.system, claim) for record in records if (claim := record.claims.get(name))]
        if not claims:
            return None
        pick, rule = self.picks[name]
        place = pick(claims) if len(claims) > 1 else 0
        system, won = claims[place]
        id_ = [r.external_id for r in records if name in r.claims][place]
        return [won[VALUE], won[EVENT_ID], system, id_, won[AT], rule, self.entity.version, ""]


def dump(golden_id: str, entity: Entity, records: Iterable[Folded]) -> Golden:
    """The same, by `hub.projection` alone."""
    made = project(golden_id, entity, [_source(r) for r in records]).golden
    return (golden_id, entity.name, orjson.dumps(projection.dump(made)).decode(), made.deleted)


def _source(record: Folded) -> Source:
    return Source(record.system, record.object, record.external_id, fold.load(record.claims))


def _odd(record: Folded) -> bool:
    gone = record.claims.get(DELETED)
    return record.system == STEWARD or bool(gone and gone[VALUE])


def _simple(definition: Field) -> bool:
    """Whether the field's claims bear its own name only, and its rule is an order of them."""
    return definition.rule.kind in ORDERS and definition.kind not in ("consent", "json")


def _rest(entity: Entity, simple: Iterable[str]) -> Entity | None:
    """The entity with the other fields only, and those that their rules look at."""
    wanted = {name for name in entity.fields if name not in set(simple)}
    if not wanted:
        return None
    while more := {seen for name in wanted for seen in _looks_at(entity.fields[name])} & entity.fields.keys() - wanted:
        wanted |= more
    return replace(entity, fields={name: f for name, f in entity.fields.items() if name in wanted})


def _looks_at(definition: Field) -> set[str]:
    """Names of other fields that a rule may look at."""
    if definition.rule.kind == "follow":
        return {definition.rule.field}
    if definition.rule.kind != "expression":
        return set()
    return {node.id for node in ast.walk(ast.parse(definition.rule.expression.strip())) if isinstance(node, ast.Name)}


def _recency(claim: Sequence[Any]) -> tuple[int, int, str]:
    return (claim[AT], claim[OBSERVED], claim[EVENT_ID])


def _latest(definition: Field) -> Pick:
    """The newest claim; of equal ones that of the first record."""
    return lambda claims: max(range(len(claims)), key=lambda i: (_recency(claims[i][1]), -i))


def _oldest(definition: Field) -> Pick:
    """The oldest claim that knows a value, or the oldest; of equal ones that of the last record."""
    return lambda claims: min(range(len(claims)), key=lambda i: (_unknown(claims[i][1]), _recency(claims[i][1]), -i))


def _truth(definition: Field) -> Pick:
    """Of the claims that know a value, or of all, the newest of the first system in order."""
    rank: Mapping[str, int] = {system: place for place, system in enumerate(definition.rule.systems)}

    def pick(claims: Sequence[tuple[str, Any]]) -> int:
        best = min((_unknown(claim), rank.get(system, len(rank))) for system, claim in claims)
        among = [i for i, (s, c) in enumerate(claims) if (_unknown(c), rank.get(s, len(rank))) == best]
        return among[0] if len(among) == 1 else max(among, key=lambda i: (_recency(claims[i][1]), -i))

    return pick


def _unknown(claim: Sequence[Any]) -> bool:
    return claim[VALUE] is None


ORDERS: dict[str, Callable[[Field], Pick]] = {"latest": _latest, "oldest": _oldest, "truth": _truth}


def _pick(definition: Field) -> Pick:
    return ORDERS[definition.rule.kind](definition)
