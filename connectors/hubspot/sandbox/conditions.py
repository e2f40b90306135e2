"""The conditions of a search as tests of a document: operators, and what values of each type are compared as."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from connectors.hubspot.sandbox.errors import invalid
from connectors.hubspot.sandbox.queries import Filter
from connectors.hubspot.sandbox.schema import ObjectType, Property
from connectors.hubspot.sandbox.values import parse_ms

Test = Callable[["Document"], bool]


class Document(NamedTuple):
    """A record as the index holds it; instants are epoch milliseconds."""

    id: int
    created: int
    updated: int
    properties: dict[str, str]


@dataclass(frozen=True, slots=True)
class Conditions:
    """The properties of one type, for whoever compares them."""

    kind: ObjectType
    definitions: dict[str, Property]

    def type(self, name: str) -> str:
        """A property's type; ApiError 400 if there is no such property."""
        definition = self.definitions.get(name)
        if definition is None:
            raise invalid(f'Property "{name}" does not exist', propertyName=[name])
        return definition.type

    def reader(self, name: str) -> Callable[[Document], Any]:
        """What a property's value is compared as: a number, an instant in milliseconds, or text without case."""
        kind = self.type(name)
        if name == "hs_object_id":
            return lambda document: document.id
        if name in (self.kind.created, "hs_createdate"):
            return lambda document: document.created
        if name == self.kind.modified:
            return lambda document: document.updated
        make = _MAKE.get(kind, str.lower)

        def read(document: Document) -> Any:
            text = document.properties.get(name)
            return None if text is None else make(text)

        return read

    def test(self, condition: Filter) -> Test:
        """One condition as a test; ApiError 400 for a value that is not of the property's type."""
        read, kind = self.reader(condition.name), self.type(condition.name)
        if condition.operator in ("CONTAINS_TOKEN", "NOT_CONTAINS_TOKEN"):
            return _token_test(condition)
        if kind == "enumeration" and condition.operator in ("EQ", "NEQ", "IN", "NOT_IN"):
            return _enumeration_test(condition)
        # IN and NOT_IN lower-case the stored text only, so that their values must be given in lower case.
        listed = condition.operator in ("IN", "NOT_IN") and kind == "string"
        make = str if listed else _MAKE.get(kind, str.lower)
        wanted = [make(value) for value in condition.wanted()]
        if None in wanted:
            raise invalid(f"Invalid value for property {condition.name}: {condition.value}")
        return _comparison(condition.operator, read, wanted)


def _as_number(text: str) -> float | None:
    """A number to compare by; searches are not sums, so a double is exact enough."""
    try:
        return float(text)
    except ValueError:
        return None


_MAKE: dict[str, Callable[[str], Any]] = {"number": _as_number, "datetime": parse_ms, "date": parse_ms}


def _comparison(operator: str, read: Callable[[Document], Any], wanted: list[Any]) -> Test:
    """A test that is never true of a record without the value, except of NOT_HAS_PROPERTY."""
    if operator == "HAS_PROPERTY":
        return lambda document: read(document) is not None
    if operator == "NOT_HAS_PROPERTY":
        return lambda document: read(document) is None
    compare = _COMPARE[operator]

    def test(document: Document) -> bool:
        value = read(document)
        return value is not None and compare(value, wanted)

    return test


_COMPARE: dict[str, Callable[[Any, list[Any]], bool]] = {
    "EQ": lambda value, wanted: bool(value == wanted[0]),
    "NEQ": lambda value, wanted: bool(value != wanted[0]),
    "LT": lambda value, wanted: bool(value < wanted[0]),
    "LTE": lambda value, wanted: bool(value <= wanted[0]),
    "GT": lambda value, wanted: bool(value > wanted[0]),
    "GTE": lambda value, wanted: bool(value >= wanted[0]),
    "BETWEEN": lambda value, wanted: bool(wanted[0] <= value <= wanted[1]),
    "IN": lambda value, wanted: value in wanted,
    "NOT_IN": lambda value, wanted: value not in wanted,
}


def _enumeration_test(condition: Filter) -> Test:
    """Options are compared with case, each of a value of several options on its own."""
    wanted = set(condition.wanted())
    inverted = condition.operator in ("NEQ", "NOT_IN")

    def test(document: Document) -> bool:
        text = document.properties.get(condition.name)
        return text is not None and (not wanted.isdisjoint((text, *text.split(";")))) != inverted

    return test


def _token_test(condition: Filter) -> Test:
    """A token is found whole, without case; `*` stands for any characters."""
    pattern = (condition.value or "").lower()
    inverted = condition.operator == "NOT_CONTAINS_TOKEN"
    tokens = re.findall(r"\w+", pattern)

    def contains(text: str) -> bool:
        words = re.findall(r"\w+", text)
        if "*" in pattern:
            return fnmatch.fnmatchcase(text, pattern) or any(fnmatch.fnmatchcase(word, pattern) for word in words)
        return bool(tokens) and set(tokens) <= set(words)

    def test(document: Document) -> bool:
        text = document.properties.get(condition.name)
        return text is not None and contains(text.lower()) != inverted

    return test
