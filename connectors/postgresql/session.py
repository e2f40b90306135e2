"""Connections to one database, with every error translated into what to do next (see hub.errors)."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import cast

import asyncpg

from connectors.postgresql.faults import translated
from hub.errors import ConfigError, Fatal, Problem

# The output texts of values depend on these, and the log is decoded under the settings of the session that reads it.
SETTINGS = {
    "application_name": "integration-hub",
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "iso_8601",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
CONNECT_SECONDS = 10.0
COMMAND_SECONDS = 300.0


class Session:
    """A small pool of connections to one database."""

    def __init__(self, url: str, size: int = 6) -> None:
        self._url = url
        self._size = size
        self._pool: asyncpg.Pool | None = None

    async def open(self) -> None:
        """Connect. Raises AuthError, ConfigError or Retry."""
        if self._pool is None:
            with translated(), _readable(self._url):
                self._pool = await asyncpg.create_pool(
                    self._url,
                    min_size=1,
                    max_size=self._size,
                    timeout=CONNECT_SECONDS,
                    command_timeout=COMMAND_SECONDS,
                    server_settings=SETTINGS,
                    reset=_kept,
                )

    async def close(self) -> None:
        """Close every connection."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection for a while; what goes wrong in the block with the database comes out as an error of the hub."""
        if self._pool is None:
            raise Fatal("the connector is not open")
        with translated():
            async with self._pool.acquire(timeout=CONNECT_SECONDS) as conn:
                yield cast("asyncpg.Connection", conn)


async def connect(url: str) -> asyncpg.Connection:
    """One connection, the caller's to close. Raises AuthError, ConfigError or Retry."""
    with translated(), _readable(url):
        return await asyncpg.connect(
            url, timeout=CONNECT_SECONDS, command_timeout=COMMAND_SECONDS, server_settings=SETTINGS
        )


async def _kept(_: asyncpg.Connection) -> None:
    """We set nothing that outlasts a transaction, so a connection need not be reset, which would take a round trip."""


@contextmanager
def _readable(url: str) -> Iterator[None]:
    """An address that is none is the configuration's fault; what stands in it is never repeated, it holds a password."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise _not_an_address()
    try:
        yield
    except ValueError:
        raise _not_an_address() from None


def _not_an_address() -> ConfigError:
    return ConfigError([Problem("url", "not a PostgreSQL address", "postgresql://user:password@host:5432/database")])
