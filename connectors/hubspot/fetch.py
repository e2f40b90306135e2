"""Fetching what notices speak of: the records as they are now, and what is gone as deletes.

A record is deleted only where somebody said so: that it cannot be read may be a replica that lags.
"""

from collections.abc import Sequence
from dataclasses import replace

from connectors.hubspot.records import Reader
from hub.change import Change, Notice

GONE = ("deletion", "privacyDeletion")


async def fetch(reader: Reader, notices: Sequence[Notice]) -> list[Change]:
    """One read for each object and hundred records, however many notices speak of them."""
    changes: list[Change] = []
    for object_ in dict.fromkeys(n.object for n in notices if n.object in reader.layouts):
        changes += await _fetch(reader, object_, [n for n in notices if n.object == object_])
    return changes


async def _fetch(reader: Reader, object_: str, notices: Sequence[Notice]) -> list[Change]:
    deleted, restored = _latest(notices, GONE), _latest(notices, ("restore",))
    reading = await reader.read(object_, [n.external_id for n in notices], "webhook")
    missing = [i for i in reading.missing if i in deleted]
    archived = await reader.archived(object_, missing, "webhook")
    gone = [archived.get(i) or _gone(reader.system, object_, i, deleted[i]) for i in missing]
    known = [_restored(change, restored.get(change.external_id, 0)) for change in reading.changes()]
    told = {old for change in known for old in change.merged}
    merges = [_merge(n) for n in notices if n.kind == "merge" and not _merged(n) <= told]
    return [*merges, *known, *gone]


def _merged(notice: Notice) -> set[str]:
    """The ids that a merge made into another."""
    ids = [notice.data.get("primaryObjectId"), *(notice.data.get("mergedObjectIds") or [])]
    return {str(i) for i in ids if i} - {notice.external_id}


def _merge(notice: Notice) -> Change:
    """A merge as the webhook told it, where the record does not tell it (yet)."""
    merged = tuple(sorted(_merged(notice)))
    return Change(
        notice.system, notice.object, notice.external_id, op="merge", at=notice.at, channel="webhook", merged=merged
    )


def _latest(notices: Sequence[Notice], kinds: Sequence[str]) -> dict[str, int]:
    """Record id -> when the latest notice of these kinds said so (microseconds)."""
    latest: dict[str, int] = {}
    for notice in notices:
        if notice.kind in kinds:
            latest[notice.external_id] = max(notice.at or 0, latest.get(notice.external_id, 0))
    return latest


def _gone(system: str, object_: str, external_id: str, at: int) -> Change:
    """A record that not even the recycling bin has: deleted for good, when the webhook said."""
    return Change(system, object_, external_id, op="delete", version=at, at=at, channel="webhook")


def _restored(change: Change, at: int) -> Change:
    """A restored record is newer than its deletion, although restoring need not touch its own clock."""
    newer = change.op == "upsert" and at > (change.version or 0)
    return replace(change, version=at, at=at) if newer else change
