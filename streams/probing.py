"""Probing: a target that refused its credentials stays paused until others are proven, or a person resumes it.

The refused credentials are kept as a salted hash, so that no process tries them again, also after a restart. Others are
proven by the connector's own check, which writes nothing.
"""

import asyncio
import time

import structlog

from connectors.kit.connector import Connector
from hub.errors import HubError
from streams import receipts, refused
from streams.context import Context
from streams.faults import INFRASTRUCTURE
from streams.log_postgres import Connection

PROBE_SECONDS = 5.0
TROUBLE: tuple[type[BaseException], ...] = (HubError, *INFRASTRUCTURE)

log = structlog.get_logger(__name__)


async def paused(context: Context, conn: Connection, target: str) -> bool:
    """Whether the target is paused; looks every few seconds whether there are other credentials, and proves them."""
    known = await conn.fetchval("select credentials from hub.pause where target = $1", target)
    if known is None:
        return False
    if not _time_to_look(context, target):
        return True
    secret = context.renewal.now(target) if context.renewal else None
    if secret is None or await asyncio.to_thread(refused.same, secret, known):
        return True
    return not await _proven(context, conn, target, secret)


def _time_to_look(context: Context, target: str) -> bool:
    last, now = context.looked.get(target), time.monotonic()
    if last is not None and now - last < PROBE_SECONDS:
        return False
    context.looked[target] = now
    return True


async def _proven(context: Context, conn: Connection, target: str, secret: bytes) -> bool:
    """Try other credentials once; where they are refused too, they are the ones not to be tried again."""
    assert context.renewal is not None
    used = context.renewal.used(target) == secret
    connector = context.connectors[target] if used else context.renewal.make(target)
    if not await _works(context, connector, target):
        known = await asyncio.to_thread(refused.digest, secret)
        await conn.execute("update hub.pause set credentials = $2 where target = $1", target, known)
        return False
    if not used:
        await context.replace(target, connector)
    await receipts.resume(context, conn, target)
    return True


async def _works(context: Context, connector: Connector, target: str) -> bool:
    try:
        await context.bounded(connector.open(), f"opening {target}")
        findings = await context.bounded(connector.check(), f"checking {target}")
    except TROUBLE as error:
        log.warning("new credentials are not proven", target=target, error=type(error).__name__)
        return False
    wrong = [finding.what for finding in findings if not finding.ok]
    if wrong:
        log.warning("new credentials are not proven", target=target, findings=len(wrong))
    return not wrong
