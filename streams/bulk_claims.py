"""Claims by columns: what the records of one object last said, a field at a time over all of them.

A claim is the greatest by clock of what a record's events say of a field. So each record's events stand newest first, and
for every field the first one that says anything is looked for: mostly the newest says everything, and older payloads are
not even read. Values are normalised by `hub.mapping.decode`, the same code as live, but each distinct one only once.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate
from typing import Any

import orjson
import polars as pl

from hub.decide import strip
from hub.fold import DELETED
from hub.mapping import ObjectMap, decode
from hub.values import PLAIN
from streams.bulk_hear import KINDS, by_record, claimed, claims_of, composed, only
from streams.bulk_project import CLAIM, column, simple
from streams.bulk_text import key, objects, quoted

AHEAD = 1_000  # events that are read at once, where that many are wanted
MOST = 100_000  # contents of a field that are remembered
Says = Callable[[list[int]], pl.Series]
"""What the events in these rows hold of a field, as JSON; null where they hold nothing of it."""


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
    """Reads one canonical field from native fields, as JSON; null where they do not tell it, or nothing admissible."""

    def __init__(self, mapping: ObjectMap, name: str) -> None:
        self._name, self._mapping = name, only(mapping, [name])
        self._natives = tuple(dict.fromkeys(native for f in self._mapping.fields for native in f.natives))
        _, self._native, kind = self._mapping.readers[0] if len(self._mapping.readers) == 1 else (None, "", "")
        self._plain = PLAIN.get(kind)
        self._known = Known(lambda content: self._read(orjson.loads(content)))

    def all(self, told: Sequence[Mapping[str, Any]]) -> pl.Series:
        """What each of these says. Plain texts stay as they are, and are told from others by columns."""
        if self._plain is None:
            return pl.Series([self.one(natives) for natives in told], dtype=pl.String)
        texts = [text if (text := one.get(self._native)).__class__ is str else None for one in told]
        said = quoted(column := pl.Series(texts, dtype=pl.String))
        like, unlike, most = self._plain
        plain = column.str.contains(like) & (column.str.len_bytes() <= most) & ~column.str.contains(unlike)
        others = (~plain.fill_null(value=False)).arg_true().to_list()
        return said.scatter(others, [self.one(told[n]) for n in others]) if others else said

    def one(self, natives: Mapping[str, Any]) -> str | None:
        """What one says. Contents are told apart as JSON, where true is not 1, and 1 is not 1.0."""
        return self._known[orjson.dumps({n: natives[n] for n in self._natives if n in natives})]

    def _read(self, natives: Mapping[str, Any]) -> str | None:
        values = decode(self._mapping, natives).values
        return orjson.dumps(strip(values[self._name])).decode() if self._name in values else None


class Events:
    """The events of many records of one object: each record's stand together, newest first, as many as `sizes` tells."""

    def __init__(self, rows: pl.DataFrame, sizes: Sequence[int]) -> None:
        self.rows, self.ends = rows, list(accumulate(sizes))
        self.starts = [0, *self.ends[:-1]]
        self.first = stamped(rows[self.starts])
        self._payloads: list[bytes] = []
        self._told: dict[int, Mapping[str, Any]] = {}

    def newest(self) -> list[Mapping[str, Any]]:
        """The native fields of each record's newest event; none of a delete."""
        newest = zip(self.first["op"].to_list(), self.first["payload"].to_list(), strict=True)
        told = [{} if op == "delete" else orjson.loads(payload) for op, payload in newest]
        self._told = dict(zip(self.starts, told, strict=True))
        return told

    def told(self, row: int) -> Mapping[str, Any]:
        """The native fields of one event."""
        if row not in self._told:
            self._payloads = self._payloads or self.rows["payload"].to_list()
            self._told[row] = orjson.loads(self._payloads[row])
        return self._told[row]

    def heard(self, name: str) -> pl.Series:
        """Whether each event says what it holds of a field: not where the opposite was found, and no delete does."""
        heard = ~self.rows["unsaid"].list.contains(name).fill_null(value=False)
        return heard if name == DELETED else heard & (self.rows["op"] != "delete")


def claims_by_record(mapping: ObjectMap, rows: pl.DataFrame, sizes: Sequence[int]) -> pl.DataFrame:
    """A row for each record: its `claims` as JSON, whether it is `gone`, and as structs the claims on fields whose rule is
    an order (see streams.bulk_project); their value is null where there is none."""
    events = Events(rows, sizes)
    ends = _ends(events)
    found = {DELETED: _first(events, DELETED, ends.gather(events.starts), ends.gather)}
    told = events.newest()
    for name in sorted(n for n in claimed(mapping) if mapping.kind(n) not in KINDS):
        reader = Reader(mapping, name)
        found[name] = _first(events, name, reader.all(told), partial(_read, events, reader))
    members = [_member(name, claims) for name, claims in found.items()]
    texts = objects(pl.DataFrame([*members, *_heard(mapping, rows, sizes)])).alias("claims").to_frame()
    gone = (found[DELETED]["value"] == "true").fill_null(value=False).alias("gone")
    orders = [n for n in found if n != DELETED and simple(mapping.entity.fields[n])]
    return texts.with_columns(gone, *(found[n].select(CLAIM).to_struct(column(n)) for n in orders))


def _read(events: Events, reader: Reader, rows: Sequence[int]) -> pl.Series:
    return reader.all([events.told(row) for row in rows])


def _ends(events: Events) -> pl.Series:
    return pl.select(pl.when(events.rows["op"] == "delete").then(pl.lit("true")).otherwise(pl.lit("false"))).to_series()


def _first(events: Events, name: str, newest: pl.Series, says: Says) -> pl.DataFrame:
    """What the first event says that is heard of a field and says something, with its clock; `newest` is what the records'
    newest events hold, and `says` tells what others do."""
    heard = events.heard(name)
    newest = newest.alias("value").set(~heard.gather(events.starts), None)
    open_ = newest.is_null().arg_true().to_list()
    if not open_:
        return events.first.with_columns(newest)
    found, places = _older(events, heard.to_list(), says, open_), list(events.starts)
    for record, (row, _) in found.items():
        places[record] = row
    values = newest.scatter(list(found), [value for _, value in found.values()]) if found else newest
    return stamped(events.rows[places]).with_columns(values)


def _older(events: Events, heard: list[bool], says: Says, open_: Sequence[int]) -> dict[int, tuple[int, str]]:
    """Of these records, whose newest events say nothing, the next event that does, and what: of all records at once, then
    of those that are left, the further ahead the fewer they are."""
    found: dict[int, tuple[int, str]] = {}
    waiting = {record: events.starts[record] + 1 for record in open_}
    while waiting:
        ahead = AHEAD // len(waiting) + 1
        rows = [(n, row) for n, start in waiting.items() for row in _next(heard, start, events.ends[n], ahead)]
        for (n, row), value in zip(rows, says([row for _, row in rows]), strict=True):
            if value is not None:
                found.setdefault(n, (row, value))
        waiting = {n: row + 1 for n, row in dict(rows).items() if n not in found}
    return found


def _next(heard: list[bool], start: int, end: int, most: int) -> list[int]:
    """The next rows that are heard."""
    rows: list[int] = []
    with suppress(ValueError):
        while len(rows) < most:
            rows.append(start := heard.index(True, start, end))
            start += 1
    return rows


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
