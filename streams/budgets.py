"""Budgets: accounts' states in the state database, so that all processes of a hub draw from one budget per account.

A turn is one short transaction on the account's row, which is locked meanwhile; its clock is the database's. The
connections are the keeper's own: who waits for a permit may be holding one of the pool's.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import msgspec

from connectors.kit.allowance import Ask, Grant, Limit, State
from connectors.kit.budget import Budgets
from connectors.kit.quota import KEPT
from connectors.kit.turns import turn
from streams import alerts
from streams.context import Context
from streams.log_postgres import Connection

CONNECTIONS = 2
NEARLY = KEPT[-1]
"""A day's calls are nearly used where no more than this share is left: from then on the least urgent ones stop."""


class Shared:
    """Keeps states in `hub.budget`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def turn(self, account: str, limit: Limit, ask: Ask) -> Grant:
        """Take a turn; waits for those of others. Raises what asyncpg raises."""
        async with self._pool.acquire() as conn, conn.transaction():
            state, now = await _locked(conn, account)
            grant = turn(state, limit, ask, now)
            await conn.execute(
                "update hub.budget set state = $2, at = now() where account = $1",
                account,
                msgspec.json.encode(state).decode(),
            )
        return grant


async def _locked(conn: Connection, account: str) -> tuple[State, float]:
    """The account's state, locked, and the database's time in seconds since 1970."""
    query = "select state, extract(epoch from clock_timestamp())::float8 as now from hub.budget where account = $1 for update"
    row = await conn.fetchrow(query, account)
    if row is None:
        await conn.execute("insert into hub.budget (account) values ($1) on conflict do nothing", account)
        row = await conn.fetchrow(query, account)
    assert row is not None
    return msgspec.json.decode(row["state"], type=State), row["now"]


@asynccontextmanager
async def shared(state_url: str) -> AsyncIterator[Budgets]:
    """Budgets on a state database; given back at the end."""
    async with asyncpg.create_pool(state_url, min_size=0, max_size=CONNECTIONS, command_timeout=30) as pool:
        budgets = Budgets(Shared(pool))
        try:
            yield budgets
        finally:
            await budgets.aclose()


@dataclass(frozen=True, slots=True)
class Use:
    """How an account's limits are used now: calls that count in its window, callers that wait, whether the vendor asked
    for a pause, and the share of the day's calls that is left (1 where none are counted)."""

    calls: int
    waiting: int
    paused: bool
    day_left: float


async def uses(context: Context) -> dict[str, Use]:
    """The use of every account."""
    rows = await context.pool.fetch(
        "select account, state, extract(epoch from clock_timestamp())::float8 as now from hub.budget"
    )
    return {row["account"]: _use(msgspec.json.decode(row["state"], type=State), row["now"]) for row in rows}


def _use(state: State, now: float) -> Use:
    living = [holder for holder in state.holders.values() if holder.alive_until > now]
    counted = sum(places for free_at, places in state.used.items() if free_at > now * 1000)
    day = (state.daily_left or 0) / state.daily_most if state.daily_most else 1.0
    waiting = sum(sum(holder.wants) for holder in living)
    return Use(counted + sum(holder.held for holder in living), waiting, state.paused_until > now, day)


async def watch(context: Context) -> None:
    """Raise an alert where a day's calls are nearly used, and clear it when there are enough again; once each, whichever
    worker sees it first."""
    rows = await context.pool.fetch(
        "update hub.budget set nearly_used = not nearly_used where nearly_used <>"
        " ((state ->> 'daily_left')::numeric <= (state ->> 'daily_most')::numeric * $1)"
        " returning account, nearly_used, state ->> 'daily_left' as left, state ->> 'daily_most' as most",
        NEARLY,
    )
    for row in rows:
        said = f"{row['left']} of {row['most']} calls are left today"
        if row["nearly_used"]:
            mend = "first readings stop now, then polls, then writes; look for who uses them, or buy more of the vendor"
            await alerts.raised(context, "quota_nearly_used", row["account"], f"{said}: {mend}")
        else:
            await alerts.cleared(context, "quota_nearly_used", row["account"], said)
