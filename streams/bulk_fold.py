"""Bulk fold: the claims of all records of one bucket, found from the newest event backwards.

A claim is the greatest by clock of what a record's events say of a field. So the events are put in order by columns, newest
first, and a record's events are read only until every field has been said: mostly one of many. What an event says is
read by the same mapping as ever, and consent, whose claims have clocks of their own, is folded event by event.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import orjson
import polars as pl

from hub import fold
from hub.decide import strip
from hub.event import Clock
from hub.fold import DELETED
from hub.mapping import ObjectMap, decode
from hub.model import Model
from streams import steward
from streams.bulk_spill import RECORD, Spill

Said = dict[str, list[Any]]
"""Claim name -> value, at, order, observed, event id, as `hub.fold.dump` stores claims."""


class Folded(NamedTuple):
    """One record with what it claims; no home and no entity where it was never linked."""

    system: str
    object: str
    external_id: str
    entity: str
    home: str
    claims: Said


class Row(NamedTuple):
    """One event of one record, as a table's row."""

    order: int
    observed_at: int
    event_id: str
    at: int
    op: str
    payload: bytes
    unsaid: list[str] | None


def events_of(spill: Spill, bucket: int) -> pl.DataFrame | None:
    """Every event of the bucket's records once, in the order of the log: the first delivery counts."""
    rows = spill.bucket("events", bucket)
    return None if rows is None else rows.unique([*RECORD, "event_id"], keep="first", maintain_order=True)


def links_of(spill: Spill, bucket: int) -> pl.DataFrame | None:
    """Record -> golden id and entity: the first link of each record of the bucket, or where it was moved last. All moves of
    a record stand in one partition."""
    rows = spill.bucket("links", bucket)
    if rows is None:
        return None
    first = rows.filter(pl.col("kind") == "link").unique([*RECORD], keep="first", maintain_order=True)
    moves = rows.filter(pl.col("kind") == "move").unique([*RECORD], keep="last", maintain_order=True)
    joined = first.join(moves.select(*RECORD, moved="golden_id"), on=RECORD, how="left", maintain_order="left")
    return joined.select(*RECORD, pl.coalesce("moved", "golden_id").alias("golden_id"), "entity")


def fold_bucket(model: Model, spill: Spill, bucket: int, events: pl.DataFrame | None) -> Iterator[Folded]:
    """The bucket's records, each once, from its events; also those that were linked and have not said anything."""
    homes: dict[tuple[str, str, str], tuple[str, str]] = {}
    if (links := links_of(spill, bucket)) is not None:
        homes = {(s, o, e): (entity, golden) for s, o, e, golden, entity in links.iter_rows()}
    for id_, rows in _by_record(spill, bucket, events) if events is not None else ():
        if id_[0] == steward.SYSTEM:
            if pins := _pins(rows):
                yield Folded(*id_, "", id_[2], pins)
        elif (mapping := model.mapping(id_[0], id_[1])) is not None:
            _, home = homes.pop(id_, ("", ""))
            yield Folded(*id_, mapping.entity.name, home, claims_of(mapping, rows))
    for id_, (entity, home) in homes.items():
        yield Folded(*id_, entity, home, {})


def _by_record(spill: Spill, bucket: int, events: pl.DataFrame) -> Iterator[tuple[tuple[str, str, str], Iterator[Row]]]:
    """Each record of the bucket with its events, newest first."""
    rows = _newest_first(_with_unsaid(spill, bucket, events))
    sizes = rows.select(pl.struct(RECORD).rle().struct.field("len").alias("n"))["n"].to_list()
    columns = zip(*(rows[name].to_list() for name in Row._fields), strict=True)
    firsts = rows[_starts(sizes)].select(RECORD).iter_rows()
    for size, (system, object_, external_id) in zip(sizes, firsts, strict=True):
        own = [next(columns) for _ in range(size)]
        yield (system, object_, external_id), map(Row._make, own)


def _newest_first(rows: pl.DataFrame) -> pl.DataFrame:
    clock = ("order", "observed_at", "event_id")
    return rows.sort([*RECORD, *clock], descending=[False] * len(RECORD) + [True] * len(clock))


def _starts(sizes: list[int]) -> list[int]:
    starts, at = [], 0
    for size in sizes:
        starts.append(at)
        at += size
    return starts


def _with_unsaid(spill: Spill, bucket: int, events: pl.DataFrame) -> pl.DataFrame:
    """The events with what they were found not to say. Every event counts that names itself so in its record's bucket."""
    rows = spill.bucket("unsaid", bucket)
    if rows is None:
        return events.with_columns(unsaid=pl.lit(None, dtype=pl.List(pl.String)))
    last = rows.unique(["event_id", "external_id"], keep="last", maintain_order=True)
    return events.join(last.select("event_id", "external_id", "unsaid"), on=["event_id", "external_id"], how="left")


def claims_of(mapping: ObjectMap, newest_first: Iterator[Row]) -> Said:
    """The claims of one record from its events."""
    said: Said = {}
    names = nameable(mapping)
    for row in newest_first:
        _hear(said, mapping, row)
        if names is not None and names <= said.keys():
            break
    return dict(sorted(said.items()))


def _hear(said: Said, mapping: ObjectMap, row: Row) -> None:
    """Join what one event says, where all events before were newer."""
    stamp = [row.at, row.order, row.observed_at, row.event_id]
    unsaid: Collection[str] = row.unsaid or ()
    if DELETED not in unsaid:
        said.setdefault(DELETED, [row.op == "delete", *stamp])
    if row.op == "delete":
        return
    for name, value in decode(mapping, orjson.loads(row.payload)).values.items():
        if name in unsaid:
            continue
        if isinstance(value, Mapping) and "status" in value:
            _hear_consent(said, name, value, row)
        elif name not in said:
            said[name] = [strip(value), *stamp]


def _hear_consent(said: Said, name: str, value: Any, row: Row) -> None:
    """Consent is claimed under other names and by clocks of its own, so an older event may say more."""
    for other, claim in fold.claims_of({name: value}, row.at, Clock(row.order, row.observed_at, row.event_id)):
        held = fold.load({other: said[other]})[other] if other in said else None
        said |= fold.dump({other: fold.join(held, claim)})


def nameable(mapping: ObjectMap) -> frozenset[str] | None:
    """The claims after which no older event of the object can say anything; None where all must be heard."""
    names = {f.name for f in mapping.fields if not f.identifies} | mapping.constants.keys()
    composed = any(mapping.kind(name) in ("consent", "json") for name in names)
    return None if composed else frozenset(names | {DELETED})


def _pins(newest_first: Iterator[Row]) -> Said:
    """A steward's pins on one golden id."""
    said: Said = {}
    for row in newest_first:
        told = orjson.loads(row.payload)
        if told["action"] in ("pin", "unpin"):
            value = {n: told.get(n) for n in steward.PIN} if told["action"] == "pin" else None
            said.setdefault(told["field"], [value, row.at, row.order, row.observed_at, row.event_id])
    return dict(sorted(said.items()))
