"""Audience webhooks: the form bodies Mailchimp posts, the optional signature, and one sender per registered URL.

A webhook registered through the API gets the events and sources it asked for. The URL that the control API sets stands
for a webhook made in the user interface: every event, of every audience, caused by a subscriber or an administrator.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlencode

import msgspec

from connectors.kit.sandbox import WebhookSender, WebhookSettings
from connectors.mailchimp.sandbox.merge import shown
from connectors.mailchimp.sandbox.state import Audience, Campaign, Member, Webhook

Source = Literal["user", "admin", "api"]
"""Who caused an event: the subscriber, a person in the account, or an API call."""

EVENTS = ("subscribe", "unsubscribe", "profile", "cleaned", "upemail", "campaign")
SOURCES = ("user", "admin", "api")
TIMEOUT_SECONDS = 10.0
RETRIES = 8
_IN_THE_UI = Webhook("", "", dict.fromkeys(EVENTS, True), {"user": True, "admin": True, "api": False})


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """The value of X-Mailchimp-Signature: the time in seconds and the hexadecimal HMAC-SHA256 over time, dot, body."""
    mac = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256)
    return f"t={timestamp},v1={mac.hexdigest()}"


def render(events: list[dict[str, Any]], settings: WebhookSettings, _: int) -> tuple[dict[str, str], bytes]:
    """The headers and the form body of one event; signed where there is a secret."""
    body = urlencode(list(flatten(events[0]))).encode()
    headers = {"content-type": "application/x-www-form-urlencoded", "user-agent": "MailChimp.com"}
    if settings.secret is not None:
        headers["x-mailchimp-signature"] = sign(settings.secret, int(time.time()), body)
    return headers, body


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested values as form fields: data[merges][FNAME]."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flatten(inner, f"{name}[{key}]" if name else key)
    else:
        yield name, str(value)


class Webhooks(WebhookSender):
    """The senders of all URLs behind one control API: one setting, one count."""

    def __init__(self) -> None:
        super().__init__(render, timeout_seconds=TIMEOUT_SECONDS, retries=RETRIES)
        self._registered: dict[str, WebhookSender] = {}

    def configure(self, settings: WebhookSettings) -> None:
        """Take new settings: the secret and the mode are for every URL, the URL is for the webhook in the UI."""
        super().configure(settings)
        for url, sender in self._registered.items():
            sender.configure(msgspec.structs.replace(settings, url=url))

    def counts(self) -> dict[str, Any]:
        """The counts of all senders together."""
        total = super().counts()
        for sender in self._registered.values():
            total |= {name: total[name] + count for name, count in sender.counts().items() if name != "url"}
        return total

    async def aclose(self) -> None:
        """Stop all senders."""
        for sender in self._registered.values():
            await sender.aclose()
        await super().aclose()

    def emit(self, audience: Audience, kind: str, source: Source, at: datetime, data: dict[str, Any]) -> None:
        """Send an event to every webhook that wants it; a campaign's cannot be narrowed by source."""
        event = {"type": kind, "fired_at": f"{at:%Y-%m-%d %H:%M:%S}", "data": data}
        for hook in (_IN_THE_UI, *audience.webhooks.values()):
            if hook.events[kind] and (kind == "campaign" or hook.sources[source]):
                self._sender(hook).offer([event])

    def _sender(self, hook: Webhook) -> WebhookSender:
        if hook is _IN_THE_UI:
            return self
        if hook.url not in self._registered:
            sender = WebhookSender(render, timeout_seconds=TIMEOUT_SECONDS, retries=RETRIES)
            sender.configure(msgspec.structs.replace(self.settings, url=hook.url))
            self._registered[hook.url] = sender
        return self._registered[hook.url]


def member_data(audience: Audience, member: Member) -> dict[str, Any]:
    """What subscribe, profile and unsubscribe events say of a member."""
    merges = {"EMAIL": member.email, **shown(audience.merge_fields, member.merge), "INTERESTS": ""}
    return {
        "id": member.unique_email_id,
        "email": member.email,
        "email_type": member.plain.get("email_type", "html"),
        "ip_opt": member.plain.get("ip_opt", ""),
        "ip_signup": member.plain.get("ip_signup", ""),
        "web_id": member.web_id,
        "merges": merges,
        "list_id": audience.id,
    }


def unsubscribe_data(
    audience: Audience, member: Member, action: str = "unsub", reason: str = "manual", campaign_id: str = ""
) -> dict[str, Any]:
    """An unsubscribe: `action` is unsub or delete, `reason` manual or abuse."""
    said = {"action": action, "reason": reason, **member_data(audience, member)}
    return said | ({"campaign_id": campaign_id} if campaign_id else {})


def upemail_data(audience: Audience, member: Member, old_email: str) -> dict[str, Any]:
    """A change of address."""
    return {
        "list_id": audience.id,
        "new_id": member.unique_email_id,
        "new_email": member.email,
        "old_email": old_email,
    }


def cleaned_data(audience: Audience, member: Member, reason: str, campaign_id: str) -> dict[str, Any]:
    """An address taken out: `reason` is hard (bounce) or abuse."""
    return {"list_id": audience.id, "campaign_id": campaign_id, "reason": reason, "email": member.email}


def campaign_data(campaign: Campaign) -> dict[str, Any]:
    """A campaign's sending."""
    subject = campaign.settings.get("subject_line", "")
    return {"id": campaign.id, "subject": subject, "status": campaign.status, "reason": "", "list_id": campaign.list_id}
