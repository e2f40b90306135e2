"""Hearing event by event what cannot be found by columns: consent, whose claims have clocks of their own, values of no
fixed shape, and a steward's pins. One record at a time, newest event first."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson
import polars as pl

from hub import fold
from hub.decide import strip
from hub.event import Clock
from hub.mapping import ObjectMap, decode
from streams import steward

Said = dict[str, list[Any]]
"""Claim name -> value, at, order, observed, event id, as `hub.fold.dump` stores claims."""
KINDS = ("consent", "json")


class Row(NamedTuple):
    """One event of one record, as a table's row."""

    order: int
    observed_at: int
    event_id: str
    at: int
    op: str
    payload: bytes
    unsaid: list[str] | None


def composed(mapping: ObjectMap) -> ObjectMap | None:
    """The object with those fields only that must be heard event by event, if it has any."""
    odd = {name for name in claimed(mapping) if mapping.kind(name) in KINDS}
    return only(mapping, odd) if odd else None


def only(mapping: ObjectMap, names: Collection[str]) -> ObjectMap:
    """The object as if its events could say something of these fields alone."""
    fields = tuple(f for f in mapping.fields if f.name in names and not f.identifies)
    constants = {name: value for name, value in mapping.constants.items() if name in names}
    return replace(mapping, fields=fields, constants=constants)


def claimed(mapping: ObjectMap) -> set[str]:
    """The fields that an object's events may say something of."""
    return {f.name for f in mapping.fields if not f.identifies} | mapping.constants.keys()


def by_record(rows: pl.DataFrame, sizes: Sequence[int]) -> Iterable[list[Row]]:
    """The events of each record, of rows in which as many belong to one record as `sizes` tells."""
    columns = map(Row._make, zip(*(rows[name].to_list() for name in Row._fields), strict=True))
    return ([next(columns) for _ in range(size)] for size in sizes)


def claims_of(mapping: ObjectMap, newest_first: Iterable[Row]) -> Said:
    """What a record claims of these fields, from its events."""
    said: Said = {}
    for row in newest_first:
        if row.op != "delete":
            _hear(said, mapping, row)
    return said


def _hear(said: Said, mapping: ObjectMap, row: Row) -> None:
    """Join what one event says, where all events before were newer."""
    unsaid: Collection[str] = row.unsaid or ()
    for name, value in decode(mapping, orjson.loads(row.payload)).values.items():
        if name in unsaid:
            continue
        if isinstance(value, Mapping) and "status" in value:
            _hear_consent(said, name, value, row)
        elif name not in said:
            said[name] = [strip(value), row.at, row.order, row.observed_at, row.event_id]


def _hear_consent(said: Said, name: str, value: Any, row: Row) -> None:
    """Consent is claimed under other names and by clocks of its own, so an older event may say more."""
    for other, claim in fold.claims_of({name: value}, row.at, Clock(row.order, row.observed_at, row.event_id)):
        held = fold.load({other: said[other]})[other] if other in said else None
        said |= fold.dump({other: fold.join(held, claim)})


def pins(newest_first: Iterable[Row]) -> Said:
    """A steward's pins on one golden id."""
    said: Said = {}
    for row in newest_first:
        told = orjson.loads(row.payload)
        if told["action"] in ("pin", "unpin"):
            value = {n: told.get(n) for n in steward.PIN} if told["action"] == "pin" else None
            said.setdefault(told["field"], [value, row.at, row.order, row.observed_at, row.event_id])
    return dict(sorted(said.items()))
