"""The search index of one type: filters, free text, sorts and pages, as HubSpot documents its search endpoint.

The index may lag: a change becomes visible `lag_ms` after it was made. A search answers from what the index holds, so
a lagging index returns old values.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Iterable
from typing import Any

from connectors.hubspot.sandbox.conditions import Conditions, Document
from connectors.hubspot.sandbox.queries import Filter, Query
from connectors.hubspot.sandbox.schema import ObjectType, Property
from connectors.hubspot.sandbox.values import parse_ms

MAX_CACHED, MAX_PENDING = 64, 10_000
_HASHED = ("string", "enumeration", "bool")


class SearchIndex:
    """What searches of one type see."""

    def __init__(self, kind: ObjectType, definitions: dict[str, Property]) -> None:
        self.lag_ms = 0
        self._kind, self._conditions = kind, Conditions(kind, definitions)
        self._stored = _Documents()
        self._pending: deque[tuple[int, int, Document | None]] = deque()
        self._cache: dict[Any, list[Document]] = {}

    def put(self, document: Document, now: int) -> None:
        """Index a record, when the lag is over."""
        self._wait(now, document.id, document)

    def drop(self, number: int, now: int) -> None:
        """Forget a record, when the lag is over."""
        self._wait(now, number, None)

    def search(self, query: Query, now: int) -> list[Document]:
        """All matches in order; the caller cuts the page. The pages of one query share one run."""
        self._catch_up(now)
        key = query.key()
        if key not in self._cache:
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            self._cache[key] = self._run(query)
        return self._cache[key]

    def _wait(self, now: int, number: int, document: Document | None) -> None:
        self._pending.append((now + self.lag_ms, number, document))
        if len(self._pending) > MAX_PENDING:
            self._catch_up(now)

    def _catch_up(self, now: int) -> None:
        while self._pending and self._pending[0][0] <= now:
            _, number, document = self._pending.popleft()
            self._stored.apply(number, document)
            self._cache.clear()

    def _run(self, query: Query) -> list[Document]:
        groups = query.groups or [[]]
        tests = [[self._conditions.test(condition) for condition in group] for group in groups]
        words = query.text.lower().split()
        found: dict[int, Document] = {}
        for group, checks in zip(groups, tests, strict=True):
            for number in self._candidates(group):
                document = self._stored.documents[number]
                if number not in found and all(check(document) for check in checks):
                    found[number] = document
        matches = [document for document in found.values() if not words or self._has(document, words)]
        return self._sorted(matches, query)

    def _has(self, document: Document, words: list[str]) -> bool:
        texts = [document.properties.get(name, "").lower() for name in self._kind.searchable]
        return all(any(word in text for text in texts) for word in words)

    def _candidates(self, group: list[Filter]) -> Iterable[int]:
        """The smallest set of ids that an index offers for the conditions of one group."""
        best: Iterable[int] = self._stored.documents
        size = len(self._stored.documents)
        for condition in group:
            offered = self._offer(condition)
            if offered is not None and len(offered) < size:
                best, size = offered, len(offered)
        return best

    def _offer(self, condition: Filter) -> list[int] | None:
        """The ids that may fulfil a condition, if there is an index for it."""
        if condition.name == self._kind.modified:
            bounds = _bounds(condition)
            return None if bounds is None else self._stored.between(*bounds)
        if condition.operator not in ("EQ", "IN"):
            return None
        wanted = [value.lower() for value in condition.wanted()]
        if condition.name == "hs_object_id":
            numbers = [int(value) for value in wanted if value.isdecimal()]
            return [number for number in numbers if number in self._stored.documents]
        if self._conditions.type(condition.name) not in _HASHED:
            return None
        return self._stored.equal(condition.name, wanted)

    def _sorted(self, matches: list[Document], query: Query) -> list[Document]:
        matches.sort(key=lambda document: (document.created, document.id))
        if query.sort is None:
            return matches
        read = self._conditions.reader(query.sort)
        known = [document for document in matches if read(document) is not None]
        unknown = [document for document in matches if read(document) is None]
        known.sort(key=lambda document: document.id)
        known.sort(key=read, reverse=query.descending)
        return known + unknown


class _Documents:
    """Documents by id and by modification, and hash indexes for properties that were searched by equality."""

    def __init__(self) -> None:
        self.documents: dict[int, Document] = {}
        self._modified: list[tuple[int, int]] = []
        self._equal: dict[str, dict[str, set[int]]] = {}

    def apply(self, number: int, document: Document | None) -> None:
        """Put a document in the place of what was there, or take it away."""
        old = self.documents.pop(number, None)
        if old is not None:
            del self._modified[bisect.bisect_left(self._modified, (old.updated, number))]
        if document is not None:
            self.documents[number] = document
            bisect.insort(self._modified, (document.updated, number))
        for name, ids in self._equal.items():
            _move(ids, number, old and old.properties.get(name), document and document.properties.get(name))

    def between(self, low: int | None, high: int | None) -> list[int]:
        """The ids of the documents modified from one millisecond to another, both included."""
        start = 0 if low is None else bisect.bisect_left(self._modified, (low, -1))
        end = len(self._modified) if high is None else bisect.bisect_left(self._modified, (high + 1, -1))
        return [number for _, number in self._modified[start:end]]

    def equal(self, name: str, values: list[str]) -> list[int]:
        """The ids of the documents that have one of the values, without case."""
        if name not in self._equal:
            self._equal[name] = {}
            for number, document in self.documents.items():
                _move(self._equal[name], number, None, document.properties.get(name))
        return sorted(set().union(*(self._equal[name].get(value, ()) for value in values)))


def _bounds(condition: Filter) -> tuple[int | None, int | None] | None:
    """The first and last millisecond that may fulfil a condition; None for an operator that is not a range."""
    at = parse_ms(condition.value or "")
    match condition.operator:
        case "EQ":
            return at, at
        case "GT" | "GTE":
            return at, None
        case "LT" | "LTE":
            return None, at
        case "BETWEEN":
            return at, parse_ms(condition.high or "")
    return None


def _move(ids: dict[str, set[int]], number: int, old: str | None, new: str | None) -> None:
    """Keep a hash index in step; a value of several options is found under each of them and as a whole."""
    for value in _keys(old):
        ids.get(value, set()).discard(number)
    for value in _keys(new):
        ids.setdefault(value, set()).add(number)


def _keys(value: str | None) -> set[str]:
    return {value.lower(), *value.lower().split(";")} if value else set()
