"""What the Mailchimp sandbox answers with: one call's input, pages, `fields` and `exclude_fields`, and resources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connectors.mailchimp.sandbox.hooks import Webhooks
from connectors.mailchimp.sandbox.members import Roster
from connectors.mailchimp.sandbox.merge import kind, shown
from connectors.mailchimp.sandbox.state import (
    Account,
    Activity,
    Audience,
    Batch,
    Member,
    MergeField,
    Note,
    Segment,
    Webhook,
    instant,
    invalid,
    not_found,
)

Json = dict[str, Any]
MAX_COUNT = 1000
DEFAULT_COUNT = 10

UNTOLD: Json = {
    "email_type": "html",
    "interests": {},
    "ip_signup": "",
    "ip_opt": "",
    "member_rating": 2,
    "language": "",
    "vip": False,
    "email_client": "",
    "location": {"latitude": 0, "longitude": 0, "gmtoff": 0, "dstoff": 0, "country_code": "", "timezone": ""},
}
"""What a member shows of what nobody ever told."""


@dataclass(frozen=True, slots=True)
class Call:
    """One API call, from HTTP or out of a batch: path parameters, query and JSON body."""

    account: Account
    hooks: Webhooks
    base_url: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Json

    @property
    def audience(self) -> Audience:
        """The audience in the path; ApiError 404 where there is none."""
        return self.account.audience(self.path["list_id"])

    @property
    def member(self) -> Member:
        """The member in the path; ApiError 404 where there is none."""
        found = self.audience.find(self.path["key"])
        if found is None:
            raise not_found()
        return found

    def roster(self) -> Roster:
        """The audience in the path, in the hands of the API."""
        return Roster(self.account, self.hooks, self.audience)

    def flag(self, name: str) -> bool:
        """A boolean of the query, false where it is absent."""
        return self.query.get(name, "").lower() in ("true", "1")

    def time(self, name: str) -> datetime | None:
        """An instant of the query."""
        return instant(self.query[name], name) if self.query.get(name) else None

    def number(self, name: str, default: int, most: int | None = None) -> int:
        """A non-negative integer of the query, at most `most`."""
        text = self.query.get(name, str(default))
        if not text.isdecimal() or (most is not None and int(text) > most):
            raise invalid((name, f"Value must be an integer between 0 and {most or 'any'} (not {text})"))
        return int(text)


SHAPES: dict[str, type] = {
    **dict.fromkeys(("merge_fields", "settings", "recipients", "options", "events", "sources", "contact"), dict),
    **dict.fromkeys(("tags", "members", "operations", "static_segment"), list),
    **dict.fromkeys(("name", "tag", "type", "url", "note", "help_text", "default_value", "email_address"), str),
    "display_order": int,
}
"""The type of a field is the same wherever a body has it at its top."""


def check_shape(body: Json) -> None:
    """Refuse a body whose fields are of other types than the description's."""
    wrong = [
        (name, f"Schema describes {kind(type_())}, {kind(body[name])} found instead")
        for name, type_ in SHAPES.items()
        if name in body and type(body[name]) is not type_
    ]
    if wrong:
        raise invalid(*wrong)


Handler = Callable[[Call], Any]
"""What serves one operation: JSON for 200, None for 204, or an awaitable of these."""


def page(call: Call, name: str, found: Sequence[Any], view: Callable[[Any], Json], **more: Any) -> Json:
    """The page of a collection that `count` (10, at most 1000) and `offset` ask for, with the number of all items."""
    count, offset = call.number("count", DEFAULT_COUNT, MAX_COUNT), call.number("offset", 0)
    return {name: [view(item) for item in found[offset : offset + count]], "total_items": len(found), **more}


def project(answer: Any, query: Mapping[str, str]) -> Any:
    """Keep only `fields`, or leave out `exclude_fields`: dotted names with commas between, through lists too."""
    if query.get("fields"):
        return _only(answer, [name.split(".") for name in query["fields"].split(",")])
    if query.get("exclude_fields"):
        return _without(answer, [name.split(".") for name in query["exclude_fields"].split(",")])
    return answer


def _only(value: Any, paths: list[list[str]]) -> Any:
    if isinstance(value, list):
        return [_only(item, paths) for item in value]
    if not isinstance(value, dict) or [] in paths:
        return value
    inner = {name: [path[1:] for path in paths if path[0] == name] for name in value}
    return {name: _only(value[name], wanted) for name, wanted in inner.items() if wanted}


def _without(value: Any, paths: list[list[str]]) -> Any:
    if isinstance(value, list):
        return [_without(item, paths) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {name: [path[1:] for path in paths if path[0] == name] for name in value}
    return {
        name: _without(value[name], drop) if drop else value[name] for name, drop in inner.items() if [] not in drop
    }


def stamps(account: Account, **instants: datetime | None) -> Json:
    """Instants as ISO 8601 with +00:00; see `Account.blank_dates` for those that are not known."""
    if account.blank_dates:
        return {name: at.isoformat() if at else "" for name, at in instants.items()}
    return {name: at.isoformat() for name, at in instants.items() if at}


def member_view(account: Account, audience: Audience, member: Member) -> Json:
    """A member as every endpoint of members shows it."""
    merge = shown(audience.merge_fields, member.merge)
    names = (str(merge.get(tag, "")) for tag in ("FNAME", "LNAME"))
    sent = sum(item.action == "sent" for item in member.activity)
    return {
        "id": member.hash,
        "email_address": member.email,
        "unique_email_id": member.unique_email_id,
        "contact_id": member.contact_id,
        "full_name": " ".join(name for name in names if name),
        "web_id": member.web_id,
        "status": member.status,
        **({"unsubscribe_reason": member.unsubscribe_reason} if member.status == "unsubscribed" else {}),
        "consents_to_one_to_one_messaging": member.status == "subscribed",
        "merge_fields": merge,
        "stats": {"avg_open_rate": _rate(member, "open", sent), "avg_click_rate": _rate(member, "click", sent)},
        "source": member.source,
        "tags_count": len(member.tags),
        "tags": [{"id": audience.tags.number(name), "name": name} for name in member.tags],
        "list_id": audience.id,
        **UNTOLD,
        **member.plain,
        **stamps(
            account,
            timestamp_signup=member.timestamp_signup,
            timestamp_opt=member.timestamp_opt,
            last_changed=member.last_changed,
        ),
        **({"last_note": last_note_view(member.notes[-1])} if member.notes else {}),
    }


def _rate(member: Member, action: str, sent: int) -> float:
    return len({item.campaign_id for item in member.activity if item.action == action}) / sent if sent else 0


def list_view(account: Account, audience: Audience) -> Json:
    """An audience. Its `member_count` is of the subscribed only."""
    counts = audience.counts
    return {
        "id": audience.id,
        "web_id": audience.web_id,
        "name": audience.name,
        "permission_reminder": "",
        "use_archive_bar": True,
        "notify_on_subscribe": "",
        "notify_on_unsubscribe": "",
        "list_rating": 0,
        "email_type_option": False,
        "subscribe_url_short": "",
        "subscribe_url_long": "",
        "beamer_address": "",
        "visibility": "prv",
        "double_optin": False,
        "has_welcome": False,
        "marketing_permissions": False,
        "modules": [],
        **audience.plain,
        "stats": {
            "member_count": counts["subscribed"],
            "total_contacts": counts.total(),
            "unsubscribe_count": counts["unsubscribed"],
            "cleaned_count": counts["cleaned"],
            "merge_field_count": len(audience.merge_fields),
        },
        **stamps(account, date_created=audience.created_at),
    }


def merge_field_view(audience: Audience, field: MergeField) -> Json:
    """A merge field."""
    names = ("merge_id", "tag", "name", "type", "required", "default_value", "public", "display_order", "help_text")
    shown_options = {"size": 25} if field.type == "text" and not field.options else field.options
    return {name: getattr(field, name) for name in names} | {"options": shown_options, "list_id": audience.id}


def segment_view(audience: Audience, segment: Segment) -> Json:
    """A tag as the static segment that it is too."""
    return {
        "id": segment.id,
        "name": segment.name,
        "member_count": len(segment.members),
        "type": "static",
        "created_at": segment.created_at.isoformat(),
        "updated_at": segment.updated_at.isoformat(),
        "options": {"match": "all", "conditions": []},
        "list_id": audience.id,
    }


def webhook_view(audience: Audience, hook: Webhook) -> Json:
    """A webhook."""
    return {"id": hook.id, "url": hook.url, "events": hook.events, "sources": hook.sources, "list_id": audience.id}


def note_view(audience: Audience, member: Member, note: Note) -> Json:
    """A note on a member."""
    return {
        "id": note.id,
        "note": note.text,
        "created_at": note.created_at.isoformat(),
        "updated_at": note.updated_at.isoformat(),
        "created_by": note.created_by,
        "list_id": audience.id,
        "email_id": member.hash,
        "contact_id": member.contact_id,
    }


def last_note_view(note: Note) -> Json:
    """The newest note as a member shows it."""
    about = {"note_id": note.id, "note": note.text, "created_by": note.created_by}
    return about | {"created_at": note.created_at.isoformat()}


def feed_view(item: Activity) -> Json:
    """One entry of a member's activity feed."""
    entry = {
        "activity_type": item.action,
        "created_at_timestamp": item.at.isoformat(),
        "campaign_id": item.campaign_id,
        "campaign_title": item.title,
    }
    match item.action:
        case "click":
            entry["link_clicked"] = item.url
        case "bounce":
            return entry | {"bounce_type": "hard", "bounce_has_open_activity": False}
        case "unsub":
            return entry | {"is_admin_unsubscribed": item.by_admin, "unsubscribe_reason": item.reason}
    return entry


def activity_view(item: Activity) -> Json:
    """One entry of a member's recent activity, the older endpoint."""
    entry = {
        "action": item.action,
        "timestamp": item.at.isoformat(),
        "campaign_id": item.campaign_id,
        "title": item.title,
    }
    return entry | ({"url": item.url} if item.url else {})


def batch_view(account: Account, batch: Batch) -> Json:
    """A batch; the URL of its answers is empty until it is finished."""
    return {
        "id": batch.id,
        "status": batch.status,
        "total_operations": batch.total,
        "finished_operations": batch.finished,
        "errored_operations": batch.errored,
        "response_body_url": batch.url if batch.status == "finished" else "",
        **stamps(account, submitted_at=batch.submitted_at, completed_at=batch.completed_at),
    }
