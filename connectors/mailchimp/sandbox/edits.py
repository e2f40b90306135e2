"""What the control API can do to the Mailchimp sandbox: load it, and edit it as a subscriber or a person would.

Seed (no webhooks): {"api_key", "access_token", "connection_limit", "blank_dates", "lists": [...], "campaigns": [...],
"oauth": any of the kit's Registration, or {"revoke": true}}.
A list: {"id", "name", "merge_fields": [{"tag", "name", "type", "required", "options"}], "members": [...],
"forgotten": [addresses]}. A member: {"email_address", "status", "merge_fields", "tags", "timestamp_opt",
"timestamp_signup", "last_changed", "locked", ...}; unsubscribed and cleaned ones are locked (compliance) unless told
otherwise. A campaign: {"id", "list", "title", "subject", "send_time", "activity": [{"email", "action", "at", "url"}]}.

Edit: {"list", "email", "action", "source": "user" or "admin", ...} with the actions of `ACTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from connectors.kit.sandbox.authority import Registration
from connectors.mailchimp.sandbox import campaign_api as campaigns
from connectors.mailchimp.sandbox.audience_api import add_merge_field, new_audience
from connectors.mailchimp.sandbox.hooks import Source, Webhooks
from connectors.mailchimp.sandbox.members import PLAIN, Roster, tag_names
from connectors.mailchimp.sandbox.merge import check
from connectors.mailchimp.sandbox.state import (
    STATUSES,
    Account,
    Audience,
    Campaign,
    Member,
    address_hash,
    digest,
    instant,
    not_found,
)
from connectors.mailchimp.sandbox.views import Json, member_view

SETTINGS = ("api_key", "access_token", "connection_limit", "blank_dates")


def seed(account: Account, body: Json) -> Json:
    """Load settings and records over what is there; answers how many members and campaigns were loaded."""
    for name in SETTINGS:
        if name in body:
            setattr(account, name, body[name])
    _seed_oauth(account, dict(body.get("oauth", {})))
    members = sum(_seed_list(account, given) for given in body.get("lists", ()))
    for given in body.get("campaigns", ()):
        _seed_campaign(account, given)
    return {"lists": len(body.get("lists", ())), "members": members, "campaigns": len(body.get("campaigns", ()))}


def _seed_oauth(account: Account, given: Json) -> None:
    if given.pop("revoke", False):
        account.authority.revoke_all()
    known = msgspec.to_builtins(account.authority.registration)
    account.authority.registration = msgspec.convert(known | given, Registration)


def _seed_list(account: Account, given: Json) -> int:
    list_id = str(given["id"])
    audience = account.audiences.get(list_id) or new_audience(account, list_id, str(given.get("name", list_id)))
    audience.name = str(given.get("name", audience.name))
    if "merge_fields" in given:
        audience.merge_fields = {}
        for field in given["merge_fields"]:
            add_merge_field(audience, field)
    audience.forgotten |= {address_hash(str(email)) for email in given.get("forgotten", ())}
    for member in given.get("members", ()):
        _seed_member(account, audience, member)
    return len(given.get("members", ()))


def _seed_member(account: Account, audience: Audience, given: Json) -> None:
    email, status = str(given["email_address"]).strip(), given.get("status", "subscribed")
    if status not in (*STATUSES, "archived"):
        raise ValueError(f"no such status: {status}")
    old = audience.find(email)
    if old is not None:
        audience.remove(old)
    times = {
        name: instant(str(given[name]), name) if given.get(name) else None
        for name in ("timestamp_opt", "timestamp_signup", "last_changed")
    }
    changed = times["last_changed"] or times["timestamp_opt"] or account.now()
    member = Member(
        web_id=account.number(),
        email=email,
        status=status,
        contact_id=digest("contact", audience.id, email.lower()),
        last_changed=changed,
        timestamp_opt=times["timestamp_opt"] or (changed if status == "subscribed" else None),
        timestamp_signup=times["timestamp_signup"],
        merge=check(audience.merge_fields, given.get("merge_fields", {}), {}, need=False),
        plain={name: given[name] for name in PLAIN if name in given},
        locked=bool(given.get("locked", status in ("unsubscribed", "cleaned"))),
        unsubscribed_at=changed if status == "unsubscribed" else None,
        source=str(given.get("source", "API - Generic")),
    )
    audience.add(member)
    for name in tag_names(given.get("tags", ())):
        audience.tags.put(member, name, changed)


def _seed_campaign(account: Account, given: Json) -> Campaign:
    now, number = account.now(), account.number()
    campaign = Campaign(str(given.get("id") or digest("campaign", number, length=10)), number, str(given["list"]), now)
    title = str(given.get("title", campaign.id))
    campaign.settings = {"title": title, "subject_line": str(given.get("subject", title))}
    account.campaigns[campaign.id] = campaign
    if given.get("send_time") or given.get("status") == "sent":
        sent_at = instant(str(given["send_time"]), "send_time") if given.get("send_time") else now
        campaign.created_at = min(campaign.created_at, sent_at)
        campaigns.send_out(account, None, campaign, sent_at)
    for act in given.get("activity", ()):
        member = account.audience(campaign.list_id).find(str(act["email"]))
        if member is None:
            raise not_found()
        at = instant(str(act["at"]), "at") if act.get("at") else now
        campaigns.follow(campaign, member, str(act["action"]), at, url=str(act.get("url", "")))
    return campaign


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit by a subscriber or by a person in the account, with webhooks."""

    account: Account
    audience: Audience
    roster: Roster
    source: Source
    given: Mapping[str, Any]

    @property
    def member(self) -> Member:
        """The member that the edit is about; ApiError 404 where there is none."""
        found = self.audience.find(str(self.given["email"]))
        if found is None:
            raise not_found()
        return found

    @property
    def now(self) -> datetime:
        """The present instant."""
        return self.account.now()

    def campaign(self) -> Campaign | None:
        """The campaign that the edit names, if any."""
        return self.account.campaign(str(self.given["campaign"])) if self.given.get("campaign") else None


def edit(account: Account, hooks: Webhooks, body: Json) -> Json:
    """Make an edit; answers the member (or the campaign) as the API shows it, or {} where he is gone.

    KeyError for an unknown action, list or a missing field; ApiError (a ValueError) for what Mailchimp would refuse.
    """
    action = ACTIONS[body["action"]]
    source: Source = "admin" if body.get("source", _usual(body["action"])) == "admin" else "user"
    audience = account.audience(str(body["list"]))
    roster = Roster(account, hooks, audience, source)
    action(Edit(account, audience, roster, source, body))
    if body["action"] == "campaign_send":
        return {"campaigns": [campaigns.view(account, campaign) for campaign in account.campaigns.values()]}
    member = audience.find(str(body.get("new_email") or body["email"]))
    return member_view(account, audience, member) if member else {}


def _usual(action: str) -> str:
    return "admin" if action in ("archive", "delete", "tag", "untag", "campaign_send") else "user"


def _subscribe(edit: Edit) -> None:
    """Sign up, or come back: the contact himself lifts every lock."""
    asked = {"email_address": edit.given["email"], "merge_fields": edit.given.get("merge_fields", {})}
    status, member = str(edit.given.get("status", "subscribed")), edit.audience.find(str(edit.given["email"]))
    if member is None:
        member = edit.roster.insert(asked, status, need=False)
        member.source = "Hosted Signup Form" if edit.source == "user" else "Admin Add"
    else:
        edit.roster.change(member, asked | {"status": status}, need=False)


def _confirm(edit: Edit) -> None:
    """Confirm a pending subscription."""
    edit.roster.change(edit.member, {"status": "subscribed"}, need=False)


def _leave(edit: Edit) -> None:
    """Unsubscribe, for `reason` manual or abuse, because of `campaign` or not."""
    if edit.given.get("reason") == "abuse":
        _follow(edit, "abuse")
    _follow(edit, "unsub")
    edit.roster.reason = str(edit.given.get("reason", ""))
    edit.roster.campaign_id = str(edit.given.get("campaign") or "")
    edit.member.unsubscribe_reason = str(edit.given.get("said", ""))
    edit.roster.change(edit.member, {"status": "unsubscribed"}, need=False)


def _clean(edit: Edit) -> None:
    """Take an address out after a hard bounce or an abuse report (`reason` hard or abuse)."""
    _follow(edit, "bounce")
    edit.roster.reason = str(edit.given.get("reason", ""))
    edit.roster.campaign_id = str(edit.given.get("campaign") or "")
    edit.roster.change(edit.member, {"status": "cleaned"}, need=False)


def _profile(edit: Edit) -> None:
    """Change `merge_fields`, and what else a profile holds."""
    asked = {name: edit.given[name] for name in ("merge_fields", *PLAIN) if name in edit.given}
    edit.roster.change(edit.member, asked, need=False)


def _upemail(edit: Edit) -> None:
    """Change the address to `new_email`."""
    edit.roster.change(edit.member, {"email_address": edit.given["new_email"]}, need=False)


def _archive(edit: Edit) -> None:
    edit.roster.archive(edit.member)


def _delete(edit: Edit) -> None:
    """Delete for good."""
    edit.roster.forget(edit.member)


def _tag(edit: Edit) -> None:
    for name in tag_names(edit.given["tags"]):
        edit.audience.tags.put(edit.member, name, edit.now)


def _untag(edit: Edit) -> None:
    for name in tag_names(edit.given["tags"]):
        edit.audience.tags.take(edit.member, name)


def _send(edit: Edit) -> None:
    """Send a campaign that is there (`campaign` is its id), or a new one ({"id", "title", "subject"})."""
    wanted = edit.given.get("campaign") or {}
    if isinstance(wanted, Mapping):
        campaign = _seed_campaign(edit.account, {**wanted, "list": edit.audience.id})
    else:
        campaign = edit.account.campaign(str(wanted))
    campaigns.send_out(edit.account, edit.roster.hooks, campaign, edit.now)


def _follow(edit: Edit, action: str) -> None:
    campaign = edit.campaign()
    if campaign is not None:
        url, said = str(edit.given.get("url", "")), str(edit.given.get("said", ""))
        admin = edit.source == "admin"
        campaigns.follow(campaign, edit.member, action, edit.now, url=url, reason=said, admin=admin)


ACTIONS: dict[str, Callable[[Edit], None]] = {
    "subscribe": _subscribe,
    "confirm": _confirm,
    "unsubscribe": _leave,
    "clean": _clean,
    "profile": _profile,
    "upemail": _upemail,
    "archive": _archive,
    "delete": _delete,
    "tag": _tag,
    "untag": _untag,
    "campaign_send": _send,
    "open": lambda edit: _follow(edit, "open"),
    "click": lambda edit: _follow(edit, "click"),
}


def state(account: Account) -> Json:
    """All that was done, without what depends on when: no times and no running numbers."""
    return {
        "lists": {audience.id: _audience_state(audience) for audience in account.audiences.values()},
        "campaigns": {
            campaign.id: {"list": campaign.list_id, "status": campaign.status, "sent": len(campaign.sent)}
            for campaign in account.campaigns.values()
        },
    }


def _audience_state(audience: Audience) -> Json:
    return {
        "name": audience.name,
        "merge_fields": {field.tag: field.type for field in audience.merge_fields.values()},
        "members": {member.hash: _member_state(member) for member in audience.members.values()},
        "forgotten": sorted(audience.forgotten),
        "webhooks": len(audience.webhooks),
    }


def _member_state(member: Member) -> Json:
    return {
        "email_address": member.email,
        "status": member.status,
        "contact_id": member.contact_id,
        "merge_fields": member.merge,
        "tags": sorted(member.tags),
        "notes": [note.text for note in member.notes],
        "activity": [[item.action, item.title, item.url] for item in member.activity],
        "locked": member.locked,
        **member.plain,
    }
