"""What the hub is to a vendor's authorization server: the registration of an OAuth 2 client, as data."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Grant = Literal["authorization_code", "client_credentials", "jwt_bearer"]

Identify = Callable[[str], Awaitable[str]]
"""access token -> where this account's API is."""


@dataclass(frozen=True, slots=True)
class Client:
    """One system's registration with a vendor's authorization server.

    redirect_uri    where the browser is sent back to: a loopback address, as registered with the vendor; port 0: any
    refresh_token   of an installation made elsewhere; what the store has goes before it
    basic           the client's id and secret go by HTTP Basic, not in the form
    extra           parameters of the vendor's own, for the authorization URL
    place_field     field of the answer that tells where this account's API is (Salesforce: instance_url)
    identify        asks the vendor for that, where no answer tells
    key_id, issuer, subject, audience   of a JWT bearer's assertion
    """

    system: str
    grant: Grant
    token_url: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    authorize_url: str = ""
    redirect_uri: str = "http://127.0.0.1:8765/callback"
    scopes: str = ""
    refresh_token: str = field(default="", repr=False)
    basic: bool = False
    extra: Mapping[str, str] = field(default_factory=dict)
    place_field: str = ""
    identify: Identify | None = None
    private_key: str = field(default="", repr=False)
    key_id: str = ""
    issuer: str = ""
    subject: str = ""
    audience: str = ""

    @property
    def seed(self) -> str:
        """A digest of the configured refresh token."""
        return hashlib.sha256(self.refresh_token.encode()).hexdigest()[:16] if self.refresh_token else ""

    def secrets(self) -> tuple[str, ...]:
        """Texts that must never appear in a message."""
        return tuple(text for text in (self.client_secret, self.refresh_token, self.private_key) if text)
