"""login.mailchimp.com: the authorization server, and the metadata that tell a token's data centre."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connectors.kit.sandbox.authority import OAuthError
from connectors.kit.sandbox.authorizing import answered
from connectors.mailchimp.sandbox.state import Account


def routes(account: Account) -> list[Route]:
    """The endpoints under `/oauth2`."""

    async def authorize(request: Request) -> Response:
        return answered(account.authority, request)

    async def token(request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode(errors="replace"), keep_blank_values=True))
        try:
            answer = account.authority.token(form)
        except OAuthError as error:
            return JSONResponse(error.body(), error.status)
        return JSONResponse({"access_token": answer["access_token"], "expires_in": 0, "scope": None})

    async def metadata(request: Request) -> Response:
        """Who the token belongs to. A wrong token gets status 200 too, as the real service answers."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() not in ("oauth", "bearer") or not account.authority.good(given):
            return JSONResponse({"error": "invalid_token", "error_description": "The access token was not found."})
        dc, here = account.api_key.rpartition("-")[2], str(request.base_url).rstrip("/")
        shown = {"dc": dc, "role": "owner", "accountname": "Sandbox", "user_id": 1, "login_url": here}
        person = {"login": {"email": "ada@example.com", "login_id": 1}}
        return JSONResponse(shown | person | {"api_endpoint": here})

    return [
        Route("/oauth2/authorize", authorize, methods=["GET"]),
        Route("/oauth2/token", token, methods=["POST"]),
        Route("/oauth2/metadata", metadata, methods=["GET"]),
    ]
