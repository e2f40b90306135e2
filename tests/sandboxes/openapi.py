"""Records the HTTP exchanges of an application and validates them against a vendor's official OpenAPI description.

Usage: wrap the application in a `Recorder`, serve it on a real socket, talk to it, then `check` what was recorded.
A description is read from the shared folder beside the repository (or from HUB_SHARED) and never copied into it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.templating.paths.exceptions import PathError
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from werkzeug.datastructures import Headers, ImmutableMultiDict

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("HUB_SHARED", ROOT.parent / "shared"))
JSON_TYPES = ("application/problem+json", "application/hal+json")

Description = dict[str, Any]


@dataclass(slots=True)
class Exchange:
    """One request and its answer, as bytes; `status` is 0 where the caller got no answer."""

    method: str
    path: str
    query: str
    request_headers: dict[str, str]
    request_body: bytes
    status: int = 0
    response_headers: dict[str, str] = field(default_factory=dict)
    response_body: bytes = b""

    def __str__(self) -> str:
        return f"{self.method} {self.path}?{self.query} -> {self.status}"


class Recorder:
    """ASGI middleware that keeps every HTTP exchange whose path starts with `prefix`."""

    def __init__(self, app: ASGIApp, prefix: str = "/") -> None:
        self.app, self.prefix = app, prefix
        self.exchanges: list[Exchange] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection and keep what went over it."""
        if scope["type"] != "http" or not scope["path"].startswith(self.prefix):
            await self.app(scope, receive, send)
            return
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").partition("?")[0]
        exchange = Exchange(scope["method"], path, scope["query_string"].decode(), _headers(scope["headers"]), b"")
        self.exchanges.append(exchange)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status, exchange.response_headers = message["status"], _headers(message["headers"])
            exchange.response_body += message.get("body", b"")
            await send(message)

        await self.app(scope, _Channel(receive, exchange).receive, sending)


class _Channel:
    """A server's receive channel that notes the body, with the server's transport for whoever must cut the line."""

    def __init__(self, receive: Receive, exchange: Exchange) -> None:
        self.transport = getattr(getattr(receive, "__self__", None), "transport", None)
        self._receive, self._exchange = receive, exchange

    async def receive(self) -> Message:
        message = await self._receive()
        self._exchange.request_body += message.get("body", b"")
        return message


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}


class _Request:
    """An exchange's request as openapi-core reads it, on the host that the description names."""

    def __init__(self, exchange: Exchange, host: str, path: str) -> None:
        self.host_url, self.path, self.method = host, path, exchange.method.lower()
        self.body = exchange.request_body or None
        self.content_type = exchange.request_headers.get("content-type", "")
        self.parameters = RequestParameters(
            query=ImmutableMultiDict(parse_qsl(exchange.query, keep_blank_values=True)),
            header=Headers(exchange.request_headers),
        )


class _Response:
    """An exchange's answer as openapi-core reads it."""

    def __init__(self, exchange: Exchange) -> None:
        self.status_code, self.data = exchange.status, exchange.response_body or None
        self.content_type = exchange.response_headers.get("content-type", "")
        self.headers = Headers(exchange.response_headers)


class Checker:
    """Validates exchanges against one description, whose first server URL is where the application stands."""

    def __init__(self, description: Description) -> None:
        # Media types of the JSON family are plain JSON to a validator.
        parsers: dict[str, Callable[..., Any]] = {name: lambda body, **_: json.loads(body) for name in JSON_TYPES}
        self._api = OpenAPI.from_dict(description, config=Config(extra_media_type_deserializers=parsers))
        scheme, _, rest = description["servers"][0]["url"].partition("://")
        host, _, base = rest.partition("/")
        self._host, self._base = f"{scheme}://{host}", f"/{base}".rstrip("/")

    def check(self, exchange: Exchange) -> None:
        """Raise where the exchange departs from the description.

        A request that the vendor refused (4xx) may break it, as that may be the reason; an answer never may. An
        operation that it lacks must be refused (404 or 405). A call that was never answered has no answer to check.
        """
        request = _Request(exchange, self._host, exchange.path)
        try:
            if not 400 <= exchange.status < 500:
                self._api.validate_request(request)
            if exchange.status:
                self._api.validate_response(request, _Response(exchange))
        except Exception as error:
            if isinstance(error, PathError) and exchange.status in (404, 405):
                return
            raise AssertionError(f"{exchange}: {_why(error)}\n{exchange.response_body[:600]!r}") from error


def _why(error: BaseException | None) -> str:
    reasons = []
    while error is not None:
        found = getattr(error, "schema_errors", ())
        reasons.append(f"{type(error).__name__}: {error} {[f'{list(e.path)}: {e.message}'[:300] for e in found]}")
        error = error.__cause__
    return "; ".join(reasons)


@cache
def load(relative: str, adjust: Callable[[Description], None] | None = None) -> Checker:
    """The checker of a JSON description in the shared folder; skips the test where it is absent, fails it in CI."""
    path = SHARED / "specs" / relative
    if not path.exists():
        reason = f"{path.name} is not in the shared folder (set HUB_SHARED to it)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    description: Description = json.loads(path.read_bytes())
    _drop_empty_contents(description)
    if adjust is not None:
        adjust(description)
    return Checker(description)


def _drop_empty_contents(description: Description) -> None:
    """An answer without any media type (a 204) has no body, where openapi-core reads `content: {}` as one missing."""
    for item in description["paths"].values():
        for operation in item.values():
            for answer in operation["responses"].values() if isinstance(operation, dict) else ():
                if answer.get("content") == {}:
                    del answer["content"]
