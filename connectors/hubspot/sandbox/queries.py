"""A search request: its shape, its limits and the errors for what goes beyond them.

The limits are those of HubSpot's search guide: 5 groups, 6 filters each and 18 in all, pages of up to 200, 10,000
results of one query, a text of up to 3,000 characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from connectors.hubspot.sandbox.errors import invalid

MAX_RESULTS = 10_000
MAX_PAGE = 200
MAX_GROUPS, MAX_PER_GROUP, MAX_FILTERS, MAX_TEXT = 5, 6, 18, 3_000

Operator = Literal[
    "EQ",
    "NEQ",
    "LT",
    "LTE",
    "GT",
    "GTE",
    "BETWEEN",
    "IN",
    "NOT_IN",
    "HAS_PROPERTY",
    "NOT_HAS_PROPERTY",
    "CONTAINS_TOKEN",
    "NOT_CONTAINS_TOKEN",
]
Scalar = str | int | float | bool


class Filter(msgspec.Struct, rename={"name": "propertyName", "high": "highValue"}, frozen=True):
    """One condition on one property."""

    name: str
    operator: Operator
    given: Scalar | None = msgspec.field(default=None, name="value")
    high: str | None = None
    values: tuple[Scalar, ...] | None = None

    @property
    def value(self) -> str | None:
        """The value as text."""
        return None if self.given is None else _text(self.given)

    def wanted(self) -> list[str]:
        """What the operator compares with, as text."""
        if self.operator in ("IN", "NOT_IN"):
            return [_text(value) for value in self.values or ()]
        return [text for text in (self.value, self.high if self.operator == "BETWEEN" else None) if text is not None]

    def check(self) -> None:
        """Refuse an operator without its operand."""
        need = {"IN": "values", "NOT_IN": "values", "BETWEEN": "highValue"}.get(self.operator, "value")
        if self.operator in ("HAS_PROPERTY", "NOT_HAS_PROPERTY"):
            if self.given is not None:
                raise invalid(f"operator {self.operator} does not accept a value", propertyName=[self.name])
        elif not self.wanted() or (self.operator == "BETWEEN" and len(self.wanted()) < 2):
            raise invalid(f"operator {self.operator} requires {need}", propertyName=[self.name])


class _Group(msgspec.Struct):
    filters: list[Filter]


class _Sort(msgspec.Struct, rename={"name": "propertyName"}):
    name: str
    direction: Literal["ASCENDING", "DESCENDING"] = "ASCENDING"


class SearchRequest(msgspec.Struct):
    """The body of a search request."""

    filterGroups: list[_Group] = []  # noqa: N815 - HubSpot's name
    filters: list[Filter] = []
    sorts: list[str | _Sort] = []
    query: str | None = None
    properties: list[str] | None = []
    limit: int | None = 10
    after: str | int | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched: filters in groups (OR of ANDs), a text, one sort and a page."""

    groups: list[list[Filter]]
    text: str
    sort: str | None
    descending: bool
    limit: int
    after: int

    def key(self) -> Any:
        """What two pages of one query have in common."""
        return tuple(map(tuple, self.groups)), self.text, self.sort, self.descending


def parse(request: SearchRequest) -> Query:
    """A request within its limits; ApiError 400 otherwise."""
    groups = [group.filters for group in request.filterGroups]
    if request.filters:
        groups.append(request.filters)
    _check_sizes(groups, request)
    limit, after = request.limit if request.limit is not None else 10, _offset(request.after)
    if not 0 <= limit <= MAX_PAGE:
        raise invalid(f"limit must be between 0 and {MAX_PAGE}", limit=[str(limit)])
    if after + limit > MAX_RESULTS:
        raise invalid("There was a problem with the request.", after=[str(after)], limit=[str(limit)])
    sort = request.sorts[0] if request.sorts else None
    name, descending = _sort(sort)
    return Query(groups, request.query or "", name, descending, limit, after)


def _check_sizes(groups: list[list[Filter]], request: SearchRequest) -> None:
    if len(groups) > MAX_GROUPS or sum(map(len, groups)) > MAX_FILTERS:
        raise invalid(f"A search takes up to {MAX_GROUPS} filterGroups and {MAX_FILTERS} filters in all")
    if any(len(group) > MAX_PER_GROUP for group in groups):
        raise invalid(f"A filterGroup takes up to {MAX_PER_GROUP} filters")
    if len(request.query or "") > MAX_TEXT:
        raise invalid(f"query takes up to {MAX_TEXT} characters")
    if len(request.sorts) > 1:
        raise invalid("A search takes one sort")
    for group in groups:
        for condition in group:
            condition.check()


def _sort(sort: str | _Sort | None) -> tuple[str | None, bool]:
    """A sort is a name, a name with `-` before it, or an object; without one, the oldest come first."""
    if sort is None:
        return None, False
    if isinstance(sort, str):
        return sort.removeprefix("-"), sort.startswith("-")
    return sort.name, sort.direction == "DESCENDING"


def _offset(after: str | int | None) -> int:
    text = str(after or 0)
    if not text.isdecimal():
        raise invalid(f"Invalid paging token: {text}", after=[text])
    return int(text)


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
