"""Audit: a system held against what the hub knows of it, reported as events, and put right by changes if it is asked to.

An audit never writes to a system, and never changes the hub's state itself: it captures what is true as changes, which
go the way of every other change. A delete is captured only after a complete reading, for a record that the system,
asked for it by id, says is not there; and above a threshold only when a person approves.
"""

import asyncio
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from connectors.kit.connector import Scannable, Scanner
from hub.change import Change
from hub.drift import Drift, Threshold
from hub.errors import Reject, Retry
from hub.mapping import ObjectMap
from streams import alerts, metrics
from streams.audit_store import Row, event_of, store
from streams.capture import append, to_records
from streams.context import Context
from streams.records import NewRecord
from streams.scanning import Pause, Scan, read_all, read_some
from streams.settling import Findings, settle
from streams.workspace import RecordState, peek_records

Apply = Literal["nothing", "deletes", "all"]
ALERTS = {"drift": "drift", "incomplete": "scan_incomplete", "waiting": "deletes_waiting"}


@dataclass(frozen=True, slots=True)
class Order:
    """What to audit: `sample` records of an object, or all of them (None); and what to capture of what is found.

    patience   for how many seconds to wait for the hub to read and fold what is on its way, and for counts to agree
    """

    system: str
    object: str
    sample: int | None = None
    apply: Apply = "nothing"
    threshold: Threshold = field(default_factory=Threshold)
    patience: float = 120.0
    pause: Pause | None = None

    @property
    def pauses(self) -> Pause:
        """The order's own way to wait; by default a second at a time until the patience is over."""
        return self.pause or _patient(self.patience)


@dataclass(frozen=True, slots=True)
class Report:
    """How an audit ended (see hub.audit in streams/state.sql), and what it found."""

    row: Row
    drift: tuple[Drift, ...]


async def audit(context: Context, order: Order) -> Report:
    """Carry out an audit. Raises Reject for what cannot be audited, Retry for a system that was never read."""
    began = datetime.now(UTC)
    mapping, scanner = await auditable(context, order.system, order.object)
    if not await context.pool.fetchval(
        "select true from hub.counter where name = 'primed' and label = $1", order.system
    ):
        raise Retry(f"{order.system} was not read completely yet: there is nothing to compare")
    if order.sample is None:
        scan = await read_all(context, mapping, scanner, order.pauses)
    else:
        scan = await read_some(context, mapping, scanner, order.sample, order.pauses)
    found = await settle(context, mapping, scanner, scan, order.pauses)
    return await _conclude(context, order, began, scan, found)


async def auditable(context: Context, system: str, object_: str) -> tuple[ObjectMap, Scanner]:
    """The mapping and the scanner of an object. Raises Reject where there is none."""
    mapping = context.model.mapping(system, object_)
    if mapping is None or system not in context.connectors:
        known = ", ".join(f"{s}/{o}" for s, o in context.model.mappings)
        raise Reject(f"{system}/{object_} is not configured; there are {known}", "unknown")
    connector = await context.connector(system)
    if not isinstance(connector, Scannable):
        raise Reject(f"{system}: {connector.manifest.title} cannot be read completely, so it cannot be audited", "scan")
    return mapping, connector.scanner(object_)


async def _conclude(context: Context, order: Order, began: datetime, scan: Scan, found: Findings) -> Report:
    state, reason = verdict(order, scan, found)
    taken = _taken(order, state, found)
    row = Row(
        order.system, order.object, "sample" if order.sample is not None else "full", state, reason, began,
        known=scan.total, read=len(scan.shown), unsettled=found.unsettled,
        deleted=sum(c.op == "delete" for c in taken), repaired=sum(c.op != "delete" for c in taken),
    )  # fmt: skip
    captured = await _records(context, row, taken)
    async with context.pool.acquire() as conn, conn.transaction():
        row, before = await store(conn, row, found.drift)
        told = [event_of(context, row, d) for d in found.drift] + [event_of(context, row)]
        await append(context, conn, [*captured, *told])
    metrics.captured(taken)
    await tell(context, row, before)
    return Report(row, tuple(found.drift))


def verdict(order: Order, scan: Scan, found: Findings) -> tuple[str, str]:
    """How an audit ends, and why. What may be on its way, or was not shown, is nothing to conclude from."""
    if trouble := doubts(scan, found):
        return "incomplete", trouble
    if order.apply != "nothing" and order.threshold.exceeded(len(found.gone), scan.total):
        return "waiting", f"{len(found.gone)} of {scan.total} records are gone: a person decides whether that is right"
    if scan.counted:
        return "drift", scan.counted
    left = len(found.drift) - len(_taken(order, "drift", found))
    if left:
        return "drift", f"{left} of {scan.total} records differ"
    return "clean", f"{len(found.drift)} records differed" if found.drift else ""


def doubts(scan: Scan, found: Findings) -> str:
    """Why nothing may be concluded."""
    unlisted = f"{found.unlisted} records exist that it did not show" if found.unlisted else ""
    return scan.trouble or found.trouble or unlisted


def _taken(order: Order, state: str, found: Findings) -> list[Change]:
    """What is captured of what was found: never a delete after a doubtful reading, or above the threshold."""
    if order.apply == "nothing":
        return []
    deletes = [] if state in ("incomplete", "waiting") else [found.changes[one] for one in found.gone]
    others = [c for c in found.changes.values() if c.op != "delete"] if order.apply == "all" else []
    return [*deletes, *{(c.op, c.external_id): c for c in others}.values()]


async def _records(context: Context, row: Row, changes: list[Change]) -> list[NewRecord]:
    ids = [change.external_id for change in changes]
    async with context.pool.acquire() as conn:
        states = await peek_records(conn, row.system, row.object, ids)
        known = await conn.fetch(
            "select distinct external_id from hub.event where system = $1 and object = $2 and external_id = any($3)",
            row.system, row.object, ids,
        )  # fmt: skip
    seen = {r["external_id"] for r in known}
    return await to_records(context, [dated(c, states.get(c.external_id), c.external_id in seen) for c in changes])


def dated(change: Change, state: RecordState | None, seen: bool = True) -> Change:
    """The change placed right behind what is known of its record: it is news, for the record was looked at after that; and
    whatever the system tells later still comes after it. A delete that has no date of its own gets one so."""
    last = max((held.order for held in state.view.values()), default=0) if state else 0
    if change.op == "merge" or (change.version is None and not last):
        return change
    version = change.version or 0
    if version > last:
        return replace(change, version=version + 1, exact=False) if seen and state is None else change
    return replace(change, version=last + 1, exact=False)


async def tell(context: Context, row: Row, before: set[str]) -> None:
    """Raise the alert that fits how an audit ended, and clear those that no longer do."""
    subject = f"{row.system}/{row.object} ({row.mode})"
    for state in sorted(before - {row.state}):
        if state in ALERTS:
            await alerts.cleared(context, ALERTS[state], subject, f"the last audit ended {row.state}")
    if row.state in ALERTS and row.state not in before:
        await alerts.raised(context, ALERTS[row.state], subject, f"{row.reason}. {remedy(row)}")


def remedy(row: Row) -> str:
    """What a person may do about how an audit ended."""
    again = f"hub audit {row.system} --object {row.object} --full"
    return {
        "drift": f"See, and put right: {again} --repair",
        "incomplete": f"Nothing was deleted. Prove the credentials with hub check, then: {again}",
        "waiting": f"hub scans approve {row.id}, or hub scans discard {row.id}",
    }.get(row.state, "")


def _patient(seconds: float) -> Pause:
    end = time.monotonic() + seconds

    async def pause() -> bool:
        await asyncio.sleep(min(1.0, seconds))
        return time.monotonic() < end

    return pause
