"""Associating records: the links, what HubSpot calculates from them, and their webhook events."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.hubspot.sandbox.derive import merged_properties
from connectors.hubspot.sandbox.links import Definition, Links, Spec
from connectors.hubspot.sandbox.queries import Filter, Query
from connectors.hubspot.sandbox.records import Records
from connectors.hubspot.sandbox.schema import ENGAGEMENTS, ObjectType
from connectors.hubspot.sandbox.store import Actor, Record
from connectors.hubspot.sandbox.values import iso


@dataclass(frozen=True, slots=True)
class Relations:
    """The links between an account's records."""

    records: Records
    links: Links

    def relate(self, start: Record, end: Record, definition: Definition, actor: Actor) -> None:
        """Associate two records with one type; the unlabelled type always comes with it.

        A first company becomes the primary one, and a new primary company takes the place of the old.
        """
        unlabelled = self.links.definitions.default(start.kind, end.kind)
        one, other = _end(start), _end(end)
        new = self.links.add(one, other, unlabelled)
        self.links.add(one, other, definition)
        self._choose_primary(start, end, definition)
        self._choose_primary(end, start, definition.turned())
        self._calculate(start, end)
        self._calculate(end, start)
        if new:
            self._announce(start, end, actor, removed=False)

    def load(self, start: Record, end: Record, definition: Definition) -> None:
        """Associate two records of a seed: no events, no calculated values, the same primary company."""
        self.links.add(_end(start), _end(end), self.links.definitions.default(start.kind, end.kind))
        self.links.add(_end(start), _end(end), definition)
        self._choose_primary(start, end, definition)
        self._choose_primary(end, start, definition.turned())

    def unrelate(self, start: Record, end: Record, actor: Actor, spec: Spec | None = None) -> None:
        """Take away one type of association, or all of them."""
        if not self.links.remove(_end(start), _end(end), spec):
            return
        self._calculate(start, end)
        self._calculate(end, start)
        if not self.links.specs(_end(start), _end(end)):
            self._announce(start, end, actor, removed=True)

    def detach(self, record: Record) -> None:
        """Take away every association of a record that goes away, without events of their own."""
        for type_id, other in self.links.ends(_end(record)):
            self.links.remove(_end(record), (type_id, other))
            found = self.records.find(self.records.kinds[type_id], other)
            if found is not None:
                self._calculate(found, record)

    def merge(self, primary: Record, other: Record, actor: Actor) -> Record:
        """Merge two records into a new one; both old ids lead to it from then on."""
        kind, at = primary.kind, max(self.records.now(), primary.updated, other.updated)
        values = merged_properties(primary, other)
        made = Record(kind, self.records.next_id(), values, min(primary.created, other.created), at)
        made.changes = [*sorted((*other.changes, *primary.changes), key=lambda change: change.at)]
        made.remember(values, at, actor)
        ends = [
            (end, spec)
            for old in (primary, other)
            for end in self.links.ends(_end(old))
            for spec in sorted(self.links.specs(_end(old), end))
        ]
        for old in (primary, other):
            for end in self.links.ends(_end(old)):
                self.links.remove(_end(old), end)
            self.records.table(kind).remove(old, at)
            self.records.aliases[kind.type_id, old.id] = made.id
        self.records.table(kind).add(made, at)
        self._take_over(made, ends)
        moved = sum(values.get(name) == other.properties[name] for name in other.properties.keys() - primary.properties)
        fields = {"primaryObjectId": int(primary.id), "mergedObjectIds": [int(other.id)], "newObjectId": int(made.id)}
        self.records.emit(kind, "merge", actor, at, objectId=int(made.id), **fields, numberOfPropertiesMoved=moved)
        return made

    def associate_by_domain(self, contact: Record, actor: Actor) -> None:
        """Associate a new contact with the company that has its address's domain, if there is one."""
        domain = contact.properties.get("hs_email_domain")
        if contact.kind.name != "contacts" or not domain:
            return
        companies = self.records.kind("companies")
        query = Query([[Filter("domain", "EQ", domain)]], "", None, False, 1, 0)
        found = self.records.table(companies).index.search(query, self.records.now())
        if found:
            company = self.records.get(companies, str(found[0].id))
            self.relate(contact, company, self.links.definitions.default(contact.kind, companies), actor)

    def _take_over(self, made: Record, ends: list[tuple[tuple[str, str], Spec]]) -> None:
        """Give the merged record the associations of both; a primary one of the second does not replace the first's."""
        for end, spec in ends:
            definition = self.links.definitions.find(made.kind.type_id, end[0], spec)
            if end == _end(made) or (definition.label == "Primary" and self.links.primary(_end(made), end[0])):
                continue
            self.links.add(_end(made), end, definition)
        for type_id, other in self.links.ends(_end(made)):
            found = self.records.find(self.records.kinds[type_id], other)
            if found is not None:
                self._calculate(made, found)
                self._calculate(found, made)

    def _choose_primary(self, start: Record, end: Record, definition: Definition) -> None:
        if end.kind.name != "companies":
            return
        primary = self.links.definitions.primary(start.kind.type_id, end.kind.type_id)
        if primary is None:
            return
        one = _end(start)
        current = [
            other
            for other in self.links.of(one, end.kind.type_id)
            if primary.spec in self.links.specs(one, (end.kind.type_id, other))
        ]
        if definition.label == "Primary":
            for other in current:
                if other != end.id:
                    self.links.remove(one, (end.kind.type_id, other), primary.spec)
        elif not current:
            self.links.add(one, _end(end), primary)

    def _calculate(self, record: Record, other: Record) -> None:
        """Set what HubSpot calculates of a record from its associations with another's type."""
        one, name = _end(record), other.kind.name
        count = str(len(self.links.of(one, other.kind.type_id)))
        values: dict[str, str] = {}
        if name == "companies" and record.kind.name == "contacts":
            values["associatedcompanyid"] = self.links.primary(one, other.kind.type_id) or ""
        elif name in ("contacts", "deals"):
            values[f"num_associated_{name}"] = count
        elif other.kind.type_id in ENGAGEMENTS:
            values["num_notes"] = str(sum(len(self.links.of(one, type_id)) for type_id in ENGAGEMENTS))
            values["notes_last_updated"] = iso(self.records.now())
        self.records.calculate(record, values)

    def _announce(self, start: Record, end: Record, actor: Actor, *, removed: bool) -> None:
        for one, other in ((start, end), (end, start)):
            if other.kind.events is None and one.kind.events is not None and other.kind.type_id not in ENGAGEMENTS:
                continue
            fields = {
                "associationType": f"{_word(one.kind)}_TO_{_word(other.kind)}",
                "fromObjectId": int(one.id),
                "toObjectId": int(other.id),
                "associationRemoved": removed,
                "isPrimaryAssociation": self.links.primary(_end(one), other.kind.type_id) == other.id,
            }
            self.records.emit(one.kind, "associationChange", actor, self.records.now(), **fields)


def _end(record: Record) -> tuple[str, str]:
    return record.kind.type_id, record.id


def _word(kind: ObjectType) -> str:
    return kind.label.removesuffix("_event").upper()
