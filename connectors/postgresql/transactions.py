"""From the messages of the log to changes: transaction by transaction, in steps of bounded size.

What happens to one record inside a transaction happens at once for everybody else, so a step reports each record once,
as the transaction leaves it. A transaction of more than STEP row messages has several steps, counted from its
beginning; they are the same whenever it is read, so (commit position, steps delivered) is a place to resume from.

A value that the log lacks because it is large and was not touched (TOAST) is absent: unknown, never null. A changed
key is a delete of the old record and an upsert of the new one. A transaction of the hub's own carries a note with the
prefix `hub`: a JSON object of "object/external id" -> idempotency key.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from connectors.postgresql.mapped import Index, Mapped
from connectors.postgresql.pgoutput import (
    UNCHANGED,
    Begin,
    Cell,
    Commit,
    Delete,
    Insert,
    Message,
    Note,
    Relation,
    Truncate,
    Update,
)
from connectors.postgresql.position import exact, version
from connectors.postgresql.sqltypes import Type
from hub.change import Change
from hub.errors import Fatal

STEP = 8192
"""Row messages per step. Part of every version: changing it gives changes in flight new ids."""
PREFIX = "hub"
RecordKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Place:
    """How far the log was delivered.

    lsn      everything that was committed before this place
    commit   where the commit record of a transaction begins that was delivered in part, else 0
    steps    how many of its steps were delivered
    """

    lsn: int
    commit: int = 0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """Some changes of one transaction, and the place behind them; `truncated` names tables that it emptied."""

    changes: list[Change]
    place: Place
    truncated: tuple[str, ...] = ()


@dataclass(slots=True)
class _Transaction:
    begin: Begin
    rows: int = 0
    records: dict[RecordKey, tuple[Mapped, dict[str, Any] | None]] = field(default_factory=dict)
    intents: dict[str, str] = field(default_factory=dict)
    truncated: dict[str, None] = field(default_factory=dict)

    @property
    def step(self) -> int:
        return max(self.rows - 1, 0) // STEP


class Transactions:
    """Reads messages in their order from any place of the log on; what was delivered up to `place` is left out."""

    def __init__(self, index: Index, place: Place) -> None:
        self._index = index
        self.place = place
        self._relations: dict[int, tuple[str, tuple[str, ...], dict[str, Type]]] = {}
        self._now: _Transaction | None = None

    def unknown_types(self, relation: Relation) -> bool:
        """Whether the table has a type that was made after the catalogue was read."""
        return any(column.type_oid not in self._index.types for column in relation.columns)

    def feed(self, message: Message) -> Iterator[Step]:
        """What this message completes: a step of a large transaction, or the last step of one."""
        match message:
            case Begin():
                self._now = _Transaction(message)
            case Relation():
                self._learn(message)
            case Commit() if self._now is not None:
                yield self._close(self._now, message)
            case Note() if self._now is not None:
                self._note(self._now, message)
            case Truncate() if self._now is not None:
                self._truncate(self._now, message)
            case Insert() | Update() | Delete() if self._now is not None:
                if self._now.rows and self._now.rows % STEP == 0:
                    yield from self._full(self._now)
                self._now.rows += 1
                self._row(self._now, message)
            case _:
                pass

    def _learn(self, relation: Relation) -> None:
        types = {c.name: self._index.types[c.type_oid] for c in relation.columns}
        self._relations[relation.oid] = (f"{relation.schema}.{relation.name}", tuple(types), types)

    def _close(self, now: _Transaction, commit: Commit) -> Step:
        self._now = None
        delivered = commit.commit < self.place.lsn
        changes = [] if delivered or self._seen(now) else list(self._changes(now))
        if not delivered:
            self.place = Place(commit.end)
        return Step(changes, self.place, () if delivered else tuple(now.truncated))

    def _full(self, now: _Transaction) -> Iterator[Step]:
        """The step is full and the transaction goes on."""
        if not self._seen(now):
            changes = list(self._changes(now))
            self.place = Place(self.place.lsn, now.begin.commit, now.step + 1)
            yield Step(changes, self.place, tuple(now.truncated))
        now.records.clear()

    def _seen(self, now: _Transaction) -> bool:
        """Whether the step at hand was delivered before."""
        commit = now.begin.commit
        return commit < self.place.lsn or (commit == self.place.commit and now.step < self.place.steps)

    def _changes(self, now: _Transaction) -> Iterator[Change]:
        step = now.step
        order = version(now.begin.commit, step)
        for (object_, external_id), (mapped, natives) in now.records.items():
            intent = now.intents.get(f"{object_}/{external_id}")
            clock = {"version": order, "exact": exact(step), "at": now.begin.at, "channel": "log", "intent": intent}
            yield mapped.change(external_id, natives, **clock)

    def _note(self, now: _Transaction, note: Note) -> None:
        if note.prefix != PREFIX:
            return
        try:
            said = orjson.loads(note.content)
        except orjson.JSONDecodeError:
            return  # anybody may emit a message under our prefix
        if isinstance(said, dict):
            now.intents.update({str(record): str(key) for record, key in said.items()})

    def _truncate(self, now: _Transaction, truncate: Truncate) -> None:
        """Whose rows they were nobody knows; rows that this transaction wrote before are gone too."""
        names = {self._relations[oid][0] for oid in truncate.relations if oid in self._relations}
        now.truncated.update(dict.fromkeys(sorted(names & self._index.tables.keys())))
        for key, (mapped, _) in now.records.items():
            if mapped.table.full_name in names:
                now.records[key] = (mapped, None)

    def _row(self, now: _Transaction, row: Insert | Update | Delete) -> None:
        if self._seen(now):
            return
        name, columns, types = self._relations[row.relation]
        old = None if isinstance(row, Insert) or row.old is None else dict(zip(columns, row.old, strict=True))
        new = None if isinstance(row, Delete) else dict(zip(columns, row.new, strict=True))
        for mapped in self._index.tables.get(name, ()):
            _apply(now, mapped, old, new, types)


def _apply(
    now: _Transaction,
    mapped: Mapped,
    old: Mapping[str, Cell] | None,
    new: Mapping[str, Cell] | None,
    types: Mapping[str, Type],
) -> None:
    """Bring one row into the step's records."""
    before = _identify(mapped, old) if old is not None else None
    if new is None:
        now.records[(mapped.object, _found(mapped, before))] = (mapped, None)
        return
    texts = {name: _known(name, value, old) for name, value in new.items()}
    after = _found(mapped, _identify(mapped, texts), before)
    if before is not None and before != after:
        now.records[(mapped.object, before)] = (mapped, None)
    natives = mapped.natives({name: text for name, text in texts.items() if text is not UNCHANGED}, types)
    _, earlier = now.records.get((mapped.object, after), (mapped, None))
    now.records[(mapped.object, after)] = (mapped, {**(earlier or {}), **natives})


def _known(name: str, value: Cell, old: Mapping[str, Cell] | None) -> Any:
    """A value that the log lacks may stand in the old row (with a full replica identity)."""
    return value if value is not UNCHANGED or old is None else old.get(name) or UNCHANGED


def _identify(mapped: Mapped, texts: Mapping[str, Any]) -> str | None:
    held = {column: text for column in mapped.key if isinstance(text := texts.get(column), str)}
    return mapped.external_id(held)


def _found(mapped: Mapped, *ids: str | None) -> str:
    for external_id in ids:
        if external_id is not None:
            return external_id
    raise Fatal(
        f"the log of {mapped.table.full_name} lacks the key columns {', '.join(mapped.key)}:"
        f" ALTER TABLE {mapped.table.sql} REPLICA IDENTITY FULL, then reset this stream's checkpoint"
    )
