"""The messages of PostgreSQL's `pgoutput` plugin, protocol version 1, as typed values.

Source: PostgreSQL documentation, "Logical Replication Message Formats". Integers are big-endian; strings end with NUL;
times are microseconds since 2000-01-01 UTC, given here since 1970-01-01.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

EPOCH_2000 = 946_684_800_000_000


class Unchanged:
    """The one value `UNCHANGED`: a large value stored elsewhere, which this change did not touch and the log lacks."""


UNCHANGED = Unchanged()
Cell = str | Unchanged | None
Tuple = tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """A transaction begins; `commit` is where its commit record begins, `at` when it committed."""

    commit: int
    at: int
    xid: int


@dataclass(frozen=True, slots=True)
class Commit:
    """The transaction is whole; `end` is the place behind its commit record."""

    commit: int
    end: int


@dataclass(frozen=True, slots=True)
class Column:
    """A column as it was when the change was made; `key`: part of the replica identity."""

    name: str
    type_oid: int
    key: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table; sent before its first change in every decoding and again when it was altered."""

    oid: int
    schema: str
    name: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Insert:
    """A new row."""

    relation: int
    new: Tuple


@dataclass(frozen=True, slots=True)
class Update:
    """A changed row. `old` is there when the replica identity changed (then only its columns are set) or is full."""

    relation: int
    old: Tuple | None
    new: Tuple


@dataclass(frozen=True, slots=True)
class Delete:
    """A row is gone; `old` has at least the columns of the replica identity."""

    relation: int
    old: Tuple


@dataclass(frozen=True, slots=True)
class Truncate:
    """Tables were emptied."""

    relations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """A message that somebody put into the log with `pg_logical_emit_message`."""

    transactional: bool
    prefix: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Other:
    """A message that says nothing about rows: Type, Origin, or one of a later protocol."""

    kind: str


Message = Begin | Commit | Relation | Insert | Update | Delete | Truncate | Note | Other


class _Reader:
    """Reads one message from front to back."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 1

    def number(self, form: str) -> int:
        value: int
        (value,) = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return value

    def text(self) -> str:
        end = self.data.index(0, self.at)
        value = self.data[self.at : end].decode()
        self.at = end + 1
        return value

    def letter(self) -> str:
        self.at += 1
        return chr(self.data[self.at - 1])

    def take(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def row(self) -> Tuple:
        return tuple(self._cell() for _ in range(self.number("h")))

    def _cell(self) -> Cell:
        kind = self.letter()
        if kind == "t":
            return self.take(self.number("i")).decode()
        if kind == "u":
            return UNCHANGED
        if kind == "n":
            return None
        raise ValueError(f"column of kind {kind!r}: the log was asked for text")


def decode(data: bytes) -> Message:
    """One message. Raises ValueError, IndexError or struct.error for bytes that are none."""
    reader = _Reader(data)
    parse = PARSERS.get(data[:1])
    return parse(reader) if parse else Other(data[:1].decode("latin-1"))


def _begin(r: _Reader) -> Begin:
    return Begin(commit=r.number("Q"), at=r.number("q") + EPOCH_2000, xid=r.number("I"))


def _commit(r: _Reader) -> Commit:
    r.number("B")
    return Commit(commit=r.number("Q"), end=r.number("Q"))


def _relation(r: _Reader) -> Relation:
    oid, schema, name = r.number("I"), r.text(), r.text()
    r.number("B")
    return Relation(oid, schema or "pg_catalog", name, tuple(_column(r) for _ in range(r.number("h"))))


def _column(r: _Reader) -> Column:
    key, name, type_oid = r.number("B"), r.text(), r.number("I")
    r.number("i")
    return Column(name, type_oid, bool(key & 1))


def _insert(r: _Reader) -> Insert:
    relation = r.number("I")
    r.letter()
    return Insert(relation, r.row())


def _update(r: _Reader) -> Update:
    relation, old = r.number("I"), None
    if r.letter() in "KO":
        old = r.row()
        r.letter()
    return Update(relation, old, r.row())


def _delete(r: _Reader) -> Delete:
    relation = r.number("I")
    r.letter()
    return Delete(relation, r.row())


def _truncate(r: _Reader) -> Truncate:
    count = r.number("I")
    r.number("B")
    return Truncate(tuple(r.number("I") for _ in range(count)))


def _note(r: _Reader) -> Note:
    flags = r.number("B")
    r.number("Q")
    prefix = r.text()
    return Note(bool(flags & 1), prefix, r.take(r.number("I")))


PARSERS: dict[bytes, Callable[[_Reader], Message]] = {
    b"B": _begin,
    b"C": _commit,
    b"R": _relation,
    b"I": _insert,
    b"U": _update,
    b"D": _delete,
    b"T": _truncate,
    b"M": _note,
}
