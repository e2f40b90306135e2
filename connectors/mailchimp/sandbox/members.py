"""What can be done to the members of one audience, with Mailchimp's rules of consent.

- Someone who unsubscribed himself, or was cleaned, cannot be set to `subscribed` by the API, only to `pending`.
- Archiving keeps a member (a PUT or PATCH brings him back); a permanent deletion forbids that address until the contact
  signs up again himself.
- A new address changes the member's hash; his contact id stays.

Every change fires the audience's webhooks that listen to its source. An input that changes nothing leaves
`last_changed` and fires none.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from email_validator import EmailNotValidError, validate_email

from connectors.mailchimp.sandbox import hooks as hook
from connectors.mailchimp.sandbox.merge import check, kind
from connectors.mailchimp.sandbox.state import (
    STATUSES,
    Account,
    ApiError,
    Audience,
    Member,
    Values,
    address_hash,
    digest,
    instant,
    invalid,
)

PLAIN: dict[str, type] = {
    "email_type": str,
    "language": str,
    "vip": bool,
    "ip_signup": str,
    "ip_opt": str,
    "location": dict,
    "interests": dict,
}
"""The fields that are kept as given."""


class Roster:
    """One audience in the hands of one source: the API, a subscriber (user) or a person in the account (admin).

    `reason` and `campaign_id` are what webhooks say of someone who leaves: empty for the usual reason and no campaign.
    """

    def __init__(self, account: Account, hooks: hook.Webhooks, audience: Audience, source: hook.Source = "api") -> None:
        self.account, self.hooks, self.audience, self.source = account, hooks, audience, source
        self.reason = self.campaign_id = ""

    def create(self, body: Mapping[str, Any], *, need: bool = True) -> Member:
        """POST: a new member; ApiError where the address is known, even archived. Tags are taken here only."""
        demand(body, "email_address", "status")
        _choose(body, "status", STATUSES)
        if self.audience.find(_email(body)) is not None:
            raise _exists(_email(body))
        tags = tag_names(body.get("tags", ()))
        member = self.insert(body, body["status"], need=need)
        for name in tags:
            self.audience.tags.put(member, name, self.account.now())
        return member

    def upsert(self, key: str, body: Mapping[str, Any], *, need: bool = True) -> Member:
        """PUT: change the member with this key, or make one with `status_if_new`."""
        _choose(body, "status", STATUSES)
        _choose(body, "status_if_new", STATUSES)
        member = self.audience.find(key)
        if member is not None:
            return self.change(member, body, need=need)
        demand(body, "email_address", "status_if_new")
        if self.audience.find(_email(body)) is not None:  # the key is not the hash of the lower-case address
            raise _exists(_email(body))
        return self.insert(body, body["status_if_new"], need=need)

    def insert(self, body: Mapping[str, Any], status: str, *, need: bool) -> Member:
        """Take in someone new; the caller has made sure that the address is free."""
        audience, now, email = self.audience, self.account.now(), _email(body)
        _not_forgotten(audience, email, self.source)
        member = Member(
            web_id=self.account.number(),
            email=email,
            status=status,
            contact_id=digest("contact", audience.id, email.lower()),
            last_changed=now,
            timestamp_signup=_given_time(body, "timestamp_signup") or (now if self.source == "user" else None),
            timestamp_opt=_given_time(body, "timestamp_opt") or (now if status == "subscribed" else None),
            merge=check(audience.merge_fields, body.get("merge_fields", {}), {}, need=need),
            plain=_plain(body),
            locked=_locks(self.source, status, was=False),
            unsubscribed_at=now if status == "unsubscribed" else None,
        )
        if audience.find(member.contact_id):  # the address that this id was made from has moved on to another one
            member.contact_id = digest("contact", audience.id, email.lower(), member.web_id)
        audience.forgotten.discard(address_hash(email))
        audience.add(member)
        if status == "subscribed":
            self._emit("subscribe", hook.member_data(audience, member))
        return member

    def change(self, member: Member, body: Mapping[str, Any], *, need: bool = True) -> Member:
        """Change someone who is there; nothing is changed where anything is refused."""
        status = body.get("status", member.status)
        email = _email(body) if "email_address" in body else member.email
        if status == "subscribed" and member.locked and member.status != "subscribed" and self.source == "api":
            raise _in_compliance_state(member.email)
        if email.lower() != member.email.lower():
            if self.audience.find(email) is not None:
                raise _exists(email)
            _not_forgotten(self.audience, email, self.source)
        need = need and "merge_fields" in body
        merge = check(self.audience.merge_fields, body.get("merge_fields", {}), member.merge, need=need)
        plain = member.plain | _plain(body)
        times = {
            name: _given_time(body, name) or getattr(member, name) for name in ("timestamp_opt", "timestamp_signup")
        }
        if (status, email, merge, plain) != (member.status, member.email, member.merge, member.plain):
            self._apply(member, status, email, merge)
        member.plain, member.timestamp_opt, member.timestamp_signup = plain, *times.values()
        if status == "subscribed" and member.timestamp_opt is None:
            member.timestamp_opt = self.account.now()
        return member

    def archive(self, member: Member) -> None:
        """DELETE: put a member out of sight; 405 where he bounced, is pending or archived already."""
        if member.status in ("cleaned", "pending", "archived"):
            detail = (
                "This list member cannot be removed. Can not archive a contact that is bounced, pending or archived"
            )
            raise ApiError(405, "Method Not Allowed", detail)
        self._leave(member)
        self.audience.set_status(member, "archived")
        self.audience.touch(member, self.account.now())

    def forget(self, member: Member) -> None:
        """Delete a member for good; his address is refused from then on, though only its hash is kept."""
        self._leave(member)
        self.audience.remove(member)
        self.audience.forgotten.add(member.hash)

    def _apply(self, member: Member, status: str, email: str, merge: Values) -> None:
        before, audience = (member.status, member.email, member.merge), self.audience
        if email.lower() != member.email.lower():
            audience.move(member, email)
        member.email, member.merge = email, merge
        member.locked = _locks(self.source, status, was=member.locked)
        audience.set_status(member, status)
        audience.touch(member, self.account.now())
        self._tell(member, *before)

    def _tell(self, member: Member, status: str, email: str, merge: Values) -> None:
        """Fire what the change from this status, address and merge fields calls for."""
        if member.email.lower() != email.lower():
            self._emit("upemail", hook.upemail_data(self.audience, member, email))
        if member.email.lower() != email.lower() or member.merge != merge:
            self._emit("profile", hook.member_data(self.audience, member))
        if member.status == status:
            return
        if member.status == "subscribed":
            self._emit("subscribe", hook.member_data(self.audience, member))
        elif member.status == "unsubscribed":
            member.unsubscribed_at = self.account.now()
            self._emit("unsubscribe", _left(self, member, "unsub"))
        elif member.status == "cleaned":
            data = hook.cleaned_data(self.audience, member, self.reason or "hard", self.campaign_id)
            self._emit("cleaned", data)

    def _leave(self, member: Member) -> None:
        if member.status == "subscribed":
            self._emit("unsubscribe", _left(self, member, "delete"))

    def _emit(self, event: str, data: dict[str, Any]) -> None:
        self.hooks.emit(self.audience, event, self.source, self.account.now(), data)


def _left(roster: Roster, member: Member, action: str) -> dict[str, Any]:
    return hook.unsubscribe_data(roster.audience, member, action, roster.reason or "manual", roster.campaign_id)


def _locks(source: hook.Source, status: str, *, was: bool) -> bool:
    """Whether only the contact himself can come back, now that this source gave him this status."""
    if status == "cleaned" or (status == "unsubscribed" and source == "user"):
        return True
    return was and not (status == "subscribed" and source == "user")


def _not_forgotten(audience: Audience, email: str, source: hook.Source) -> None:
    if source != "user" and address_hash(email) in audience.forgotten:
        detail = f"{email} was permanently deleted and cannot be re-imported. "
        detail += "The contact must re-subscribe to get back on the list."
        raise ApiError(400, "Forgotten Email Not Subscribed", detail)


def subscribe_many(roster: Roster, body: Mapping[str, Any], *, need: bool, skip_duplicates: bool) -> dict[str, Any]:
    """POST to an audience: up to 500 members at once, each with its own outcome: new, updated or errors."""
    demand(body, "members")
    members = body["members"]
    if not 1 <= len(members) <= 500 or not all(isinstance(given, Mapping) for given in members):
        raise invalid(("members", "Please provide between 1 and 500 members"))
    done: dict[str, Any] = {"new_members": [], "updated_members": [], "errors": []}
    seen: set[str] = set()
    for given in members:
        email = str(given.get("email_address", ""))
        if email.lower() in seen:
            if not skip_duplicates:
                done["errors"].append(_error(email, "Duplicate items found for this email address"))
            continue
        seen.add(email.lower())
        try:
            outcome, member = _subscribe(roster, given, body, need=need)
            done[outcome].append(member)
        except ApiError as error:
            done["errors"].append(_error(email, error.detail, error))
    return done


def _subscribe(roster: Roster, given: Mapping[str, Any], body: Mapping[str, Any], *, need: bool) -> tuple[str, Member]:
    demand(given, "email_address")
    wanted = tag_names(given.get("tags", ()))
    _choose(given, "status", STATUSES)
    member = roster.audience.find(_email(given))
    outcome = "new_members" if member is None else "updated_members"
    if member is None:
        demand(given, "status")
        member = roster.insert(given, given["status"], need=need)
    elif body.get("update_existing"):
        roster.change(member, given, need=need)
    else:
        detail = f"{given['email_address']} is already a list member, do you want to update? "
        raise ApiError(400, "Member Exists", detail + "please provide update_existing:true in the request body")
    if body.get("sync_tags") and "tags" in given:
        for name in set(member.tags).difference(wanted):
            roster.audience.tags.take(member, name)
    for name in wanted:
        roster.audience.tags.put(member, name, roster.account.now())
    return outcome, member


def _error(email: str, detail: str, error: ApiError | None = None) -> dict[str, str]:
    first = error.errors[0] if error and error.errors else {"field": "", "message": ""}
    code = "ERROR_CONTACT_EXISTS" if error and error.title == "Member Exists" else "ERROR_GENERIC"
    return {
        "email_address": email,
        "error": detail,
        "error_code": code,
        "field": first["field"],
        "field_message": first["message"],
    }


def demand(body: Mapping[str, Any], *names: str) -> None:
    """Refuse a body without one of these fields."""
    missing = [name for name in names if name not in body]
    if missing:
        raise invalid(("", f"Required fields were not provided: {', '.join(missing)}"))


def tag_names(given: Any) -> list[str]:
    """Tags as a list of names, or of objects with name and status (the inactive ones are left out)."""
    found = []
    for tag in given if isinstance(given, list | tuple) else ():
        name = tag.get("name") if isinstance(tag, Mapping) else tag
        if isinstance(tag, Mapping) and tag.get("status") == "inactive":
            continue
        if not isinstance(name, str) or not 1 <= len(name.strip()) <= 100:
            raise invalid(("tags", "Tag names must have between 1 and 100 characters"))
        found.append(name.strip())
    return found


def _choose(body: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> None:
    if name in body and body[name] not in allowed:
        raise invalid((name, f"Value must be one of: {', '.join(allowed)} (not {body[name]})"))


def _email(body: Mapping[str, Any]) -> str:
    email = body["email_address"]
    if not isinstance(email, str):
        raise invalid(("email_address", f"Schema describes string, {kind(email)} found instead"))
    try:
        validate_email(email.strip(), check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        raise ApiError(400, "Invalid Resource", "Please provide a valid email address.") from None
    return email.strip()


def _plain(body: Mapping[str, Any]) -> dict[str, Any]:
    wrong = [
        (name, f"Schema describes {kind(type_())}, {kind(body[name])} found instead")
        for name, type_ in PLAIN.items()
        if name in body and not isinstance(body[name], type_)
    ]
    if wrong:
        raise invalid(*wrong)
    return {name: body[name] for name in PLAIN if name in body}


def _given_time(body: Mapping[str, Any], name: str) -> datetime | None:
    return instant(str(body[name]), name) if body.get(name) else None


def _exists(email: str) -> ApiError:
    detail = f"{email} is already a list member. Use PUT to insert or update list members."
    return ApiError(400, "Member Exists", detail)


def _in_compliance_state(email: str) -> ApiError:
    detail = (
        f"{email} is in a compliance state due to unsubscribe, bounce, or compliance review and cannot be subscribed."
    )
    return ApiError(400, "Member In Compliance State", detail)
