"""Credentials of a vendor's API: what goes into the Authorization header, and what to do when it is refused.

Secrets are held here and nowhere else: `secrets` lets messages be cleaned of them, and no repr shows them.
"""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from hub.errors import AuthError

EARLY_SECONDS = 60.0


class Credentials(Protocol):
    """What a call needs to be let in."""

    async def header(self) -> str:
        """The value of the Authorization header."""

    async def renew(self, refused: str) -> bool:
        """After a 401 for the header `refused`: whether there is now another one to try."""

    def secrets(self) -> tuple[str, ...]:
        """Texts that must never appear in a message."""


class Fixed:
    """Credentials that nothing can renew: an API key or a private app's token."""

    def __init__(self, header: str, *secrets: str) -> None:
        self._header = header
        self._secrets = secrets

    async def header(self) -> str:
        """The value of the Authorization header."""
        return self._header

    async def renew(self, refused: str) -> bool:
        """Never: only a person can replace them."""
        return False

    def secrets(self) -> tuple[str, ...]:
        """Texts that must never appear in a message."""
        return self._secrets


def bearer(token: str) -> Fixed:
    """A bearer token that does not expire."""
    return Fixed(f"Bearer {token}", token)


def basic(user: str, password: str) -> Fixed:
    """HTTP basic authentication."""
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return Fixed(f"Basic {pair}", pair, password)


class Refreshed:
    """OAuth 2 access tokens, renewed before they expire and once after a refusal, by one call however many wait.

    `fetch` exchanges the refresh token and answers the token endpoint's JSON (access_token, expires_in in seconds,
    and refresh_token where the vendor rotates it, which `fetch` then keeps). It raises AuthError when refused.
    """

    def __init__(self, fetch: Callable[[], Awaitable[dict[str, Any]]], *secrets: str) -> None:
        self._fetch = fetch
        self._secrets = secrets
        self._token = ""
        self._expires = 0.0
        self._lock = asyncio.Lock()

    async def header(self) -> str:
        """The value of the Authorization header, with a token that is valid for a while."""
        async with self._lock:
            if not self._token or time.monotonic() > self._expires - EARLY_SECONDS:
                await self._refresh()
            return f"Bearer {self._token}"

    async def renew(self, refused: str) -> bool:
        """Fetch a new token, unless somebody already did since `refused` was sent."""
        async with self._lock:
            if refused == f"Bearer {self._token}":
                await self._refresh()
            return True

    def secrets(self) -> tuple[str, ...]:
        """Texts that must never appear in a message."""
        return (*self._secrets, *([self._token] if self._token else []))

    async def _refresh(self) -> None:
        answer = await self._fetch()
        if not isinstance(token := answer.get("access_token"), str) or not token:
            raise AuthError("the token endpoint answered without an access token")
        self._token = token
        self._expires = time.monotonic() + float(answer.get("expires_in") or 1800)
