"""Webhooks of an audience: verified, read as notices, and fetched as the members and the activity they speak of.

A webhook names a member by address and by the vendor's id of the address, never by contact id; and by the time it is
read, the address may be another. So a notice is only a reason to look.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import parse_qs, parse_qsl, urlsplit

from connectors.kit.connector import Request
from connectors.kit.signing import equal, verify_timestamped
from connectors.mailchimp.activity import Activity
from connectors.mailchimp.audience import Audience
from connectors.mailchimp.members import subscriber_hash
from hub.change import Change, Notice
from hub.errors import Reject
from hub.values import EPOCH

MAX_BODY = 65_536
MAX_FIELDS = 500
MEMBER_KINDS = frozenset({"subscribe", "unsubscribe", "profile", "upemail", "cleaned"})
CAMPAIGN = "campaign"
KEPT = ("id", "new_id", "email", "new_email", "old_email", "action", "reason", "status", "campaign_id")


def verify(request: Request, secret: str, signing_secret: str) -> None:
    """Raise Reject unless the URL carries the secret, and the signature is right where one is agreed upon.

    Without any secret configured nothing is accepted, for then anybody could speak for the vendor.
    """
    if not secret and not signing_secret:
        raise Reject("webhooks are not configured: set webhook_secret", "config")
    if secret and not any([equal(secret, given) for given in _given(request.url)]):
        raise Reject("the secret in the URL is wrong or missing", "signature")
    if signing_secret:
        signature = request.headers.get("x-mailchimp-signature")
        verify_timestamped(signing_secret, signature, request.body, request.received_at)


def _given(url: str) -> list[str]:
    """Where a secret may stand in a URL: the query's `secret`, or the last part of the path."""
    parts = urlsplit(url)
    return [*parse_qs(parts.query).get("secret", []), parts.path.rstrip("/").rpartition("/")[2]]


def notices(system: str, list_id: str, request: Request) -> list[Notice]:
    """The notice that a webhook is; none for the vendor's probe, another audience, or a kind that is not read.

    Raises Reject for a body that is none of the vendor's.
    """
    if request.method in ("GET", "HEAD"):
        return []
    told = _form(request.body)
    kind = told.get("type")
    if not kind:
        raise Reject("the webhook has no type", "malformed")
    if told.get("data[list_id]", list_id) != list_id or kind not in MEMBER_KINDS | {CAMPAIGN}:
        return []
    data = {name: told[f"data[{name}]"] for name in KEPT if f"data[{name}]" in told}
    at = _fired_at(told.get("fired_at", ""))
    if kind == CAMPAIGN:
        return [Notice(system, "activity", _needed(data.get("id")), kind, at, data)]
    email = _needed(data.get("new_email") or data.get("email"))
    return [Notice(system, "members", subscriber_hash(email), kind, at, data)]


def _form(body: bytes) -> dict[str, str]:
    if len(body) > MAX_BODY:
        raise Reject(f"the webhook is longer than {MAX_BODY} bytes", "too-long")
    try:
        return dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise Reject("the webhook is not a form", "malformed") from None


def _needed(value: str | None) -> str:
    if not value:
        raise Reject("the webhook does not say whom it is about", "malformed")
    return value


def _fired_at(text: str) -> int | None:
    """Microseconds of "2026-01-31 08:00:00", which is UTC; None where it is no time."""
    try:
        delta = datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) - EPOCH
    except ValueError:
        return None
    return (delta.days * 86_400 + delta.seconds) * 1_000_000


async def fetch(audience: Audience, activity: Activity, told: Sequence[Notice]) -> list[Change]:
    """What notices speak of, as it is now; several notices of one thing fetch it once."""
    members = dict.fromkeys(notice.external_id for notice in told if notice.object == "members")
    campaigns = dict.fromkeys(notice.external_id for notice in told if notice.object == "activity")
    found = await asyncio.gather(*(_member(audience, one) for one in members))
    done = await asyncio.gather(*(activity.of_campaign(one) for one in campaigns))
    return [change for change in found if change] + [change for changes in done for change in changes]


async def _member(audience: Audience, member: str) -> Change | None:
    """A member by contact id or subscriber hash.

    No member at an address proves nothing: it may have been changed since. Only a contact id that finds nobody tells
    that the member was deleted for good, so where the contact of a former address is not known, there is nothing to
    report, and the next write to it will find it gone.
    """
    contact = audience.known(member)
    if found := await audience.find(member, "webhook"):
        return found
    if contact is None or contact == member:
        return None
    found = await audience.find(contact, "webhook")
    return found or Change(audience.system, "members", contact, op="delete", channel="webhook")
