"""Watch: trouble that no error tells of: a source that stands still or behaves oddly, a slot, a disk, near misses.

`FAULTS` is the whole of what is watched for. A fault that means that something is stuck makes a worker not ready; the
others are told along. Thresholds are the configuration's `watch`.
"""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import structlog

from hub import habit
from hub.errors import HubError
from streams import tally
from streams.context import Context
from streams.faults import INFRASTRUCTURE

TROUBLE: tuple[type[BaseException], ...] = (HubError, *INFRASTRUCTURE)
ASK_SECONDS = 5.0
STARTED = time.time()

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: whether it means that something is stuck, and what to do about it."""

    name: str
    stuck: bool
    help: str


SOURCE_STUCK = Kind("source_stuck", True, "`hub status` shows its error, `hub check` proves credentials and rights")
ZERO_YIELD = Kind("zero_yield", True, "look whether people still work there, and whether the hub may still read it all")
STALE_DATA = Kind("stale_data", True, "it answers from an old copy: ask its operator about replicas and search indexes")
VOLUME = Kind(
    "volume", False, "an import or a bulk delete there, or a scope that was taken away: look before it spreads"
)
SLOT_LAG = Kind("slot_lag", True, "see that the capture stage runs; drop a slot that nobody will read any more")
SLOT_LOST = Kind(
    "slot_lost", True, "changes were lost: reset the stream's checkpoint, so that every table is read again"
)
NEAR_MISSES = Kind(
    "near_misses", False, "compare `hub history` of one record; give the field a fitting type or direction"
)
DISK = Kind("disk", True, "make room, or give the volume more; the database stops when it is full")

FAULTS = (SOURCE_STUCK, ZERO_YIELD, STALE_DATA, VOLUME, SLOT_LAG, SLOT_LOST, NEAR_MISSES, DISK)


@dataclass(frozen=True, slots=True)
class Fault:
    """Trouble with one thing: `subject` names it (a stream as "crm/wal", a system, a disk)."""

    kind: Kind
    subject: str
    what: str

    def __str__(self) -> str:
        return f"{self.what}; {self.kind.help}"


async def look(context: Context) -> list[Fault]:
    """Every fault there is now. Raises the errors of the state database; a system that does not answer is told by its
    source."""
    found = [fault async for fault in _sources(context)]
    found += [fault async for fault in _yields(context)]
    found += [fault async for fault in _slots(context)]
    found += [fault async for fault in _near_misses(context)]
    return found + [fault async for fault in _disks(context)]


def streams(context: Context) -> list[tuple[str, str]]:
    """Every stream that is polled: (system, stream)."""
    return [(system, stream.name) for system, c in context.connectors.items() for stream in c.streams()]


async def _sources(context: Context) -> AsyncIterator[Fault]:
    """Not read to its end for long, though nobody has halted it. Of a first read only that it fails, for it may take its
    time."""
    halted = {tuple(row) for row in await context.pool.fetch("select system, stream from hub.source")}
    rows = await context.pool.fetch(
        "select system, stream, complete, polled_at, error, error_since from hub.checkpoint"
    )
    known = {(r["system"], r["stream"]): r for r in rows}
    for place in streams(context):
        since, error = _still_since(known.get(place))
        if since and place not in halted and (age := time.time() - since) > context.watch.source_seconds:
            yield Fault(SOURCE_STUCK, "/".join(place), f"not read to its end for {age:.0f} s{error}")


def _still_since(row: asyncpg.Record | None) -> tuple[float | None, str]:
    if row is None:
        return STARTED, " since the start"
    error = f" ({row['error'][:200]})" if row["error"] else ""
    since = row["polled_at"] if row["complete"] else row["error_since"]
    return (since.timestamp() if since else None), error


async def _yields(context: Context) -> AsyncIterator[Fault]:
    watch, found = context.watch, await tally.histories(context, tally.YIELD)
    for place in streams(context):
        name = "/".join(place)
        history = found.get(name, tally.History())
        if not history.running and habit.silent(history.counts, watch.silence, watch.learn):
            yield Fault(ZERO_YIELD, name, "nothing has come for much longer than ever before")
        far = habit.deviation(history.counts, watch.cycle, watch.learn)
        if abs(far) > watch.volume:
            than = "more" if far > 0 else "less"
            yield Fault(VOLUME, name, f"{history.counts[-1]} changes within a period, much {than} than usual")
        if wrong := _stale(history, watch.stale_seconds):
            yield Fault(STALE_DATA, name, wrong)


def _stale(history: tally.History, most: float) -> str:
    """A source that yields, but nothing new. One that yields nothing is held against its habit instead."""
    age = time.time() - (history.newest or 0) / 1_000_000
    if history.newest is None or age < most or time.time() - history.yielded_at > most:
        return ""
    return f"it yields, but nothing newer than {datetime.fromtimestamp(history.newest / 1_000_000, UTC):%Y-%m-%d %H:%M} UTC"


async def _slots(context: Context) -> AsyncIterator[Fault]:
    for system in context.connectors:
        state = await slot_state(context, system)
        if state is not None and state.lost and await _was_read(context, system):
            yield Fault(SLOT_LOST, system, f"replication slot {state.name} is {state.lost}")
        elif state is not None and (state.behind > context.watch.slot_bytes or state.endangered):
            limit = f" of the {state.room:,} it may" if state.room is not None else ", without end"
            yield Fault(SLOT_LAG, system, f"keeps {state.behind:,} bytes of log in slot {state.name}{limit}")


async def slot_state(context: Context, system: str) -> Any:
    """What a system keeps for the hub until it is read (see connectors.postgresql.slot.SlotState); None of a system that
    keeps nothing, or does not answer: that it does not is told elsewhere."""
    if not hasattr(context.connectors[system], "slot_state"):
        return None
    try:
        async with asyncio.timeout(ASK_SECONDS):
            connector: Any = await context.connector(system)
            return await connector.slot_state()
    except TROUBLE as error:
        log.info("no answer about the slot", system=system, error=type(error).__name__)
        return None


async def _was_read(context: Context, system: str) -> bool:
    """Before a system was read for the first time it has no slot to lose."""
    return bool(
        await context.pool.fetchval("select exists (select from hub.checkpoint where system = $1 and complete)", system)
    )


async def _near_misses(context: Context) -> AsyncIterator[Fault]:
    for system, history in (await tally.histories(context, tally.NEAR_MISS)).items():
        lately = history.running + sum(history.counts[-1:])
        if lately > context.watch.near_misses and history.yielded_at > time.time() - 2 * context.watch.period_seconds:
            yield Fault(NEAR_MISSES, system, f"gave {lately} of the hub's writes back with other content")


async def _disks(context: Context) -> AsyncIterator[Fault]:
    for where, free in (await disks(context)).items():
        if free < context.watch.disk_bytes:
            yield Fault(DISK, where, f"{free:,} bytes are free on the disk of {where}")


async def disks(context: Context) -> dict[str, int]:
    """Bytes free on the disks that can be seen from here: of the hub's data and, where it is on this machine, of the state
    database's."""
    try:
        path = await context.pool.fetchval("select current_setting('data_directory')")
    except asyncpg.InsufficientPrivilegeError:
        path = None
    places = {"hub": context.data_dir, "state": Path(path) if path else None}
    return {where: free for where, place in places.items() if place and (free := _free(place)) is not None}


def _free(path: Path) -> int | None:
    """Bytes free where a path is, or will be made; None where it is on another machine."""
    try:
        there = next((p for p in (path, *path.absolute().parents) if p.exists()), None)
        near = there is not None and (there == path or not path.is_absolute() or path.parent.exists())
        return shutil.disk_usage(there).free if there is not None and near else None
    except OSError:
        return None


class Watcher:
    """Looks again and again; `found` is what was found last."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.found: list[Fault] = []

    async def forever(self) -> None:
        """Look until cancelled. While the state database is away, which is told elsewhere, what is known stays."""
        while True:
            try:
                self.found = await look(self._context)
            except INFRASTRUCTURE as error:
                log.warning("the watch waits", error=type(error).__name__)
            await asyncio.sleep(self._context.watch.seconds)
