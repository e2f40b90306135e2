"""Every grant, against an authorization server built from the RFCs: what is given, and what is refused."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from connectors.kit import authorize as flow
from connectors.kit import oauth
from connectors.kit.authorize import authorize
from connectors.kit.budget import Budget
from connectors.kit.client import Client
from connectors.kit.endpoint import TokenEndpoint
from connectors.kit.oauth import JWT_BEARER, form_of_code
from connectors.kit.tokens import MemoryTokens, Token
from hub.errors import ConfigError, Reject, Unauthorized
from tests.oauth.support import APP, Vendor, authorized, browser, client, granted, vendor
from tests.promises.mutations import broken, mutation


@pytest.fixture
async def shop() -> AsyncIterator[Vendor]:
    """A vendor that insists on PKCE."""
    async with vendor() as made:
        await made.register(pkce="required")
        yield made


def changed(**values: str) -> Callable[[str], str]:
    """Parameters of an address replaced, or taken away by an empty text; other addresses stay."""

    def change(url: str) -> str:
        parts = urlsplit(url)
        query = {name: values.get(name, found[0]) for name, found in parse_qs(parts.query).items()}
        return parts._replace(query=urlencode({name: value for name, value in query.items() if value})).geturl()

    return change


async def test_a_person_authorizes_the_hub(shop: Vendor) -> None:
    store = MemoryTokens()
    token = await authorized(shop, store)
    assert (token.generation, bool(token.refresh), token) == (1, True, await store.read("vendor"))
    assert await shop.good(await granted(shop, store).header())
    (call,) = await shop.calls("/authorize")
    asked = {name: value for name, value in call["query"]}
    assert (asked["code_challenge_method"], asked["response_type"]) == ("S256", "code")
    assert len(asked["state"]) >= 43
    again = await authorized(shop, store)
    assert (again.generation, again.access != token.access) == (2, True)


async def check_wrong_state(shop: Vendor) -> None:
    """An answer that is not to our question: somebody else's code would tie their account to our hub."""
    store = MemoryTokens()
    try:
        await authorize(client(shop.url), store, browser(changed(state="somebody-elses")), 20)
    except Reject as error:
        assert "wrong state" in error.reason  # noqa: PT017
    assert await store.read("vendor") is None, "an answer with another state was taken"
    assert await shop.calls() == []


async def test_an_answer_with_another_state_is_refused(shop: Vendor) -> None:
    await check_wrong_state(shop)


async def test_another_state_fails_without_comparing(shop: Vendor) -> None:
    true_answer = flow._answer

    def blind(system: str, query: dict[str, str], state: str) -> "str | Reject":
        return true_answer(system, {**query, "state": state}, state)

    with mutation(flow, "_answer", blind), broken("state not compared"):
        await check_wrong_state(shop)


async def test_no_consent_is_told_plainly(shop: Vendor) -> None:
    store = MemoryTokens()
    await shop.register(consent="deny")
    with pytest.raises(Reject, match="access was denied; nothing was stored"):
        await authorized(shop, store)
    await shop.register(consent="ignore")
    with pytest.raises(TimeoutError, match=r"nobody came back to http://127.0.0.1:.*nothing was stored"):
        await authorize(client(shop.url), store, browser(), 0.3)
    await shop.register()
    with pytest.raises(Reject, match="holds no code"):
        await authorize(client(shop.url), store, browser(changed(code="")), 20)
    assert await store.read("vendor") is None


async def test_the_listener_is_on_this_machine_and_its_port_may_be_taken(shop: Vendor) -> None:
    for wrong in ("http://hub.example.com/callback", "https://127.0.0.1/callback", "http://127.0.0.1:1/c?x=1"):
        with pytest.raises(ConfigError, match="on this machine"):
            await authorize(replace(client(shop.url), redirect_uri=wrong), MemoryTokens(), browser(), 1)
    port = urlsplit(shop.url).port
    with pytest.raises(Reject, match="cannot listen"):
        await authorize(
            replace(client(shop.url), redirect_uri=f"http://127.0.0.1:{port}/c"), MemoryTokens(), browser(), 1
        )


async def check_stolen_code(shop: Vendor) -> None:
    """Who saw the redirect but not the verifier gets nothing, and neither does who exchanges a code twice."""
    seen: list[str] = []

    def watch(url: str) -> str:
        seen.append(url)
        return url

    store = MemoryTokens()
    await authorize(client(shop.url), store, browser(watch), 20)
    endpoint = TokenEndpoint(client(shop.url), Budget(), lambda: 0.0)
    redirect = parse_qs(urlsplit(seen[0]).query)["redirect_uri"][0]
    with pytest.raises(Unauthorized, match="invalid_grant"):
        await endpoint.token(form_of_code(parse_qs(urlsplit(seen[1]).query)["code"][0], redirect, "x" * 43), Token())
    assert not await shop.good(await granted(shop, store).header()), (
        "a code that came twice leaves its first tokens good"
    )
    code = await _code(shop, redirect, seen[0])
    for verifier in ("", "x" * 43):
        with pytest.raises(Unauthorized, match="invalid_grant"):
            await endpoint.token(form_of_code(code, redirect, verifier), Token())


async def _code(shop: Vendor, redirect: str, first: str) -> str:
    """A code for a challenge whose verifier nobody told us."""
    query = {name: found[0] for name, found in parse_qs(urlsplit(first).query).items()}
    answer = await shop.http.get("/authorize", params=query | {"redirect_uri": redirect})
    return parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]


async def test_a_stolen_or_replayed_code_is_worth_nothing(shop: Vendor) -> None:
    await check_stolen_code(shop)


async def check_no_downgrade(shop: Vendor) -> None:
    """Somebody in between takes the challenge off: the vendor then would take the code from anybody."""
    await shop.register(pkce="optional")
    store, strip = MemoryTokens(), changed(code_challenge="", code_challenge_method="")
    try:
        await authorize(client(shop.url), store, browser(strip), 20)
    except Unauthorized as error:
        assert "invalid_grant" in str(error)  # noqa: PT017
    assert await store.read("vendor") is None, "an authorization without our challenge was taken"


async def test_pkce_cannot_be_taken_off(shop: Vendor) -> None:
    await check_no_downgrade(shop)


async def test_taking_pkce_off_fails_without_a_verifier(shop: Vendor) -> None:
    def bare(code: str, redirect_uri: str, verifier: str) -> dict[str, str]:
        return {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}

    with mutation(flow, "form_of_code", bare), broken("no verifier"):
        await check_no_downgrade(shop)


@pytest.mark.parametrize("basic", [False, True])
async def test_client_credentials(shop: Vendor, basic: bool) -> None:
    await shop.register(grants=["client_credentials"])
    store = MemoryTokens()
    credentials = granted(shop, store, grant="client_credentials", basic=basic, scopes="read")
    assert await shop.good(first := await credentials.header())
    await shop.later(1_801)
    assert await credentials.renew(first)
    assert await shop.good(await credentials.header())
    assert len(await shop.calls()) == 2
    wrong = granted(shop, MemoryTokens(), grant="client_credentials", basic=basic, client_secret="wrong-secret")
    with pytest.raises(Unauthorized) as raised:
        await wrong.header()
    assert "wrong-secret" not in str(raised.value)


def pem() -> tuple[str, str]:
    """A private key and its public one."""
    key = rsa.generate_private_key(65_537, 2_048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


async def check_jwt(shop: Vendor) -> None:
    """An assertion signed by the registered key gives a token; one by another key, or for another server, does not."""
    private, public = pem()
    url = f"{shop.url}/token"
    await shop.register(grants=[JWT_BEARER], publicKey=public, audience=url)
    keyed: dict[str, Any] = {
        "grant": "jwt_bearer",
        "private_key": private,
        "subject": "ada@example.com",
        "client_secret": "",
    }
    credentials = granted(shop, MemoryTokens(), **keyed)
    try:
        first = await credentials.header()
        assert await credentials.renew(first)
    except Unauthorized as error:
        raise AssertionError(f"the assertion was refused: {error}") from None
    assert await shop.good(await credentials.header())
    for wrong in ({"private_key": pem()[0]}, {"audience": "https://elsewhere.example.com"}, {"client_id": "another"}):
        with pytest.raises(Unauthorized, match="refused to give a token"):
            await granted(shop, MemoryTokens(), **keyed | wrong).header()
    with pytest.raises(ConfigError, match="no RSA key") as raised:
        await granted(shop, MemoryTokens(), **keyed | {"private_key": "hidden-text"}).header()
    assert "hidden-text" not in str(raised.value)


async def test_jwt_bearer(shop: Vendor) -> None:
    await check_jwt(shop)


async def test_jwt_bearer_fails_where_an_assertion_is_used_again(shop: Vendor) -> None:
    made: dict[str, str] = {}
    sign = oauth.assertion

    def once(client: Client) -> str:
        return made.setdefault(client.private_key, sign(client))

    with mutation(oauth, "assertion", once), broken("assertion used again"):
        await check_jwt(shop)


async def test_refused_with_status_200_and_passing_codes_are_understood(shop: Vendor) -> None:
    store = MemoryTokens()
    await authorized(shop, store)
    await shop.revoke()
    credentials = granted(shop, store)
    with pytest.raises(Unauthorized, match=r"refused to give a token \(invalid_grant\): run `hub auth vendor`"):
        await credentials.renew(await credentials.header())


async def test_a_configured_refresh_token_starts_and_a_new_one_starts_anew(shop: Vendor) -> None:
    first = await authorized(shop, MemoryTokens())
    store = MemoryTokens()
    begun = granted(shop, store, refresh_token=first.refresh)
    assert await shop.good(await begun.header())
    second = await authorized(shop, MemoryTokens())
    await asyncio.gather(*(granted(shop, store, refresh_token=first.refresh).header() for _ in range(3)))
    before = len(await shop.calls())
    assert await shop.good(await granted(shop, store, refresh_token=second.refresh).header())
    assert (len(await shop.calls()) - before, await store.generation("vendor")) == (1, 2)


def test_settings_make_a_client_or_say_what_is_missing() -> None:
    usual = Client("vendor", "authorization_code", "https://v.example.com/token", "")
    names = [setting.name for setting in oauth.settings("authorization_code", "client_credentials", "jwt_bearer")]
    assert names[:4] == ["grant", "client_id", "client_secret", "scopes"]
    assert [setting.secret for setting in oauth.settings("jwt_bearer") if setting.name == "private_key"] == [True]
    made = oauth.client({"grant": "client_credentials", "client_id": "a", "client_secret": "b"}, usual)
    assert (made.grant, made.client_secret, "b'" in repr(made)) == ("client_credentials", "b", False)
    for given, missing in (
        ({}, "client_id"),
        ({"client_id": "a", "grant": "client_credentials"}, "client_secret"),
        ({"client_id": "a", "grant": "jwt_bearer"}, "private_key"),
        ({"client_id": "a", "grant": "password"}, "grant is none of"),
    ):
        with pytest.raises(ConfigError, match=missing):
            oauth.client(given, usual)
    assert APP.client_secret not in repr(client("http://127.0.0.1"))
