"""Queue: leasing rows of the write queue, releasing what waited, and the gate that keeps a new hub from writing blind."""

from collections.abc import Sequence
from enum import StrEnum

from streams.log_postgres import Connection
from streams.preparing import Due

LEASE_SECONDS = 10.0

# Rows that wait, as far as nobody is at work on them: to wait for their locks in any order would be a deadlock.
HELD = (
    "(select target, golden_id from hub.write where target = $1 and state = 'held' for update skip locked) h"
    " where w.target = h.target and w.golden_id = h.golden_id and"
)


async def renew(conn: Connection, token: str) -> None:
    """Say that the deliverer with this token lives; to be repeated well within LEASE_SECONDS."""
    await conn.execute(
        "insert into hub.lease values ($1, now() + make_interval(secs => $2))"
        " on conflict (token) do update set alive_until = excluded.alive_until",
        token, LEASE_SECONDS,
    )  # fmt: skip


class Lane(StrEnum):
    """Which rows a deliverer takes: those that failed before go a way of their own, so that what hangs or is slow again
    and again is in nobody else's way."""

    any = "true"
    fresh = "failed_at is null"
    again = "failed_at is not null"


async def lease(conn: Connection, target: str, token: str, limit: int, lane: Lane = Lane.any) -> list[Due]:
    """Take due rows; rows that another living deliverer holds are passed over."""
    rows = await conn.fetch(
        "with due as (select target, golden_id from hub.write w where target = $1 and state = 'due' and due_at <= now()"  # noqa: S608
        f" and {lane.value}"
        " and (lease is null or not exists (select from hub.lease l where l.token = w.lease and alive_until > now()))"
        " order by due_at limit $2 for update skip locked)"
        " update hub.write w set lease = $3"
        " from due where w.target = due.target and w.golden_id = due.golden_id"
        " returning w.target, w.golden_id, w.entity, w.version, w.attempts, w.trace, w.failed_at",
        target, limit, token,
    )  # fmt: skip
    return [Due(*row.values()) for row in rows]


async def release(conn: Connection, token: str) -> None:
    """Give back every row that is still leased under this token."""
    await conn.execute("update hub.write set lease = null where lease = $1", token)


async def release_waiting(conn: Connection, target: str) -> None:
    """Rows whose dependency exists in the target by now are due (their own receipt may have crossed its)."""
    await conn.execute(
        f"update hub.write w set state = 'due', due_at = now(), waits_for = null, held_since = null, attempts = 0 from {HELD}"  # noqa: S608
        " exists (select from hub.record r where r.system = $1 and r.golden_id = w.waits_for and not r.gone)",
        target,
    )
    await conn.execute(
        f"update hub.write w set state = 'due', due_at = now(), waits_for = null, held_since = null from {HELD}"  # noqa: S608
        " w.waits_for like '%/%' and exists (select from hub.record r where r.golden_id <> ''"
        " and r.system || '/' || r.object || '/' || r.external_id = w.waits_for)",
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
