"""Polling: first every record from the list, then what changed from the search, now and then what was archived.

The search is only asked *which* records changed since a time; their content is read from the database, for the index
lags. Two traps shape the cursor. A search gives at most 10,000 results and sorts by one property, while one bulk edit
can give any number of records one timestamp: so a pass goes through all records changed since T in the order of their
ids, which are unique, and continues after the last id instead of paging. And what the index shows late is older than
what was already read: so each pass starts a while (`lag`) before the one before it did. What it then meets again is
known by id and time, remembered in memory only after it was acknowledged; a restart reads that while once more.
"""

import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from connectors.hubspot.api import SEARCH_PAGE, Api, Json
from connectors.hubspot.objects import modified_property
from connectors.hubspot.records import Layout, Reader, known_order
from connectors.kit.connector import Checkpoint, Page
from hub.change import Change

REMEMBERED = 100_000
IDLE_MILLIS = 60_000
AHEAD_MICROS = 60_000_000


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a stream is. Times are HubSpot's clock in milliseconds.

    phase      list: after `after` in the list of all records; search: within a pass; archived: in the recycling bin
    started    when the running (or last) pass began
    since      the running pass looks at records changed since then
    last_id    the running pass has everything up to this id
    bin_since  what was archived before is known
    bin_began  when the running (or last) look into the recycling bin began
    """

    phase: Literal["list", "search", "archived"] = "list"
    started: int = 0
    since: int = 0
    last_id: int = 0
    after: str = ""
    bin_since: int = 0
    bin_began: int = 0

    def save(self) -> Checkpoint:
        """As JSON values."""
        return asdict(self)


class Memory:
    """Which version of which record has been acknowledged lately; bounded, the oldest is forgotten first."""

    def __init__(self) -> None:
        self._versions: OrderedDict[str, int] = OrderedDict()

    def knows(self, external_id: str, version: int) -> bool:
        """Whether this version of the record, or a later one, is durable."""
        return self._versions.get(external_id, -1) >= version

    def keep(self, changes: Iterable[Change]) -> None:
        """Remember changes that are durable now, but for those from the future: what corrects them has a smaller version."""
        limit = int(time.time() * 1_000_000) + AHEAD_MICROS
        for change in (c for c in changes if (c.version or 0) <= limit):
            self._versions[change.external_id] = max(change.version or 0, self._versions.pop(change.external_id, 0))
        while len(self._versions) > REMEMBERED:
            self._versions.popitem(last=False)


class Source:
    """The stream of one object. `lag` and `bin_every` are seconds."""

    def __init__(self, api: Api, reader: Reader, layout: Layout, lag: float, bin_every: float) -> None:
        self._api = api
        self._reader = reader
        self._layout = layout
        self._lag = int(lag * 1000)
        self._bin_every = int(bin_every * 1000)
        self._memory = Memory()

    async def poll(self, checkpoint: Checkpoint | None) -> AsyncGenerator[Page, None]:
        """Pages until nothing is left for now; where nothing happened none, but for one a minute that moves on."""
        cursor = Cursor(**checkpoint) if checkpoint else Cursor()
        while cursor.phase == "list":
            changes, cursor = await self._list(cursor)
            yield self._page(changes, cursor)
        while cursor.phase == "archived":  # a look into the recycling bin that was interrupted: the search is still due
            changes, cursor = await self._archived(cursor)
            yield self._page(changes, cursor)
        passes = 2 if cursor.last_id else 1  # what changed behind a pass that was interrupted is in the next one
        while passes:
            before, (changes, cursor) = cursor, await self._search(cursor)
            passes -= not cursor.last_id
            if changes or before.last_id or cursor.since - before.since >= IDLE_MILLIS:
                yield self._page(changes, cursor)
        if cursor.phase == "search" and cursor.started - cursor.bin_began >= self._bin_every:
            cursor = replace(cursor, phase="archived", bin_began=cursor.started, after="")
        while cursor.phase == "archived":
            changes, cursor = await self._archived(cursor)
            yield self._page(changes, cursor)

    async def _list(self, cursor: Cursor) -> tuple[list[Change], Cursor]:
        body, now = await self._api.page(self._layout.object, self._layout.asked, cursor.after)
        if not cursor.started:
            since = _millis(now) - self._lag
            cursor = replace(cursor, started=_millis(now), since=since, bin_since=since, bin_began=_millis(now))
        found = await self._reader.flatten(self._layout.object, body.get("results", []), "poll")
        after = following(body)
        onward = replace(cursor, after=after) if after else replace(cursor, phase="search", after="")
        return [change for changes in found.values() for change in changes], onward

    async def snapshot(self, checkpoint: Checkpoint | None) -> AsyncGenerator[Page, None]:
        """Every record from the list once more; the checkpoint is the list's own "after", which follows the ids."""
        after: str | None = (checkpoint or {}).get("after", "")
        while after is not None:
            body, _ = await self._api.page(self._layout.object, self._layout.asked, after)
            found = await self._reader.flatten(self._layout.object, body.get("results", []), "snapshot")
            after = following(body) or None
            yield Page([change for changes in found.values() for change in changes], {"after": after})

    async def _search(self, cursor: Cursor) -> tuple[list[Change], Cursor]:
        """One page of a pass. Its last page ends it: `last_id` is 0 again, `since` where the next pass begins."""
        filters = [
            {"propertyName": modified_property(self._layout.object), "operator": "GTE", "value": str(cursor.since)},
            {"propertyName": "hs_object_id", "operator": "GT", "value": str(cursor.last_id)},
        ]
        body, now = await self._api.search(self._layout.object, filters, ["hs_object_id"], "hs_object_id")
        if not cursor.last_id:
            cursor = replace(cursor, started=_millis(now))
        hits = body.get("results", [])
        changes = await self._news(hits)
        if len(hits) < SEARCH_PAGE:
            return changes, replace(cursor, since=cursor.started - self._lag, last_id=0)
        return changes, replace(cursor, last_id=max(int(hit["id"]) for hit in hits))

    async def _news(self, hits: list[Json]) -> list[Change]:
        """What of a search's results is not durable yet, read from the database."""
        ids = [str(hit["id"]) for hit in hits if not self._memory.knows(str(hit["id"]), known_order(hit))]
        reading = await self._reader.read(self._layout.object, ids, "poll")
        unknown = [
            changes for i, changes in reading.found.items() if not self._memory.knows(i, changes[-1].version or 0)
        ]
        return [change for changes in unknown for change in changes]

    async def _archived(self, cursor: Cursor) -> tuple[list[Change], Cursor]:
        body, _ = await self._api.page(self._layout.object, [], cursor.after, archived=True)
        deletes = [
            self._reader.deleted(self._layout.object, r, "poll") for r in body.get("results", []) if r.get("archivedAt")
        ]
        changes = [c for c in deletes if (c.at or 0) >= cursor.bin_since * 1000]
        if after := following(body):
            return changes, replace(cursor, after=after)
        return changes, replace(cursor, phase="search", after="", bin_since=cursor.bin_began - self._lag)

    def _page(self, changes: list[Change], cursor: Cursor) -> Page:
        async def acknowledge() -> None:
            self._memory.keep(change for change in changes if change.op == "upsert")

        return Page(changes, cursor.save(), acknowledge)


def following(body: Json) -> str:
    """Where the next page begins; empty after the last one."""
    after: Any = ((body.get("paging") or {}).get("next") or {}).get("after")
    return str(after or "")


def _millis(when: datetime) -> int:
    return int(when.astimezone(UTC).timestamp()) * 1000
