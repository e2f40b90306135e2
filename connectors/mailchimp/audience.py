"""The calls to one audience: members found, listed, added, changed, tagged and archived. Errors as in kit.http."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from connectors.kit.http import Answer, Http, Refusal, Vendor
from connectors.mailchimp.members import TAGS, changed, contact_id, subscriber_hash
from hub.change import Change

COUNT = 1000
MAX_KNOWN = 200_000
MANY = 50
MEMBERS = "/lists/{list}/members"
MEMBER = MEMBERS + "/{member}"
# Sub-objects that nothing reads; leaving them out shrinks a page to a third.
UNREAD = "_links,members._links,members.stats,members.location,members.interests,members.marketing_permissions"
CODES = {
    "Member In Compliance State": "compliance",
    "Forgotten Email Not Subscribed": "forgotten",
    "Member Exists": "duplicate",
    "Resource Not Found": "gone",
    "Invalid Resource": "invalid",
}


def _reason(problem: Any) -> tuple[str, str]:
    """A problem document in one line, and our code for its title."""
    said = f"{problem['title']}: {problem.get('detail', '')}"
    fields = "; ".join(f"{e.get('field')}: {e.get('message')}" for e in problem.get("errors") or () if e.get("field"))
    return f"{said} ({fields})" if fields else said, CODES.get(problem["title"], "")


def _throttled(answer: Answer) -> bool:
    """At high volume the vendor's edge answers a bare 403; a real one carries a problem document."""
    return answer.status == 403 and "json" not in answer.headers.get("content-type", "")


VENDOR = Vendor(reason=_reason, throttled=_throttled)


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of members as changes; `total` counts all that match, `now` is the vendor's clock in seconds or 0."""

    changes: list[Change]
    total: int
    now: int

    @property
    def complete(self) -> bool:
        """Whether nothing that matches is left beyond this page (of those that start at offset 0). A page may be short
        although there is more; an empty one ends it whatever the total says."""
        return not self.changes or self.total <= len(self.changes)


class Audience:
    """One audience of one account, under the system's configured name."""

    def __init__(self, system: str, http: Http, list_id: str) -> None:
        self.system = system
        self.http = http
        self.list_id = list_id
        self._known: dict[str, str] = {}  # subscriber hash, also of former addresses -> contact id

    async def find(self, member: str, channel: str = "read") -> Change | None:
        """The member with this contact id or subscriber hash, as it is now; None if there is none."""
        try:
            answer = await self.http.read("GET", MEMBER, self.path(member))
        except Refusal as refusal:
            if refusal.answer.status == 404:
                return None
            raise
        return await self._change(answer.json(), channel)

    async def listing(self, **params: Any) -> Listing:
        """A page of members, oldest change first. `params` are the vendor's; what is None is left out."""
        given = {name: value for name, value in params.items() if value is not None}
        order = {"sort_field": "last_changed", "sort_dir": "ASC", "exclude_fields": UNREAD}
        answer = await self.http.read("GET", MEMBERS, self.path(), params={"count": COUNT, **order, **given})
        page = answer.json()
        changes = [await self._change(member, "poll") for member in page["members"]]
        return Listing(changes, int(page.get("total_items", len(changes))), _clock(answer))

    async def count(self, status: str) -> int:
        """How many members of one status the vendor says there are."""
        params = {"status": status, "count": 1, "fields": "total_items"}
        answer = await self.http.read("GET", MEMBERS, self.path(), params=params)
        return int(answer.json()["total_items"])

    async def add(self, content: Mapping[str, Any]) -> Change:
        """Add a member. Raises Refusal where the address is in the audience, in whatever status; nothing is changed."""
        answer = await self.http.call("POST", MEMBERS, self.path(), json=content)
        return await self._change(answer.json(), "read")

    async def change(self, member: str, content: Mapping[str, Any]) -> Change:
        """Change a member; what is not in `content` stays."""
        answer = await self.http.call("PATCH", MEMBER, self.path(member), json=content)
        return await self._change(answer.json(), "read")

    async def tag(self, email: str, before: Iterable[str], after: Iterable[str]) -> None:
        """Bring a member's tags from `before` to `after`. The automations that tags start are left alone."""
        old, new = set(before), set(after)
        tags = [{"name": name, "status": "active"} for name in sorted(new - old)]
        tags += [{"name": name, "status": "inactive"} for name in sorted(old - new)]
        if tags:
            path = self.path(subscriber_hash(email))
            await self.http.call("POST", MEMBER + "/tags", path, json={"tags": tags, "is_syncing": True})

    async def archive(self, member: str) -> None:
        """Archive a member; its data and history stay with the vendor."""
        await self.http.call("DELETE", MEMBER, self.path(member))

    def known(self, subscriber: str) -> str | None:
        """The contact id of a subscriber hash that was seen by this process, be it a former address."""
        return self._known.get(subscriber)

    def learn(self, member: Mapping[str, Any]) -> None:
        """Remember whose contact id belongs to a subscriber hash."""
        self._known[str(member["id"])] = contact_id(member)
        if len(self._known) > MAX_KNOWN:
            self._known.pop(next(iter(self._known)))

    def path(self, member: str = "") -> dict[str, str]:
        """What fills the placeholders of LIST, MEMBERS and MEMBER."""
        return {"list": self.list_id, "member": member}

    async def _change(self, member: dict[str, Any], channel: str) -> Change:
        self.learn(member)
        if int(member.get("tags_count") or 0) > len(member.get(TAGS) or ()):
            params = {"count": COUNT}  # a member comes with 50 tags at most
            answer = await self.http.read("GET", MEMBER + "/tags", self.path(member["id"]), params=params)
            member = member | {TAGS: answer.json()[TAGS]}
        return changed(self.system, member, channel)


async def resolve(audience: Audience, subscribers: Iterable[str]) -> dict[str, str]:
    """Contact ids by subscriber hash; those who are in the audience no more are missing."""
    wanted = set(subscribers)
    if sum(audience.known(one) is None for one in wanted) > MANY:
        await _learn_all(audience)
    await asyncio.gather(*(audience.find(one) for one in sorted(wanted) if audience.known(one) is None))
    return {one: contact for one in wanted if (contact := audience.known(one))}


async def _learn_all(audience: Audience) -> None:
    """One pass over the audience. Who slips through between two pages is asked for alone afterwards."""
    offset, total = 0, 1
    while offset < total:
        params = {"count": COUNT, "offset": offset, "fields": "members.id,members.contact_id,total_items"}
        page = (await audience.http.read("GET", MEMBERS, audience.path(), params=params)).json()
        for member in page["members"]:
            audience.learn(member)
        offset, total = offset + COUNT, int(page.get("total_items", 0))


def _clock(answer: Answer) -> int:
    try:
        return int(parsedate_to_datetime(answer.headers.get("date", "")).timestamp())
    except ValueError:
        return 0
