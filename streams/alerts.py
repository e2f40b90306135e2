"""Alerts: trouble that a person should know of, raised and cleared on the log."""

import structlog

from streams.context import Context, now
from streams.records import NewRecord
from streams.topics import ALERTS

log = structlog.get_logger(__name__)


async def raised(context: Context, name: str, subject: str, message: str) -> None:
    """Trouble of kind `name` with `subject` began; the message says what to do."""
    log.error(name, subject=subject, message=message)
    await _append(context, name, subject, "raised", message)


async def cleared(context: Context, name: str, subject: str, message: str) -> None:
    """That trouble is over."""
    log.info(name, subject=subject, message=message)
    await _append(context, name, subject, "cleared", message)


async def _append(context: Context, name: str, subject: str, state: str, message: str) -> None:
    datum = {"name": name, "subject": subject, "state": state, "message": message[:2_000], "at": now()}
    value = context.codec.encode("alert", datum)
    await context.log.append([NewRecord(ALERTS.name, f"{name}/{subject}".encode(), value)])
