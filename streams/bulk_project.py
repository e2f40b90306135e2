"""Bulk projection: golden records of many things, by the rules that look at one field's claims only as orders of columns.

`truth`, `latest` and `oldest` pick one claim by an order, so all claims on such a field are sorted at once. Every other rule,
pinned things and those with a deleted record are projected by `hub.projection`, as ever: the former for their own fields
only.
"""

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import orjson
import polars as pl

from hub import fold, projection
from hub.entity import Entity, Field
from hub.fold import Claims, field_of
from hub.projection import STEWARD, Source, project
from streams.bulk_text import key, objects, quoted

CLAIM = ("value", "at", "observed_at", "event_id")
"""A claim as a rule looks at it: its value as JSON, when it was said and seen (microseconds), and by which event."""
GOLDEN = ("golden_id", "entity", "fields", "deleted")
"""A golden record as `Projector.golden` tells it: texts, the fields as JSON, and whether it is deleted as t or f."""
THING = ("golden_id", "system", "object", "external_id")


class By(NamedTuple):
    """One column of an order."""

    what: pl.Expr
    descending: bool = False


def column(name: str) -> str:
    """The column in which the claims on a field stand, apart from what else is told of a record."""
    return f":{name}"


def simple(definition: Field) -> bool:
    """Whether the field's claims bear its own name only, and its rule is an order of them."""
    return definition.rule.kind in ORDERS and definition.kind not in ("consent", "json")


class Projector:
    """Projects things of one entity."""

    def __init__(self, entity: Entity) -> None:
        self.entity = entity
        self.simple = [f for f in entity.fields.values() if simple(f)]
        self.rest = _rest(entity, [f.name for f in self.simple])

    def golden(self, records: pl.DataFrame) -> pl.DataFrame:
        """The golden records (see GOLDEN) of these records: of each its THING, `claims` as JSON, whether it is `gone`, and
        where there are any the simple fields' claims as structs. All records of a thing must be there."""
        odd = records.filter((pl.col("system") == STEWARD) | pl.col("gone")).select("golden_id").unique()
        plain = records.join(odd, on="golden_id", how="anti")
        return pl.concat([self._plain(plain), self._odd(records.join(odd, on="golden_id", how="semi"))])

    def _odd(self, records: pl.DataFrame) -> pl.DataFrame:
        made = [project(golden_id, self.entity, sources).golden for golden_id, sources in _things(records)]
        rows = [
            (one.golden_id, one.entity, orjson.dumps(projection.dump(one)).decode(), "tf"[not one.deleted])
            for one in made
        ]
        return pl.DataFrame(rows, schema=dict.fromkeys(GOLDEN, pl.String), orient="row")

    def _plain(self, records: pl.DataFrame) -> pl.DataFrame:
        ordered = records.sort(THING).with_row_index("place").with_columns(thing=pl.col("golden_id").rle_id())
        things = ordered.filter(pl.col("thing").is_first_distinct()).select("golden_id")
        known = [f for f in self.simple if column(f.name) in ordered.columns]
        members = [self._members(f, ordered, things.height) for f in known] + self._others(ordered)
        fields = objects(pl.DataFrame(members)) if members else pl.repeat("{}", things.height, eager=True)
        told = {"entity": pl.lit(self.entity.name), "fields": fields, "deleted": pl.lit("f")}
        return things.with_columns(**told).select(GOLDEN)

    def _members(self, definition: Field, ordered: pl.DataFrame, count: int) -> pl.Series:
        """Value and provenance of one field, as GoldenField stores them, of each thing; null where nothing is claimed."""
        claims = ordered.select(
            "thing", "place", "system", "external_id", pl.col(column(definition.name)).struct.unnest()
        )
        won = _winners(definition, claims.filter(pl.col("value").is_not_null()))
        name, rule = definition.name, orjson.dumps([str(definition.rule), self.entity.version, ""]).decode()
        said = [pl.lit(quoted(won[who])) for who in ("event_id", "system", "external_id")]
        text = pl.concat_str(pl.lit(f"{key(name)}[") + pl.col("value"), *said, "at", pl.lit(rule[1:]), separator=",")
        members = won.select("thing", text.alias(name))
        if won.height < count:
            things = pl.DataFrame({"thing": pl.arange(count, dtype=pl.UInt32, eager=True)})
            members = things.join(members, on="thing", how="left", maintain_order="left")
        return members[name]

    def _others(self, ordered: pl.DataFrame) -> list[pl.Series]:
        """The fields with all other rules."""
        if self.rest is None:
            return []
        names = sorted(self.entity.fields.keys() - {f.name for f in self.simple})
        made = [projection.dump(project(golden_id, self.rest, sources).golden)
                for golden_id, sources in _things(ordered, self.rest)]  # fmt: skip
        return [pl.Series(name, [_member(name, one) for one in made], dtype=pl.String) for name in names]


def _member(name: str, fields: dict[str, list[object]]) -> str | None:
    return key(name) + orjson.dumps(fields[name]).decode() if name in fields else None


def _things(records: pl.DataFrame, only: Entity | None = None) -> Iterator[tuple[str, list[Source]]]:
    """Each thing with its records; with `only`, their claims on that entity's fields."""
    sources: dict[str, list[Source]] = {}
    for golden_id, system, object_, external_id, text in records.select(*THING, "claims").iter_rows():
        said: Claims = fold.load(
            {n: claim for n, claim in orjson.loads(text).items() if only is None or field_of(n) in only.fields}
        )
        sources.setdefault(golden_id, []).append(Source(system, object_, external_id, said))
    return iter(sources.items())


def _winners(definition: Field, claims: pl.DataFrame) -> pl.DataFrame:
    """Of each thing the claim that comes first in the rule's order."""
    if claims["thing"].is_sorted() and not claims["thing"].is_duplicated().any():
        return claims
    order = [By(pl.col("thing")), *ORDERS[definition.rule.kind](definition)]
    ordered = claims.sort([by.what for by in order], descending=[by.descending for by in order])
    return ordered.filter(pl.col("thing").is_first_distinct())


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


RECENCY = ("at", "observed_at", "event_id")


def _newest_first() -> list[By]:
    """By when it was said; of equal ones that of the first record."""
    return [*(By(pl.col(name), descending=True) for name in RECENCY), By(pl.col("place"))]


def _latest(definition: Field) -> list[By]:
    """The newest claim."""
    return _newest_first()


def _oldest(definition: Field) -> list[By]:
    """The oldest claim that knows a value, or the oldest; of equal ones that of the last record."""
    return [By(_unknown()), *(By(pl.col(name)) for name in RECENCY), By(pl.col("place"), descending=True)]


def _truth(definition: Field) -> list[By]:
    """Of the claims that know a value, or of all, the newest of the first system in order."""
    ranks = {system: rank for rank, system in enumerate(definition.rule.systems)}
    rank = pl.col("system").replace_strict(ranks, default=len(ranks), return_dtype=pl.UInt32)
    return [By(_unknown()), *([By(rank)] if ranks else []), *_newest_first()]


def _unknown() -> pl.Expr:
    return pl.col("value") == "null"


ORDERS: dict[str, Callable[[Field], list[By]]] = {"latest": _latest, "oldest": _oldest, "truth": _truth}
