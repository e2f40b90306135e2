"""A member of an audience as a change: one flattening for polls, webhooks, finds and answers to writes."""

import hashlib
from collections.abc import Mapping
from typing import Any

from hub.change import Change, Op
from hub.mapping import Codec
from hub.values import InvalidValue, Value, micros

ARCHIVED = "archived"
OPTED_OUT = frozenset({"unsubscribed", "cleaned"})
TAGS = "tags"
# What the vendor keeps of a member outside of merge fields and is worth an event. Ratings, statistics and the guessed
# location move without last_changed, so they would make one version of a member look like many.
READ = (
    "email_address", "status", "unsubscribe_reason", "timestamp_opt", "timestamp_signup", "last_changed", "language",
    "vip", "email_type", "source", "web_id",
)  # fmt: skip
WRITTEN = frozenset({"email_address", "status", "timestamp_opt", "language", "vip", "email_type"})
OWN = frozenset({*READ, TAGS})


def subscriber_hash(email: str) -> str:
    """The vendor's id of an address: the MD5 of its lower case. It changes with the address."""
    return hashlib.md5(email.strip().lower().encode(), usedforsecurity=False).hexdigest()


def contact_id(member: Mapping[str, Any]) -> str:
    """The external id of a member: the only id of the vendor that does not follow from the address."""
    return str(member.get("contact_id") or member["id"])


def flatten(member: Mapping[str, Any]) -> dict[str, Any]:
    """Native fields by name: the vendor's own in lower case, merge fields by tag, tags as a sorted list of names."""
    fields = {name: member[name] for name in READ if name in member}
    tags = {TAGS: sorted(str(tag["name"]) for tag in member[TAGS])} if TAGS in member else {}
    return {**(member.get("merge_fields") or {}), **fields, **tags}


def changed(system: str, member: Mapping[str, Any], channel: str) -> Change:
    """What a member reports. Its version is last_changed in microseconds, a clock that ticks in seconds."""
    try:
        at = micros(member["last_changed"])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        why = f"last_changed cannot be read: {type(error).__name__}: {error}"[:200]
        return Change(system, "members", contact_id(member), {"member": member}, channel=channel, problem=why)
    op: Op = "delete" if member.get("status") == ARCHIVED else "upsert"
    return Change(system, "members", contact_id(member), flatten(member), op, version=at, at=at, channel=channel)


def body(natives: Mapping[str, Any]) -> dict[str, Any]:
    """Native fields as the body of a write. An empty merge field is an empty text; tags have a call of their own."""
    own = {name: value for name, value in natives.items() if name in WRITTEN}
    merge = {name: "" if value is None else value for name, value in natives.items() if name not in OWN}
    return {**own, **({"merge_fields": merge} if merge else {})}


def _decode(present: Mapping[str, Any]) -> Value:
    if "status" not in present:
        raise InvalidValue("status was not reported")
    status = present["status"]
    if status == "subscribed":
        return {"status": "in", "at": present.get("timestamp_opt")}
    if status in OPTED_OUT:
        return {"status": "out", "at": present.get("last_changed")}
    return None


def _encode(value: Value) -> dict[str, Any]:
    if not value:
        return {}
    if value["status"] == "out":
        return {"status": "unsubscribed"}
    return {"status": "subscribed", **({"timestamp_opt": value["at"]} if value.get("at") else {})}


CONSENT = Codec(_decode, _encode)
"""Consent from status, timestamp_opt and last_changed.

Subscribed is in since timestamp_opt; unsubscribed and cleaned are out since last_changed (no later than which it
happened); pending, transactional and archived members have said neither. The time of an opt-in is written along, so
that a later resync does not look like a newer opt-in.
"""
