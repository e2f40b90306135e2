"""Nothing tells a secret: not an error, not a log at its lowest level, not a repr, also where the vendor repeats it."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connectors.kit import endpoint
from connectors.kit.budget import Budget
from connectors.kit.granted import Granted
from connectors.kit.http import Http
from connectors.kit.sandbox import serve
from connectors.kit.tokens import MemoryTokens, Token
from hub.errors import HubError
from tests.oauth.support import APP, client
from tests.promises.mutations import broken, mutation

REFRESH, ACCESS = "refreshsecret", "accesssecret"


@asynccontextmanager
async def echoing() -> AsyncIterator[str]:
    """A vendor that repeats what it was sent, wherever it can."""
    ends = iter([400, 401, 403, 500, 200])

    async def token(request: Request) -> Response:
        form = dict(await request.form())
        said = f"{form} {request.headers.get('authorization')}"
        status = next(ends, 200)
        if status == 200:
            return JSONResponse({"access_token": ACCESS, "refresh_token": REFRESH, "expires_in": 1})
        return JSONResponse({"error": form["refresh_token"], "error_description": said, "message": said}, status)

    async def things(request: Request) -> Response:
        return JSONResponse({"message": request.headers["authorization"]}, 400)

    routes = [Route("/token", token, methods=["POST"]), Route("/things", things)]
    async with serve(Starlette(routes=routes)) as running:
        yield running.url


async def check_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Every way in which a token is refused, by a vendor that repeats it."""
    told: list[str] = []
    async with echoing() as url:
        with caplog.at_level(logging.DEBUG):
            for _ in range(5):
                store = MemoryTokens()
                await store.swap("vendor", Token("", REFRESH), 0)
                credentials = Granted(client(url), store, Budget())
                http = Http("vendor", url, credentials, Budget())
                try:
                    await http.call("GET", "/things")
                except HubError as error:
                    told += [str(error), repr(error), repr(error.__context__), repr(error.__cause__)]
                told += [repr(credentials), repr(http), repr(client(url)), repr(await store.read("vendor"))]
                await http.aclose()
    told += [record.getMessage() for record in caplog.records]
    assert len(told) > 25
    for secret in (REFRESH, ACCESS, APP.client_secret):
        assert not [text for text in told if secret in text], f"a secret was told: {secret}"


async def test_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    await check_nothing_is_told(caplog)


async def test_telling_nothing_fails_where_the_vendor_is_quoted(caplog: pytest.LogCaptureFixture) -> None:
    def quoted(self: endpoint.TokenEndpoint, code: str, status: str) -> Exception:
        return HubError(f"the vendor said {code}")

    with mutation(endpoint.TokenEndpoint, "_refused", quoted), broken("quoted"):
        await check_nothing_is_told(caplog)
