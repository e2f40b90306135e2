"""HubSpot and Mailchimp, authorized by a person, through their sandboxes at the paths that they document."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from connectors.hubspot.connector import MANIFEST as HUBSPOT
from connectors.hubspot.connector import HubSpot
from connectors.hubspot.connector import authorization as of_hubspot
from connectors.hubspot.sandbox import create_app as hubspot_app
from connectors.kit import endpoint
from connectors.kit.authorize import authorize
from connectors.kit.sandbox import serve
from connectors.kit.tokens import MemoryTokens
from connectors.mailchimp.connector import MANIFEST as MAILCHIMP
from connectors.mailchimp.connector import Mailchimp
from connectors.mailchimp.login import authorization as of_mailchimp
from connectors.mailchimp.sandbox import create_app as mailchimp_app
from hub.errors import ConfigError, Unauthorized
from tests.connectors.hubspot_support import contact, mappings, pages
from tests.oauth.support import APP, browser

LOOPBACK = {"hubspot": "http://localhost:0/callback", "mailchimp": "http://127.0.0.1:0/callback"}


@asynccontextmanager
async def served(app: Starlette) -> AsyncIterator[tuple[str, httpx.AsyncClient]]:
    """A sandbox, and a client of it."""
    async with serve(app) as running, httpx.AsyncClient(base_url=running.url, timeout=30, trust_env=False) as http:
        yield running.url, http


def hubspot(url: str, **more: Any) -> dict[str, Any]:
    """Settings of a HubSpot system with an app."""
    usual = {setting.name: setting.default for setting in HUBSPOT.settings}
    app = {"client_id": APP.client_id, "client_secret": APP.client_secret, "redirect_uri": LOOPBACK["hubspot"]}
    at = {
        "base_url": url,
        "authorize_url": f"{url}/oauth/authorize",
        "calls_per_10_seconds": 0,
        "searches_per_second": 0,
    }
    return usual | app | at | more


def mailchimp(url: str, **more: Any) -> dict[str, Any]:
    """Settings of a Mailchimp system with an app."""
    usual = {setting.name: setting.default for setting in MAILCHIMP.settings}
    app = {"client_id": APP.client_id, "client_secret": APP.client_secret, "redirect_uri": LOOPBACK["mailchimp"]}
    return usual | app | {"login_url": url, "list_id": "a1b2c3d4e5"} | more


async def test_hubspot_authorized_by_a_person() -> None:
    async with served(hubspot_app()) as (url, http):
        await http.post(
            "/_sandbox/seed", json={"contacts": [contact(1)], "oauth": {"rotate": True, "pkce": "required"}}
        )
        connector, store = HubSpot("hubspot", hubspot(url), mappings(["contacts"])), MemoryTokens()
        connector.tokens = store
        (missing,) = await connector.check()
        assert (missing.ok, missing.what) == (False, "hubspot: it has not been authorized yet: run `hub auth hubspot`")
        app = of_hubspot("hubspot", hubspot(url))
        assert app is not None
        await authorize(app, store, browser(), 20)
        await connector.open()
        assert all(finding.ok for finding in await connector.check()), "the usual scopes do not suffice"
        assert len(await pages(connector, "contacts")) == 1
        await http.post("/_sandbox/clock", json={"advance_seconds": 1_801})
        assert next(finding.ok for finding in await connector.check())
        assert await store.generation("hubspot") == 2
        await http.post("/_sandbox/seed", json={"oauth": {"revoke": True}})
        with pytest.raises(Unauthorized, match="run `hub auth hubspot`"):
            await pages(connector, "contacts")
        await connector.close()


async def test_hubspot_takes_no_ip_address_and_no_other_redirect() -> None:
    async with served(hubspot_app()) as (url, http):
        for redirect in (
            "http://127.0.0.1:8765/callback",
            "http://localhost:8765/elsewhere",
            "https://evil.example.com",
        ):
            query = {"client_id": APP.client_id, "redirect_uri": redirect, "response_type": "code"}
            for path in ("/oauth/authorize", "/oauth/62515/authorize"):
                assert (await http.get(path, params=query)).status_code == 400
        refused = of_hubspot("hubspot", hubspot(url, client_secret="wrong-secret"))
        assert refused is not None
        with pytest.raises(Unauthorized) as raised:
            await authorize(refused, MemoryTokens(), browser(), 20)
        assert "wrong-secret" not in str(raised.value)


async def test_mailchimp_learns_where_the_account_is() -> None:
    async with served(mailchimp_app()) as (url, http):
        audience = {"id": "a1b2c3d4e5", "name": "All", "members": []}
        await http.post("/_sandbox/seed", json={"lists": [audience]})
        connector, store = Mailchimp("mailchimp", mailchimp(url), {}), MemoryTokens()
        connector.tokens = store
        (missing,) = await connector.check()
        assert (missing.ok, "run `hub auth mailchimp`" in missing.what) == (False, True)
        app = of_mailchimp("mailchimp", mailchimp(url))
        assert app is not None
        token = await authorize(app, store, browser(), 20)
        assert (token.place, token.expires_at, token.refresh) == (f"{url}/3.0", None, "")
        assert [finding.ok for finding in await connector.check()] == [True, True]
        await http.post("/_sandbox/seed", json={"oauth": {"revoke": True}})
        (gone,) = await connector.check()
        assert gone.what == "mailchimp: its access token was refused or is over: run `hub auth mailchimp`"
        await authorize(app, store, browser(), 20)
        assert [finding.ok for finding in await connector.check()] == [True, True]
        await connector.close()


async def test_mailchimp_where_the_place_is_configured() -> None:
    async with served(mailchimp_app()) as (url, http):
        await http.post("/_sandbox/seed", json={"lists": [{"id": "a1b2c3d4e5", "name": "All", "members": []}]})
        settings = mailchimp(url, base_url=url)
        connector = Mailchimp("mailchimp", settings, {})
        app = of_mailchimp("mailchimp", settings)
        assert app is not None
        await authorize(app, connector.tokens, browser(), 20)
        assert [finding.ok for finding in await connector.check()] == [True, True]
        assert not [
            call for call in (await http.get("/_sandbox/requests")).json()["requests"] if "metadata" in call["path"]
        ]
        await connector.close()


async def test_an_unknown_token_is_told_with_status_200() -> None:
    async with served(mailchimp_app()) as (url, http):
        answer = await http.get("/oauth2/metadata", headers={"Authorization": "OAuth nobody"})
        assert (answer.status_code, answer.json()["error"]) == (200, "invalid_token")
        app = of_mailchimp("mailchimp", mailchimp(url))
        assert app is not None
        assert app.identify is not None
        with pytest.raises(Unauthorized):
            await app.identify("nobody")


@pytest.mark.parametrize(
    ("place", "fine"),
    [("https://us1.api.mailchimp.com", True), ("http://127.0.0.1:8080", True), ("http://evil.example.com", False),
     ("https://me@evil.example.com", False), ("ftp://x", False), ("/3.0", False)],
)  # fmt: skip
def test_a_token_is_sent_over_tls_only(place: str, fine: bool) -> None:
    assert endpoint.sound(place) is fine


def test_other_credentials_go_before_and_none_is_an_error() -> None:
    assert of_hubspot("hubspot", hubspot("http://x", access_token="pat-1")) is None
    assert of_mailchimp("mailchimp", mailchimp("http://x", api_key="key-us1")) is None
    with pytest.raises(ConfigError, match="client_secret is missing"):
        of_mailchimp("mailchimp", mailchimp("http://x", client_secret=None))
