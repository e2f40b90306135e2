"""A stateful stand-in of Mailchimp's Marketing API 3.0 for tests and demonstrations, held in memory.

Built from the official OpenAPI description and Mailchimp's documentation, never from the connector; NOTES.md says where
each fact comes from. The API stands under `/3.0` and takes the key by HTTP Basic (any user name) or, like an OAuth
token, as a bearer. The frame's control API stands under `/_sandbox/`; `edits` documents its seed and edits.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import inspect
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from connectors.kit.sandbox import Clock, Fault, WebhookSender, install
from connectors.mailchimp.sandbox import audience_api, campaign_api, edits, login, member_api
from connectors.mailchimp.sandbox.batches import Batches, finished
from connectors.mailchimp.sandbox.hooks import Webhooks
from connectors.mailchimp.sandbox.spoil import spoil
from connectors.mailchimp.sandbox.state import Account, ApiError, invalid, not_found
from connectors.mailchimp.sandbox.views import Call, Handler, check_shape, project

__all__ = ["API_KEY", "Mailchimp", "create_app"]

API_KEY = "5a1d0b0c8e7f4a3b9c2d1e0f5a6b7c8d-us1"
"""The key that a sandbox takes unless another one is seeded; it opens nothing else."""

BASE = "/3.0"
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
ERRORS_PAGE = "https://mailchimp.com/developer/marketing/docs/errors/"
FORBIDDEN_PAGE = b"<html><head><title>403 Forbidden</title></head><body><h1>Forbidden</h1></body></html>"
"""What stands before the API answers under a high volume of calls: no JSON at all."""

_MESSAGES = {
    401: ("API Key Invalid", "Your API key may be invalid, or you've attempted to access the wrong datacenter."),
    429: ("Too Many Requests", "You have exceeded the limit of 10 simultaneous connections."),
    500: (
        "Internal Server Error",
        "An unexpected internal error has occurred. Please contact Support for more information.",
    ),
}


class Mailchimp:
    """The vendor as the frame sees it."""

    def __init__(self, api_key: str = API_KEY) -> None:
        self.clock, self._hooks = Clock(), Webhooks()
        self.webhooks: WebhookSender = self._hooks
        self.account = Account(self.clock, api_key)
        self._batches = Batches(self._run)
        tables = (member_api, audience_api, campaign_api)
        routes = [route for table in tables for route in table.ROUTES]
        self._routes = [
            (method, compile_path(path)[0], handler) for method, path, handler in (*routes, *self._batches.routes())
        ]

    def refuse(self, fault: Fault) -> Response:
        """An armed fault in Mailchimp's words: no rate headers on a 429, and a 403 that is not JSON."""
        status = {"expired_token": 401, "rate_limit": 429}.get(fault.kind, fault.status)
        if status == 403:
            return Response(FORBIDDEN_PAGE, 403, media_type="text/html")
        title, detail = _MESSAGES.get(status, ("Error", "The request could not be served."))
        return _problem(ApiError(status, title, detail))

    def spoil(self, fault: Fault, body: Any) -> Any:
        """A list that does not show everything."""
        return spoil(fault, body)

    def seed(self, body: Any) -> Any:
        """Load records; see `edits`."""
        return edits.seed(self.account, body)

    def edit(self, body: Any) -> Any:
        """Edit as a subscriber or a person in the account; see `edits`."""
        return edits.edit(self.account, self._hooks, body)

    def state(self) -> Any:
        """All that was done, without times."""
        return edits.state(self.account)

    async def serve(self, request: Request) -> Response:
        """Serve one API call."""
        try:
            self._admit(request)
            body, base_url = await _body(request), str(request.base_url).rstrip("/")
            call = Call(self.account, self._hooks, base_url, {}, request.query_params, body)
            path = request.scope["raw_path"].decode("latin-1").partition("?")[0]
            answer = await self._dispatch(request.method, path.removeprefix(BASE), call)
        except ApiError as error:
            return _problem(error)
        return Response(status_code=204) if answer is None else _json(answer)

    async def results(self, request: Request) -> Response:
        """The answers of a finished batch; the URL is the secret."""
        try:
            batch = finished(self.account, request.path_params["batch_id"])
        except ApiError as error:
            return _problem(error)
        return Response(batch.archive, media_type="application/gzip") if batch.archive else _problem(not_found())

    def _admit(self, request: Request) -> None:
        given = _credential(request.headers.get("authorization", ""))
        if given is None:
            raise ApiError(401, "API Key Missing", "Your request did not include an API key.")
        oauth = self.account.authority
        known = [key for key in (self.account.api_key, self.account.access_token) if key]
        if not any([hmac.compare_digest(given.encode(), key.encode()) for key in known]) and not oauth.good(given):
            raise ApiError(401, *_MESSAGES[401])
        limit = self.account.connection_limit
        if limit is not None and request.scope["mailchimp.calls"] > limit:
            raise ApiError(
                429, "Too Many Requests", f"You have exceeded the limit of {limit} simultaneous connections."
            )

    async def _dispatch(self, method: str, path: str, call: Call) -> Any:
        """What the operation answers: JSON, or None for 204; ApiError for what Mailchimp refuses."""
        handler, found = self._find(method, path.rstrip("/") or "/")
        params = {name: unquote(value) for name, value in found.items()}
        check_shape(call.body)
        answer = handler(replace(call, path=params))
        answer = await answer if inspect.isawaitable(answer) else answer
        return None if answer is None else project(answer, call.query)

    def _find(self, method: str, path: str) -> tuple[Handler, Mapping[str, str]]:
        handlers: dict[str, tuple[Handler, Mapping[str, str]]] = {}
        for known, pattern, handler in self._routes:
            match = pattern.match(path)
            if match:
                handlers.setdefault(known, (handler, match.groupdict()))
        if not handlers:
            raise not_found()
        if method not in handlers:
            raise ApiError(405, "Method Not Allowed", "The requested method and resource are not compatible.")
        return handlers[method]

    async def _run(self, method: str, path: str, call: Call) -> tuple[int, Any]:
        """Serve one operation of a batch."""
        try:
            answer = await self._dispatch(method, path, call)
        except ApiError as error:
            return error.status, _document(error)
        return (204, None) if answer is None else (200, answer)


class ConnectionCounter:
    """ASGI middleware that tells each call how many of its key are under way, itself among them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: Counter[bytes] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        key = dict(scope["headers"]).get(b"authorization", b"")
        self._open[key] += 1
        try:
            await self._app({**scope, "mailchimp.calls": self._open[key]}, receive, send)
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]


def create_app(*, api_key: str = API_KEY) -> Starlette:
    """The sandbox as an ASGI application, empty; the part of the key after its dash is the data centre."""
    vendor = Mailchimp(api_key)
    app = Starlette(
        routes=[
            Route("/batch-results/{batch_id}-response.tar.gz", vendor.results, methods=["GET"]),
            Route(BASE + "{rest:path}", vendor.serve, methods=METHODS),
            *login.routes(vendor.account),
        ]
    )
    app.state.vendor = vendor
    install(app, vendor)
    app.add_middleware(ConnectionCounter)  # outermost, so that calls held by a fault count
    return app


def _credential(header: str) -> str | None:
    """The key in an Authorization header: the password of Basic, or the token of Bearer; None where there is none."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip() or None
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2] or None
    except (binascii.Error, UnicodeDecodeError):
        return None


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object of a body; no body, and null (the official client's way of saying none), are an empty one."""
    raw = await request.body()
    if not raw:
        return {}
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise ApiError(400, "JSON Parse Error", "We encountered an unspecified JSON parsing error.") from None
    if body is None:
        return {}
    if not isinstance(body, dict):
        raise invalid(("", "Schema describes object, another type found instead"))
    return body


def _document(error: ApiError) -> dict[str, Any]:
    document = {"type": ERRORS_PAGE, "title": error.title, "status": error.status, "detail": error.detail}
    return document | {"instance": str(uuid.uuid4())} | ({"errors": error.errors} if error.errors else {})


def _problem(error: ApiError) -> Response:
    body = orjson.dumps(_document(error))
    return Response(body, error.status, media_type="application/problem+json; charset=utf-8")


def _json(answer: Any) -> Response:
    return Response(orjson.dumps(answer), media_type="application/json; charset=utf-8")
