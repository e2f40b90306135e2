"""What members did with campaigns, as engagements: sent, open, click, bounce and unsubscribed, each a record.

The vendor has no feed of it, only reports per campaign. So a poll compares the counts of each recent campaign's report
with those it last saw, and reads the details only of what moved.
"""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.kit.connector import Checkpoint, Page
from connectors.kit.http import Refusal
from connectors.mailchimp.audience import COUNT, Audience, resolve
from connectors.mailchimp.scan import Seen, second
from hub.change import Change
from hub.values import micros, moment

# How far before the latest known action the next reading starts, for actions that are reported late.
LATE_SECONDS = 3_600
MAX_FETCHED = 5_000

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Campaign:
    """A sent campaign; `sent_at` is a timestamp as the vendor writes it."""

    id: str
    title: str
    sent_at: str


@dataclass(frozen=True, slots=True)
class Action:
    """One thing one recipient did; `detail` is the link clicked, the kind of bounce or the reason given."""

    name: str
    at: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of details of a report: where, which counts tell that it moved, and what a row says."""

    name: str
    rows: str
    counts: Callable[[Row], list[Any]]
    actions: Callable[[Campaign, Row], Iterable[Action]]


def _engaged(_: Campaign, row: Row) -> Iterable[Action]:
    for done in row.get("activity") or ():
        yield Action(done["action"], done["timestamp"], done.get("url") or done.get("type") or "")


PARTS = (
    Part(
        "sent-to",
        "sent_to",
        lambda report: [report.get("emails_sent")],
        lambda campaign, row: [Action("sent", campaign.sent_at)],
    ),
    Part(
        "email-activity",
        "emails",
        lambda report: [
            (report.get("opens") or {}).get("opens_total"),
            (report.get("clicks") or {}).get("clicks_total"),
            *sorted((report.get("bounces") or {}).items()),
        ],
        _engaged,
    ),
    Part(
        "unsubscribed",
        "unsubscribes",
        lambda report: [report.get("unsubscribed")],
        lambda _, row: [Action("unsubscribed", row["timestamp"], row.get("reason") or "")],
    ),
)


class Activity:
    """The activity of campaigns that were sent to one audience within the last `days`."""

    def __init__(self, audience: Audience, days: int) -> None:
        self._audience = audience
        self._days = days

    async def poll(self, checkpoint: Checkpoint | None) -> AsyncGenerator[Page, None]:
        """Pages of what was done since the checkpoint. Where nothing moved: one call per campaign, and no page."""
        stored = checkpoint or {}
        seen = Seen(stored.get("seen") or {})
        campaigns = await self._recent()
        marks = {one.id: dict((stored.get("campaigns") or {}).get(one.id) or {}) for one in campaigns}
        for campaign in campaigns:
            mark = marks[campaign.id]
            async for part, counts in self._moved(campaign, mark):
                async for changes in self._read(campaign, part, mark.get("since")):
                    fresh, seen = seen.fresh(changes), _remember(seen, changes)
                    mark["latest"] = max([mark.get("latest", 0), *map(second, changes)])
                    yield Page(fresh, _checkpoint(marks, seen))
                mark |= {part.name: counts, "since": mark.get("latest", 0) - LATE_SECONDS}
                yield Page([], _checkpoint(marks, seen))

    async def of_campaign(self, campaign_id: str) -> list[Change]:
        """What is known of one campaign, at most MAX_FETCHED changes; a poll brings what is beyond."""
        found = [campaign for campaign in await self._recent() if campaign.id == campaign_id]
        changes: list[Change] = []
        for campaign in found:
            async for part, _ in self._moved(campaign, {}):
                async for page in self._read(campaign, part, None):
                    changes += page
                    if len(changes) >= MAX_FETCHED:
                        return changes
        return changes

    async def _recent(self) -> list[Campaign]:
        """Campaigns sent within the window, oldest first. Later ones go to the end, so offsets do not skip any."""
        since = (datetime.now(UTC) - timedelta(days=self._days)).replace(microsecond=0).isoformat()
        asked = {"status": "sent", "list_id": self._audience.list_id, "since_send_time": since}
        order = {"sort_field": "send_time", "sort_dir": "ASC", "exclude_fields": "_links,campaigns._links"}
        return [
            Campaign(str(row["id"]), _title(row), row["send_time"])
            async for rows in self._pages("/campaigns", {}, "campaigns", {**asked, **order})
            for row in rows
            if row.get("send_time")
        ]

    async def _moved(self, campaign: Campaign, mark: Mapping[str, Any]) -> AsyncIterator[tuple[Part, list[Any]]]:
        """The parts whose counts are not those of the mark. A report that does not exist yet has not moved."""
        try:
            answer = await self._audience.http.read("GET", "/reports/{campaign}", {"campaign": campaign.id})
        except Refusal as refusal:
            if refusal.answer.status == 404:
                return
            raise
        for part in PARTS:
            counts = _plain(part.counts(answer.json()))
            if counts != mark.get(part.name):
                yield part, counts

    async def _read(self, campaign: Campaign, part: Part, since: int | None) -> AsyncIterator[list[Change]]:
        """Pages of one part; what was done also from second `since` on, which the other parts cannot be asked for."""
        params = {"since": _iso(since)} if since and part.name == "email-activity" else {}
        path = {"campaign": campaign.id}
        async for rows in self._pages("/reports/{campaign}/" + part.name, path, part.rows, params):
            people = await resolve(self._audience, [str(row["email_id"]) for row in rows])
            yield [
                self._change(campaign, people[row["email_id"]], action)
                for row in rows
                if row["email_id"] in people
                for action in part.actions(campaign, row)
            ]

    async def _pages(
        self, route: str, path: Mapping[str, str], name: str, params: Mapping[str, Any]
    ) -> AsyncIterator[list[Row]]:
        """Pages by offset of something that only grows: an insertion before it repeats a row, and skips none."""
        offset, total = 0, 1
        while offset < total:
            asked = {**params, "count": COUNT, "offset": offset}
            answer = (await self._audience.http.read("GET", route, path, params=asked)).json()
            yield answer[name]
            offset, total = offset + COUNT, int(answer.get("total_items", 0))

    def _change(self, campaign: Campaign, member: str, action: Action) -> Change:
        """The same action has the same external id whenever it is read; a member's clicks differ by link as well."""
        at = micros(action.at)
        link = hashlib.blake2b(action.detail.encode(), digest_size=4).hexdigest() if action.name == "click" else ""
        parts = [campaign.id, member, action.name, str(at // 1_000_000), *([link] if link else [])]
        fields = {
            "subject": f"{campaign.title}: {action.name}",
            "action": action.name,
            "detail": action.detail,
            "occurred_at": moment(at),
            "campaign_id": campaign.id,
            "campaign_title": campaign.title,
            "contact_id": member,
        }
        return Change(self._audience.system, "activity", "-".join(parts), fields, version=at, at=at)


def _title(campaign: Row) -> str:
    settings = campaign.get("settings") or {}
    return str(settings.get("title") or settings.get("subject_line") or campaign["id"])


def _plain(counts: list[Any]) -> list[Any]:
    """As JSON gives it back, so that a stored mark compares equal."""
    return [list(count) if isinstance(count, tuple) else count for count in counts]


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(max(seconds, 0), UTC).isoformat()


def _remember(seen: Seen, changes: list[Change]) -> Seen:
    return seen.after(changes, max(map(second, changes), default=0) - LATE_SECONDS)


def _checkpoint(marks: Mapping[str, Mapping[str, Any]], seen: Seen) -> Checkpoint:
    return {"campaigns": {id_: dict(mark) for id_, mark in marks.items()}, "seen": dict(seen.read)}
