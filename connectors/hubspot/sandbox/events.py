"""Webhooks: what an app is subscribed to, the events that follow from changes, and their signed delivery.

v3: base64 of HMAC-SHA256 over method, URI, body and timestamp. v1, which is sent besides: hex SHA-256 over secret and
body. Both are checked against HubSpot's own SDK.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from connectors.hubspot.sandbox.errors import ApiError, invalid
from connectors.hubspot.sandbox.schema import ObjectType, Property
from connectors.hubspot.sandbox.store import Actor
from connectors.hubspot.sandbox.values import iso
from connectors.kit.sandbox import WebhookSender, WebhookSettings

BATCH, RETRIES, TIMEOUT_SECONDS = 100, 10, 5.0

_HAPPENINGS = ("creation", "deletion", "merge", "restore", "propertyChange", "associationChange")
_PREFIXES = ("contact", "company", "deal", "ticket", "product", "line_item", "object")
EVENT_TYPES = frozenset(f"{prefix}.{what}" for prefix in _PREFIXES for what in _HAPPENINGS) | {
    "contact.privacyDeletion"
}


def sign_v3(secret: str, method: str, uri: str, body: bytes, timestamp: str) -> str:
    """The value of `X-HubSpot-Signature-v3`; `timestamp` is epoch milliseconds."""
    message = method.encode() + uri.encode() + body + timestamp.encode()
    return base64.b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest()).decode()


def sign_v1(secret: str, body: bytes) -> str:
    """The value of `X-HubSpot-Signature` with version v1."""
    return hashlib.sha256(secret.encode() + body).hexdigest()


@dataclass(slots=True)
class Subscription:
    """One subscription; instants are epoch milliseconds."""

    id: int
    event_type: str
    property_name: str | None
    object_type_id: str | None
    active: bool
    created: int
    updated: int

    def to_json(self) -> dict[str, Any]:
        """As the subscriptions API shows it."""
        shown = {"eventType": self.event_type, "active": self.active, "id": str(self.id)}
        more = {"propertyName": self.property_name, "objectTypeId": self.object_type_id}
        times = {"createdAt": iso(self.created), "updatedAt": iso(self.updated)}
        return shown | times | {name: value for name, value in more.items() if value is not None}


class Webhooks:
    """An app's subscriptions and their delivery.

    As long as nobody says what the app is subscribed to, it is subscribed to every classic event, and to changes of
    every property that HubSpot does not calculate.
    """

    def __init__(
        self,
        app: Callable[[], tuple[int, int, str]],
        definitions: dict[str, dict[str, Property]],
        now: Callable[[], int],
        base_id: int = 1_000_001,
    ) -> None:
        self._app, self._definitions, self._now = app, definitions, now
        self._next_id, self._events = base_id, 100
        self._implied: dict[tuple[str, str | None], int] = {}
        self.everything = True
        self.settings: dict[str, Any] | None = None
        self.subscriptions: dict[int, Subscription] = {}
        self.sender = WebhookSender(self.render, batch=BATCH, retries=RETRIES, timeout_seconds=TIMEOUT_SECONDS)

    def subscribe(
        self, event_type: str, property_name: str | None, object_type_id: str | None, active: bool
    ) -> Subscription:
        """Add a subscription; ApiError 400 for a type that does not exist or a property change without a property."""
        if event_type not in EVENT_TYPES:
            raise invalid(f"Unknown event type: {event_type}", eventType=[event_type])
        if event_type.endswith(".propertyChange") and not property_name:
            raise invalid("propertyName is required for property change subscriptions")
        if event_type.startswith("object.") and not object_type_id:
            raise invalid("objectTypeId is required for generic subscriptions")
        self.everything = False
        at = self._now()
        made = Subscription(self._new_id(), event_type, property_name, object_type_id, active, at, at)
        self.subscriptions[made.id] = made
        return made

    def get(self, subscription_id: str) -> Subscription:
        """A subscription; ApiError 404 if there is none."""
        found = self.subscriptions.get(int(subscription_id)) if subscription_id.isdecimal() else None
        if found is None:
            raise ApiError(404, "resource not found", "OBJECT_NOT_FOUND")
        return found

    def emit(self, kind: ObjectType, happening: str, actor: Actor, at: int, **fields: Any) -> None:
        """Send what the app is subscribed to about one change."""
        url = self.sender.settings.url
        matches = self._matches(kind, happening, fields.get("propertyName")) if url else []
        if not matches:
            return
        self._events += 1
        portal_id, app_id, _ = self._app()
        events = []
        for subscription_id, event_type in matches:
            event: dict[str, Any] = {
                "eventId": self._events,
                "subscriptionId": subscription_id,
                "portalId": portal_id,
                "appId": app_id,
                "occurredAt": at,
                "subscriptionType": event_type,
                "attemptNumber": 0,
                "changeSource": actor.source,
                **fields,
            }
            if actor.source_id:
                event["sourceId"] = actor.source_id
            if event_type.startswith("object."):
                event["objectTypeId"] = kind.type_id
            events.append(event)
        self.sender.offer(events)

    def render(
        self, events: list[dict[str, Any]], settings: WebhookSettings, attempt: int
    ) -> tuple[dict[str, str], bytes]:
        """One delivery: a JSON array with both signatures. The time is the machine's, as the receiver's is."""
        body = orjson.dumps([event | {"attemptNumber": attempt} for event in events])
        secret = settings.secret or self._app()[2]
        timestamp = str(time.time_ns() // 1_000_000)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "HubSpot Connect 2.0 (http://dev.hubspot.com/) (sandbox)",
            "X-HubSpot-Signature": sign_v1(secret, body),
            "X-HubSpot-Signature-Version": "v1",
            "X-HubSpot-Signature-v3": sign_v3(secret, "POST", str(settings.url), body, timestamp),
            "X-HubSpot-Request-Timestamp": timestamp,
        }
        return headers, body

    def _matches(self, kind: ObjectType, happening: str, property_name: str | None) -> list[tuple[int, str]]:
        classic = f"{kind.events}.{happening}" if kind.events else None
        if self.everything:
            return self._imply(kind, classic, property_name)
        return [
            (item.id, item.event_type)
            for item in self.subscriptions.values()
            if item.active
            and item.property_name == property_name
            and (
                item.event_type == classic
                or (item.event_type, item.object_type_id) == (f"object.{happening}", kind.type_id)
            )
        ]

    def _imply(self, kind: ObjectType, classic: str | None, property_name: str | None) -> list[tuple[int, str]]:
        definition = self._definitions[kind.type_id].get(property_name or "")
        if classic is None or (property_name and (definition is None or definition.calculated)):
            return []
        key = classic, property_name
        if key not in self._implied:
            self._implied[key] = self._new_id()
        return [(self._implied[key], classic)]

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id
