"""A process of the hub's that asks for the header once: `python -m tests.oauth.worker DATABASE URL [MUTATION]`."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from connectors.kit.budget import Budget
from connectors.kit.granted import Granted
from connectors.kit.tokens import Token
from hub.errors import HubError
from streams.tokens import PostgresTokens
from tests.oauth.support import client, stored


@asynccontextmanager
async def no_lock(_: PostgresTokens, system: str) -> AsyncIterator[None]:
    """Not held by one at a time."""
    yield


async def killed(*_: Any) -> bool:
    """The process dies between the vendor's answer and the store."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


_SWAP = PostgresTokens.swap
_SWAPPED: list[str] = []


async def killed_later(self: PostgresTokens, system: str, token: Token, expected: int) -> bool:
    """The first time it is stored, then the process dies."""
    if _SWAPPED:
        return await killed()
    _SWAPPED.append(system)
    return await _SWAP(self, system, token, expected)


_REPLACED = Granted._replaced


async def spends_first(self: Granted, token: Token, refused: str) -> Token:
    """Forgets the refresh token before it is exchanged, as if it were spent by asking."""
    spent = Token(generation=token.generation)
    assert await self._store.swap("vendor", spent, token.generation)
    return await _REPLACED(self, Token(token.access, token.refresh, generation=token.generation + 1), refused)


MUTATIONS: dict[str, tuple[tuple[type, str, Any], ...]] = {
    "": (),
    "no lock": ((PostgresTokens, "alone", no_lock),),
    "killed": ((PostgresTokens, "swap", killed),),
    "killed, having spent": ((Granted, "_replaced", spends_first), (PostgresTokens, "swap", killed_later)),
}


async def main(database: str, url: str, mutation: str) -> None:
    """Print `ready`, wait for a line, print the header or the error."""
    for owner, name, twin in MUTATIONS[mutation]:
        setattr(owner, name, twin)
    async with asyncpg.create_pool(database, min_size=2) as pool:
        credentials = Granted(client(url), stored(pool), Budget())
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        try:
            sys.stdout.write(await credentials.header() + "\n")
        except HubError as error:
            sys.stdout.write(f"{type(error).__name__} {error}\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
