"""Auditing: audits at their times. Whoever holds a system's lock carries them out; others stand by."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from hub.drift import Threshold
from hub.errors import HubError, Reject
from streams import metrics
from streams.audit import Order, Report, audit
from streams.context import Context
from streams.faults import INFRASTRUCTURE
from streams.log_postgres import Connection

log = structlog.get_logger(__name__)

STAGE = "audit"
TURN_SECONDS = 15.0
LOCK = "select pg_try_advisory_lock(hashtextextended($1, 11))"
UNLOCK = "select pg_advisory_unlock(hashtextextended($1, 11))"


@dataclass(frozen=True, slots=True)
class Plan:
    """When to audit the objects of one system.

    objects        those of which a sample is audited, every `sample_seconds` (0: never)
    scans          those that are read completely every `scan_seconds`, for their deletes
    """

    system: str
    objects: Sequence[str]
    scans: Sequence[str]
    sample: int
    sample_seconds: float
    scan_seconds: float
    threshold: Threshold


async def forever(context: Context, plan: Plan) -> None:
    """Carry out what is due until cancelled. Trouble is counted and waited out."""
    while True:
        try:
            async with context.pool.acquire() as conn:
                await _under_lock(context, plan, conn)
        except INFRASTRUCTURE as error:
            metrics.failed(STAGE, plan.system, error)
        await asyncio.sleep(TURN_SECONDS)


async def _under_lock(context: Context, plan: Plan, conn: Connection) -> None:
    name = f"audit/{plan.system}"
    if await conn.fetchval(LOCK, name):
        try:
            await turn(context, plan)
        finally:
            await conn.execute(UNLOCK, name)


async def turn(context: Context, plan: Plan) -> list[Report]:
    """Carry out the audits that are due now. One that the system's trouble prevents is due again at the next turn."""
    reports = []
    for order in await due(context, plan):
        metrics.count(metrics.ATTEMPTS, STAGE, plan.system)
        try:
            reports.append(await audit(context, order))
        except Reject as error:
            log.debug("not audited", system=order.system, object=order.object, why=error.code)
        except HubError as error:
            metrics.failed(STAGE, plan.system, error)
            log.info("an audit waits", system=order.system, object=order.object, error=type(error).__name__)
    return reports


async def due(context: Context, plan: Plan) -> list[Order]:
    """The audits whose time has come: those of a mode that was never carried out, or not for so long."""
    rows = await context.pool.fetch(
        "select object, mode, extract(epoch from now() - max(ended))::float8 as age from hub.audit"
        " where system = $1 group by 1, 2", plan.system,
    )  # fmt: skip
    ages = {(r["object"], r["mode"]): r["age"] for r in rows}

    def old(object_: str, mode: str, seconds: float) -> bool:
        return seconds > 0 and ages.get((object_, mode), seconds) >= seconds

    scans = [
        Order(plan.system, one, None, "deletes", plan.threshold)
        for one in plan.scans
        if old(one, "full", plan.scan_seconds)
    ]
    samples = [Order(plan.system, one, plan.sample) for one in plan.objects if old(one, "sample", plan.sample_seconds)]
    return [*scans, *samples]
