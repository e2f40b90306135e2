"""Identity: (system, object, external id) -> golden id. Decided once, recorded as events, reused on replay."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hub.entity import Entity
from hub.values import Value

Key = tuple[str, str]
RecordId = tuple[str, str, str]

# Mailboxes that belong to a role, not to a person: equal ones do not make two records one.
ROLES = frozenset(
    (
        "abuse", "admin", "billing", "contact", "enquiries", "hello", "help", "info", "invoices", "jobs", "mail",
        "marketing", "no-reply", "noreply", "office", "orders", "postmaster", "press", "privacy", "sales", "security",
        "service", "support", "team", "webmaster",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class IdentityEvent:
    """What was decided about identity: a link (record to golden id), a merge (golden id into another), an unmerge, a move
    (record to another golden id, since new match settings set it apart)."""

    kind: Literal["link", "merge", "unmerge", "move"]
    golden_id: str
    entity: str
    event_id: str
    record: RecordId | None = None
    into: str | None = None
    reason: str = ""

    def to_avro(self) -> dict[str, Any]:
        """The datum of schemas/identity.avsc."""
        system, object_, external_id = self.record or (None, None, None)
        return {
            "kind": self.kind, "golden_id": self.golden_id, "entity": self.entity, "event_id": self.event_id,
            "system": system, "object": object_, "external_id": external_id, "into": self.into, "reason": self.reason,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Resolution:
    """Where a record belongs, and which other golden records turned out to be the same thing."""

    golden_id: str
    new: bool = False
    merges: tuple[str, ...] = ()
    by: Key | None = None


def golden_id(entity: str, record: RecordId, generation: int = 0) -> str:
    """The id minted for a thing first seen as this record; `generation` counts on when that id has been used up."""
    parts = [entity, *record, *([str(generation)] if generation else [])]
    digest = hashlib.blake2b("\x1f".join(parts).encode(), digest_size=10).hexdigest()
    return f"{entity}_{digest}"


def keys(entity: Entity, record: RecordId, values: Mapping[str, Value], foreign: Mapping[str, str]) -> list[Key]:
    """The exact keys of a record: itself, the foreign ids it holds, and its match fields' values."""
    held = [("golden", id_) if whose == "golden" else ("record", _named(whose, id_)) for whose, id_ in foreign.items()]
    return [own_key(record), *held, *match_keys(entity, values)]


def own_key(record: RecordId) -> Key:
    """The key by which a record is named."""
    return ("record", "/".join(record))


def match_keys(entity: Entity, values: Mapping[str, Value]) -> Iterable[Key]:
    """The keys that follow from match fields. A role's mailbox is none."""
    for name in entity.match:
        value = values.get(name)
        if isinstance(value, str) and not (entity.fields[name].kind == "email" and value.split("@")[0] in ROLES):
            yield (name, value.casefold()[:512])


def resolve(
    entity: Entity, record: RecordId, linked: str | None, hits: Sequence[tuple[Key, str]], mint: str
) -> Resolution:
    """Decide: a linked record stays; else the first key that is known; else a new thing. All others known are merged."""
    known = list(dict.fromkeys(golden for _, golden in hits))
    if linked is None and not known:
        return Resolution(mint, new=True)
    home = linked or known[0]
    by = next((key for key, golden in hits if golden == home), None)
    return Resolution(home, merges=tuple(g for g in known if g != home), by=by)


def survivor(golden_ids: Iterable[str]) -> str:
    """Which of several golden ids lives on: the same one, whoever finds out first that they are one thing."""
    return min(golden_ids)


def _named(whose: str, external_id: str) -> str:
    system, _, object_ = whose.partition(".")
    return f"{system}/{object_}/{external_id}"


def root(merged: Mapping[str, str | None], golden_id: str) -> str:
    """The golden id under which a thing lives: where merges have led from this one."""
    while into := merged.get(golden_id):
        golden_id = into
    return golden_id
