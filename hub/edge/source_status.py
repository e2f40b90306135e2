"""How each source fares: state, age of its checkpoint, rate, lag, snapshots with what is left of them, last error."""

import asyncio
from datetime import datetime
from typing import Any

import asyncpg

from streams.capture import behind
from streams.context import Context
from streams.project import STAGE
from streams.sources import Asked
from streams.topics import changes_topic
from streams.watch import slot_state

Json = dict[str, Any]


async def of(context: Context, asked: Asked, over: float = 1.0) -> list[Json]:
    """One document per stream. Its rate is counted over so many seconds; `lag` are changes that wait to be folded,
    `lag_bytes` is what a database keeps for the hub (None: it keeps nothing, or does not answer)."""
    before = await _changes(context, asked.system)
    await asyncio.sleep(over)
    rows = await _rows(context, asked.system)
    halted = {
        r["stream"]: r for r in await context.pool.fetch("select * from hub.source where system = $1", asked.system)
    }
    snapshots = await progress_of(context, asked)
    kept = await slot_state(context, asked.system)
    found = []
    for stream in asked.streams:
        row, halt = rows.get(stream.name, {}), halted.get(stream.name)
        changes = int(row.get("changes") or 0)
        found.append({
            "system": asked.system,
            "stream": stream.name,
            "state": halt["state"] if halt else ("running" if row.get("complete") else "first read"),
            "since": halt["since"] if halt else None,
            "reason": halt["reason"] if halt else "",
            "checkpoint_age_seconds": row.get("age"),
            "changes": changes,
            "changes_per_second": round((changes - before.get(stream.name, 0)) / over, 1) if over else None,
            "lag": await behind(context, STAGE, [changes_topic(asked.system, o).name for o in stream.objects]),
            "lag_bytes": int(kept.behind) if kept else None,
            "error": row.get("error"),
            "snapshots": [s for s in snapshots if s["stream"] == stream.name],
        })  # fmt: skip
    return found


async def _changes(context: Context, system: str) -> dict[str, int]:
    rows = await context.pool.fetch("select stream, changes from hub.checkpoint where system = $1", system)
    return {r["stream"]: r["changes"] for r in rows}


async def _rows(context: Context, system: str) -> dict[str, Json]:
    rows = await context.pool.fetch(
        "select stream, changes, complete, error, extract(epoch from now() - polled_at)::float8 as age"
        " from hub.checkpoint where system = $1", system,
    )  # fmt: skip
    return {r["stream"]: dict(r) for r in rows}


async def progress_of(context: Context, asked: Asked) -> list[Json]:
    """The newest snapshot of each object: rows, rate since it began, and seconds left (None: it cannot be said)."""
    rows = await context.pool.fetch(
        "select *, extract(epoch from coalesce(ended_at, now()) - started_at)::float8 as seconds from hub.snapshot"
        " where system = $1 and object = any($2) order by started_at, object", asked.system, list(asked.objects),
    )  # fmt: skip
    return [_progress(row) for row in rows]


def _progress(row: asyncpg.Record) -> Json:
    speed = row["rows"] / row["seconds"] if row["seconds"] > 0 else 0.0
    left = max(0, row["total"] - row["rows"])
    names = ("system", "stream", "object", "state", "rows", "dropped", "total", "started_at", "moved_at", "ended_at")
    return {
        **{name: row[name] for name in names},
        "rows_per_second": round(speed, 1),
        "eta_seconds": round(left / speed, 1) if speed and row["state"] == "running" else None,
        "error": row["error"],
    }


async def halted(context: Context) -> list[Json]:
    """Every source that a person halted."""
    rows = await context.pool.fetch("select system, stream, state, reason, since from hub.source order by 1, 2")
    return [{**row, "since": _iso(row["since"])} for row in rows]


def _iso(when: datetime) -> str:
    return when.isoformat(timespec="seconds")
