"""Mailchimp's OAuth 2: tokens that do not expire, and the metadata that tell the account's data centre."""

from collections.abc import Mapping
from typing import Any

from connectors.kit.auth import Fixed
from connectors.kit.budget import Budget
from connectors.kit.client import Client, Identify
from connectors.kit.http import Http
from connectors.kit.oauth import client
from hub.errors import Unauthorized

LOGIN = "https://login.mailchimp.com"
REDIRECT = "http://127.0.0.1:8765/callback"
UNKNOWN = "https://data-centre.invalid/3.0"
"""Stands where the authorization tells the API's address; nothing is ever sent there."""


def authorization(system: str, settings: Mapping[str, Any]) -> Client | None:
    """The app as an OAuth client; None where a key is configured."""
    if settings.get("api_key"):
        return None
    url = str(settings["login_url"]).rstrip("/")
    told = settings.get("base_url") or settings.get("server")
    usual = Client(
        system,
        "authorization_code",
        f"{url}/oauth2/token",
        "",
        authorize_url=f"{url}/oauth2/authorize",
        identify=None if told else _identify(system, url),
    )
    return client(settings, usual, needs=("client_secret",))


def _identify(system: str, url: str) -> Identify:
    async def identify(access: str) -> str:
        """The API's address of the account that a token belongs to."""
        http = Http(system, url, Fixed(f"OAuth {access}", access), Budget())
        try:
            told = (await http.read("GET", "/oauth2/metadata")).json()
        finally:
            await http.aclose()
        if not isinstance(told, dict) or not told.get("api_endpoint"):  # a wrong token gets status 200 as well
            raise Unauthorized(system, f"{system} does not know its own token")
        return f"{str(told['api_endpoint']).rstrip('/')}/3.0"

    return identify
