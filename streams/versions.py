"""Versions: which configuration is in effect, every one that ever was, and that nobody works by another.

A version is deployed by `adopt` (the first) or by `streams.applying`. It is an event on `hub.configuration` and a row
beside it; whoever does a batch of work holds the row in effect shared until the batch is committed (`in_effect`).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from hub.errors import Reject
from streams.context import Context, emit, now, turn
from streams.faults import Replaced
from streams.log_postgres import Connection
from streams.records import NewRecord
from streams.topics import CONFIGURATION


@dataclass(frozen=True, slots=True)
class Version:
    """A deployed configuration; `number` counts deployments, `document` is what was written without its comments."""

    version: str
    number: int
    document: dict[str, Any]
    author: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Deployment:
    """A configuration to be deployed, and by whom and why."""

    version: str
    document: dict[str, Any]
    author: str
    reason: str


async def in_effect(context: Context, conn: Connection) -> None:
    """Hold the version in effect until the end of the transaction. Raises Replaced where it is not the caller's."""
    if not context.configuration:
        return
    version = await conn.fetchval("select version from hub.deployed for share")
    if version is not None and version != context.configuration:
        raise Replaced(
            f"this process works by configuration {context.configuration}, and {version} is in effect: restart it with"
            " the file that `hub apply` was given"
        )


async def deployed(conn: Connection) -> list[Version]:
    """Every version, the one in effect last."""
    rows = await conn.fetch(
        "select version, number, document, author, reason, at from hub.configuration order by number"
    )
    return [Version(r["version"], r["number"], orjson.loads(r["document"]), *list(r.values())[3:]) for r in rows]


async def adopt(context: Context, document: dict[str, Any], author: str) -> None:
    """Record the configuration of a hub that has none yet. Raises Reject where another is in effect."""
    async with context.pool.acquire() as conn, conn.transaction():
        await conn.execute("lock table hub.deployed in share row exclusive mode")
        known = await conn.fetchval("select version from hub.deployed")
        if known is None:
            await record(context, conn, Deployment(context.configuration, document, author, "first start"))
        elif known != context.configuration:
            raise Reject(
                f"this configuration ({context.configuration}) reads, decides or writes otherwise than the one in"
                f" effect ({known}), and what is there was made by that one: `hub whatif` shows what would change,"
                " `hub apply` makes it so; `hub run --apply` does it at once",
                "configuration",
            )


async def hold(conn: Connection) -> str | None:
    """Keep everybody from working until the end of the transaction; the version in effect."""
    version: str | None = await conn.fetchval("select version from hub.deployed for update")
    return version


async def record(
    context: Context, conn: Connection, said: Deployment, *, quiet: bool = False
) -> tuple[int, list[NewRecord]]:
    """Put a version into effect within the transaction; the number of this deployment in the order of all processing, and
    its event, which is emitted here unless `quiet`."""
    then = await turn(conn)
    former = await conn.fetchval("select version from hub.deployed")
    text = orjson.dumps(said.document)
    await conn.execute(
        "insert into hub.configuration (version, document, number, author, reason)"
        " select $1, $2::json, coalesce(max(number), 0) + 1, $3, $4 from hub.configuration"
        " on conflict (version) do update set document = excluded.document, number = excluded.number,"
        " author = excluded.author, reason = excluded.reason, at = now()",
        said.version, text.decode(), said.author, said.reason,
    )  # fmt: skip
    await conn.execute(
        "insert into hub.deployed (version) values ($1) on conflict (one) do update set version = excluded.version",
        said.version,
    )
    datum = {
        "version": said.version, "former": former or "", "document": text, "author": said.author,
        "reason": said.reason, "at": now(), **then,
    }  # fmt: skip
    event = NewRecord(CONFIGURATION.name, b"", context.codec.encode("configuration", datum))
    if not quiet:
        await emit(context, conn, [event])
    return then["processed"], [event] if quiet else []
