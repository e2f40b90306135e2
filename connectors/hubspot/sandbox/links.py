"""Associations between records: their types, both directions of each, and which company is the primary one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from connectors.hubspot.sandbox.errors import ApiError, invalid
from connectors.hubspot.sandbox.schema import ObjectType

HUBSPOT, USER = "HUBSPOT_DEFINED", "USER_DEFINED"

# from, to, type id, type id of the other direction, label. The ids are those of the official SDK's AssociationType;
# 449 to 451 (same type) and 13, 14 (parent and child company) are from the associations guide.
_DEFINED = """
contacts companies 279 280
contacts companies 1 2 Primary
contacts contacts 449 449
companies companies 450 450
companies companies 13 14 Child Company
deals deals 451 451
deals contacts 3 4
deals companies 341 342
deals companies 5 6 Primary
companies calls 181 182
companies emails 185 186
companies meetings 187 188
companies notes 189 190
companies tasks 191 192
contacts calls 193 194
contacts emails 197 198
contacts meetings 199 200
contacts notes 201 202
contacts tasks 203 204
deals calls 205 206
deals emails 209 210
deals meetings 211 212
deals notes 213 214
deals tasks 215 216
calls meetings 399 400
"""
_PARENT = "Parent Company"
_FIRST_USER_TYPE = 1001


class Spec(NamedTuple):
    """A type of association: its category and number."""

    category: str
    type_id: int


class Definition(NamedTuple):
    """A type in one direction, and the same type seen from the other side."""

    spec: Spec
    label: str | None
    inverse: Spec

    def turned(self) -> Definition:
        """The type from the other side; its label is the same here, as only the primary one's matters."""
        return Definition(self.inverse, self.label, self.spec)

    def to_json(self) -> dict[str, Any]:
        """As the labels endpoint shows it."""
        return {"category": self.spec.category, "typeId": self.spec.type_id, "label": self.label}


End = tuple[str, str]
"""A record as one end of an association: type id and record id."""


class Definitions:
    """The association types of an account, by the pair of object types."""

    def __init__(self, kinds: dict[str, ObjectType]) -> None:
        self._pairs: dict[tuple[str, str], list[Definition]] = {}
        self._next = _FIRST_USER_TYPE
        for row in _DEFINED.strip().splitlines():
            start, end, forth, back, *words = row.split(" ", 4)
            label = words[0] if words else None
            other = _PARENT if label == "Child Company" else label
            pair = kinds[start].type_id, kinds[end].type_id
            self._put(pair, Spec(HUBSPOT, int(forth)), Spec(HUBSPOT, int(back)), label, other)

    def between(self, start: str, end: str) -> list[Definition]:
        """The types from one object type to another; custom objects get an unlabelled one when first asked for."""
        known = self._pairs.get((start, end))
        if known is None and (start.startswith("2-") or end.startswith("2-")):
            self.define(start, end, None, None)
        return self._pairs.get((start, end), [])

    def define(self, start: str, end: str, label: str | None, inverse: str | None) -> list[Definition]:
        """Make a user-defined type; returns both directions."""
        forth, back = Spec(USER, self._next), Spec(USER, self._next + 1)
        self._next += 2
        self._put((start, end), forth, back, label, inverse)
        return [self.find(start, end, forth), self.find(end, start, back)]

    def find(self, start: str, end: str, spec: Spec) -> Definition:
        """The definition of a type; ApiError 400 if it is not one from `start` to `end`."""
        for definition in self.between(start, end):
            if definition.spec == spec:
                return definition
        shown = f"{spec.category}={spec.type_id}"
        context = {
            "associationSpec": [shown],
            "INVALID_ASSOCIATION_TYPE_ID": [f"{shown} is not a valid association definition id"],
        }
        raise ApiError(400, "One or more associations are invalid", "VALIDATION_ERROR", context=context)

    def default(self, start: ObjectType, end: ObjectType) -> Definition:
        """The unlabelled type; ApiError 400 if the two object types have none."""
        for definition in self.between(start.type_id, end.type_id):
            if definition.label is None:
                return definition
        raise invalid(f"No default association exists between {start.singular} and {end.singular}")

    def primary(self, start: str, end: str) -> Definition | None:
        """The type that marks the primary company, where the two object types have one."""
        labelled = (item for item in self._pairs.get((start, end), ()) if item.label == "Primary")
        return next(labelled, None)

    def _put(self, pair: tuple[str, str], forth: Spec, back: Spec, label: str | None, other: str | None) -> None:
        self._pairs.setdefault(pair, []).append(Definition(forth, label, back))
        if forth != back:
            self._pairs.setdefault((pair[1], pair[0]), []).append(Definition(back, other, forth))


class Links:
    """Which records are associated, with which types; every association is kept from both ends."""

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self._links: dict[End, dict[str, dict[str, set[Spec]]]] = {}

    def add(self, start: End, end: End, definition: Definition) -> bool:
        """Add one type; whether it is new."""
        specs = self._links.setdefault(start, {}).setdefault(end[0], {}).setdefault(end[1], set())
        new = definition.spec not in specs
        specs.add(definition.spec)
        back = self._links.setdefault(end, {}).setdefault(start[0], {}).setdefault(start[1], set())
        back.add(definition.inverse)
        return new

    def remove(self, start: End, end: End, spec: Spec | None = None) -> bool:
        """Take away one type, or all; whether there was one."""
        specs = self.specs(start, end)
        gone = specs if spec is None else specs & {spec}
        for item in gone:
            self._cut(start, end, item)
            self._cut(end, start, self.definitions.find(start[0], end[0], item).inverse)
        return bool(gone)

    def specs(self, start: End, end: End) -> set[Spec]:
        """The types between two records, as seen from the first."""
        return set(self._links.get(start, {}).get(end[0], {}).get(end[1], ()))

    def of(self, start: End, type_id: str) -> list[str]:
        """The ids of the associated records of a type, in order."""
        return sorted(self._links.get(start, {}).get(type_id, {}), key=int)

    def primary(self, start: End, type_id: str) -> str | None:
        """The id of the primary associated record of a type."""
        definition = self.definitions.primary(start[0], type_id)
        found = (
            other
            for other in self.of(start, type_id)
            if definition and definition.spec in self.specs(start, (type_id, other))
        )
        return next(found, None)

    def ends(self, start: End) -> list[End]:
        """Every record that is associated with one."""
        return [(type_id, other) for type_id in sorted(self._links.get(start, {})) for other in self.of(start, type_id)]

    def all(self) -> Iterator[tuple[End, End, Spec]]:
        """Every association in both directions, in a fixed order."""
        for start in sorted(self._links, key=lambda end: (end[0], int(end[1]))):
            for end in self.ends(start):
                for spec in sorted(self.specs(start, end)):
                    yield start, end, spec

    def _cut(self, start: End, end: End, spec: Spec) -> None:
        others = self._links[start][end[0]]
        others[end[1]].discard(spec)
        if not others[end[1]]:
            del others[end[1]]
