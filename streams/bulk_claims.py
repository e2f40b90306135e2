"""Claims by columns: what the records of one object last said, a field at a time over all of them.

A claim is the greatest by clock of what a record's events say of a field. So each record's events stand newest first, and
for every field the first one that says anything is looked for: mostly the newest says everything, and older payloads are
not even read. Values are normalised by `hub.mapping.decode`, the same code as live, but each distinct one only once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import orjson
import polars as pl

from hub.decide import strip
from hub.fold import DELETED
from hub.mapping import ObjectMap, decode
from hub.values import verbatim
from streams.bulk_hear import KINDS, by_record, claimed, claims_of, composed
from streams.bulk_project import CLAIM, column, simple
from streams.bulk_text import key, objects, quoted

MOST = 100_000  # contents of a field that are remembered
Says = Callable[[int], str | None]
"""What the event in a row says of a field, as JSON; None where it says nothing of it."""


class Known(dict[Any, str | None]):
    """What each content of a field means, found out once."""

    def __init__(self, read: Callable[[Any], str | None]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, content: Any) -> str | None:
        if len(self) >= MOST:
            self.clear()
        meant = self[content] = self._read(content)
        return meant


class Reader:
    """Reads one canonical field from native fields, as JSON; None where they do not tell it, or nothing admissible."""

    def __init__(self, mapping: ObjectMap, name: str) -> None:
        fields = tuple(f for f in mapping.fields if f.name == name and not f.identifies)
        constants = {n: value for n, value in mapping.constants.items() if n == name}
        self._name, self._mapping = name, replace(mapping, fields=fields, constants=constants)
        self._natives = tuple(dict.fromkeys(native for f in fields for native in f.natives))
        plain = len(fields) == 1 and not fields[0].codec and not fields[0].options
        self._kind = mapping.kind(name) if plain else ""
        self._texts = Known(self._text)
        self._others = Known(lambda content: self._read(orjson.loads(content)))

    def all(self, told: Sequence[Mapping[str, Any]]) -> list[str | None]:
        """What each of these says."""
        if len(self._natives) != 1:
            return [self.one(natives) for natives in told]
        (native,), texts, other = self._natives, self._texts, self.one
        return [texts[text] if (text := one.get(native)).__class__ is str else other(one) for one in told]

    def one(self, natives: Mapping[str, Any]) -> str | None:
        """What one says. Contents are told apart as JSON, where true is not 1, and 1 is not 1.0."""
        return self._others[orjson.dumps({n: natives[n] for n in self._natives if n in natives})]

    def _text(self, text: str) -> str | None:
        if verbatim(self._kind, text):
            return orjson.dumps(text).decode()
        return self._read({self._natives[0]: text})

    def _read(self, natives: Mapping[str, Any]) -> str | None:
        values = decode(self._mapping, natives).values
        return orjson.dumps(strip(values[self._name])).decode() if self._name in values else None


class Events:
    """The events of many records of one object: each record's stand together, newest first, as many as `sizes` tells."""

    def __init__(self, rows: pl.DataFrame, sizes: Sequence[int]) -> None:
        self.rows, self.ends = rows, list(accumulate(sizes))
        self.starts = [0, *self.ends[:-1]]
        self.first = stamped(rows[self.starts])
        self.dead = (rows["op"] == "delete").to_list()
        self._unsaid = rows["unsaid"].to_list() if rows["unsaid"].null_count() < rows.height else []
        self._payloads: list[bytes] = []
        self._told: dict[int, Mapping[str, Any]] = {}

    def newest(self) -> list[Mapping[str, Any]]:
        """The native fields of each record's newest event; none of a delete."""
        payloads = zip(self.starts, self.first["payload"].to_list(), strict=True)
        told = [{} if self.dead[row] else orjson.loads(payload) for row, payload in payloads]
        self._told = dict(zip(self.starts, told, strict=True))
        return told

    def told(self, row: int) -> Mapping[str, Any]:
        """The native fields of one event."""
        if row not in self._told:
            self._payloads = self._payloads or self.rows["payload"].to_list()
            self._told[row] = orjson.loads(self._payloads[row])
        return self._told[row]

    def silent(self, name: str, row: int) -> bool:
        """Whether it was found that this event does not say a field."""
        return bool(self._unsaid) and (names := self._unsaid[row]) is not None and name in names

    def older(self, record: int, says: Says) -> tuple[int, str | None]:
        """The record's next event that says something, and what; the newest and None where there is none."""
        for row in range(self.starts[record] + 1, self.ends[record]):
            if (value := says(row)) is not None:
                return row, value
        return self.starts[record], None


def claims_by_record(mapping: ObjectMap, rows: pl.DataFrame, sizes: Sequence[int]) -> pl.DataFrame:
    """A row for each record: its `claims` as JSON, whether it is `gone`, and as structs the claims on fields whose rule is
    an order (see streams.bulk_project); their value is null where there is none."""
    events = Events(rows, sizes)
    found = {DELETED: _deleted(events)}
    told = events.newest()
    for name in sorted(n for n in claimed(mapping) if mapping.kind(n) not in KINDS):
        found[name] = _field(events, name, Reader(mapping, name), told)
    members = [_member(name, claims) for name, claims in found.items()]
    texts = objects(pl.DataFrame([*members, *_heard(mapping, rows, sizes)])).alias("claims").to_frame()
    gone = (found[DELETED]["value"] == "true").fill_null(value=False).alias("gone")
    orders = [n for n in found if n != DELETED and simple(mapping.entity.fields[n])]
    return texts.with_columns(gone, *(found[n].select(CLAIM).to_struct(column(n)) for n in orders))


def _field(events: Events, name: str, reader: Reader, told: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """The claims on one field, a row for each record."""

    def says(row: int) -> str | None:
        if events.dead[row] or events.silent(name, row):
            return None
        return reader.all((events.told(row),))[0]

    newest = reader.all(told)
    open_ = [
        None if events.dead[row] or events.silent(name, row) else value
        for row, value in zip(events.starts, newest, strict=True)
    ]
    return _first(events, open_, says)


def _deleted(events: Events) -> pl.DataFrame:
    """The claims on whether records are gone."""

    def says(row: int) -> str | None:
        return None if events.silent(DELETED, row) else str(events.dead[row]).lower()

    return _first(events, [says(row) for row in events.starts], says)


def _first(events: Events, newest: list[str | None], says: Says) -> pl.DataFrame:
    """What the first event says that says something, with its clock; `newest` is what the newest event says."""
    if None not in newest:
        return events.first.with_columns(pl.Series("value", newest, dtype=pl.String))
    at = [
        (row, value) if value is not None else events.older(n, says)
        for n, (row, value) in enumerate(zip(events.starts, newest, strict=True))
    ]
    return stamped(events.rows[[row for row, _ in at]]).with_columns(
        pl.Series("value", [value for _, value in at], dtype=pl.String)
    )


def stamped(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with their clock as JSON: what follows the value in a stored claim."""
    clock = pl.concat_str("at", "order", "observed_at", pl.lit(quoted(rows["event_id"])), separator=",")
    return rows.with_columns(stamp=clock)


def _member(name: str, claims: pl.DataFrame) -> pl.Series:
    text = pl.concat_str(pl.lit(f"{key(name)}["), "value", pl.lit(","), "stamp", pl.lit("]"))
    return claims.select(text.alias(name)).to_series()


def _heard(mapping: ObjectMap, rows: pl.DataFrame, sizes: Sequence[int]) -> list[pl.Series]:
    """What must be heard event by event, as members of the claims."""
    if (odd := composed(mapping)) is None:
        return []
    said = [claims_of(odd, each) for each in by_record(rows, sizes)]
    names = sorted({name for claims in said for name in claims})
    return [pl.Series(name, [_told(name, claims) for claims in said], dtype=pl.String) for name in names]


def _told(name: str, claims: Mapping[str, Any]) -> str | None:
    return key(name) + orjson.dumps(claims[name]).decode() if name in claims else None
