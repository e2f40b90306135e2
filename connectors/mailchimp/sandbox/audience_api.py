"""The operations on the account and its audiences: root, ping, lists, merge fields, tags as segments, webhooks."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import httpx

from connectors.mailchimp.sandbox.hooks import EVENTS, SOURCES, TIMEOUT_SECONDS
from connectors.mailchimp.sandbox.members import demand
from connectors.mailchimp.sandbox.merge import DEFAULTS, TYPES
from connectors.mailchimp.sandbox.state import (
    Account,
    ApiError,
    Audience,
    MergeField,
    Segment,
    Webhook,
    digest,
    invalid,
    not_found,
)
from connectors.mailchimp.sandbox.views import (
    Call,
    Handler,
    Json,
    list_view,
    member_view,
    merge_field_view,
    page,
    segment_view,
    webhook_view,
)

LIST_NEEDS = ("name", "contact", "permission_reminder", "campaign_defaults", "email_type_option")
LIST_TAKES = (*LIST_NEEDS, "use_archive_bar", "notify_on_subscribe", "notify_on_unsubscribe", "double_optin")
MAX_WEBHOOKS = 20
MAX_MERGE_FIELDS = 30


def root(call: Call) -> Json:
    """The account."""
    account = call.account
    total = sum(audience.counts["subscribed"] for audience in account.audiences.values())
    return {
        "account_id": digest("account", account.api_key, length=25),
        "login_id": "1",
        "account_name": "Sandbox",
        "email": "owner@example.com",
        "first_name": "Sandbox",
        "last_name": "Owner",
        "username": "sandbox",
        "avatar_url": "",
        "role": "owner",
        "account_timezone": "UTC",
        "account_industry": "",
        "pro_enabled": False,
        "total_subscribers": total,
    }


def ping(_: Call) -> Json:
    """Whether the API answers."""
    return {"health_status": "Everything's Chimpy!"}


def list_audiences(call: Call) -> Json:
    """The audiences."""
    audiences = list(call.account.audiences.values())
    if call.query.get("email"):
        audiences = [audience for audience in audiences if audience.find(call.query["email"])]
    limits = {"may_create": True, "max_instances": 100, "current_total_instances": len(audiences)}
    return page(call, "lists", audiences, lambda audience: list_view(call.account, audience), constraints=limits)


def create_audience(call: Call) -> Json:
    """Make an audience with the usual merge fields."""
    demand(call.body, *LIST_NEEDS)
    number = call.account.number()
    audience = new_audience(call.account, digest("list", number, length=10), str(call.body["name"]))
    _keep(audience, call.body)
    return list_view(call.account, audience)


def new_audience(account: Account, list_id: str, name: str) -> Audience:
    """An audience with FNAME, LNAME, ADDRESS and PHONE, put into the account."""
    audience = account.audiences[list_id] = Audience(list_id, name, account.number(), account.now())
    for tag, title, kind in (*DEFAULTS, ("PHONE", "Phone Number", "phone")):
        add_merge_field(audience, {"tag": tag, "name": title, "type": kind})
    return audience


def update_audience(call: Call) -> Json:
    """Change an audience's settings."""
    demand(call.body, *LIST_NEEDS)
    _keep(call.audience, call.body)
    return list_view(call.account, call.audience)


def _keep(audience: Audience, body: Json) -> None:
    audience.name = str(body["name"])
    audience.plain |= {name: body[name] for name in LIST_TAKES if name in body and name != "name"}


def drop_audience(call: Call) -> None:
    """Delete an audience with all its members."""
    del call.account.audiences[call.audience.id]


def list_merge_fields(call: Call) -> Json:
    """The merge fields."""
    audience = call.audience
    kind, required = call.query.get("type"), call.query.get("required")
    found = [
        field
        for field in audience.merge_fields.values()
        if kind in (None, field.type) and required in (None, str(field.required).lower())
    ]
    return page(call, "merge_fields", found, lambda field: merge_field_view(audience, field), list_id=audience.id)


def create_merge_field(call: Call) -> Json:
    """Add a merge field; its values are empty until they are written."""
    demand(call.body, "name", "type")
    return merge_field_view(call.audience, add_merge_field(call.audience, call.body))


def add_merge_field(audience: Audience, given: Json) -> MergeField:
    """Add a merge field to an audience; without a tag it is named after its number."""
    number = max((field.merge_id for field in audience.merge_fields.values()), default=0) + 1
    tag = str(given.get("tag") or f"MMERGE{number}").upper()
    if given.get("type", "text") not in TYPES:
        raise invalid(("type", f"Value must be one of: {', '.join(TYPES)} (not {given['type']})"))
    if len(audience.merge_fields) >= MAX_MERGE_FIELDS:
        raise ApiError(400, "Bad Request", f"An audience has at most {MAX_MERGE_FIELDS} merge fields.")
    _free_tag(audience, tag)
    field = MergeField(number, tag, str(given.get("name") or tag), str(given.get("type", "text")))
    field.display_order = number + 1
    _set(field, given)
    audience.merge_fields[tag] = field
    return field


def update_merge_field(call: Call) -> Json:
    """Change a merge field; a new tag takes the values along, the type stays."""
    demand(call.body, "name")
    audience, field = call.audience, _merge_field(call)
    tag = str(call.body.get("tag") or field.tag).upper()
    if tag != field.tag:
        _free_tag(audience, tag)
        _rename(audience, field, tag)
    field.name = str(call.body["name"])
    _set(field, call.body)
    return merge_field_view(audience, field)


def drop_merge_field(call: Call) -> None:
    """Delete a merge field with its values."""
    audience, field = call.audience, _merge_field(call)
    del audience.merge_fields[field.tag]
    for member in audience.members.values():
        member.merge.pop(field.tag, None)


def _set(field: MergeField, given: Json) -> None:
    for name in ("required", "public"):
        setattr(field, name, bool(given.get(name, getattr(field, name))))
    field.default_value = str(given.get("default_value", field.default_value))
    field.help_text = str(given.get("help_text", field.help_text))
    field.display_order = int(given.get("display_order", field.display_order))
    field.options = field.options | dict(given.get("options") or {})
    if field.type == "phone":
        field.options.setdefault("phone_format", "none")


def _rename(audience: Audience, field: MergeField, tag: str) -> None:
    fields = list(audience.merge_fields.values())
    for member in audience.members.values():
        if field.tag in member.merge:
            member.merge[tag] = member.merge.pop(field.tag)
    field.tag = tag
    audience.merge_fields = {each.tag: each for each in fields}


def _free_tag(audience: Audience, tag: str) -> None:
    if not re.fullmatch(r"[A-Z0-9_]{1,10}", tag) or tag in ("EMAIL", "INTERESTS"):
        raise invalid(("tag", "A tag has up to 10 letters, digits and underscores, and is not a reserved word"))
    if tag in audience.merge_fields:
        detail = f'A Merge Field with the tag "{tag}" already exists for this list.'
        raise ApiError(400, "Invalid Resource", detail)


def _merge_field(call: Call) -> MergeField:
    for field in call.audience.merge_fields.values():
        if str(field.merge_id) == call.path["merge_id"]:
            return field
    raise not_found()


def list_segments(call: Call) -> Json:
    """The static segments: one for each tag."""
    audience = call.audience
    found = list(audience.tags) if call.query.get("type") in (None, "static") else []
    return page(call, "segments", found, lambda segment: segment_view(audience, segment), list_id=audience.id)


def create_segment(call: Call) -> Json:
    """Make a tag, with the members whose addresses are given."""
    demand(call.body, "name")
    audience, now, name = call.audience, call.account.now(), str(call.body["name"])
    for email in call.body.get("static_segment", ()):
        member = audience.find(str(email))
        if member is not None:
            audience.tags.put(member, name, now)
    return segment_view(audience, audience.tags.known(name, now))


def segment_members(call: Call) -> Json:
    """The members with a tag; archived and left-out ones are not shown."""
    audience, segment = call.audience, _segment(call)
    members = [audience.members[number] for number in sorted(segment.members)]
    found = [member for member in members if member.status == "subscribed"]
    return page(call, "members", found, lambda member: member_view(call.account, audience, member))


def _segment(call: Call) -> Segment:
    for segment in call.audience.tags:
        if str(segment.id) == call.path["segment_id"]:
            return segment
    raise not_found()


def search_tags(call: Call) -> Json:
    """The tags whose names begin with `name`."""
    start = call.query.get("name", "").lower()
    found = [tag for tag in call.audience.tags if tag.name.lower().startswith(start)]
    return {"tags": [{"id": tag.id, "name": tag.name} for tag in found], "total_items": len(found)}


def list_webhooks(call: Call) -> Json:
    """The webhooks."""
    audience = call.audience
    hooks = list(audience.webhooks.values())
    return page(call, "webhooks", hooks, lambda hook: webhook_view(audience, hook), list_id=audience.id)


async def create_webhook(call: Call) -> Json:
    """Register a webhook, once its URL has answered 200 to a GET."""
    audience, body = call.audience, call.body
    demand(body, "url")
    await _verify(audience, str(body["url"]))
    if len(audience.webhooks) >= MAX_WEBHOOKS:
        raise ApiError(400, "Bad Request", f"An audience has at most {MAX_WEBHOOKS} webhooks.")
    number = digest("webhook", call.account.number(), length=10)
    hook = Webhook(number, str(body["url"]), _flags(body, "events", EVENTS), _flags(body, "sources", SOURCES))
    audience.webhooks[number] = hook
    return webhook_view(audience, hook)


async def update_webhook(call: Call) -> Json:
    """Change a webhook's URL, events or sources."""
    audience, hook, body = call.audience, _webhook(call), call.body
    if "url" in body and body["url"] != hook.url:
        await _verify(audience, str(body["url"]), but=hook.id)
        hook.url = str(body["url"])
    hook.events |= _flags(body, "events", EVENTS) if "events" in body else {}
    hook.sources |= _flags(body, "sources", SOURCES) if "sources" in body else {}
    return webhook_view(audience, hook)


def drop_webhook(call: Call) -> None:
    """Unregister a webhook."""
    del call.audience.webhooks[_webhook(call).id]


def _flags(body: Json, name: str, known: tuple[str, ...]) -> dict[str, bool]:
    """Flags by name: all of them where none is given, else the absent ones are off."""
    given: Any = body.get(name)
    return {each: bool(given.get(each, False)) if isinstance(given, dict) else True for each in known}


def _webhook(call: Call) -> Webhook:
    found = call.audience.webhooks.get(call.path["webhook_id"])
    if found is None:
        raise not_found()
    return found


async def _verify(audience: Audience, url: str, but: str = "") -> None:
    """Refuse a URL that is taken (its query does not count) or that does not answer 200 to Mailchimp's GET."""
    bare = urlsplit(url)._replace(query="", fragment="")
    for hook in audience.webhooks.values():
        if hook.id != but and urlsplit(hook.url)._replace(query="", fragment="") == bare:
            raise invalid(("url", "Sorry, you can't set up multiple WebHooks for one URL"))
    if bare.scheme not in ("http", "https") or not bare.hostname:
        raise invalid(("url", "Invalid URL"))
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
            answer = await client.get(url, headers={"user-agent": "MailChimp.com WebHook Validator"})
            code = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL):
        code = 0
    if code != 200:
        said = f"We couldn't verify the URL is working. Please double check and try again. HTTP Code: {code}"
        raise invalid(("url", said))


LIST = "/lists/{list_id}"
ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/", root),
    ("GET", "/ping", ping),
    ("GET", "/lists", list_audiences),
    ("POST", "/lists", create_audience),
    ("GET", LIST, lambda call: list_view(call.account, call.audience)),
    ("PATCH", LIST, update_audience),
    ("DELETE", LIST, drop_audience),
    ("GET", f"{LIST}/merge-fields", list_merge_fields),
    ("POST", f"{LIST}/merge-fields", create_merge_field),
    ("GET", f"{LIST}/merge-fields/{{merge_id}}", lambda call: merge_field_view(call.audience, _merge_field(call))),
    ("PATCH", f"{LIST}/merge-fields/{{merge_id}}", update_merge_field),
    ("DELETE", f"{LIST}/merge-fields/{{merge_id}}", drop_merge_field),
    ("GET", f"{LIST}/segments", list_segments),
    ("POST", f"{LIST}/segments", create_segment),
    ("GET", f"{LIST}/segments/{{segment_id}}", lambda call: segment_view(call.audience, _segment(call))),
    ("GET", f"{LIST}/segments/{{segment_id}}/members", segment_members),
    ("GET", f"{LIST}/tag-search", search_tags),
    ("GET", f"{LIST}/webhooks", list_webhooks),
    ("POST", f"{LIST}/webhooks", create_webhook),
    ("GET", f"{LIST}/webhooks/{{webhook_id}}", lambda call: webhook_view(call.audience, _webhook(call))),
    ("PATCH", f"{LIST}/webhooks/{{webhook_id}}", update_webhook),
    ("DELETE", f"{LIST}/webhooks/{{webhook_id}}", drop_webhook),
)
