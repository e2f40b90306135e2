"""Share: how many connections of the state database one target may hold at once, so that none exhausts the pool."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from streams.log_postgres import Connection

CONNECTIONS = 4


class Share:
    """A bulkhead: at most `connections` at once, whoever asks."""

    def __init__(self, pool: asyncpg.Pool, connections: int = CONNECTIONS) -> None:
        self._pool = pool
        self._places = asyncio.Semaphore(connections)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place, for work that takes one connection from the pool itself."""
        async with self._places:
            yield

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection."""
        async with self._places, self._pool.acquire() as conn:
            yield conn
