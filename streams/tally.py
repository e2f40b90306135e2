"""Tally: how much came of what in each period, kept so that a source can be held against its own habit."""

import time
from dataclasses import dataclass

from streams.context import Context
from streams.log_postgres import Connection

YIELD = "yield"
NEAR_MISS = "near miss"
KEPT_PERIODS = 400


@dataclass(frozen=True, slots=True)
class History:
    """What is known of one name: the counts of the periods that are over and in which it was looked at, oldest first; of
    the running one; and the newest clock that it ever told (microseconds), None where it told none."""

    counts: tuple[int, ...] = ()
    running: int = 0
    newest: int | None = None
    yielded_at: float = 0.0


async def add(context: Context, conn: Connection, kind: str, name: str, n: int, newest: int | None = None) -> None:
    """Count within the caller's transaction; 0 says that was looked and nothing was there."""
    await conn.execute(
        "insert into hub.tally as t (kind, name, start, n, newest) values ($1, $2, $3, $4, $5)"
        " on conflict (kind, name, start) do update set n = t.n + excluded.n,"
        " newest = greatest(t.newest, excluded.newest)",
        kind, name, _start(context), n, newest,
    )  # fmt: skip


def _start(context: Context) -> float:
    """When the running period began, in seconds since 1970."""
    seconds = context.watch.period_seconds
    return time.time() // seconds * seconds


async def histories(context: Context, kind: str) -> dict[str, History]:
    """By name, what was counted of this kind."""
    rows = await context.pool.fetch("select name, start, n, newest from hub.tally where kind = $1 order by start", kind)
    now, found = _start(context), dict[str, list[tuple[float, int, int | None]]]()
    for row in rows:
        found.setdefault(row["name"], []).append((row["start"], row["n"], row["newest"]))
    return {name: _history(periods, now) for name, periods in found.items()}


def _history(periods: list[tuple[float, int, int | None]], now: float) -> History:
    return History(
        tuple(n for start, n, _ in periods if start < now),
        sum(n for start, n, _ in periods if start >= now),
        max((newest for *_, newest in periods if newest is not None), default=None),
        max((start for start, n, _ in periods if n), default=0.0),
    )


async def forget(context: Context) -> None:
    """Let go of periods that no habit is judged by any more."""
    oldest = time.time() - KEPT_PERIODS * context.watch.period_seconds
    await context.pool.execute("delete from hub.tally where start < $1", oldest)
