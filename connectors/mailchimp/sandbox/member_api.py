"""The operations on members: list, read, write, tags, notes and activity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice

from connectors.mailchimp.sandbox.members import demand, subscribe_many, tag_names
from connectors.mailchimp.sandbox.state import STATUSES, ApiError, Member, Note, invalid, not_found
from connectors.mailchimp.sandbox.views import (
    DEFAULT_COUNT,
    MAX_COUNT,
    Call,
    Handler,
    Json,
    activity_view,
    feed_view,
    member_view,
    note_view,
    page,
)

Test = Callable[[Member], bool]
SORTS = ("timestamp_opt", "timestamp_signup", "last_changed")
RECENT = 50


def list_members(call: Call) -> Json:
    """Members in the order they came, or sorted. Archived ones are among them unless a status is asked for.

    The instants of `since_…` and `before_…` are excluded. Pages are cut from the audience as it is at each call, so a
    member that changes between two pages moves the ones behind it across the cut.
    """
    audience, tests = call.audience, _tests(call)
    count, offset = call.number("count", DEFAULT_COUNT, MAX_COUNT), call.number("offset", 0)
    if not tests and not _by_change(call) and "sort_field" not in call.query:
        found, total = list(islice(audience.members.values(), offset, offset + count)), len(audience.members)
    else:
        matching = [member for member in _ordered(call) if all(test(member) for test in tests)]
        found, total = matching[offset : offset + count], len(matching)
    shown = [member_view(call.account, audience, member) for member in found]
    return {"members": shown, "list_id": audience.id, "total_items": total}


def _by_change(call: Call) -> bool:
    return bool(call.query.get("since_last_changed") or call.query.get("before_last_changed"))


def _ordered(call: Call) -> list[Member]:
    """The members in the window of change asked for, in the order asked for."""
    sort, down = call.query.get("sort_field"), call.query.get("sort_dir", "ASC").upper() == "DESC"
    if sort is not None and sort not in SORTS:
        raise invalid(("sort_field", f"Value must be one of: {', '.join(SORTS)} (not {sort})"))
    found = call.audience.changed_between(call.time("since_last_changed"), call.time("before_last_changed"))
    if sort == "last_changed":
        return found[::-1] if down else found
    if sort is None:
        return sorted(found, key=lambda member: member.web_id)
    return sorted(found, key=lambda member: (str(getattr(member, sort) or ""), member.web_id), reverse=down)


def _tests(call: Call) -> list[Test]:
    """What a member must be, beside changed in the window, to be in the answer."""
    status = call.query.get("status")
    if status is not None and status not in (*STATUSES, "archived"):
        raise invalid(("status", f"Value must be one of: {', '.join(STATUSES)}, archived (not {status})"))
    if call.query.get("interest_category_id"):  # groups are not part of the sandbox; a filter must not be passed over
        raise invalid(("interest_category_id", "The interest category does not exist"))
    return [*_likeness(call, status), *_times(call, status)]


def _likeness(call: Call, status: str | None) -> Iterator[Test]:
    wanted_id, wanted_type = call.query.get("unique_email_id"), call.query.get("email_type")
    if status is not None:
        yield lambda member: member.status == status
    if call.flag("vip_only"):
        yield lambda member: bool(member.plain.get("vip"))
    if wanted_id:
        yield lambda member: member.unique_email_id == wanted_id
    if wanted_type:
        yield lambda member: member.plain.get("email_type", "html") == wanted_type


def _times(call: Call, status: str | None) -> Iterator[Test]:
    if since := call.time("since_timestamp_opt"):
        yield lambda member: member.timestamp_opt is not None and member.timestamp_opt > since
    if before := call.time("before_timestamp_opt"):
        yield lambda member: member.timestamp_opt is not None and member.timestamp_opt < before
    if call.flag("since_last_campaign"):
        if status is None:
            raise ApiError(400, "Invalid Resource", "Status is required when using since_last_campaign filter.")
        last = max((each.sent_at for each in call.account.campaigns.values() if each.sent_at), default=None)
        yield lambda member: last is None or member.last_changed > last
    if left := call.time("unsubscribed_since"):
        if status not in (None, "unsubscribed"):
            raise invalid(("unsubscribed_since", "The status must be unsubscribed"))
        yield lambda member: _left_since(member, left)


def _left_since(member: Member, at: datetime) -> bool:
    return member.status == "unsubscribed" and member.unsubscribed_at is not None and member.unsubscribed_at > at


def _shown(call: Call, member: Member) -> Json:
    return member_view(call.account, call.audience, member)


def _need(call: Call) -> bool:
    return not call.flag("skip_merge_validation")


def create(call: Call) -> Json:
    """Add a member."""
    return _shown(call, call.roster().create(call.body, need=_need(call)))


def upsert(call: Call) -> Json:
    """Add or change a member."""
    return _shown(call, call.roster().upsert(call.path["key"], call.body, need=_need(call)))


def update(call: Call) -> Json:
    """Change a member."""
    if call.body.get("status") not in (None, *STATUSES[:4]):
        raise invalid(("status", f"Value must be one of: {', '.join(STATUSES[:4])} (not {call.body['status']})"))
    return _shown(call, call.roster().change(call.member, call.body, need=_need(call)))


def subscribe(call: Call) -> Json:
    """Add or change up to 500 members."""
    done = subscribe_many(call.roster(), call.body, need=_need(call), skip_duplicates=call.flag("skip_duplicate_check"))
    for name in ("new_members", "updated_members"):
        done[name] = [_shown(call, member) for member in done[name]]
    totals = {"total_created": "new_members", "total_updated": "updated_members", "error_count": "errors"}
    return done | {total: len(done[name]) for total, name in totals.items()}


def archive(call: Call) -> None:
    """Archive a member."""
    call.roster().archive(call.member)


def forget(call: Call) -> None:
    """Delete a member for good."""
    call.roster().forget(call.member)


def list_tags(call: Call) -> Json:
    """A member's tags."""
    audience = call.audience
    return page(
        call,
        "tags",
        list(call.member.tags.items()),
        lambda tag: {"id": audience.tags.number(tag[0]), "name": tag[0], "date_added": tag[1].isoformat()},
    )


def write_tags(call: Call) -> None:
    """Put tags on a member (active) and take them off (inactive). It is no change of the member, and no webhook."""
    demand(call.body, "tags")
    audience, member, given = call.audience, call.member, call.body["tags"]
    wrong = [
        ("tags", "Each tag needs a name and a status of active or inactive")
        for tag in given
        if not isinstance(tag, dict)
        or not isinstance(tag.get("name"), str)
        or tag.get("status") not in ("active", "inactive")
    ]
    if wrong:
        raise invalid(*wrong)
    for name in tag_names(given):
        audience.tags.put(member, name, call.account.now())
    for tag in given:
        if tag["status"] == "inactive":
            audience.tags.take(member, str(tag["name"]).strip())


def feed(call: Call) -> Json:
    """What happened to a member, the newest first."""
    wanted = set(call.query.get("activity_filters", "").split(",")) - {""}
    member = call.member
    shown = [item for item in reversed(member.activity) if item.action != "abuse"]  # the feed has no word for it
    found = [item for item in shown if not wanted or item.action in wanted]
    answer = page(call, "activity", found, feed_view, email_id=member.hash, list_id=call.audience.id)
    del answer["total_items"]  # the one collection without a total
    return answer


def activity(call: Call) -> Json:
    """The last 50 things that happened to a member, the newest first."""
    member, wanted = call.member, set(call.query.get("action", "").split(",")) - {""}
    found = [item for item in reversed(member.activity) if not wanted or item.action in wanted]
    about = {"email_id": member.hash, "contact_id": member.contact_id, "list_id": call.audience.id}
    return about | {"activity": [activity_view(item) for item in found[:RECENT]], "total_items": len(found)}


def list_notes(call: Call) -> Json:
    """A member's notes."""
    audience, member = call.audience, call.member
    about = {"email_id": member.hash, "list_id": audience.id}
    return page(call, "notes", member.notes, lambda note: note_view(audience, member, note), **about)


def add_note(call: Call) -> Json:
    """Put a note of at most 1,000 characters on a member."""
    now, member = call.account.now(), call.member
    member.notes.append(Note(call.account.number(), _note_text(call), now, now))
    return note_view(call.audience, member, member.notes[-1])


def read_note(call: Call) -> Json:
    """One note."""
    return note_view(call.audience, call.member, _note(call))


def change_note(call: Call) -> Json:
    """Change a note."""
    note = _note(call)
    note.text, note.updated_at = _note_text(call), call.account.now()
    return note_view(call.audience, call.member, note)


def drop_note(call: Call) -> None:
    """Take a note away."""
    call.member.notes.remove(_note(call))


def _note_text(call: Call) -> str:
    text = call.body.get("note")
    if not isinstance(text, str) or not 1 <= len(text) <= 1000:
        raise invalid(("note", "Notes must have between 1 and 1000 characters"))
    return text


def _note(call: Call) -> Note:
    for note in call.member.notes:
        if str(note.id) == call.path["note_id"]:
            return note
    raise not_found()


MEMBER = "/lists/{list_id}/members/{key}"
ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/lists/{list_id}/members", list_members),
    ("POST", "/lists/{list_id}/members", create),
    ("POST", "/lists/{list_id}", subscribe),
    ("GET", MEMBER, lambda call: _shown(call, call.member)),
    ("PUT", MEMBER, upsert),
    ("PATCH", MEMBER, update),
    ("DELETE", MEMBER, archive),
    ("POST", f"{MEMBER}/actions/delete-permanent", forget),
    ("GET", f"{MEMBER}/tags", list_tags),
    ("POST", f"{MEMBER}/tags", write_tags),
    ("GET", f"{MEMBER}/activity-feed", feed),
    ("GET", f"{MEMBER}/activity", activity),
    ("GET", f"{MEMBER}/notes", list_notes),
    ("POST", f"{MEMBER}/notes", add_note),
    ("GET", f"{MEMBER}/notes/{{note_id}}", read_note),
    ("PATCH", f"{MEMBER}/notes/{{note_id}}", change_note),
    ("DELETE", f"{MEMBER}/notes/{{note_id}}", drop_note),
)
