"""The operations on campaigns and their reports."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from connectors.mailchimp.sandbox import hooks as hook
from connectors.mailchimp.sandbox.members import demand
from connectors.mailchimp.sandbox.merge import shown
from connectors.mailchimp.sandbox.state import (
    Account,
    Activity,
    ApiError,
    Audience,
    Campaign,
    Member,
    digest,
    invalid,
    not_found,
)
from connectors.mailchimp.sandbox.views import Call, Handler, Json, page, stamps

TYPES = ("regular", "plaintext", "absplit", "rss", "variate")
FOLLOWS = ("open", "click", "bounce")
"""What a report's e-mail activity is made of; being sent and leaving are told elsewhere."""


def list_campaigns(call: Call) -> Json:
    """The campaigns, filtered and sorted by `create_time` (default) or `send_time`."""
    query, found = call.query, []
    for campaign in call.account.campaigns.values():
        told = {"type": campaign.type, "status": campaign.status, "list_id": campaign.list_id}
        if all(query.get(name) in (None, value) for name, value in told.items()) and _in_time(call, campaign):
            found.append(campaign)
    by_send = query.get("sort_field") == "send_time"
    found.sort(
        key=lambda campaign: str((campaign.sent_at if by_send else campaign.created_at) or ""),
        reverse=query.get("sort_dir", "ASC").upper() == "DESC",
    )
    return page(call, "campaigns", found, lambda campaign: view(call.account, campaign))


def _in_time(call: Call, campaign: Campaign) -> bool:
    for name, at in (("send_time", campaign.sent_at), ("create_time", campaign.created_at)):
        since, before = call.time(f"since_{name}"), call.time(f"before_{name}")
        if (since and (at is None or at <= since)) or (before and (at is None or at >= before)):
            return False
    return True


def create(call: Call) -> Json:
    """Make a campaign, not sent yet."""
    demand(call.body, "type")
    if call.body["type"] not in TYPES:
        raise invalid(("type", f"Value must be one of: {', '.join(TYPES)} (not {call.body['type']})"))
    list_id = str((call.body.get("recipients") or {}).get("list_id", ""))
    if list_id and list_id not in call.account.audiences:
        raise invalid(("recipients.list_id", "The list does not exist"))
    number = call.account.number()
    campaign = Campaign(digest("campaign", number, length=10), number, list_id, call.account.now())
    campaign.type, campaign.settings = call.body["type"], dict(call.body.get("settings") or {})
    call.account.campaigns[campaign.id] = campaign
    return view(call.account, campaign)


def update(call: Call) -> Json:
    """Change the settings of a campaign that is not sent yet."""
    campaign = _unsent(call)
    campaign.settings |= dict(call.body.get("settings") or {})
    campaign.list_id = str((call.body.get("recipients") or {}).get("list_id", campaign.list_id))
    return view(call.account, campaign)


def drop(call: Call) -> None:
    """Delete a campaign."""
    del call.account.campaigns[_campaign(call).id]


def send(call: Call) -> None:
    """Send a campaign to everybody subscribed."""
    campaign = _unsent(call)
    if not campaign.list_id or not campaign.settings.get("subject_line"):
        raise ApiError(400, "Bad Request", "Your Campaign is not ready to send.")
    send_out(call.account, call.hooks, campaign, call.account.now())


def _campaign(call: Call) -> Campaign:
    return call.account.campaign(call.path["campaign_id"])


def _unsent(call: Call) -> Campaign:
    campaign = _campaign(call)
    if campaign.status != "save":
        raise ApiError(400, "Bad Request", "Campaign cannot be changed or sent in its present status.")
    return campaign


def send_out(account: Account, hooks: hook.Webhooks | None, campaign: Campaign, at: datetime) -> None:
    """Mark a campaign as sent at an instant to everybody subscribed; hooks None is a seed, without webhooks."""
    audience = account.audience(campaign.list_id)
    campaign.status, campaign.sent_at = "sent", at
    for member in audience.members.values():
        if member.status == "subscribed":
            campaign.sent[member.web_id] = []
            follow(campaign, member, "sent", at)
    if hooks is not None:
        hooks.emit(audience, "campaign", "admin", account.now(), hook.campaign_data(campaign))


def follow(
    campaign: Campaign,
    member: Member,
    action: str,
    at: datetime,
    *,
    url: str = "",
    reason: str = "",
    admin: bool = False,
) -> None:
    """Note what happened between a campaign and one of its recipients; ApiError 404 for anyone else."""
    if member.web_id not in campaign.sent:
        raise not_found()
    item = Activity(action, at, campaign.id, _title(campaign), url, reason, admin)
    campaign.sent[member.web_id].append(item)
    member.activity.append(item)


def _title(campaign: Campaign) -> str:
    return str(campaign.settings.get("title") or campaign.settings.get("subject_line", ""))


def view(account: Account, campaign: Campaign) -> Json:
    """A campaign."""
    audience = account.audiences.get(campaign.list_id)
    members = audience.counts["subscribed"] if audience else 0
    settings: Json = dict.fromkeys(("subject_line", "preview_text", "title", "from_name", "reply_to"), "")
    sent = campaign.status == "sent"
    return {
        "id": campaign.id,
        "web_id": campaign.web_id,
        "type": campaign.type,
        "status": campaign.status,
        "emails_sent": len(campaign.sent),
        "content_type": "html",
        "archive_url": "",
        "long_archive_url": "",
        "recipients": {
            "list_id": campaign.list_id,
            "list_is_active": audience is not None,
            "list_name": audience.name if audience else "",
            "segment_text": "",
            "recipient_count": len(campaign.sent) if sent else members,
        },
        "settings": settings | campaign.settings,
        "tracking": {"opens": True, "html_clicks": True, "text_clicks": False},
        "delivery_status": {"enabled": False},
        **stamps(account, create_time=campaign.created_at, send_time=campaign.sent_at),
        **({"report_summary": _summary(campaign)} if sent else {}),
    }


def _all(campaign: Campaign, action: str) -> list[Activity]:
    return [item for items in campaign.sent.values() for item in items if item.action == action]


def _people(campaign: Campaign, action: str) -> int:
    return sum(any(item.action == action for item in items) for items in campaign.sent.values())


def _rate(part: int, campaign: Campaign) -> float:
    return part / len(campaign.sent) if campaign.sent else 0


def _summary(campaign: Campaign) -> Json:
    opens, clicks = _people(campaign, "open"), _people(campaign, "click")
    return {
        "opens": len(_all(campaign, "open")),
        "unique_opens": opens,
        "open_rate": _rate(opens, campaign),
        "clicks": len(_all(campaign, "click")),
        "subscriber_clicks": clicks,
        "click_rate": _rate(clicks, campaign),
    }


def list_reports(call: Call) -> Json:
    """The reports of the campaigns that were sent."""
    sent = [each for each in call.account.campaigns.values() if each.status == "sent" and _in_time(call, each)]
    return page(call, "reports", sent, lambda campaign: report(call.account, campaign))


def _sent(call: Call) -> Campaign:
    campaign = _campaign(call)
    if campaign.status != "sent":
        raise not_found()
    return campaign


def report(account: Account, campaign: Campaign) -> Json:
    """A campaign's report."""
    audience = account.audiences.get(campaign.list_id)
    return {
        "id": campaign.id,
        "campaign_title": _title(campaign),
        "type": campaign.type,
        "list_id": campaign.list_id,
        "list_is_active": audience is not None,
        "list_name": audience.name if audience else "",
        "subject_line": campaign.settings.get("subject_line", ""),
        "preview_text": campaign.settings.get("preview_text", ""),
        "emails_sent": len(campaign.sent),
        "abuse_reports": _people(campaign, "abuse"),
        "unsubscribed": _people(campaign, "unsub"),
        "bounces": {"hard_bounces": _people(campaign, "bounce"), "soft_bounces": 0, "syntax_errors": 0},
        "forwards": {"forwards_count": 0, "forwards_opens": 0},
        "opens": _opens(account, campaign),
        "clicks": _clicks(account, campaign),
        "delivery_status": {"enabled": False},
        **stamps(account, send_time=campaign.sent_at),
    }


def _opens(account: Account, campaign: Campaign) -> Json:
    opens, people = _all(campaign, "open"), _people(campaign, "open")
    totals = {"opens_total": len(opens), "unique_opens": people, "open_rate": _rate(people, campaign)}
    return totals | stamps(account, last_open=_last(opens))


def _clicks(account: Account, campaign: Campaign) -> Json:
    clicks, people = _all(campaign, "click"), _people(campaign, "click")
    return {
        "clicks_total": len(clicks),
        "unique_clicks": len({item.url for item in clicks}),
        "unique_subscriber_clicks": people,
        "click_rate": _rate(people, campaign),
        **stamps(account, last_click=_last(clicks)),
    }


def _last(items: Iterable[Activity]) -> datetime | None:
    return max((item.at for item in items), default=None)


def _recipients(call: Call, campaign: Campaign) -> list[tuple[Member, list[Activity]]]:
    """The recipients who are still in the audience, archived or not, with what followed."""
    members = call.account.audience(campaign.list_id).members
    return [(members[number], items) for number, items in campaign.sent.items() if number in members]


def _about(call: Call, audience: Audience, campaign: Campaign, member: Member) -> Json:
    return {
        "email_id": member.hash,
        "email_address": member.email,
        "campaign_id": campaign.id,
        "list_id": audience.id,
        "list_is_active": audience.id in call.account.audiences,
    }


def email_activity(call: Call) -> Json:
    """What each recipient did: opens, clicks, bounces. With `since`, only what came after, and only who did it."""
    campaign, since = _sent(call), call.time("since")
    audience = call.account.audience(campaign.list_id)
    found = []
    for member, items in _recipients(call, campaign):
        acts = [item for item in items if item.action in FOLLOWS and (since is None or item.at > since)]
        if acts or since is None:
            found.append((member, acts))

    def show(pair: tuple[Member, list[Activity]]) -> Json:
        return _about(call, audience, campaign, pair[0]) | {"activity": [_act(item) for item in pair[1]]}

    return page(call, "emails", found, show, campaign_id=campaign.id)


def _act(item: Activity) -> Json:
    act: Json = {"action": item.action, "timestamp": item.at.isoformat(), "ip": "198.51.100.1"}
    if item.action == "click":
        act["url"] = item.url
    return act | ({"type": "hard"} if item.action == "bounce" else {})


def sent_to(call: Call) -> Json:
    """The recipients."""
    campaign = _sent(call)
    audience = call.account.audience(campaign.list_id)

    def show(pair: tuple[Member, list[Activity]]) -> Json:
        member, items = pair
        opens = [item for item in items if item.action == "open"]
        bounced = any(item.action == "bounce" for item in items)
        return {
            **_about(call, audience, campaign, member),
            "merge_fields": shown(audience.merge_fields, member.merge),
            "vip": bool(member.plain.get("vip")),
            "status": "hard" if bounced else "sent",
            "open_count": len(opens),
            "gmt_offset": 0,
            **stamps(call.account, last_open=_last(opens)),
        }

    return page(call, "sent_to", _recipients(call, campaign), show, campaign_id=campaign.id)


def unsubscribed(call: Call) -> Json:
    """The recipients who left because of this campaign."""
    campaign = _sent(call)
    audience = call.account.audience(campaign.list_id)
    left = [(member, item) for member, items in _recipients(call, campaign) for item in items if item.action == "unsub"]

    def show(pair: tuple[Member, Activity]) -> Json:
        member, item = pair
        more: dict[str, Any] = {
            "merge_fields": shown(audience.merge_fields, member.merge),
            "vip": bool(member.plain.get("vip")),
        }
        about = _about(call, audience, campaign, member)
        return about | more | {"timestamp": item.at.isoformat(), "reason": item.reason}

    return page(call, "unsubscribes", left, show, campaign_id=campaign.id)


CAMPAIGN, REPORT = "/campaigns/{campaign_id}", "/reports/{campaign_id}"
ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/campaigns", list_campaigns),
    ("POST", "/campaigns", create),
    ("GET", CAMPAIGN, lambda call: view(call.account, _campaign(call))),
    ("PATCH", CAMPAIGN, update),
    ("DELETE", CAMPAIGN, drop),
    ("POST", f"{CAMPAIGN}/actions/send", send),
    ("GET", "/reports", list_reports),
    ("GET", REPORT, lambda call: report(call.account, _sent(call))),
    ("GET", f"{REPORT}/email-activity", email_activity),
    ("GET", f"{REPORT}/sent-to", sent_to),
    ("GET", f"{REPORT}/unsubscribed", unsubscribed),
)
