"""Webhooks: signed notifications that something happened to a record. Its content is fetched afterwards.

Source: developers.hubspot.com/docs/api-reference/legacy/webhooks (payloads, retries, at most 100 events a request); the
fields of merges and associations are those of the changelog "New subscription types for Webhooks".
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from connectors.hubspot.objects import OBJECT_NAMES
from connectors.hubspot.records import Layout
from connectors.kit import parsing
from connectors.kit.connector import Request
from connectors.kit.signing import verify_hubspot
from hub.change import Notice
from hub.errors import Reject

MAX_BODY_BYTES = 1024 * 1024
MAX_EVENTS = 1000
RECORD_KINDS = frozenset({"creation", "propertyChange", "deletion", "privacyDeletion", "restore", "merge"})
KINDS = RECORD_KINDS | {"associationChange"}

Event = Mapping[str, Any]


class Webhooks:
    """Reads one system's webhooks. `ignored` counts, by subscription type, events that concern nothing mapped."""

    def __init__(self, system: str, secret: str, portal_id: str, layouts: Mapping[str, Layout]) -> None:
        self.ignored: Counter[str] = Counter()
        self._system = system
        self._secret = secret
        self._portal_id = portal_id
        self._layouts = layouts

    def receive(self, request: Request) -> list[Notice]:
        """The notices of a signed request. Raises Reject: signature, stale, too-long, malformed, account."""
        if not self._secret:
            raise Reject("webhooks need the setting client_secret", "signature")
        if len(request.body) > MAX_BODY_BYTES:
            raise Reject(f"longer than {MAX_BODY_BYTES} bytes", "too-long")
        verify_hubspot(self._secret, request)
        return [notice for event in self._events(request.body) for notice in self._notices(event)]

    def _events(self, body: bytes) -> list[Event]:
        try:
            events = parsing.strict(body)
        except ValueError as error:
            raise Reject(f"not JSON: {error}"[:200], "malformed") from None
        if not isinstance(events, list) or len(events) > MAX_EVENTS or not all(isinstance(e, dict) for e in events):
            raise Reject(f"not a list of at most {MAX_EVENTS} events", "malformed")
        if self._portal_id and any(str(e.get("portalId")) != self._portal_id for e in events):
            raise Reject("from another account", "account")
        return events

    def _notices(self, event: Event) -> list[Notice]:
        noun, _, kind = str(event.get("subscriptionType", "")).partition(".")
        try:
            notices = self._linked(event) if kind == "associationChange" else self._record(noun, kind, event)
        except (KeyError, TypeError, ValueError):
            raise Reject(f"an event of type {noun[:40]}.{kind[:40]} lacks its fields", "malformed") from None
        if not notices:
            self.ignored[f"{noun}.{kind}" if kind in KINDS and noun in NOUNS else "unknown"] += 1
        return notices

    def _record(self, noun: str, kind: str, event: Event) -> list[Notice]:
        object_ = OBJECT_NAMES.get(str(event.get("objectTypeId")) if noun == "object" else noun, "")
        known = self._layouts.get(object_)
        if known is None or kind not in RECORD_KINDS:
            return []
        if kind == "propertyChange" and event.get("propertyName") not in known.properties:
            return []
        if kind == "merge":
            return [self._notice(object_, event.get("newObjectId") or event["primaryObjectId"], kind, event)]
        return [self._notice(object_, event["objectId"], kind, event)]

    def _linked(self, event: Event) -> list[Notice]:
        """Both ends, as far as their references are mapped: a subscription may report only one of the two."""
        ends = [(_end(event, "from"), event["fromObjectId"]), (_end(event, "to"), event["toObjectId"])]
        return [
            self._notice(object_, id_, "associationChange", event)
            for (object_, id_), (other, _) in zip(ends, reversed(ends), strict=True)
            if object_ in self._layouts and other in self._layouts[object_].links
        ]

    def _notice(self, object_: str, external_id: Any, kind: str, event: Event) -> Notice:
        data = {name: event[name] for name in KEPT if name in event}
        at = _whole(event["occurredAt"]) * 1000
        return Notice(self._system, object_, str(_whole(external_id)), kind, at, data)


NOUNS = frozenset(OBJECT_NAMES) | {"object"}
KEPT = ("eventId", "propertyName", "changeSource", "primaryObjectId", "mergedObjectIds", "newObjectId")


def _whole(value: Any) -> int:
    """A number, also one written as text. Raises ValueError for anything else: cut to a whole one it would name another."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{type(value).__name__} is no whole number")
    return int(value)


def _end(event: Event, side: str) -> str:
    """The object at one end: named by type id in generic events, else within "CONTACT_TO_COMPANY"."""
    if type_id := event.get(f"{side}ObjectTypeId"):
        return OBJECT_NAMES.get(str(type_id), "")
    one, _, other = str(event["associationType"]).lower().partition("_to_")
    return OBJECT_NAMES.get(one if side == "from" else other, "")
