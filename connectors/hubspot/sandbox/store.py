"""The records of one type: kept by id, by unique values and in order, with their history and their search index."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from connectors.hubspot.sandbox.conditions import Document
from connectors.hubspot.sandbox.schema import ObjectType
from connectors.hubspot.sandbox.search import SearchIndex
from connectors.hubspot.sandbox.values import iso

MAX_VERSIONS = 45
"""How many versions of a value an answer shows (HubSpot shows up to 45 of a contact's)."""
MAX_CHANGES = 500
"""How many changes of a record are kept."""


class Actor(NamedTuple):
    """Who makes a change: a webhook's `changeSource` and `sourceId`."""

    source: str
    source_id: str


class Version(NamedTuple):
    """One value that a property had, from `at` on (epoch milliseconds)."""

    value: str
    at: int
    actor: Actor


class Change(NamedTuple):
    """The values that one change gave a record."""

    at: int
    actor: Actor
    values: dict[str, str]


@dataclass(slots=True)
class Record:
    """One record. `properties` is replaced on a change, never changed in place, so that an index may keep it.

    Instants are epoch milliseconds. The system properties (creation, modification, id) are not in `properties`.
    """

    kind: ObjectType
    id: str
    properties: dict[str, str]
    created: int
    updated: int
    archived: int | None = None
    changes: list[Change] = field(default_factory=list)

    def value(self, name: str) -> str | None:
        """A property as an answer shows it, None where it is not set."""
        match name:
            case "hs_object_id":
                return self.id
            case self.kind.created | "hs_createdate":
                return iso(self.created)
            case self.kind.modified:
                return iso(self.updated)
        return self.properties.get(name)

    def remember(self, values: dict[str, str], at: int, actor: Actor) -> None:
        """Keep what a change gave the record."""
        self.changes.append(Change(at, actor, values))
        del self.changes[:-MAX_CHANGES]

    def versions(self, name: str) -> list[Version]:
        """The values that a property had, the present one first."""
        found = (
            Version(change.values[name], change.at, change.actor)
            for change in reversed(self.changes)
            if name in change.values
        )
        return list(islice(found, MAX_VERSIONS))

    def to_state(self) -> dict[str, Any]:
        """The whole record, for the control API."""
        times = {"createdAt": iso(self.created), "updatedAt": iso(self.updated)}
        properties = self.properties | {name: self.value(name) for name in self.kind.system}
        return {"id": self.id, "properties": properties, "archived": self.archived is not None} | times


class Table:
    """The records of one type. It keeps every index in step; whether a change is allowed is for the caller to know."""

    def __init__(self, kind: ObjectType, unique: set[str], index: SearchIndex) -> None:
        self.kind, self.index = kind, index
        self.unique: dict[str, dict[str, str]] = {name: {} for name in unique}
        self._records: dict[str, Record] = {}
        self._live: list[int] = []
        self._archived: list[int] = []

    def __len__(self) -> int:
        return len(self._live)

    def get(self, record_id: str, archived: bool = False) -> Record | None:
        """A live record, or an archived one if asked."""
        found = self._records.get(record_id)
        return found if found is not None and (found.archived is not None) == archived else None

    def holder(self, name: str, value: str) -> str | None:
        """The id of the live record that has a unique value; values are compared without case."""
        if name == "hs_object_id":
            return value if self.get(value) else None
        return self.unique[name].get(value.lower())

    def add(self, record: Record, now: int) -> None:
        """Take in a record with a new id."""
        self._records[record.id] = record
        order = self._live if record.archived is None else self._archived
        bisect.insort(order, int(record.id))
        if record.archived is None:
            _claim(self.unique, record)
            self.index.put(_document(record), now)

    def replace(self, record: Record, properties: dict[str, str], now: int) -> None:
        """Give a live record other properties, modified now."""
        _release(self.unique, record)
        record.properties = properties
        record.updated = now
        _claim(self.unique, record)
        self.index.put(_document(record), now)

    def archive(self, record: Record, now: int) -> None:
        """Move a live record to the archive; its unique values are free again."""
        self._withdraw(record, now)
        record.archived = now
        bisect.insort(self._archived, int(record.id))

    def remove(self, record: Record, now: int) -> None:
        """Forget a live record for good."""
        self._withdraw(record, now)
        del self._records[record.id]

    def page(self, after: int, limit: int, archived: bool = False) -> list[Record]:
        """The next records in order of id after one."""
        order = self._archived if archived else self._live
        start = bisect.bisect_right(order, after)
        return [self._records[str(number)] for number in order[start : start + limit]]

    def all(self) -> Iterator[Record]:
        """Every record, live and archived, in order of id."""
        for number in sorted((*self._live, *self._archived)):
            yield self._records[str(number)]

    def _withdraw(self, record: Record, now: int) -> None:
        _release(self.unique, record)
        del self._live[bisect.bisect_left(self._live, int(record.id))]
        self.index.drop(int(record.id), now)


def _claim(unique: dict[str, dict[str, str]], record: Record) -> None:
    for name, value in _identifiers(record.properties, unique):
        unique[name].setdefault(value, record.id)


def _release(unique: dict[str, dict[str, str]], record: Record) -> None:
    for name, value in _identifiers(record.properties, unique):
        if unique[name].get(value) == record.id:
            del unique[name][value]


def _identifiers(properties: dict[str, str], unique: dict[str, dict[str, str]]) -> Iterator[tuple[str, str]]:
    for name in unique:
        if value := properties.get(name):
            yield name, value.lower()
    if "email" in unique:
        for other in filter(None, properties.get("hs_additional_emails", "").split(";")):
            yield "email", other.lower()


def _document(record: Record) -> Document:
    return Document(int(record.id), record.created, record.updated, record.properties)
