"""Worlds of a few records, for tests of the oracle."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hub.edge.demo.data import World

DAY = datetime(2026, 1, 1, tzinfo=UTC)


def at(day: float) -> datetime:
    return DAY + timedelta(days=day)


def row(id_: int, day: float, **columns: Any) -> dict[str, Any]:
    """A CRM contact, empty where nothing is said."""
    names = "company_id email first_name last_name phone job_title city country lifecycle owner_email email_consent"
    empty = dict.fromkeys([*names.split(), "consent_at", "tags"])
    return {"id": id_, **empty, **columns, "updated_at": at(day)}


def contact(id_: int, day: float, **properties: str) -> dict[str, Any]:
    """A HubSpot contact."""
    return {"id": str(id_), "properties": properties, "updatedAt": at(day).isoformat()}


def member(email: str, day: float, status: str = "subscribed", **more: Any) -> dict[str, Any]:
    """A Mailchimp member, who opted in a day before."""
    merge = {name: more.pop(name) for name in ("FNAME", "LNAME", "PHONE") if name in more}
    clocks = {"timestamp_opt": at(day - 1).isoformat(), "last_changed": at(day).isoformat()}
    return {"email_address": email, "status": status, "merge_fields": merge, "tags": [], **clocks, **more}


def small(crm: Any = (), hubspot: Any = (), mailchimp: Any = (), **more: Any) -> World:
    """A world of contacts; `more` are other CRM tables, or HubSpot's associations."""
    seed = {"contacts": list(hubspot), "associations": more.pop("associations", [])}
    return World({"contacts": list(crm), **more}, seed, {"lists": [{"members": list(mailchimp)}]})
