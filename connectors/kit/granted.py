"""Credentials by OAuth 2: an access token from the store that all processes share, replaced in time and by one of them.

Replacing is single-flight twice over: the tasks of a process wait for one attempt and share its end, good or bad; the
processes take turns by the store's lock and look first whether another was faster. The answer is stored by comparing
generations, so a process that lost its turn without noticing cannot put its token in place of a newer one.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from connectors.kit.budget import Budget
from connectors.kit.client import Client
from connectors.kit.endpoint import TokenEndpoint
from connectors.kit.oauth import form_of_grant
from connectors.kit.tokens import Token, TokenStore
from hub.errors import Retry, Unauthorized

AGAIN_SECONDS = 5.0


class Granted:
    """The credentials of one system."""

    def __init__(
        self, client: Client, store: TokenStore, budget: Budget, clock: Callable[[], float] = time.time
    ) -> None:
        self._client, self._store, self._clock = client, store, clock
        self._endpoint = TokenEndpoint(client, budget, clock)
        self._token = Token()
        self._flight: asyncio.Task[Token] | None = None
        self._dead: Unauthorized | None = None
        self._dead_generation = -1

    async def header(self) -> str:
        """The value of the Authorization header, with a token that is good for a while. Raises Unauthorized where only
        a person can give one."""
        if not self._good(self._token, ""):
            await self._flown("")
        if self._client.identify and not self._token.place:
            raise Unauthorized(
                self._client.system, f"it is not known where the API of {self._client.system}'s account is"
            )
        return _header(self._token)

    async def renew(self, refused: str) -> bool:
        """Replace the token of the header `refused`, unless that was done since; once, however many ask."""
        while _same(_header(self._token), refused):
            await self._flown(refused)
        return True

    def secrets(self) -> tuple[str, ...]:
        """Texts that must never appear in a message."""
        held = self._token
        return (*self._client.secrets(), *(text for text in (held.access, held.refresh) if text))

    @property
    def place(self) -> str:
        """Where this account's API is, if the authorization told and the configuration does not."""
        return self._token.place if self._client.identify or self._client.place_field else ""

    async def aclose(self) -> None:
        """Wait for an attempt under way: its answer must be stored."""
        if self._flight is not None:
            await asyncio.wait([self._flight])

    async def _flown(self, refused: str) -> None:
        """The end of the attempt under way, or of a new one. A caller that is cancelled does not cancel it."""
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._newest(refused))
        await asyncio.shield(self._flight)

    async def _newest(self, refused: str) -> Token:
        token = await self._read()
        if not self._good(token, refused):
            async with self._store.alone(self._client.system):
                token = await self._read()
                if not self._good(token, refused):
                    token = await _known(token, self._replaced(token, refused))
        self._token = token
        return token

    async def _read(self) -> Token:
        """What is stored; where the configuration has another refresh token than that descends from, this one."""
        stored = await self._store.read(self._client.system) or Token()
        if self._client.seed in ("", stored.seed):
            return stored
        return Token(refresh=self._client.refresh_token, seed=self._client.seed, generation=stored.generation)

    def _good(self, token: Token, refused: str) -> bool:
        fresh = token.renew_at is None or self._clock() < token.renew_at
        return bool(token.access) and fresh and not _same(_header(token), refused)

    async def _replaced(self, token: Token, refused: str) -> Token:
        try:
            fresh = await self._asked(token)
        except Retry:
            if refused or token.expires_at is None or self._clock() >= token.expires_at:
                raise
            return replace(token, renew_at=min(token.expires_at, self._clock() + AGAIN_SECONDS))  # good for that long
        if fresh.generation == token.generation and await self._store.swap(
            self._client.system, fresh, token.generation
        ):
            return replace(fresh, generation=token.generation + 1)
        return await self._read()

    async def _asked(self, token: Token) -> Token:
        """The next token from the vendor, still of this token's generation; or what another process stored meanwhile.

        A refresh token that was refused is not tried again: only a newer generation can help.
        """
        if self._dead is not None and self._dead_generation == token.generation:
            raise Unauthorized(self._client.system, _why(self._dead))
        try:
            return replace(await self._endpoint.token(_form(self._client, token), token), generation=token.generation)
        except Unauthorized as error:
            again = await self._read()
            if again.generation != token.generation:
                return again
            self._dead, self._dead_generation = error, token.generation
            raise


async def _known(token: Token, replacing: Awaitable[Token]) -> Token:
    """The next token; a refusal says of which generation it is, so that it cannot count against a later one."""
    try:
        return await replacing
    except Unauthorized as error:
        error.generation = token.generation
        raise


def _form(client: Client, token: Token) -> dict[str, str]:
    form = form_of_grant(client, token.refresh)
    if form is None:
        known = "its access token was refused or is over" if token.access else "it has not been authorized yet"
        raise Unauthorized(client.system, f"{client.system}: {known}")
    return form


def _header(token: Token) -> str:
    return f"Bearer {token.access}" if token.access else ""


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _why(error: Unauthorized) -> str:
    return str(error).partition(": run `hub auth")[0]
