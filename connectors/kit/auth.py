"""Credentials of a vendor's API: what goes into the Authorization header, and what to do when it is refused.

`secrets` lets messages be cleaned of them, and no repr shows them. Those of OAuth 2 are in connectors.kit.granted.
"""

import base64
from typing import Protocol


class Credentials(Protocol):
    """What a call needs to be let in."""

    async def header(self) -> str:
        """The value of the Authorization header."""

    async def renew(self, refused: str) -> bool:
        """After a 401 for the header `refused`: whether there is now another one to try."""

    def secrets(self) -> tuple[str, ...]:
        """Texts that must never appear in a message."""

    @property
    def place(self) -> str:
        """Where this account's API is, if the authorization told ("" if not); known once `header` was asked."""

    async def aclose(self) -> None:
        """Wait for what is under way; a rotated token that is not stored would be lost."""


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

    @property
    def place(self) -> str:
        """Not known: the configuration says it."""
        return ""

    async def aclose(self) -> None:
        """Nothing is ever under way."""


def bearer(token: str) -> Fixed:
    """A bearer token that does not expire."""
    return Fixed(f"Bearer {token}", token)


def basic(user: str, password: str) -> Fixed:
    """HTTP basic authentication."""
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return Fixed(f"Basic {pair}", pair, password)
