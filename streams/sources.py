"""Sources: what a person asks of them (pause, resume, stop, snapshot), kept where every worker sees it.

A request is a row in the state database: workers look at it between two pages and at least every second, so it holds
across processes and restarts. Each is told on the topic `hub.sources`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from connectors.kit.connector import Stream
from hub.errors import Reject
from streams import alerts
from streams.context import Context, now
from streams.log_postgres import Connection
from streams.records import NewRecord
from streams.topics import SOURCES

LOOK_SECONDS = 1.0
RATE = 500.0
"""Rows a second that a snapshot reads at most, unless told otherwise."""
ALERT = "source_paused"


@dataclass(frozen=True, slots=True)
class Asked:
    """The streams and objects of a system that a command names."""

    system: str
    streams: tuple[Stream, ...]
    objects: tuple[str, ...]


def named(context: Context, system: str, what: str = "") -> Asked:
    """What `system` and a stream's or an object's name stand for; without a name all of it. Raises Reject."""
    if system not in context.connectors:
        raise Reject(f"no system {system!r}; there are {', '.join(sorted(context.connectors))}", "unknown")
    streams = context.connectors[system].streams()
    chosen = tuple(s for s in streams if what in ("", s.name, *s.objects))
    if not chosen:
        known = ", ".join(dict.fromkeys(name for s in streams for name in (s.name, *s.objects)))
        raise Reject(
            f"{system} has no stream or object {what!r}; it has {known or 'none, it is only written'}", "unknown"
        )
    objects = tuple(o for s in chosen for o in s.objects if what in ("", s.name, o))
    return Asked(system, chosen, objects)


async def halt(context: Context, asked: Asked, state: str, reason: str, alert_after: float) -> None:
    """Read these streams no more until `resume`: "paused", or "stopped", which also gives up their snapshots.
    Raises Reject where only some of a stream's objects are named: they are read together."""
    partly = [s for s in asked.streams if not set(s.objects) <= set(asked.objects)]
    if partly:
        raise Reject(
            f"{', '.join(asked.objects)} is read together with others: name the stream {partly[0].name}", "invalid"
        )
    async with context.pool.acquire() as conn, conn.transaction():
        await conn.executemany(
            "insert into hub.source (system, stream, state, reason, alert_after) values ($1, $2, $3, $4, $5)"
            " on conflict (system, stream) do update set state = excluded.state, reason = excluded.reason,"
            " alert_after = excluded.alert_after",
            [(asked.system, s.name, state, reason, timedelta(seconds=alert_after)) for s in asked.streams],
        )  # fmt: skip
    if state == "stopped":
        await change_snapshots(context, asked, state)
    await tell(context, [progress(asked.system, s.name, state, message=reason) for s in asked.streams])


async def resume(context: Context, asked: Asked) -> int:
    """Read these streams and go on with their paused snapshots; how many were halted."""
    async with context.pool.acquire() as conn, conn.transaction():
        rows = await conn.fetch(
            "delete from hub.source where system = $1 and stream = any($2) returning stream, alerted",
            asked.system, [s.name for s in asked.streams],
        )  # fmt: skip
    for row in rows:
        if row["alerted"]:
            await alerts.cleared(context, ALERT, f"{asked.system}/{row['stream']}", "it is read again")
    await tell(context, [progress(asked.system, r["stream"], "running") for r in rows])
    return len(rows) + await change_snapshots(context, asked, "running")


BEFORE = {"paused": ("running",), "running": ("paused",), "stopped": ("running", "paused")}
"""From which states a snapshot may come into a state."""


async def change_snapshots(context: Context, asked: Asked, state: str) -> int:
    """Pause, go on with, or give up the snapshots of these objects; how many it concerned."""
    rows = await context.pool.fetch(
        "update hub.snapshot set state = $3, error = null, ended_at = case when $3 = 'stopped' then now() end"
        " where system = $1 and object = any($2) and state = any($4) returning object, rows, dropped, total",
        asked.system, list(asked.objects), state, list(BEFORE[state]),
    )  # fmt: skip
    await tell(context, [progress(asked.system, r["object"], state, r["rows"], r["dropped"], r["total"]) for r in rows])
    return len(rows)


async def request(context: Context, asked: Asked, rate: float = RATE) -> list[str]:
    """Ask for a snapshot of each object; those whose snapshot is under way are left alone. Which are begun."""
    begun = []
    for stream in asked.streams:
        for object_ in (o for o in stream.objects if o in asked.objects):
            begun += await context.pool.fetch(
                "insert into hub.snapshot as s (system, stream, object, rate, total) select $1, $2, $3, $4, count(*)"
                " from hub.record where system = $1 and object = $3 and not gone"
                " on conflict (system, object) do update set stream = excluded.stream, state = 'running',"
                " checkpoint = null, rate = excluded.rate, total = excluded.total, rows = 0, dropped = 0,"
                " started_at = now(), moved_at = null, ended_at = null, error = null"
                " where s.state in ('stopped', 'done') returning object, total",
                asked.system, stream.name, object_, rate,
            )  # fmt: skip
    await tell(context, [progress(asked.system, r["object"], "running", total=r["total"]) for r in begun])
    return [r["object"] for r in begun]


def progress(
    system: str, subject: str, state: str, rows: int = 0, dropped: int = 0, total: int = 0, message: str = ""
) -> dict[str, object]:
    """The datum of schemas/progress.avsc."""
    return {
        "system": system, "subject": subject, "state": state, "rows": rows, "dropped": dropped, "total": total,
        "message": message[:2_000], "at": now(),
    }  # fmt: skip


async def tell(context: Context, data: Sequence[dict[str, object]]) -> None:
    """Append progress to the topic `hub.sources`."""
    if data:
        await context.log.append([told(context, datum) for datum in data])


def told(context: Context, datum: dict[str, object]) -> NewRecord:
    """Progress as a record of the topic."""
    key = f"{datum['system']}/{datum['subject']}".encode()
    return NewRecord(SOURCES.name, key, context.codec.encode("progress", datum))


class Orders:
    """What was asked of one stream, as a worker that reads it sees it: at most a second old."""

    def __init__(self, context: Context, system: str, stream: str) -> None:
        self._context = context
        self._key = (system, stream)
        self._looked = 0.0
        self._halted = False

    async def halted(self, conn: Connection | None = None) -> bool:
        """Whether the stream is paused or stopped; `conn` is asked, if given, even if an answer is at hand."""
        if conn is not None or time.monotonic() - self._looked > LOOK_SECONDS:
            asked = conn or self._context.pool
            self._halted = await asked.fetchval(
                "select true from hub.source where (system, stream) = ($1, $2)", *self._key
            )
            self._looked = time.monotonic()
        return bool(self._halted)

    async def overdue(self, conn: Connection) -> None:
        """Alert, once, where the stream has been halted for longer than whoever halted it said."""
        row = await conn.fetchrow(
            "update hub.source set alerted = true where (system, stream) = ($1, $2) and not alerted"
            " and since + alert_after < now() returning state, reason, since", *self._key,
        )  # fmt: skip
        if row is not None:
            since = row["since"].isoformat(timespec="seconds")
            message = (
                f"{row['state']} since {since} ({row['reason'] or 'no reason given'}); `hub source resume` goes on"
            )
            await alerts.raised(self._context, ALERT, "/".join(self._key), message)
