"""What HubSpot sets by itself: defaults of new records, values that follow from others, and the values of a merge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.hubspot.sandbox.schema import LIFECYCLE, ObjectType
from connectors.hubspot.sandbox.store import Actor, Record
from connectors.hubspot.sandbox.values import as_text

Stages = Mapping[str, Mapping[str, Any]]
"""Each pipeline's stages by id, in order, as the pipelines API shows them."""


def derived(kind: ObjectType, properties: dict[str, str], stages: Stages) -> dict[str, str]:
    """The properties with those that follow from them."""
    email, domain = properties.get("email"), properties.get("domain")
    if kind.name == "contacts" and email:
        return properties | {"hs_email_domain": email.rpartition("@")[2]}
    if kind.name == "companies" and domain:
        return {"website": domain} | properties
    if kind.name == "deals":
        return properties | _closing(properties, stages)
    if kind.name == "meetings" and "hs_meeting_start_time" in properties:
        return {"hs_timestamp": properties["hs_meeting_start_time"]} | properties
    return properties


def _closing(properties: Mapping[str, str], stages: Stages) -> dict[str, str]:
    pipeline = properties.get("pipeline") or next(iter(stages))
    stage = stages[pipeline].get(properties.get("dealstage", ""))
    probability = stage["metadata"]["probability"] if stage else ""
    won, lost = probability in ("1.0", "1"), probability in ("0.0", "0")
    shown = {"pipeline": pipeline, "hs_is_closed": as_text(won or lost), "hs_is_closed_won": as_text(won)}
    return shown | ({"hs_deal_stage_probability": probability} if probability else {})


def defaults(kind: ObjectType, given: dict[str, str], actor: Actor) -> dict[str, str]:
    """The given values and those that a new record gets by itself."""
    label = "INTEGRATION" if actor.source == "INTEGRATION" else "CRM_UI"
    shown = {"hs_object_source": label, "hs_object_source_label": label}
    if kind.name == "contacts":
        shown |= {"lifecyclestage": "lead", "hs_is_contact": "true", "hs_marketable_status": "false"}
    if kind.name == "companies":
        shown |= {"lifecyclestage": "lead"}
    return shown | given


def steps_back(old: str | None, new: str | None) -> bool:
    """Whether a lifecycle stage would go back, which HubSpot ignores; clearing it is allowed."""
    if old not in LIFECYCLE or new not in LIFECYCLE:
        return False
    return LIFECYCLE.index(new) < LIFECYCLE.index(old)


def merged_properties(primary: Record, other: Record) -> dict[str, str]:
    """The values of a merge: the primary's, else the other's; the later lifecycle stage; both addresses and ids."""
    values = {**other.properties, **primary.properties}
    stages = [record.properties.get("lifecyclestage") for record in (primary, other)]
    known = [stage for stage in stages if stage in LIFECYCLE]
    if known:
        values["lifecyclestage"] = max(known, key=LIFECYCLE.index)
    values["hs_merged_object_ids"] = _joined(
        *(text for record in (primary, other) for text in (record.properties.get("hs_merged_object_ids"), record.id))
    )
    if primary.kind.name == "contacts":
        addresses = [
            text
            for record in (primary, other)
            for text in (record.properties.get("hs_additional_emails"), record.properties.get("email"))
        ]
        more = _joined(*addresses).split(";")
        values["hs_additional_emails"] = ";".join(text for text in more if text and text != values.get("email"))
    return {name: value for name, value in values.items() if value}


def _joined(*texts: str | None) -> str:
    parts = [part for text in texts if text for part in text.split(";")]
    return ";".join(dict.fromkeys(parts))
