"""What an account holds before anyone writes to it: object types, their default properties, the deal pipeline.

Sources are in NOTES.md; the default properties themselves are in sandbox_tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from connectors.hubspot.sandbox.tables import EVERY, GROUPS, MODIFIED, OPTIONS, PROPERTIES, SUMMARY

PORTAL_CREATED = "2019-10-30T03:30:17.883Z"
"""When the default properties and the default pipeline say they were made."""


@dataclass(frozen=True, slots=True)
class ObjectType:
    """One kind of CRM record. `singular` is the name in messages, `label` the name in association type names."""

    name: str
    type_id: str
    singular: str
    label: str
    created: str
    modified: str
    defaults: tuple[str, ...] = ()
    searchable: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    scope: str = "contacts"
    events: str | None = None

    @property
    def system(self) -> tuple[str, str, str]:
        """The properties that every answer carries: creation, id and last modification."""
        return (self.created, "hs_object_id", self.modified)


def _engagement(name: str, type_id: str, singular: str, label: str, *searchable: str) -> ObjectType:
    required = () if name == "meetings" else ("hs_timestamp",)
    return ObjectType(name, type_id, singular, label, "hs_createdate", "hs_lastmodifieddate", (), searchable, required)


OBJECT_TYPES: tuple[ObjectType, ...] = (
    ObjectType(
        "contacts",
        "0-1",
        "CONTACT",
        "contact",
        "createdate",
        "lastmodifieddate",
        ("email", "firstname", "lastname"),
        ("firstname", "lastname", "email", "phone", "hs_additional_emails", "fax", "mobilephone", "company"),
        any_of=("email", "firstname", "lastname"),
        events="contact",
    ),
    ObjectType(
        "companies",
        "0-2",
        "COMPANY",
        "company",
        "createdate",
        "hs_lastmodifieddate",
        ("name", "domain"),
        ("website", "phone", "name", "domain"),
        any_of=("name", "domain"),
        scope="companies",
        events="company",
    ),
    ObjectType(
        "deals",
        "0-3",
        "DEAL",
        "deal",
        "createdate",
        "hs_lastmodifieddate",
        ("amount", "closedate", "dealname", "dealstage", "pipeline"),
        ("dealname", "pipeline", "dealstage", "description", "dealtype"),
        scope="deals",
        events="deal",
    ),
    _engagement("notes", "0-46", "NOTE", "note", "hs_note_body"),
    _engagement("meetings", "0-47", "MEETING_EVENT", "meeting_event", "hs_meeting_title", "hs_meeting_body"),
    _engagement("calls", "0-48", "CALL", "call", "hs_call_title", "hs_body_preview"),
    _engagement("emails", "0-49", "EMAIL", "email", "hs_email_subject"),
    _engagement("tasks", "0-27", "TASK", "task", "hs_task_subject", "hs_task_body"),
)

ENGAGEMENTS = frozenset({"0-46", "0-47", "0-48", "0-49", "0-27"})

LIFECYCLE = [
    "subscriber",
    "lead",
    "marketingqualifiedlead",
    "salesqualifiedlead",
    "opportunity",
    "customer",
    "evangelist",
    "other",
]
"""The default lifecycle stages, earliest first."""


@dataclass(slots=True)
class Property:
    """One property's definition. `open_options` means that its options are kept elsewhere (owners, stages, files)."""

    name: str
    label: str
    type: str
    field_type: str
    group: str
    description: str = ""
    options: list[dict[str, Any]] = field(default_factory=list)
    read_only: bool = False
    calculated: bool = False
    unique: bool = False
    open_options: bool = False
    hubspot_defined: bool = True
    hidden: bool = False
    form_field: bool = False
    display_order: int = -1
    at: str = PORTAL_CREATED
    archived_at: str | None = None
    values: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Collect the option values, for quick checks."""
        self.values = frozenset(option["value"] for option in self.options)

    def to_json(self) -> dict[str, Any]:
        """The definition as the properties API shows it."""
        shown: dict[str, Any] = {
            "updatedAt": self.at,
            "createdAt": self.at,
            "name": self.name,
            "label": self.label,
            "type": self.type,
            "fieldType": self.field_type,
            "description": self.description,
            "groupName": self.group,
            "options": self.options,
            "displayOrder": self.display_order,
            "calculated": self.calculated,
            "externalOptions": self.open_options,
            "archived": self.archived_at is not None,
            "hasUniqueValue": self.unique,
            "hidden": self.hidden,
            "hubspotDefined": self.hubspot_defined,
            "modificationMetadata": {
                "archivable": not self.hubspot_defined,
                "readOnlyDefinition": self.hubspot_defined,
                "readOnlyValue": self.read_only,
                "readOnlyOptions": self.hubspot_defined,
            },
            "formField": self.form_field,
        }
        return shown if self.archived_at is None else shown | {"archivedAt": self.archived_at}


def options(spec: str) -> list[dict[str, Any]]:
    """`value:Label,...`, or `@name` of a shared set, as the properties API shows options."""
    spec = OPTIONS[spec[1:]] if spec.startswith("@") else spec
    pairs = [pair.split(":", 1) for pair in spec.split(",") if pair]
    return [
        {"label": label, "value": value, "description": "", "displayOrder": order, "hidden": False}
        for order, (value, label) in enumerate(pairs)
    ]


def _rows(table: str, group: str) -> Iterator[Property]:
    for row in table.strip().splitlines():
        name, label, type_, field_type, flags, listed = (*row.split("|"), "", "")[:6]
        yield Property(
            name,
            label,
            type_,
            field_type,
            group,
            options=options(listed),
            read_only="r" in flags,
            calculated="c" in flags,
            unique="u" in flags,
            open_options="o" in flags,
        )


def default_properties(type_id: str) -> dict[str, Property]:
    """The definitions that every account has for a type; custom objects have the system ones only."""
    group = GROUPS.get(type_id, ("custom", "Information"))[0]
    summary = "" if type_id in ENGAGEMENTS else SUMMARY
    modified = "" if type_id == "0-1" else MODIFIED
    tables = (EVERY, modified, summary, PROPERTIES.get(type_id, ""))
    return {item.name: item for table in tables if table for item in _rows(table, group)}


def default_pipeline() -> dict[str, Any]:
    """The sales pipeline that every account starts with, as the pipelines API shows it."""
    stages = (
        ("appointmentscheduled", "Appointment Scheduled", "0.2"),
        ("qualifiedtobuy", "Qualified To Buy", "0.4"),
        ("presentationscheduled", "Presentation Scheduled", "0.6"),
        ("decisionmakerboughtin", "Decision Maker Bought-In", "0.8"),
        ("contractsent", "Contract Sent", "0.9"),
        ("closedwon", "Closed Won", "1.0"),
        ("closedlost", "Closed Lost", "0.0"),
    )
    made = [stage(id_, label, order, probability) for order, (id_, label, probability) in enumerate(stages)]
    return pipeline("default", "Sales Pipeline", 0, made, PORTAL_CREATED)


def stage(id_: str, label: str, order: int, probability: str, at: str = PORTAL_CREATED) -> dict[str, Any]:
    """One stage; a probability of 0 or 1 closes the deal."""
    closed = "true" if float(probability) in (0.0, 1.0) else "false"
    shown = {"label": label, "displayOrder": order, "metadata": {"isClosed": closed, "probability": probability}}
    return shown | {
        "id": id_,
        "createdAt": at,
        "updatedAt": at,
        "archived": False,
        "writePermissions": "CRM_PERMISSIONS_ENFORCEMENT",
    }


def pipeline(id_: str, label: str, order: int, stages: list[dict[str, Any]], at: str) -> dict[str, Any]:
    """One pipeline."""
    shown = {"label": label, "displayOrder": order, "id": id_, "stages": stages}
    return shown | {"createdAt": at, "updatedAt": at, "archived": False}
