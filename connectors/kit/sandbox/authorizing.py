"""A vendor that is nothing but an authorization server and one guarded path, for the grants that no other sandbox has."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from connectors.kit.sandbox.authority import Authority, OAuthError, Registration
from connectors.kit.sandbox.frame import Clock, Fault, install
from connectors.kit.sandbox.webhooks import WebhookSender


class Authorizing:
    """The vendor as the frame sees it. Seed: a Registration; edit: {"action": "revoke"}."""

    def __init__(self) -> None:
        self.clock, self.webhooks = Clock(), WebhookSender(lambda events, settings, attempt: ({}, b""))
        self.authority = Authority(lambda: self.clock.now().timestamp())

    def refuse(self, fault: Fault) -> Response:
        """An armed fault."""
        status = {"expired_token": 401, "rate_limit": 429}.get(fault.kind, fault.status)
        return JSONResponse({"error": "server_error"}, status)

    def seed(self, body: Any) -> Any:
        """Another registration."""
        self.authority.registration = msgspec.convert(body, Registration)
        return {"registered": 1}

    def edit(self, body: Any) -> Any:
        """Take back everything that was given."""
        self.authority.revoke_all()
        return {"revoked": len(self.authority.access_tokens)}

    def state(self) -> Any:
        """How many tokens were given; no tokens."""
        return {"access": len(self.authority.access_tokens), "refresh": len(self.authority.refresh_tokens)}

    async def authorize(self, request: Request) -> Response:
        """GET: the person's browser."""
        return answered(self.authority, request)

    async def token(self, request: Request) -> Response:
        """POST: the token endpoint."""
        form = dict(parse_qsl((await request.body()).decode(errors="replace"), keep_blank_values=True))
        try:
            return JSONResponse(self.authority.token(form, request.headers.get("authorization", "")))
        except OAuthError as error:
            return JSONResponse(error.body(), error.status)

    async def guarded(self, request: Request) -> Response:
        """GET: something that a good access token opens."""
        good = self.authority.good(request.headers.get("authorization", "").removeprefix("Bearer "))
        return JSONResponse({"good": good}, 200 if good else 401)


def answered(authority: Authority, request: Request) -> Response:
    """The authorization endpoint's answer: a redirect, a page that waits for the person, or a refusal."""
    try:
        to = authority.authorize(dict(request.query_params))
    except OAuthError as error:
        return PlainTextResponse(error.text, 400)
    return RedirectResponse(to, 302) if to else PlainTextResponse("Allow the app to use your account?")


def create_app() -> Starlette:
    """The application, with the usual registration."""
    vendor = Authorizing()
    app = Starlette(
        routes=[
            Route("/authorize", vendor.authorize, methods=["GET"]),
            Route("/token", vendor.token, methods=["POST"]),
            Route("/things", vendor.guarded, methods=["GET"]),
        ]
    )
    install(app, vendor)
    return app
