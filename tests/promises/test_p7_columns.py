"""P7 in bulk: columns, arg-max and compiled rules give the very bytes that event by event gives, for every kind of rule."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec
import orjson
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from hub import fold, projection
from hub.entity import Entity, Field
from hub.event import Event
from hub.fold import DELETED, Claim, Claims
from hub.mapping import FieldMap, ObjectMap
from hub.model import Model
from hub.projection import STEWARD, Source, project
from hub.rules import Rule
from streams import bulk_fold, bulk_project, shadow
from streams.bulk_fold import fold_bucket
from streams.bulk_project import CLAIM, Projector, column, simple
from streams.bulk_spill import EVENT, RECORD, Spill
from streams.context import Context
from tests.nouns.strategies import ENTITY, RECORDS, VALUES, Said, folded, histories
from tests.promises.mutations import broken, mutation

EXAMPLES = settings(max_examples=150, deadline=None)
FOLDS = settings(max_examples=60, deadline=None)
KINDS = ("truth", "latest", "oldest", "most_common")
pins = st.dictionaries(st.sampled_from(("truth", "made", "oldest")), st.sampled_from(("Pinned", None)), max_size=2)


@st.composite
def entities(draw: st.DrawFn) -> Entity:
    """The entity with every kind of rule, its plain fields in any kind and order of systems."""
    fields = dict(ENTITY.fields)
    for name in ("truth", "latest", "oldest", "common"):
        order = tuple(draw(st.permutations(("crm", "shop", "news")))[: draw(st.integers(0, 3))])
        rule = Rule(draw(st.sampled_from(KINDS)), order)
        fields[name] = Field(name, "text", rule)
    return replace(ENTITY, fields=fields)


def records_of(history: list[Said], pinned: dict[str, Any]) -> list[Source]:
    """The records of a thing, with pins on it."""
    records = [Source(*record, claims) for record, claims in folded(history).items()]
    held: Claims = {n: _pin(n, value) for n, value in pinned.items()}
    return [*records, Source(STEWARD, "stewardship", "t", held)] if pinned else records


def _pin(name: str, value: Any) -> Claim:
    said = value and {"value": value, "author": "ann", "reason": "", "expires_at": None}
    return fold.load({name: [said, 5, 5, 5, f"pin-{name}"]})[name]


def in_columns(entity: Entity, records: list[Source]) -> pl.DataFrame:
    """The records as the bulk fold gives them, in an order of its own."""
    simples = [f.name for f in entity.fields.values() if simple(f)]
    rows = [
        {"golden_id": "t", "system": r.system, "object": r.object, "external_id": r.external_id, "gone": r.deleted,
         "claims": orjson.dumps(fold.dump(r.claims)).decode(), **{column(n): _claim(r.claims.get(n)) for n in simples}}
        for r in reversed(records)
    ]  # fmt: skip
    claim = pl.Struct(dict(zip(CLAIM, (pl.String, pl.Int64, pl.Int64, pl.String), strict=True)))
    texts = dict.fromkeys(("golden_id", *RECORD, "claims"), pl.String)
    schema: dict[str, Any] = {**texts, "gone": pl.Boolean, **{column(n): claim for n in simples}}
    return pl.DataFrame(rows, schema=schema)


def _claim(claim: Claim | None) -> dict[str, Any]:
    if claim is None:
        return dict.fromkeys(CLAIM)
    told = (orjson.dumps(claim.value).decode(), claim.at, claim.clock.observed, claim.clock.event_id)
    return dict(zip(CLAIM, told, strict=True))


def check_projection(entity: Entity, records: list[Source]) -> None:
    """The rules as orders of columns choose what the rules choose."""
    rows = Projector(entity).golden(in_columns(entity, records)).rows()
    made = project("t", entity, records).golden
    by_rules = [("t", entity.name, _canonical(projection.dump(made)), "t" if made.deleted else "f")] if records else []
    assert [(*row[:2], _canonical(orjson.loads(row[2])), row[3]) for row in rows] == by_rules


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


@EXAMPLES
@given(entities(), histories(), pins)
def test_compiled_rules_choose_the_same(entity: Entity, history: list[Said], pinned: dict[str, Any]) -> None:
    check_projection(entity, records_of(history, pinned))


def test_the_check_of_rules_fails_without_their_order() -> None:
    claims = [{"truth": Claim(value, at, clock(at))} for value, at in (("old", 1), ("new", 2))]
    records = [Source("crm", "o", str(n), one) for n, one in enumerate(claims)]
    check_projection(ENTITY, records)
    with mutation(bulk_project, "RECENCY", ()), broken("a rule that forgets which claim is newer"):
        check_projection(ENTITY, records)


def clock(at: int) -> Any:
    """A clock at a time."""
    return fold.Clock(at, at, f"e{at}")


MAPS = {
    (system, "o"): ObjectMap(system, "o", ENTITY, tuple(FieldMap(n, (n,)) for n in VALUES if n != DELETED))
    for system in ("crm", "shop", "news")
}
MODEL = Model({"thing": ENTITY}, MAPS, "1")
Log = list[tuple[Event, frozenset[str]]]


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Events as they stand on the log, some twice, some deletes and vendors' merges, each with what it did not say."""
    log: Log = []
    for n, one in enumerate(draw(histories())):
        op = draw(st.sampled_from(("upsert", "upsert", "upsert", "delete", "merge")))
        others = [r[2] for r in RECORDS if r[0] == one.record[0] and r != one.record]
        payload = orjson.dumps({k: v for k, v in one.values.items() if k != DELETED})
        merged = tuple(others[: op == "merge"])
        observed = one.clock.observed
        event = Event(f"e{n}", *one.record, op, one.clock.order, one.at, observed, "poll", payload, merged=merged)
        log.append((event, frozenset(draw(st.sets(st.sampled_from(sorted(VALUES)), max_size=3)))))
        if draw(st.booleans()):
            log.append(
                (
                    msgspec.structs.replace(event, observed_at=observed + draw(st.integers(0, 3)), channel="webhook"),
                    log[-1][1],
                )
            )
    return log


def by_event(log: Log, model: Model) -> dict[tuple[str, str, str], Any]:
    """The claims, event by event."""
    nothing = cast(Any, None)
    context, built = Context(model, nothing, nothing, nothing), shadow.Shadow()
    for event, unsaid in log:
        built.unsaid[event.event_id, event.external_id] = unsaid
    for event, _ in log:
        shadow.apply(context.model, built, event)
    return {id_: fold.dump(state.claims) for id_, state in built.records.items()}


def in_bulk(log: Log, model: Model) -> dict[tuple[str, str, str], Any]:
    """The claims, by columns."""
    columns = {name: [event.to_avro()[name] for event, _ in log] for name in EVENT}
    events = pl.DataFrame(columns, schema=EVENT)
    unsaid = {
        "event_id": [e.event_id for e, _ in log],
        **{n: [getattr(e, n) for e, _ in log] for n in RECORD},
    }
    said = pl.DataFrame(
        unsaid | {"unsaid": [sorted(u) for _, u in log]}, schema_overrides={"unsaid": pl.List(pl.String)}
    )
    with tempfile.TemporaryDirectory() as directory:
        spill = Spill(Path(directory), 1)
        spill.events("a", events)
        spill.unsaid("a", said)
        found = fold_bucket(model, spill, 0, bulk_fold.events_of(spill, 0))
    claims = {row[:3]: orjson.loads(row[3]) for row in found.select(*RECORD, "claims").iter_rows()}
    check_columns(found, claims)
    return claims


def check_columns(found: pl.DataFrame, claims: dict[tuple[str, str, str], Any]) -> None:
    """What the rules look at is what is claimed."""
    for row in found.iter_rows(named=True):
        said = claims[row["system"], row["object"], row["external_id"]]
        assert row["gone"] == said.get(DELETED, [False])[0], row
        for name in (n for n in found.columns if n.startswith(column(""))):
            told = (
                row[name] and row[name]["value"] and [orjson.loads(row[name]["value"]), *list(row[name].values())[1:]]
            )
            value, at, _, observed, event_id = said.get(name.removeprefix(column("")), [None] * 5)
            assert (told or None) == (event_id and [value, at, observed, event_id]), f"{name}: {told}, claimed {said}"


def check_fold(log: Log, model: Model = MODEL) -> None:
    """Both find the same claims."""
    bulk, each = (orjson.dumps(sorted(f(log, model).items()), option=orjson.OPT_SORT_KEYS) for f in (in_bulk, by_event))
    assert bulk == each, f"in bulk {bulk.decode()[:2_000]}, by event {each.decode()[:2_000]}"


@FOLDS
@given(logs())
def test_columns_find_the_same_claims(log: Log) -> None:
    if log:
        check_fold(log)


def test_the_check_of_claims_fails_without_the_order_of_clocks() -> None:
    at = 1_700_000_000_000_000
    log: Log = [
        (Event(f"e{n}", "crm", "o", "1", "upsert", at - n, at - n, at, "poll", b'{"truth":"%d"}' % n), frozenset())
        for n in range(2)
    ]
    check_fold(log)
    with mutation(bulk_fold, "_newest_first", lambda rows: rows.reverse()), broken("the last on the log wins"):
        check_fold(log)
