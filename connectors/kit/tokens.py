"""Tokens that a vendor's authorization server gave, and where they are kept between processes.

A store keeps one token per system. Each replacement is a new generation, taken only from the one before it, so that an
older answer never takes the place of a newer one. No repr shows a secret.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Token:
    """What one answer of a token endpoint gave.

    access       the access token; "" where there is only something to get one with
    refresh      the refresh token; "" where there is none
    renew_at     when to replace it, a while before it expires; seconds since 1970 UTC, None where it does not expire
    expires_at   when the vendor takes it no longer, likewise
    place        where this account's API is, where the vendor told; "" otherwise
    seed         digest of the configured refresh token that it descends from; a new one in the configuration starts anew
    generation   0 for what was never stored, else the store's count
    """

    access: str = field(default="", repr=False)
    refresh: str = field(default="", repr=False)
    renew_at: float | None = None
    expires_at: float | None = None
    scope: str = ""
    place: str = ""
    seed: str = ""
    generation: int = 0


class TokenStore(Protocol):
    """Where tokens are kept. All processes of a hub share one."""

    async def read(self, system: str) -> Token | None:
        """The newest token of a system; None where there is none. Raises Unauthorized where it cannot be opened."""

    async def generation(self, system: str) -> int:
        """How many tokens of a system were stored, also where the newest cannot be opened."""

    async def swap(self, system: str, token: Token, expected: int) -> bool:
        """Store a token as generation `expected` + 1, durable on return. False, and nothing stored, where the present
        generation is not `expected` (0: none)."""

    def alone(self, system: str) -> AbstractAsyncContextManager[None]:
        """Held by one at a time, over all processes. A holder that dies lets go."""


class MemoryTokens:
    """A store of this process alone."""

    def __init__(self) -> None:
        self._tokens: dict[str, Token] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def read(self, system: str) -> Token | None:
        """The newest token of a system."""
        return self._tokens.get(system)

    async def generation(self, system: str) -> int:
        """How many tokens of a system were stored."""
        return self._tokens.get(system, Token()).generation

    async def swap(self, system: str, token: Token, expected: int) -> bool:
        """Store a token where the present generation is `expected`."""
        if await self.generation(system) != expected:
            return False
        self._tokens[system] = replace(token, generation=expected + 1)
        return True

    @asynccontextmanager
    async def alone(self, system: str) -> AsyncIterator[None]:
        """Held by one task at a time."""
        async with self._locks[system]:
            yield
