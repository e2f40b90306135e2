"""The demo's Mailchimp audience as a seed document of its sandbox: members, their consent, and one sent campaign."""

from datetime import datetime, timedelta
from typing import Any

from hub.edge.demo import words
from hub.edge.demo.crm import Person
from hub.edge.demo.draw import SECOND, Draw

Json = dict[str, Any]

LIST_ID = "demo01"
MERGE_FIELDS = (
    {"tag": "FNAME", "name": "First Name", "type": "text"},
    {"tag": "LNAME", "name": "Last Name", "type": "text"},
    {"tag": "PHONE", "name": "Phone Number", "type": "phone"},
)
STATUSES = ("subscribed",) * 16 + ("unsubscribed",) * 3 + ("cleaned",)


def iso(at: datetime) -> str:
    """An instant as Mailchimp writes it, to the second."""
    return at.isoformat(timespec="seconds")


def audience(draw: Draw, shared: list[Person], others: list[tuple[Person, str]]) -> Json:
    """The seed: `shared` are people whom the CRM knows by the same address, `others` come with the address to use."""
    members = [_contested(draw, person, index % 4) if index < 24 else _member(draw, person, person.email)
               for index, person in enumerate(shared)]  # fmt: skip
    members += [_member(draw, person, email) for person, email in others]
    return {
        "lists": [
            {"id": LIST_ID, "name": "Customers and friends", "merge_fields": list(MERGE_FIELDS), "members": members}
        ],
        "campaigns": [_campaign(draw, members)],
    }


def _member(draw: Draw, person: Person, email: str) -> Json:
    status = draw.one(STATUSES)
    opted = draw.ago(690, 30, SECOND)
    changed = draw.instant(opted + timedelta(seconds=1), draw.now - timedelta(days=1), SECOND)
    return _record(draw, person, email, status, opted, changed)


def _contested(draw: Draw, person: Person, case: int) -> Json:
    """CRM and Mailchimp disagree on consent: who left after, or before, the CRM was told yes; and the reverse."""
    row = person.row
    assert row is not None, "shared with the CRM"
    first, second = sorted(draw.instant(row["created_at"], row["updated_at"], SECOND) for _ in range(2))
    left, crm_later = case in (0, 1), case in (1, 3)
    row |= {"email_consent": "in" if left else "out", "consent_at": second if crm_later else first}
    here = first if crm_later else second
    status = "unsubscribed" if left else "subscribed"
    opted = draw.instant(here - timedelta(days=60), here - timedelta(days=1), SECOND) if left else here
    changed = here if left else draw.instant(here, draw.now - timedelta(days=1), SECOND)
    return _record(draw, person, person.email, status, opted, changed)


def _record(draw: Draw, person: Person, email: str, status: str, opted: datetime, changed: datetime) -> Json:
    first = words.NICKNAMES.get(person.first, person.first) if draw.chance(0.6) else person.first
    merge = {"FNAME": first, "LNAME": person.last, "PHONE": person.phone}
    held = {tag: value for tag, value in merge.items() if not draw.chance(0.4 if tag == "PHONE" else 0.06)}
    return {
        "email_address": email.title() if draw.chance(0.1) else email,
        "status": status,
        "merge_fields": held,
        "tags": sorted(draw.some(words.MAILCHIMP_TAGS, draw.number(1, 2))) if draw.chance(0.4) else [],
        "timestamp_signup": iso(opted),
        "timestamp_opt": iso(opted),
        "last_changed": iso(changed),
    }


def _campaign(draw: Draw, members: list[Json]) -> Json:
    """One mailing, opened by a third of those who got it and followed by some."""
    sent = draw.ago(20, 15, SECOND)
    got = [member for member in members if member["status"] == "subscribed"]
    activity = []
    for member in draw.some(got, len(got) // 3):
        opened = draw.instant(sent, sent + timedelta(days=5), SECOND)
        activity.append({"email": member["email_address"], "action": "open", "at": iso(opened)})
        if draw.chance(0.3):
            clicked = draw.instant(opened, opened + timedelta(minutes=10), SECOND)
            url = f"https://www.northwind-crm.example/{draw.one(('offer', 'webinar'))}"
            activity.append({"email": member["email_address"], "action": "click", "at": iso(clicked), "url": url})
    return {"id": "autumn0001", "list": LIST_ID, "title": "Autumn news", "subject": "What is new this autumn",
            "send_time": iso(sent), "activity": activity}  # fmt: skip
