"""What the Mailchimp sandbox remembers: an account with its audiences, members, campaigns and batches.

Nothing here knows HTTP. Instants are UTC at whole seconds, as Mailchimp keeps them. A member is found by the MD5 of its
lower-case address, by the address or by its contact id in constant time, and by time of change through a sorted index.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from connectors.kit.sandbox import Clock
from connectors.kit.sandbox.authority import Authority, Registration

STATUSES = ("subscribed", "unsubscribed", "cleaned", "pending", "transactional")
"""The statuses that a caller can set; `archived` comes only from archiving."""

LAST_NUMBER = 1 << 62
"""Greater than any number that the sandbox gives."""

Values = dict[str, Any]
"""Merge tag -> value as Mailchimp keeps it: text, a number, or the parts of an address."""


class ApiError(ValueError):
    """A refusal in Mailchimp's words, sent as application/problem+json with `errors` naming fields and messages."""

    def __init__(self, status: int, title: str, detail: str, errors: list[tuple[str, str]] | None = None) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail = status, title, detail
        self.errors = [{"field": name, "message": message} for name, message in errors or ()]


def not_found() -> ApiError:
    """The 404 for any resource that is not there."""
    return ApiError(404, "Resource Not Found", "The requested resource could not be found.")


def invalid(*errors: tuple[str, str]) -> ApiError:
    """The 400 for a body or a parameter that breaks the resource's schema."""
    detail = "The resource submitted could not be validated. For field-specific details, see the 'errors' array."
    return ApiError(400, "Invalid Resource", detail, list(errors))


def instant(text: str, name: str) -> datetime:
    """An ISO 8601 text as an instant at whole seconds; ApiError naming the field where it is none.

    A plus sign that a caller left unescaped in a query arrives as a space and is read as the sign it was.
    """
    try:
        at = datetime.fromisoformat(text.strip().replace(" 00:00", "+00:00"))
    except ValueError:
        raise invalid((name, f"The timestamp must be in ISO 8601 format (not {text})")) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)


def digest(*parts: object, length: int = 32) -> str:
    """A stable hexadecimal id from its parts."""
    text = ":".join(str(part) for part in parts)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:length]


def address_hash(email: str) -> str:
    """The id of a member: the MD5 of the lower-case address."""
    return digest(email.lower())


@dataclass(slots=True)
class MergeField:
    """One column of an audience beside the address."""

    merge_id: int
    tag: str
    name: str
    type: str = "text"
    required: bool = False
    default_value: str = ""
    public: bool = True
    display_order: int = 0
    help_text: str = ""
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Activity:
    """Something that happened between a campaign and a member: sent, open, click, bounce, unsub."""

    action: str
    at: datetime
    campaign_id: str = ""
    title: str = ""
    url: str = ""
    reason: str = ""
    by_admin: bool = False


@dataclass(slots=True)
class Note:
    """A person's note on a member."""

    id: int
    text: str
    created_at: datetime
    updated_at: datetime
    created_by: str = "API"


@dataclass(slots=True)
class Member:
    """One contact of one audience. `locked` means that only the contact himself can come back (compliance)."""

    web_id: int
    email: str
    status: str
    contact_id: str
    last_changed: datetime
    timestamp_signup: datetime | None = None
    timestamp_opt: datetime | None = None
    merge: Values = field(default_factory=dict)
    plain: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, datetime] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    activity: list[Activity] = field(default_factory=list)
    locked: bool = False
    unsubscribed_at: datetime | None = None
    unsubscribe_reason: str = ""
    source: str = "API - Generic"

    @property
    def hash(self) -> str:
        """The member's id in paths."""
        return address_hash(self.email)

    @property
    def unique_email_id(self) -> str:
        """The id of the address, the same in every audience."""
        return digest("address", self.email.lower(), length=10)


@dataclass(slots=True)
class Segment:
    """A tag, which Mailchimp also shows as a static segment."""

    id: int
    name: str
    created_at: datetime
    updated_at: datetime
    members: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Webhook:
    """One audience webhook: which events, caused by whom, go to which URL."""

    id: str
    url: str
    events: dict[str, bool]
    sources: dict[str, bool]


@dataclass(slots=True)
class Campaign:
    """A mailing; `sent` holds what followed for each recipient, by member number."""

    id: str
    web_id: int
    list_id: str
    created_at: datetime
    type: str = "regular"
    status: str = "save"
    settings: dict[str, Any] = field(default_factory=dict)
    sent_at: datetime | None = None
    sent: dict[int, list[Activity]] = field(default_factory=dict)


@dataclass(slots=True)
class Batch:
    """An asynchronous run of operations; `archive` is the tar.gz of the answers once it is finished."""

    id: str
    submitted_at: datetime
    total: int
    url: str
    status: str = "pending"
    finished: int = 0
    errored: int = 0
    completed_at: datetime | None = None
    archive: bytes = b""


class Tags:
    """The tags of one audience, in the order they came."""

    def __init__(self) -> None:
        self._by_name: dict[str, Segment] = {}

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._by_name.values())

    def known(self, name: str, at: datetime) -> Segment:
        """The tag with this name, made where it is not known."""
        return self._by_name.setdefault(name, Segment(1000 + len(self._by_name), name, at, at))

    def put(self, member: Member, name: str, at: datetime) -> None:
        """Put a tag on a member."""
        self.known(name, at).members.add(member.web_id)
        member.tags.setdefault(name, at)

    def take(self, member: Member, name: str) -> None:
        """Take a tag off a member, where it has it."""
        if member.tags.pop(name, None) is not None:
            self._by_name[name].members.discard(member.web_id)

    def number(self, name: str) -> int:
        """The number of a tag that is known."""
        return self._by_name[name].id


class Audience:
    """One list: its members with their indexes, its merge fields, tags and webhooks."""

    def __init__(self, list_id: str, name: str, web_id: int, created_at: datetime) -> None:
        self.id, self.name, self.web_id, self.created_at = list_id, name, web_id, created_at
        self.plain: dict[str, Any] = {}
        self.members: dict[int, Member] = {}
        self.merge_fields: dict[str, MergeField] = {}
        self.tags = Tags()
        self.webhooks: dict[str, Webhook] = {}
        self.forgotten: set[str] = set()
        self.counts: Counter[str] = Counter()
        self._by_key: dict[str, int] = {}
        self._changed: list[tuple[datetime, int]] = []

    def find(self, key: str) -> Member | None:
        """The member with this hash, address or contact id."""
        number = self._by_key.get(address_hash(key) if "@" in key else key.lower())
        return None if number is None else self.members[number]

    def add(self, member: Member) -> None:
        """Take a new member in."""
        self.members[member.web_id] = member
        self._by_key[member.hash] = self._by_key[member.contact_id] = member.web_id
        self.counts[member.status] += 1
        insort(self._changed, (member.last_changed, member.web_id))

    def remove(self, member: Member) -> None:
        """Let a member go, with everything known of him."""
        del self.members[member.web_id], self._by_key[member.hash], self._by_key[member.contact_id]
        del self._changed[bisect_left(self._changed, (member.last_changed, member.web_id))]
        self.counts[member.status] -= 1
        for name in list(member.tags):
            self.tags.take(member, name)

    def touch(self, member: Member, at: datetime) -> None:
        """Mark a member as changed at an instant."""
        del self._changed[bisect_left(self._changed, (member.last_changed, member.web_id))]
        member.last_changed = at
        insort(self._changed, (at, member.web_id))

    def move(self, member: Member, email: str) -> None:
        """Give a member another address: its old hash is no longer known, its contact id stays."""
        del self._by_key[member.hash]
        member.email = email
        self._by_key[member.hash] = member.web_id

    def set_status(self, member: Member, status: str) -> None:
        """Give a member another status."""
        self.counts[member.status] -= 1
        self.counts[status] += 1
        member.status = status

    def changed_between(self, since: datetime | None, before: datetime | None) -> list[Member]:
        """The members changed after one instant and before another (both excluded), oldest change first."""
        low = bisect_right(self._changed, (since, LAST_NUMBER)) if since else 0
        high = bisect_left(self._changed, (before, -1)) if before else len(self._changed)
        return [self.members[number] for _, number in self._changed[low:high]]


@dataclass(slots=True)
class Account:
    """Everything behind one API key. `connection_limit` null means that simultaneous calls are not counted.

    `blank_dates` shows an instant that is not known as an empty text, as the real service does against its own
    description; otherwise it is left out.
    """

    clock: Clock
    api_key: str
    access_token: str | None = None
    connection_limit: int | None = 10
    blank_dates: bool = False
    audiences: dict[str, Audience] = field(default_factory=dict)
    campaigns: dict[str, Campaign] = field(default_factory=dict)
    batches: dict[str, Batch] = field(default_factory=dict)
    authority: Authority = field(init=False)
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, LAST_NUMBER)))

    def __post_init__(self) -> None:
        """Tokens of Mailchimp do not expire, and there is nothing to refresh them with."""
        self.authority = Authority(lambda: self.clock.now().timestamp())
        self.authority.registration = Registration(grants=["authorization_code"], access_seconds=None, refresh=False)

    def now(self) -> datetime:
        """The present instant at whole seconds."""
        return self.clock.now().replace(microsecond=0)

    def number(self) -> int:
        """A number that was never given before."""
        return next(self.numbers)

    def audience(self, list_id: str) -> Audience:
        """The audience with this id; ApiError 404 where there is none."""
        found = self.audiences.get(list_id)
        if found is None:
            raise not_found()
        return found

    def campaign(self, campaign_id: str) -> Campaign:
        """The campaign with this id; ApiError 404 where there is none."""
        found = self.campaigns.get(campaign_id)
        if found is None:
            raise not_found()
        return found
