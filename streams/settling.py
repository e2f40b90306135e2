"""Settling: what of an audit's suspicions is drift, and what is only on its way.

Looked at again once the hub has read the system to its end since, and folded what it read; so an edit made just now is
no drift, and a record that was created meanwhile, or restored, is not deleted.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from connectors.kit.connector import Scanner
from hub.change import Change
from hub.drift import Drift, differing, told
from hub.errors import HubError
from hub.mapping import ObjectMap
from streams.capture import behind
from streams.context import Context
from streams.project import STAGE
from streams.refetch import STAGE as REFETCH
from streams.scanning import Pause, Scan, cut
from streams.topics import changes_topic, notices_topic
from streams.workspace import RecordState, peek_records


@dataclass(slots=True)
class Findings:
    """What is left of suspicions.

    drift      what differs for good, and by external id the change that would tell the hub so
    unsettled  records that may still be on their way
    unlisted   living records that a complete reading should have shown, and did not
    trouble    why they could not be looked at
    """

    drift: list[Drift] = field(default_factory=list)
    changes: dict[str, Change] = field(default_factory=dict)
    unsettled: int = 0
    unlisted: int = 0
    trouble: str = ""

    @property
    def gone(self) -> list[str]:
        """Records that the system says do not exist."""
        return [one for one, change in self.changes.items() if change.op == "delete"]


async def settle(context: Context, mapping: ObjectMap, scanner: Scanner, scan: Scan, pause: Pause) -> Findings:
    """Look again at everything suspicious."""
    found = Findings()
    suspects = sorted(scan.suspects | scan.absent)
    if suspects and not await drained(context, mapping, pause):
        found.unsettled = len(suspects)
        found.trouble = "what was captured is not folded yet, or the system is not polled: is a hub running?"
        return found
    try:
        for some in cut(suspects):
            await look_again(context, mapping, scanner, scan, some, found)
    except HubError as error:
        found.trouble = f"what was found could not be looked at again: {error}"
    return found


async def drained(context: Context, mapping: ObjectMap, pause: Pause) -> bool:
    """Return when the system was read to its end since now, and all of it is folded; false where time ran out."""
    since = datetime.now(UTC)
    while not await _drained(context, mapping, since):
        if not await pause():
            return False
    return True


async def _drained(context: Context, mapping: ObjectMap, since: datetime) -> bool:
    streams = [s.name for s in context.connectors[mapping.system].streams() if mapping.object in s.objects]
    read = await context.pool.fetchval(
        "select count(*) from hub.checkpoint where system = $1 and stream = any($2) and polled_at >= $3 and error is null",
        mapping.system, streams, since,
    )  # fmt: skip
    if read < len(streams):
        return False
    notices = await behind(context, f"{REFETCH}-{mapping.system}", [notices_topic(mapping.system).name])
    return not notices and not await behind(context, STAGE, [changes_topic(mapping.system, mapping.object).name])


async def look_again(
    context: Context, mapping: ObjectMap, scanner: Scanner, scan: Scan, ids: Sequence[str], found: Findings
) -> None:
    """Ask the system for these records one by one, and judge each."""
    changes = await asked(scanner, scan, ids)
    async with context.pool.acquire() as conn:
        states = await peek_records(conn, mapping.system, mapping.object, ids)
    writing = await _writing(context, mapping, ids)
    recent = time.time_ns() // 1_000 - int(scanner.settle_seconds * 1_000_000)
    for one in ids:
        change, state = changes.get(one), states.get(one)
        found.unlisted += one in scan.absent and change is not None and change.op == "upsert"
        drift = _judge(mapping, one, change, state)
        if change is None or (drift and (one in writing or (change.at or 0) > recent or _touched(scan, one, state))):
            found.unsettled += 1
        elif drift:
            found.drift.append(drift)
            found.changes[one] = change


async def asked(scanner: Scanner, scan: Scan, ids: Sequence[str]) -> dict[str, Change]:
    """By id what the system says of each of these now; a record that was merged away is told by the merge."""
    changes: dict[str, Change] = {}
    for change in await scanner.look(ids):
        for one in change.merged if change.op == "merge" else (change.external_id,):
            changes[one] = change
    return changes


def _judge(mapping: ObjectMap, one: str, change: Change | None, state: RecordState | None) -> Drift | None:
    lives = state is not None and not state.gone
    if change is None or (change.op != "upsert" and not lives):
        return None
    if change.op != "upsert":
        return Drift(one, "extra")
    if state is None or state.gone:
        return Drift(one, "missing", tuple(sorted(told(mapping, change.fields))))
    fields = differing(mapping, state.view, change.fields)
    return Drift(one, "stale", fields) if fields else None


def _touched(scan: Scan, one: str, state: RecordState | None) -> bool:
    """Whether something became known of a record since the reading began, that it was believed to live then."""
    return one in scan.known and state is not None and state.last_event != scan.known[one]


async def _writing(context: Context, mapping: ObjectMap, ids: Iterable[str]) -> set[str]:
    """Records that the hub itself is about to write."""
    rows = await context.pool.fetch(
        "select r.external_id from hub.record r join hub.write w on w.target = r.system and w.golden_id = r.golden_id"
        " where w.state = 'due' and r.system = $1 and r.object = $2 and r.external_id = any($3)",
        mapping.system, mapping.object, list(ids),
    )  # fmt: skip
    return {r["external_id"] for r in rows}
