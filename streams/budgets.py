"""Budgets: accounts' states in the state database, so that all processes of a hub draw from one budget per account.

A turn is one short transaction on the account's row, which is locked meanwhile; its clock is the database's. The
connections are the keeper's own: who waits for a permit may be holding one of the pool's.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
