"""HubSpot's objects as data: which entity each usually is, its usual fields, and how it words values.

Native fields are HubSpot's property names, and "associations.<objects>" for the ids of associated records, the primary
one first. Property names: developers.hubspot.com/docs/api-reference/legacy/crm/properties and the activity guides.
"""

from collections.abc import Callable, Mapping
from typing import Any

from connectors.kit.connector import ObjectSpec
from hub.mapping import Codec, FieldMap
from hub.values import Value, micros, parse

ASSOCIATIONS = "associations."
HUB_ID = "hub_id"
CONSENT, CONSENT_AT, OPTED_OUT = "hub_consent", "hub_consent_at", "hs_email_optout"

# Singular names and type ids, as webhooks spell them.
# Source: developers.hubspot.com/docs/guides/crm/understanding-the-crm (object type ids)
OBJECT_NAMES = {
    "contact": "contacts", "company": "companies", "deal": "deals", "note": "notes", "call": "calls",
    "email": "emails", "meeting": "meetings", "meeting_event": "meetings", "task": "tasks",
    "0-1": "contacts", "0-2": "companies", "0-3": "deals", "0-46": "notes", "0-48": "calls", "0-49": "emails",
    "0-47": "meetings", "0-27": "tasks",
}  # fmt: skip


def modified_property(object_: str) -> str:
    """The property that searches must filter by: contacts never got the name that all others have."""
    return "lastmodifieddate" if object_ == "contacts" else "hs_lastmodifieddate"


def _millis(timestamp: str) -> str:
    return str(micros(timestamp) // 1000)


DIALECT: Mapping[str, Callable[[Value], Any]] = {
    "decimal": str,
    "integer": str,
    "boolean": lambda value: "true" if value else "false",
    "timestamp": _millis,
    "date": lambda value: _millis(f"{value}T00:00:00Z"),  # a date property takes midnight UTC only
    "tags": ";".join,
}


def _read_consent(natives: Mapping[str, Any]) -> Value:
    """Consent as the hub keeps it there; HubSpot's own opt-out of all e-mail overrules it, for it is the person's."""
    status, at = natives.get(CONSENT), natives.get(CONSENT_AT)
    if str(natives.get(OPTED_OUT)).lower() == "true":
        return {"status": "out", "at": at if status == "out" else None}
    return {"status": status, "at": at} if status else None


def _write_consent(value: Value) -> dict[str, Any]:
    if value is None:
        return {CONSENT: None, CONSENT_AT: None}
    return {CONSENT: value["status"], CONSENT_AT: _millis(value["at"]) if value.get("at") else None}


def _read_seconds(natives: Mapping[str, Any]) -> Value:
    millis = next(iter(natives.values()))
    return None if millis in (None, "") else int(parse("decimal", millis).split(".")[0]) // 1000


CODECS = {
    "consent": Codec(_read_consent, _write_consent),
    "call_duration": Codec(
        _read_seconds, lambda value: {"hs_call_duration": None if value is None else str(value * 1000)}
    ),
}

_COMPLETION = {"NOT_STARTED": "not_started", "IN_PROGRESS": "in_progress", "COMPLETED": "completed"}
_CALL = {"COMPLETED": "completed", "IN_PROGRESS": "in_progress", "NO_ANSWER": "no_answer", "BUSY": "busy",
         "FAILED": "failed", "CANCELED": "canceled", "QUEUED": "queued", "RINGING": "ringing"}  # fmt: skip
_MEETING = {"SCHEDULED": "scheduled", "COMPLETED": "completed", "RESCHEDULED": "rescheduled", "NO_SHOW": "no_show",
            "CANCELED": "canceled"}  # fmt: skip
_EMAIL = {"SENT": "sent", "SENDING": "sending", "SCHEDULED": "scheduled", "FAILED": "failed", "BOUNCED": "bounced"}


def _one(name: str, native: str, **more: Any) -> FieldMap:
    return FieldMap(name, (native,), **more)


def _linked(name: str, object_: str) -> FieldMap:
    return FieldMap(name, (ASSOCIATIONS + object_,), object=object_)


GOLDEN = _one("hub_id", HUB_ID, identifies="golden", unique=True)


def _engagement(name: str, kind: str, *fields: FieldMap) -> ObjectSpec:
    links = (_linked("contact", "contacts"), _linked("company", "companies"), _linked("deal", "deals"))
    everywhere = (_one("occurred_at", "hs_timestamp"), *links, GOLDEN)
    return ObjectSpec(name, "engagement", (*fields, *everywhere), constants={"kind": kind}, requires=("occurred_at",))


OBJECTS = (
    ObjectSpec(
        "contacts",
        "contact",
        (
            _one("email", "email", unique=True),
            _one("first_name", "firstname"),
            _one("last_name", "lastname"),
            _one("phone", "phone"),
            _one("job_title", "jobtitle"),
            _one("city", "city"),
            _one("country", "country"),
            _one("lifecycle", "lifecyclestage"),
            _linked("company", "companies"),
            FieldMap("consent", (CONSENT, CONSENT_AT, OPTED_OUT), codec=CODECS["consent"]),
            GOLDEN,
        ),
    ),
    ObjectSpec(
        "companies",
        "company",
        (
            _one("name", "name"),
            _one("domain", "domain"),
            _one("phone", "phone"),
            _one("industry", "industry", direction="in"),  # an enumeration of 147: needs `options` to be written
            _one("city", "city"),
            _one("country", "country"),
            _one("employees", "numberofemployees"),
            _one("annual_revenue", "annualrevenue"),
            GOLDEN,
        ),
    ),
    ObjectSpec(
        "deals",
        "deal",
        (
            _one("name", "dealname"),
            _one("amount", "amount"),
            _one("currency", "deal_currency_code"),
            _one("stage", "dealstage"),
            _one("close_date", "closedate"),
            _linked("company", "companies"),
            _linked("contact", "contacts"),
            GOLDEN,
        ),
    ),
    _engagement("notes", "note", _one("body", "hs_note_body")),
    _engagement(
        "calls",
        "call",
        _one("subject", "hs_call_title"),
        _one("body", "hs_call_body"),
        _one("status", "hs_call_status", options=_CALL),
        FieldMap("duration_seconds", ("hs_call_duration",), codec=CODECS["call_duration"]),
    ),
    _engagement(
        "emails",
        "email",
        _one("subject", "hs_email_subject"),
        _one("body", "hs_email_text"),
        _one("status", "hs_email_status", options=_EMAIL),
    ),
    _engagement(
        "meetings",
        "meeting",
        _one("subject", "hs_meeting_title"),
        _one("body", "hs_meeting_body"),
        _one("status", "hs_meeting_outcome", options=_MEETING),
    ),
    _engagement(
        "tasks",
        "task",
        _one("subject", "hs_task_subject"),
        _one("body", "hs_task_body"),
        _one("status", "hs_task_status", options=_COMPLETION),
    ),
)
