"""The sandboxes' authorization server, by the RFCs alone: a plain HTTP client, none of the hub's."""

import base64
import hashlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from connectors.kit.sandbox import serve_in_thread
from connectors.kit.sandbox.authorizing import create_app

APP = {"client_id": "sandbox-client", "client_secret": "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"}
REDIRECT = "http://127.0.0.1:4711/callback"
# The example of RFC 7636, appendix B.
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    """A client of a fresh server."""
    with (
        serve_in_thread(create_app()) as served,
        httpx.Client(base_url=served.url, trust_env=False, timeout=30) as made,
    ):
        yield made


def code(http: httpx.Client, **more: str) -> str:
    """A code for a challenge."""
    query = {"response_type": "code", "client_id": APP["client_id"], "redirect_uri": REDIRECT, "state": "s"}
    pkce = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
    given = query | pkce | more
    answer = http.get("/authorize", params={name: value for name, value in given.items() if value})
    assert answer.status_code == 302, answer.text
    found = parse_qs(urlsplit(answer.headers["location"]).query)
    assert found["state"] == ["s"]
    return found["code"][0]


def token(http: httpx.Client, **form: str) -> tuple[int, dict[str, Any]]:
    """Status and body of a token request."""
    answer = http.post("/token", data=APP | form)
    return answer.status_code, answer.json()


def exchange(http: httpx.Client, given: str, **more: str) -> tuple[int, str]:
    """Status, and the error or ""."""
    form = {"grant_type": "authorization_code", "code": given, "redirect_uri": REDIRECT, "code_verifier": VERIFIER}
    status, body = token(http, **form | more)
    return status, body.get("error", "")


def test_the_rfcs_example_of_pkce(http: httpx.Client) -> None:
    hashed = hashlib.sha256(VERIFIER.encode()).digest()
    assert base64.urlsafe_b64encode(hashed).rstrip(b"=").decode() == CHALLENGE
    assert exchange(http, code(http)) == (200, "")
    assert exchange(http, code(http), code_verifier=VERIFIER[:-1] + "x") == (400, "invalid_grant")
    assert exchange(http, code(http), code_verifier="") == (400, "invalid_grant")
    assert exchange(http, code(http, code_challenge="", code_challenge_method="")) == (400, "invalid_grant")
    assert exchange(http, code(http), redirect_uri=REDIRECT + "x") == (400, "invalid_grant")
    late = code(http)
    http.post("/_sandbox/clock", json={"advance_seconds": 61})
    assert exchange(http, late) == (400, "invalid_grant")


def test_refresh_tokens_rotate_with_a_grace_time_and_theft_takes_all_back(http: httpx.Client) -> None:
    http.post("/_sandbox/seed", json={"rotate": True, "graceSeconds": 10})
    form = {"grant_type": "authorization_code", "code": code(http), "redirect_uri": REDIRECT, "code_verifier": VERIFIER}
    _, first = token(http, **form)
    _, second = token(http, grant_type="refresh_token", refresh_token=first["refresh_token"])
    status, third = token(http, grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert (status, len({first["refresh_token"], second["refresh_token"], third["refresh_token"]})) == (200, 3)
    http.post("/_sandbox/clock", json={"advance_seconds": 11})
    assert token(http, grant_type="refresh_token", refresh_token=first["refresh_token"])[0] == 400
    assert token(http, grant_type="refresh_token", refresh_token=second["refresh_token"])[0] == 400
    bearer = {"Authorization": f"Bearer {third['access_token']}"}
    assert http.get("/things", headers=bearer).status_code == 401


def test_redirects_and_clients_that_are_not_known(http: httpx.Client) -> None:
    query = {"response_type": "code", "client_id": APP["client_id"], "redirect_uri": REDIRECT}
    for wrong in ({"client_id": "x"}, {"redirect_uri": "https://evil.example.com"}, {"redirect_uri": REDIRECT + "/.."}):
        assert http.get("/authorize", params=query | wrong).status_code == 400
    asked = http.get("/authorize", params=query | {"response_type": "token"})
    assert "error=unsupported_response_type" in asked.headers["location"]
    assert token(http, grant_type="client_credentials") == (
        400, {"error": "unsupported_grant_type", "error_description": "missing or unknown grant type"},
    )  # fmt: skip
    basic = http.post("/token", data={"grant_type": "refresh_token"}, auth=("sandbox-client", "wrong"))
    assert (basic.status_code, basic.json()["error"]) == (401, "invalid_client")
