"""Reading what changed in an audience, in the order of last_changed, so that nothing is missed and little read twice.

The vendor pages by offset, which skips members as soon as one before the offset changes, for that one moves to the end.
So every page starts at offset 0 after the last second that was read. Only a second with more members than a page holds
is paged by offset, from its end to its start: members can leave it, which moves those not yet read towards the start.
"""

import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from connectors.kit.connector import Checkpoint, Page
from connectors.mailchimp.audience import COUNT, Audience, Listing
from connectors.mailchimp.members import ARCHIVED
from hub.change import Change
from hub.event import canonical

SETTLE_SECONDS = 30
MAX_SEEN = 5_000


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read lately: external id -> second and digest. Of more than MAX_SEEN the oldest are forgotten, and then
    read again as the same events."""

    read: Mapping[str, str] = field(default_factory=dict)

    def fresh(self, changes: Iterable[Change]) -> list[Change]:
        """Those that were not read in just this state."""
        return [change for change in changes if self.read.get(change.external_id) != _stamp(change)]

    def after(self, changes: Iterable[Change], oldest: int) -> "Seen":
        """With these read too, and without what is older than the second `oldest`."""
        read = {**self.read, **{change.external_id: _stamp(change) for change in changes}}
        kept = sorted((stamp, id_) for id_, stamp in read.items() if int(stamp[:10]) >= oldest)
        return Seen({id_: stamp for stamp, id_ in kept[-MAX_SEEN:]})


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a scan goes on: all before second `since` is read, and of a crowded second all from `offset` on."""

    since: int = 0
    seen: Seen = Seen()
    offset: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The cursor as part of a checkpoint."""
        return {"since": self.since, "seen": dict(self.seen.read), "offset": self.offset}


def from_json(stored: Mapping[str, Any] | None) -> Cursor:
    """The inverse of `to_json`; from None, the beginning."""
    return Cursor(stored["since"], Seen(stored["seen"]), stored["offset"]) if stored else Cursor()


Step = tuple[list[Change], Cursor]


async def poll(audience: Audience, checkpoint: Checkpoint, sweep_seconds: float) -> AsyncGenerator[Page, None]:
    """Pages of members changed since the checkpoint; from an empty one, all of them.

    Archived members are asked for by themselves, for a listing without a status need not hold them. Every
    `sweep_seconds` (0: never) all are read again: whether a tag moves last_changed is not documented.
    """
    checkpoint = _swept(checkpoint, sweep_seconds, time.time())
    for part, status in (("live", None), (ARCHIVED, ARCHIVED)):
        async for changes, cursor in scan(audience, from_json(checkpoint.get(part)), status):
            checkpoint = {**checkpoint, part: cursor.to_json()}
            yield Page([change for change in changes if status or change.op != "delete"], checkpoint)


def _swept(checkpoint: Checkpoint, sweep_seconds: float, now: float) -> Checkpoint:
    """The checkpoint, sent back to the beginning where a sweep is due; what was read lately is not read twice."""
    since = checkpoint.get("swept", 0)
    if checkpoint and (not sweep_seconds or now - since < sweep_seconds):
        return checkpoint
    again = {"live": checkpoint["live"] | {"since": 0, "offset": None}} if "live" in checkpoint else {}
    return {**checkpoint, **again, "swept": int(now)}


async def scan(audience: Audience, cursor: Cursor, status: str | None = None) -> AsyncIterator[Step]:
    """Changes from the cursor on, page by page, each with the cursor after it; ends when nothing is left for now.

    No cursor that is given out is within the last SETTLE_SECONDS of the vendor's clock, for changes that become visible
    late, and because a second that is not over may still grow while its crowd is read.
    """
    while True:
        if cursor.offset is not None:
            async for page, (changes, onward) in _crowd(audience, cursor, status):
                yield changes, _settled(page, onward)
            cursor = onward
        page = await _page(audience, cursor.since, status)
        last = _last(page, cursor.since)
        if page.complete:
            settled = _step(page, cursor, max(last, page.now) - SETTLE_SECONDS)
            if settled[0] or (page.changes and settled[1] != cursor):
                yield settled
            return
        if last > cursor.since:
            changes, cursor = _step(page, cursor, last)
            yield changes, _settled(page, cursor)
        else:
            cursor = replace(cursor, offset=await _end(audience, cursor.since, status))


def second(change: Change) -> int:
    """The second of a change's version."""
    return (change.version or 0) // 1_000_000


def _settled(page: Listing, cursor: Cursor) -> Cursor:
    """The cursor as far as what is before it can change no more."""
    until = max(page.now, _last(page, 0), SETTLE_SECONDS) - SETTLE_SECONDS
    return cursor if cursor.since <= until else Cursor(until, cursor.seen)


def _last(page: Listing, default: int) -> int:
    """The second of the last change of a page. One from the future, by the vendor's own clock, would skip all until then."""
    last = max((second(change) for change in page.changes), default=default)
    return min(last, max(page.now, default)) if page.now else last


def _step(page: Listing, cursor: Cursor, since: int) -> Step:
    # What a vendor that means "from" by "since" adds from the second before was read long ago; a member without a time,
    # or from before all time, was not.
    current = [change for change in page.changes if second(change) >= cursor.since or second(change) <= 0]
    seen = cursor.seen.after(current, since - SETTLE_SECONDS)
    return cursor.seen.fresh(current), Cursor(max(since, 0), seen)


async def _page(audience: Audience, since: int, status: str | None) -> Listing:
    """The first page from second `since` on. The vendor says "after", so the second before is asked for."""
    page = await audience.listing(since_last_changed=_iso(since - 1), status=status)
    if not page.complete and _last(page, 0) < since:
        page = await audience.listing(since_last_changed=_iso(since), status=status)
    return page


async def _end(audience: Audience, since: int, status: str | None) -> int:
    """The offset of the last page of one second."""
    page = await audience.listing(**_window(since, status), count=1)
    return max(page.total - 1, 0) // COUNT * COUNT


async def _crowd(audience: Audience, cursor: Cursor, status: str | None) -> AsyncIterator[tuple[Listing, Step]]:
    """All of one second, from its last page to its first."""
    offset = cursor.offset or 0
    while offset >= 0:
        page = await audience.listing(**_window(cursor.since, status), offset=offset)
        crowd = [change for change in page.changes if second(change) == cursor.since]
        fresh = cursor.seen.fresh(crowd)
        cursor = replace(cursor, seen=cursor.seen.after(crowd, cursor.since - SETTLE_SECONDS))
        offset -= COUNT
        cursor = replace(cursor, offset=offset) if offset >= 0 else Cursor(cursor.since + 1, cursor.seen)
        yield page, (fresh, cursor)


def _window(since: int, status: str | None) -> dict[str, Any]:
    return {"since_last_changed": _iso(since - 1), "before_last_changed": _iso(since + 1), "status": status}


def _iso(seconds: int) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds > 0 else None


def _stamp(change: Change) -> str:
    said = canonical([change.op, change.fields])
    return f"{second(change):010d}:{hashlib.blake2b(said, digest_size=8).hexdigest()}"
