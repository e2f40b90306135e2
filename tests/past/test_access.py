"""Access to the questions about records: who may ask, with a token and without one; and what is answered."""

import base64
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from connectors.kit.serving import serve
from hub.edge import access
from hub.errors import Fatal
from tests.promises.mutations import broken, mutation

TOKEN = "only-for-tests-0123"
BEARER = {"authorization": f"Bearer {TOKEN}"}


@contextlib.asynccontextmanager
async def asked(token: str, peer: str = "127.0.0.1") -> AsyncIterator[httpx.AsyncClient]:
    """A client of a guarded application, seen to call from `peer`."""
    transport = httpx.ASGITransport(access.Guarded(PlainTextResponse("records"), token), client=(peer, 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        yield client


def basic(password: str) -> dict[str, str]:
    """What a browser sends once its user has typed the password."""
    return {"authorization": f"Basic {base64.b64encode(f'ann:{password}'.encode()).decode()}"}


CASES: list[tuple[str, str, str, dict[str, str], int]] = [
    ("", "127.0.0.1", "/api/v1/contact/x", {}, 200),
    ("", "::1", "/api/v1/contact/x", {"host": "[::1]:8080"}, 200),
    ("", "127.0.0.1", "/api/v1/contact/x", {"host": "localhost"}, 200),
    ("", "192.0.2.7", "/api/v1/contact/x", {}, 403),
    ("", "192.0.2.7", "/api/status", {}, 403),
    ("", "192.0.2.7", "/healthz", {}, 200),
    ("", "192.0.2.7", "/webhooks/crm", {}, 200),
    ("", "127.0.0.1", "/api/v1/contact/x", {"x-forwarded-for": "192.0.2.7"}, 403),
    ("", "127.0.0.1", "/api/v1/contact/x", {"forwarded": "for=192.0.2.7"}, 403),
    ("", "127.0.0.1", "/api/v1/contact/x", {"host": "rebound.example:8080"}, 403),
    (TOKEN, "192.0.2.7", "/api/v1/contact/x", BEARER, 200),
    (TOKEN, "127.0.0.1", "/api/v1/contact/x", {}, 401),
    (TOKEN, "127.0.0.1", "/api/v1/contact/x", {"authorization": "Bearer "}, 401),
    (TOKEN, "127.0.0.1", "/api/v1/contact/x", {"authorization": f"Bearer {TOKEN[:-1]}"}, 401),
    (TOKEN, "127.0.0.1", "/api/v1/contact/x", {"authorization": f"Basic {TOKEN}"}, 401),
    (TOKEN, "127.0.0.1", "/healthz", {}, 200),
    ("", "192.0.2.7", "/records/contact/x", {}, 403),
    ("", "127.0.0.1", "/records/contact/x", {}, 200),
    (TOKEN, "192.0.2.7", "/records", {}, 401),
    (TOKEN, "192.0.2.7", "/records", BEARER, 200),
    (TOKEN, "192.0.2.7", "/records", basic(TOKEN), 200),
    (TOKEN, "192.0.2.7", "/records", basic(TOKEN[:-1]), 401),
    (TOKEN, "192.0.2.7", "/records", {"authorization": "Basic no base64"}, 401),
    (TOKEN, "192.0.2.7", "/api/status", basic(TOKEN), 401),
]


async def check_cases() -> None:
    """Each is answered as the table says."""
    for token, peer, path, headers, status in CASES:
        async with asked(token, peer) as client:
            answer = await client.get(path, headers=headers)
            assert answer.status_code == status, f"{answer.status_code} to {peer} {path} {headers}, token {bool(token)}"
            assert (answer.text == "records") == (status == 200)


async def test_who_may_ask() -> None:
    await check_cases()


@pytest.mark.parametrize(
    ("owner", "name", "instead"),
    [(access, "_loopback", lambda peer: True), (access, "PASSED_ON", ()), (access, "LOOPBACK", {"127.0.0.1", "localhost",
      "::1", "rebound.example"}), (access.hmac, "compare_digest", lambda one, other: True),
     (access.Guarded, "refusal", lambda self, scope: None)],
    ids=["peer", "proxy", "name", "token", "guard"],
)  # fmt: skip
async def test_the_check_of_who_may_ask_fails_without(owner: Any, name: str, instead: Any) -> None:
    with mutation(owner, name, instead), broken(name):
        await check_cases()


async def test_a_real_server_hears_a_proxy_of_this_machine() -> None:
    async with serve(access.Guarded(PlainTextResponse("records"), "")) as server, httpx.AsyncClient() as client:
        plain = await client.get(f"{server.url}/api/status")
        passed_on = await client.get(f"{server.url}/api/status", headers={"x-forwarded-for": "127.0.0.1"})
        assert (plain.status_code, passed_on.status_code) == (200, 403)


def test_a_token_by_reference(tmp_path: Any) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    assert access.token({}) == ""
    assert access.token({"HUB_API_TOKEN": TOKEN}) == TOKEN
    assert access.token({"HUB_API_TOKEN": f"file:{path}"}).strip() == TOKEN
    for bad in ("short", "file:/nowhere/token"):
        with pytest.raises(Fatal, match="HUB_API_TOKEN"):
            access.token({"HUB_API_TOKEN": bad})
