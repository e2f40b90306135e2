"""What can be done to records: create, change, archive, erase and merge, with what HubSpot does by itself on the way.

Every operation keeps histories and indexes in step and emits the webhook events that follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from connectors.hubspot.sandbox.derive import defaults, derived, steps_back
from connectors.hubspot.sandbox.errors import ApiError, contact_exists, invalid, not_found
from connectors.hubspot.sandbox.schema import ObjectType
from connectors.hubspot.sandbox.search import SearchIndex
from connectors.hubspot.sandbox.store import Actor, Record, Table
from connectors.hubspot.sandbox.values import Rules, parse_ms

Emit = Callable[..., None]
"""(object type, what happened, actor, epoch milliseconds, **the event's own fields)."""

CALCULATED = Actor("CALCULATED", "")
FIRST_ID = 10_000_000_001


class Records:
    """All records of an account, by type."""

    def __init__(self, rules: Rules, kinds: dict[str, ObjectType], now: Callable[[], int], emit: Emit) -> None:
        self.rules, self.kinds, self.now, self.emit = rules, kinds, now, emit
        self.tables: dict[str, Table] = {}
        self.aliases: dict[tuple[str, str], str] = {}
        self.blocked: set[str] = set()
        self.last_id = FIRST_ID - 1
        self.auto_associate: Callable[[Record], None] = lambda _: None

    def kind(self, text: str) -> ObjectType:
        """The type of a name (`contacts`, `contact`) or id (`0-1`); ApiError 400 if there is none."""
        found = self.kinds.get(text.lower())
        if found is None:
            raise invalid(f"Unable to infer object type from: {text}")
        return found

    def table(self, kind: ObjectType) -> Table:
        """The records of a type."""
        if kind.type_id not in self.tables:
            definitions = self.rules.definitions[kind.type_id]
            unique = {item.name for item in definitions.values() if item.unique}
            self.tables[kind.type_id] = Table(kind, unique, SearchIndex(kind, definitions))
        return self.tables[kind.type_id]

    def next_id(self) -> str:
        """An id greater than every id there is."""
        self.last_id += 1
        return str(self.last_id)

    def find(self, kind: ObjectType, record_id: str, by: str | None = None, archived: bool = False) -> Record | None:
        """A record by id or by a unique property; the id of a merged record finds what it was merged into."""
        table = self.table(kind)
        if by and by != "hs_object_id":
            if by not in table.unique:
                raise invalid(f"Unable to perform update/upsert by non-unique {kind.type_id} property {by}")
            record_id = table.holder(by, record_id.strip()) or ""
        while (kind.type_id, record_id) in self.aliases:
            record_id = self.aliases[kind.type_id, record_id]
        return table.get(record_id, archived)

    def get(self, kind: ObjectType, record_id: str, by: str | None = None, archived: bool = False) -> Record:
        """A record; ApiError 404 if there is none."""
        found = self.find(kind, record_id, by, archived)
        if found is None:
            raise not_found("0" if by else record_id)
        return found

    def create(self, kind: ObjectType, cleaned: dict[str, str], actor: Actor) -> Record:
        """Make a record of values that `check_values` has passed."""
        at = self.now()
        given = {name: value for name, value in cleaned.items() if value}
        created = parse_ms(given.pop(kind.created, "")) or at
        record = Record(
            kind, self.next_id(), derived(kind, defaults(kind, given, actor), self.rules.stages), created, at
        )
        record.remember(record.properties, at, actor)
        self.table(kind).add(record, at)
        self.emit(kind, "creation", actor, at, objectId=int(record.id), changeFlag="CREATED")
        _announce(self.emit, record, given, actor, at)
        self.auto_associate(record)
        return record

    def update(self, record: Record, cleaned: dict[str, str], actor: Actor) -> None:
        """Change a record to values that `check_values` has passed; values that are there already change nothing."""
        kind, old = record.kind, record.properties
        if created := parse_ms(cleaned.pop(kind.created, "")):
            record.created = created
        if steps_back(old.get("lifecyclestage"), cleaned.get("lifecyclestage")):
            del cleaned["lifecyclestage"]
        changed = {name: value for name, value in cleaned.items() if old.get(name, "") != value}
        if not changed:
            return
        after = {name: value for name, value in {**old, **changed}.items() if value}
        after = derived(kind, after, self.rules.stages)
        at = _after(self.now(), record)
        followed = {name: value for name, value in after.items() if old.get(name) != value}
        record.remember(changed | followed, at, actor)
        self.table(kind).replace(record, after, at)
        _announce(self.emit, record, changed, actor, at)

    def archive(self, record: Record, actor: Actor) -> None:
        """Move a record to the archive."""
        at = _after(self.now(), record)
        self.table(record.kind).archive(record, at)
        self.emit(record.kind, "deletion", actor, at, objectId=int(record.id), changeFlag="DELETED")

    def erase(self, record: Record, actor: Actor) -> None:
        """Forget a contact for good and let its address never come back."""
        at = _after(self.now(), record)
        self.table(record.kind).remove(record, at)
        self.blocked.update(filter(None, [record.properties.get("email")]))
        for happening in ("deletion", "privacyDeletion"):
            self.emit(record.kind, happening, actor, at, objectId=int(record.id), changeFlag="DELETED")

    def calculate(self, record: Record, values: dict[str, str]) -> None:
        """Set properties that HubSpot calculates."""
        known = self.rules.definitions[record.kind.type_id]
        self.update(record, {name: value for name, value in values.items() if name in known}, CALCULATED)


def check_values(
    records: Records, kind: ObjectType, given: Mapping[str, Any], record: Record | None, taken: set[str]
) -> dict[str, str]:
    """The values as they would be stored; ApiError if any is refused or a unique one is another record's.

    `taken` holds the unique values that earlier inputs of the same request claim, and gets this one's.
    """
    cleaned = records.rules.clean(kind, given, record.properties if record else {})
    if record is None:
        _require(kind, cleaned)
    for name in records.table(kind).unique:
        value = cleaned.get(name)
        if value:
            _check_unique(records, kind, name, value, record)
            if f"{name}={value.lower()}" in taken:
                raise ApiError(409, f"{name} {value} is in the request more than once", "CONFLICT")
            taken.add(f"{name}={value.lower()}")
    return cleaned


def _check_unique(records: Records, kind: ObjectType, name: str, value: str, record: Record | None) -> None:
    if name == "email" and value in records.blocked:
        raise invalid("email has been GDPR blacklisted", email=[value])
    holder = records.table(kind).holder(name, value)
    if holder is not None and (record is None or holder != record.id):
        raise contact_exists(holder) if name == "email" else records.rules.unique_taken(kind, name, value, holder)


def _require(kind: ObjectType, cleaned: Mapping[str, str]) -> None:
    absent = [name for name in kind.required if not cleaned.get(name)]
    if kind.any_of and not any(cleaned.get(name) for name in kind.any_of):
        absent = list(kind.any_of)
    if absent:
        text = f"Error creating {kind.singular}. Some required properties were not set."
        raise invalid(text, properties=absent)


def _after(now: int, record: Record) -> int:
    """Now, but not before the record's last change; two changes in one millisecond have one timestamp."""
    return max(now, record.updated)


def _announce(emit: Emit, record: Record, changed: Mapping[str, str], actor: Actor, at: int) -> None:
    for name, value in changed.items():
        fields = {"objectId": int(record.id), "propertyName": name, "propertyValue": value}
        emit(record.kind, "propertyChange", actor, at, **fields)
