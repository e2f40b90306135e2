"""The circuit to each target, kept in the state database, so that it is one for all processes.

closed      calls go through. Several in a row without a usable answer open it
open        nothing is tried until `probe_at`, so that nothing fails and nothing is used up
half open   one write at a time is tried, by whoever takes the probe first. An answer closes the circuit; otherwise it
            stays open, each time for longer
"""

from datetime import datetime
from enum import StrEnum

from streams import alerts
from streams.backoff import jittered
from streams.context import Context
from streams.log_postgres import Connection

FIRST_SECONDS = 1.0
MOST_SECONDS = 60.0
FRESH_SECONDS = 0.2
ALERT = "target_down"


class Circuit(StrEnum):
    """What a deliverer may do now."""

    closed = "closed"
    open = "open"
    half_open = "half-open"


async def admit(conn: Connection, target: str, probe_seconds: float) -> Circuit:
    """Whether the target may be called. `half_open`: with one write, by this caller alone, for up to `probe_seconds`."""
    row = await conn.fetchrow(
        "select opened_at is not null as open, probe_at <= clock_timestamp() as due from hub.breaker where target = $1",
        target,
    )
    if row is None or not row["open"]:
        return Circuit.closed
    return Circuit.half_open if row["due"] and await _take_probe(conn, target, probe_seconds) else Circuit.open


async def _take_probe(conn: Connection, target: str, seconds: float) -> bool:
    """Should who takes it die, another may after `seconds`."""
    return bool(
        await conn.fetchval(
            "update hub.breaker set probe_at = clock_timestamp() + make_interval(secs => $2)"
            " where target = $1 and opened_at is not null and probe_at <= clock_timestamp() returning true",
            target, seconds,
        )
    )  # fmt: skip


async def give_back(conn: Connection, target: str) -> None:
    """The probe found nothing to try."""
    await conn.execute(
        "update hub.breaker set probe_at = clock_timestamp() where target = $1 and opened_at is not null", target
    )


async def failed(
    context: Context, conn: Connection, target: str, reason: str, after: float | None = None, most: float = MOST_SECONDS
) -> bool:
    """A call got no usable answer; whether the circuit is open now. `after`: when the vendor said to come again, in seconds."""
    limit = context.patience.breaker_calls
    await conn.execute("insert into hub.breaker (target) values ($1) on conflict do nothing", target)
    async with conn.transaction():
        failures = await conn.fetchval(
            "update hub.breaker set failures = failures + 1, reason = left($2, 500) where target = $1 returning failures",
            target, reason,
        )  # fmt: skip
        if failures < limit:
            return False
        seconds = max(jittered(failures - limit, FIRST_SECONDS, most), after or 0.0)
        await conn.execute(
            "update hub.breaker set opened_at = coalesce(opened_at, clock_timestamp()),"
            " probe_at = clock_timestamp() + make_interval(secs => $2) where target = $1", target, seconds,
        )  # fmt: skip
    if failures == limit:
        what = f"{failures} calls in a row got no usable answer; the last: {reason}"
        await alerts.raised(context, ALERT, target, f"{what}. Writes wait, and go on by themselves when it answers")
    return True


async def answered(context: Context, conn: Connection, target: str) -> None:
    """A call was answered: the target is well. Written down a few times a second at most, for each costs a commit."""
    if await conn.fetchval(
        "select true from hub.breaker where target = $1 and failures = 0 and opened_at is null"
        " and good_at > clock_timestamp() - make_interval(secs => $2)", target, FRESH_SECONDS,
    ):  # fmt: skip
        return
    was_open = await conn.fetchval(
        "insert into hub.breaker as b (target, good_at) values ($1, clock_timestamp()) on conflict (target) do update set"
        " failures = 0, opened_at = null, probe_at = null, good_at = clock_timestamp()"
        " returning (select opened_at is not null from hub.breaker where target = $1)",
        target,
    )
    if was_open:
        await alerts.cleared(context, ALERT, target, "the target answers again")


async def good_at(conn: Connection, target: str) -> datetime | None:
    """When a call was last answered, if ever."""
    at: datetime | None = await conn.fetchval("select good_at from hub.breaker where target = $1", target)
    return at
