"""Scanning: one object of a system read again, all of it or a sample, and held against what the hub knows of it.

What is found here is a suspicion only: an edit may be on its way. streams.audit looks again.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from connectors.kit.connector import Scanner
from hub.change import Change
from hub.drift import differing, told
from hub.errors import HubError
from hub.mapping import ObjectMap
from streams.context import Context
from streams.workspace import RecordState, peek_records

LOOKS = 100
Pause = Callable[[], Awaitable[bool]]
"""Waits a moment; false where there is no time left."""


@dataclass(slots=True)
class Scan:
    """What a reading showed.

    known     living records when it began: external id -> the last event of each (of a sample: of those looked at)
    total     how many living records the hub knew in all
    shown     every id that the system showed;  present: those of records that live there
    suspects  ids in which hub and system seem to differ
    fields    canonical fields that were told of any record
    trouble   why nothing may be concluded from what was not shown; empty for a complete reading
    counted   of a sample: that the system has another number of records than the hub knows
    """

    known: dict[str, str]
    total: int
    shown: set[str] = field(default_factory=set)
    present: set[str] = field(default_factory=set)
    suspects: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    trouble: str = ""
    counted: str = ""

    @property
    def absent(self) -> set[str]:
        """Known records that a complete reading did not show to live."""
        return set() if self.trouble else self.known.keys() - self.present


async def read_all(context: Context, mapping: ObjectMap, scanner: Scanner, pause: Pause) -> Scan:
    """Read the object completely. Trouble of the system ends the reading, and is told in it."""
    known = await living(context, mapping)
    scan = Scan(known, len(known))
    try:
        before = await scanner.total()
        async with aclosing(scanner.listing()) as pages:
            async for page in pages:
                await _compare(context, mapping, scan, page)
        scan.trouble = await doubt(context, mapping, scan, before, scanner, pause)
    except HubError as error:
        scan.trouble = f"it could not be read to its end: {error}"
    return scan


async def read_some(context: Context, mapping: ObjectMap, scanner: Scanner, count: int, pause: Pause) -> Scan:
    """Look at so many known records, chosen at random, and count how many there are in all."""
    known = await living(context, mapping)
    chosen = random.sample(sorted(known), min(count, len(known)))
    scan = Scan({one: known[one] for one in chosen}, len(known))
    try:
        for some in cut(chosen):
            await _compare(context, mapping, scan, await scanner.look(some))
        scan.counted = await _other_number(context, mapping, scanner, pause)
    except HubError as error:
        scan.trouble = f"it could not be read: {error}"
    return scan


async def living(context: Context, mapping: ObjectMap) -> dict[str, str]:
    """External id -> last event of every record that the hub believes to exist."""
    rows = await context.pool.fetch(
        "select external_id, last_event from hub.record where system = $1 and object = $2 and not gone",
        mapping.system, mapping.object,
    )  # fmt: skip
    return {r["external_id"]: r["last_event"] for r in rows}


async def _compare(context: Context, mapping: ObjectMap, scan: Scan, page: Sequence[Change]) -> None:
    ids = [change.external_id for change in page]
    async with context.pool.acquire() as conn:
        states = await peek_records(conn, mapping.system, mapping.object, ids)
    for change in page:
        scan.shown.add(change.external_id)
        if change.op == "upsert":
            scan.present.add(change.external_id)
            scan.fields |= told(mapping, change.fields)
        if _suspicious(mapping, change, states.get(change.external_id)):
            scan.suspects.add(change.external_id)


def _suspicious(mapping: ObjectMap, change: Change, state: RecordState | None) -> bool:
    lives = state is not None and not state.gone
    if change.op != "upsert":
        return lives
    return state is None or state.gone or bool(differing(mapping, state.view, change.fields))


async def doubt(context: Context, mapping: ObjectMap, scan: Scan, before: int, scanner: Scanner, pause: Pause) -> str:
    """Why a reading may not be complete, although it came to its end; empty where nothing speaks against it."""
    return (
        empty(scan)
        or narrowed(scan, await _fields_known(context, mapping))
        or await miscounted(scan, before, scanner, pause)
    )


def empty(scan: Scan) -> str:
    """A system that shows nothing is more likely out of order than emptied."""
    return f"it shows no record at all, and the hub knows {scan.total}" if scan.known and not scan.present else ""


def narrowed(scan: Scan, fields: set[str]) -> str:
    """What was known of records and is told of none any more is no longer shown to the hub, and neither may records be."""
    lost = sorted(fields - scan.fields) if scan.present else []
    return f"{', '.join(lost)} is told of no record any more: do the credentials still show everything?" if lost else ""


async def miscounted(scan: Scan, before: int, scanner: Scanner, pause: Pause) -> str:
    """As many records must have been shown as the system says there are, before or after the reading or in between. Its
    count may lag, so it is asked again for a while."""
    low = high = before
    while True:
        after = await scanner.total()
        low, high = min(low, after), max(high, after)
        if low <= len(scan.shown) <= high:
            return ""
        if not await pause():
            return f"it showed {len(scan.shown)} records and says that there are {after}"


async def _fields_known(context: Context, mapping: ObjectMap) -> set[str]:
    rows = await context.pool.fetch(
        "select distinct held.key from hub.record, jsonb_each(view::jsonb) as held where system = $1 and object = $2"
        " and not gone and held.value -> 0 <> 'null'", mapping.system, mapping.object,
    )  # fmt: skip
    return {r["key"] for r in rows} & {f.name for f in mapping.fields if not f.identifies}


async def _other_number(context: Context, mapping: ObjectMap, scanner: Scanner, pause: Pause) -> str:
    while True:
        there, known = await scanner.total(), len(await living(context, mapping))
        if there == known:
            return ""
        if not await pause():
            return f"it has {there} records, the hub knows {known}: an audit with --full tells which"


def cut(ids: Sequence[str]) -> list[list[str]]:
    """Ids in portions of one look."""
    return [list(ids[start : start + LOOKS]) for start in range(0, len(ids), LOOKS)]
