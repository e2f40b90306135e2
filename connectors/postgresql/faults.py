"""SQLSTATE by SQLSTATE: what an error of PostgreSQL means for a write, or for everything that goes on there.

Source: PostgreSQL documentation, appendix "PostgreSQL Error Codes". Only the primary message is passed on: the detail
may quote whole rows.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import asyncpg

from hub.errors import AuthError, Fatal, HubError, Retry
from hub.receipt import Deferred, Held, Receipt, Refused

CONTENTION = ("40", "55P03", "57014", "55006")
"""Somebody else was in the way: serialisation failure, deadlock, lock timeout, statement timeout, object in use."""
WORLD = ("08", "53", "57", "58", "25006", "25P", "0A000", "XX")
"""Nothing goes on for now: connection, resources, shutdown, I/O, a standby, a plan that a schema change made stale."""
SCHEMA = ("42P01", "42703", "3F000", "42883", "42704")
"""A table, column, schema, function or type is not there (any more)."""
UNREACHABLE = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class SchemaChanged(Retry):
    """A table, column or function is not as it was when the catalogue was read."""


def state(error: BaseException) -> str:
    """The SQLSTATE of an error; empty where it has none."""
    return str(getattr(error, "sqlstate", None) or "")


def message(error: BaseException) -> str:
    """The primary message and where it happened, without row contents."""
    said = str(error.args[0]) if error.args else type(error).__name__
    column, constraint = getattr(error, "column_name", None), getattr(error, "constraint_name", None)
    place = f" (column {column})" if column else f" (constraint {constraint})" if constraint else ""
    return said.splitlines()[0][:500] + place if said else type(error).__name__


def translate(error: BaseException) -> HubError:
    """What an error outside any single record means."""
    code = state(error)
    if code.startswith("28") or code == "42501":
        return AuthError(message(error))
    if code == "3D000":
        return AuthError(f"{message(error)}: create it or correct `url`")
    if code in SCHEMA:
        return SchemaChanged(f"the schema changed: {message(error)}")
    if isinstance(error, UNREACHABLE) or code.startswith((*WORLD, *CONTENTION)):
        return Retry(f"{type(error).__name__}: {message(error)}")
    return Fatal(f"{message(error)} (SQLSTATE {code or 'unknown'})")


@contextmanager
def translated() -> Iterator[None]:
    """Turn errors of asyncpg and of the network into those of the hub."""
    try:
        yield
    except (asyncpg.PostgresError, *UNREACHABLE) as error:
        raise translate(error) from None


def concerns_all(error: asyncpg.PostgresError) -> bool:
    """Whether an error is not about the one record that was being written."""
    code = state(error)
    return code == "42501" or code in SCHEMA or (code.startswith((*WORLD, "28")) and not code.startswith(CONTENTION))


def receipt(error: asyncpg.PostgresError, op: Literal["create", "update", "delete"]) -> Receipt:
    """What an error means for the one write that met it."""
    code = state(error)
    if code.startswith(CONTENTION):
        return Deferred(message(error))
    if code == "23503":
        return _foreign_key(error, op)
    if code in ("23505", "23P01"):
        return Refused(message(error), "duplicate")
    return Refused(message(error), "invalid" if code.startswith(("22", "23", "428C9")) else f"sqlstate {code}")


def _foreign_key(error: asyncpg.PostgresError, op: str) -> Receipt:
    if op == "delete":
        return Refused(message(error), "referenced")
    missing = re.search(r'Key (\(.*\)=\(.*\)) is not present in table "(.*)"', getattr(error, "detail", None) or "")
    return Held(f"{missing[2]} {missing[1]}" if missing else message(error))
