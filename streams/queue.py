"""Queue: leasing rows of the write queue, releasing what waited, and the gate that keeps a new hub from writing blind."""

from collections.abc import Sequence

from streams.log_postgres import Connection
from streams.preparing import Due

LEASE_SECONDS = 120


async def lease(conn: Connection, target: str, token: str, limit: int) -> list[Due]:
    """Take due rows for a while; rows that somebody else holds are passed over."""
    rows = await conn.fetch(
        "with due as (select target, golden_id from hub.write where target = $1 and state = 'due' and due_at <= now()"
        " and (leased_until is null or leased_until < now()) order by due_at limit $2 for update skip locked)"
        " update hub.write w set leased_until = now() + make_interval(secs => $4), lease = $3, attempts = attempts + 1"
        " from due where w.target = due.target and w.golden_id = due.golden_id"
        " returning w.target, w.golden_id, w.entity, w.version, w.attempts, w.trace",
        target, limit, token, LEASE_SECONDS,
    )  # fmt: skip
    return [Due(*row.values()) for row in rows]


async def release_waiting(conn: Connection, target: str) -> None:
    """Rows whose dependency exists in the target by now are due (their own receipt may have crossed its)."""
    await conn.execute(
        "update hub.write w set state = 'due', due_at = now(), waits_for = null, attempts = 0"
        " where w.target = $1 and w.state = 'held' and exists (select from hub.record r where r.system = $1"
        " and r.golden_id = w.waits_for and not r.gone)",
        target,
    )
    await conn.execute(
        "update hub.write w set state = 'due', due_at = now(), waits_for = null where w.target = $1 and w.state = 'held'"
        " and w.waits_for like '%/%' and exists (select from hub.record r"
        " where r.system || '/' || r.object || '/' || r.external_id = w.waits_for)",
        target,
    )


async def primed(conn: Connection, systems: Sequence[str]) -> bool:
    """Whether every system has been read completely once and all of it was folded: before that nothing is written,
    or the hub would overwrite what it has not seen."""
    known = await conn.fetchval(
        "select count(*) from hub.counter where name = 'primed' and label = any($1)", list(systems)
    )
    return bool(known == len(systems))


async def mark_primed(conn: Connection, system: str) -> None:
    """The first complete read of a system has been folded."""
    await conn.execute(
        "insert into hub.counter (name, label, value) values ('primed', $1, 1) on conflict do nothing", system
    )
