"""The shapes of object requests and answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from connectors.hubspot.sandbox.account import Account
from connectors.hubspot.sandbox.errors import ApiError, invalid
from connectors.hubspot.sandbox.links import Definition, Spec
from connectors.hubspot.sandbox.schema import ObjectType
from connectors.hubspot.sandbox.store import Record
from connectors.hubspot.sandbox.values import iso

MAX_BATCH = 100
Category = Literal["HUBSPOT_DEFINED", "USER_DEFINED", "INTEGRATOR_DEFINED"]


class Ref(msgspec.Struct):
    """A record by id; numbers are taken as text."""

    given: str | int = msgspec.field(name="id")

    @property
    def id(self) -> str:
        """The id as text."""
        return str(self.given)


class SpecInput(msgspec.Struct, rename="camel"):
    """A type of association."""

    association_category: Category
    association_type_id: int

    @property
    def spec(self) -> Spec:
        """The type as it is kept."""
        return Spec(self.association_category, self.association_type_id)


class AssociationInput(msgspec.Struct):
    """An association that a new record comes with."""

    to: Ref
    types: list[SpecInput]


class ObjectInput(msgspec.Struct):
    """The body of an update."""

    properties: dict[str, Any]


class CreateInput(msgspec.Struct, rename="camel"):
    """The body of a create, and one input of a batch create."""

    properties: dict[str, Any]
    associations: list[AssociationInput] | None = None
    object_write_trace_id: str | None = None


class UpdateInput(msgspec.Struct, rename="camel"):
    """One input of a batch update or upsert."""

    given: str | int = msgspec.field(name="id")
    properties: dict[str, Any]
    id_property: str | None = None
    object_write_trace_id: str | None = None

    @property
    def id(self) -> str:
        """The id, or the value of the id property, as text."""
        return str(self.given)


class BatchCreate(msgspec.Struct):
    """The body of a batch create."""

    inputs: list[CreateInput]


class BatchUpdate(msgspec.Struct):
    """The body of a batch update or upsert."""

    inputs: list[UpdateInput]


class BatchRead(msgspec.Struct, rename="camel"):
    """The body of a batch read."""

    inputs: list[Ref]
    properties: list[str] = []
    properties_with_history: list[str] = []
    id_property: str | None = None


class BatchRefs(msgspec.Struct):
    """The body of a batch archive."""

    inputs: list[Ref]


class MergeInput(msgspec.Struct, rename="camel"):
    """The body of a merge."""

    primary_object_id: str | int
    object_id_to_merge: str | int


class EraseInput(msgspec.Struct, rename="camel"):
    """The body of a deletion for privacy."""

    object_id: str | int
    id_property: str | None = None


def check_size(inputs: list[Any], most: int = MAX_BATCH) -> None:
    """ApiError 400 for a batch that is too large."""
    if len(inputs) > most:
        raise invalid(
            f"The maximum number of inputs is {most}, and {len(inputs)} were given", inputs=[str(len(inputs))]
        )


def show(account: Account, record: Record, names: Iterable[str], **more: Any) -> dict[str, Any]:
    """A record with the named properties: null where not set, left out where the account has no such property."""
    known = account.definitions[record.kind.type_id]
    wanted = sorted({name for name in names if name in known} | set(record.kind.system))
    return _frame(record, {name: record.value(name) for name in wanted}, more)


def show_all(record: Record, **more: Any) -> dict[str, Any]:
    """A record with every property that is set."""
    return _frame(
        record, {name: record.value(name) for name in sorted({*record.properties, *record.kind.system})}, more
    )


def _frame(record: Record, properties: dict[str, str | None], more: dict[str, Any]) -> dict[str, Any]:
    shown = {
        "id": record.id,
        "properties": properties,
        "createdAt": iso(record.created),
        "updatedAt": iso(record.updated),
        "archived": record.archived is not None,
    }
    if record.archived is not None:
        shown["archivedAt"] = iso(record.archived)
    return shown | {name: value for name, value in more.items() if value is not None}


def history(record: Record, names: Iterable[str]) -> dict[str, Any] | None:
    """The versions of properties, newest first, or None if none were asked for."""
    shown = {
        name: [
            {
                "value": version.value,
                "timestamp": iso(version.at),
                "sourceType": version.actor.source,
                "sourceId": version.actor.source_id,
            }
            for version in record.versions(name)
        ]
        for name in names
    }
    return shown or None


def associations(account: Account, record: Record, names: list[str]) -> dict[str, Any] | None:
    """A record's associations with the named types; a record is listed once for every type of association."""
    shown: dict[str, Any] = {}
    links = account.relations.links
    for name in names:
        kind = account.records.kind(name)
        end = record.kind.type_id, record.id
        results = [
            {"id": other, "type": _type_name(record.kind, kind, links.definitions.find(end[0], kind.type_id, spec))}
            for other in links.of(end, kind.type_id)
            for spec in sorted(links.specs(end, (kind.type_id, other)))
        ]
        if results:
            shown[kind.name] = {"results": results}
    return shown or None


def _type_name(start: ObjectType, end: ObjectType, definition: Definition) -> str:
    """`contact_to_company` for the primary one, `..._unlabeled` for the other; plain where there is no primary."""
    plain = f"{start.label}_to_{end.label}"
    if definition.label in (None, "Primary"):
        both = end.name == "companies" and start.name in ("contacts", "deals")
        both = both or (start.name == "companies" and end.name in ("contacts", "deals"))
        return f"{plain}_unlabeled" if both and definition.label is None else plain
    return str(definition.label).lower().replace(" ", "_")


def batch_reply(
    account: Account, started: int, results: list[Any], errors: list[dict[str, Any]], status: int = 200
) -> tuple[int, dict[str, Any]]:
    """A batch answer: `status`, or 207 with the errors."""
    shown = {
        "status": "COMPLETE",
        "results": results,
        "startedAt": iso(started),
        "completedAt": iso(account.now()),
    }
    if not errors:
        return status, shown
    return 207, shown | {"numErrors": len(errors), "errors": errors}


def traced(error: ApiError, trace_id: str | None) -> dict[str, Any]:
    """An error of one input, with the input's trace id."""
    return error.in_batch(**({"objectWriteTraceId": [trace_id]} if trace_id else {}))
