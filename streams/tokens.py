"""Tokens in the state database: sealed, one row per system, replaced by comparing generations."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import msgspec

from connectors.kit.tokens import Token
from hub.errors import Retry, Unauthorized
from streams.faults import INFRASTRUCTURE
from streams.sealing import Seal, UnsealedError

LOCK_SECONDS = 60.0


class _Sealed(msgspec.Struct):
    """What is sealed: the token, with the row it belongs to, so that no row can be moved to another place."""

    system: str
    generation: int
    token: Token


class PostgresTokens:
    """The store of connectors.kit.tokens. The lock belongs to a connection, and so ends with its process."""

    def __init__(self, pool: asyncpg.Pool, seal: Seal) -> None:
        self._pool, self._seal = pool, seal

    async def read(self, system: str) -> Token | None:
        """The newest token; Unauthorized where the key does not open it. What an older key sealed is sealed anew."""
        row = await self._pool.fetchrow("select generation, sealed from hub.token where system = $1", system)
        if row is None:
            return None
        token = self._opened(system, row["generation"], row["sealed"])
        if self._seal.aged(row["sealed"]):
            await self._pool.execute(
                "update hub.token set sealed = $1 where system = $2 and generation = $3",
                self._closed(system, token), system, token.generation,
            )  # fmt: skip
        return token

    async def generation(self, system: str) -> int:
        """How many tokens of a system were stored."""
        return await self._pool.fetchval("select generation from hub.token where system = $1", system) or 0

    async def swap(self, system: str, token: Token, expected: int) -> bool:
        """Store a token as generation `expected` + 1, where that is the next one."""
        fresh = replace(token, generation=expected + 1)
        sql = _INSERT if expected == 0 else _UPDATE
        over = datetime.fromtimestamp(token.expires_at, UTC) if token.expires_at is not None else None
        return bool(await self._pool.fetchval(sql, system, fresh.generation, self._closed(system, fresh), over))

    @asynccontextmanager
    async def alone(self, system: str) -> AsyncIterator[None]:
        """Held by one at a time, over all processes on this database. Raises Retry where that takes too long."""
        try:
            conn = await self._pool.acquire(timeout=LOCK_SECONDS)
        except TimeoutError:
            raise Retry(f"no database connection was free to replace {system}'s token") from None
        try:
            await _lock(conn, system)
            yield
        finally:
            with suppress(*INFRASTRUCTURE):  # the lock is gone with the connection, and swap does not rely on it
                await conn.execute("select pg_advisory_unlock_all()")
            with suppress(*INFRASTRUCTURE):
                await self._pool.release(conn)

    def _closed(self, system: str, token: Token) -> bytes:
        return self._seal.close(msgspec.json.encode(_Sealed(system, token.generation, token)))

    def _opened(self, system: str, generation: int, sealed: bytes) -> Token:
        try:
            found = msgspec.json.decode(self._seal.open(sealed), type=_Sealed)
        except (UnsealedError, msgspec.MsgspecError):
            raise Unauthorized(system, f"the stored token of {system} cannot be opened with this token_key") from None
        if (found.system, found.generation) != (system, generation):
            raise Unauthorized(system, f"the stored token of {system} was put there from elsewhere")
        return found.token


async def _lock(conn: asyncpg.pool.PoolConnectionProxy, system: str) -> None:
    try:
        await conn.execute("select pg_advisory_lock(hashtextextended($1, 11))", system, timeout=LOCK_SECONDS)
    except TimeoutError:
        raise Retry(f"another process did not finish replacing {system}'s token") from None


_INSERT = (
    "insert into hub.token (system, generation, sealed, expires_at) values ($1, $2, $3, $4)"
    " on conflict (system) do nothing returning true"
)
_UPDATE = (
    "update hub.token set generation = $2, sealed = $3, expires_at = $4, at = now()"
    " where system = $1 and generation = $2 - 1 returning true"
)
