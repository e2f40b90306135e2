"""From an HTTP request to a handler and back: authentication, limits, JSON, and errors in HubSpot's shape."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
import orjson
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.hubspot.sandbox.access import Token, require_scope
from connectors.hubspot.sandbox.account import Account
from connectors.hubspot.sandbox.errors import ApiError, invalid, missing_fields, unauthenticated
from connectors.hubspot.sandbox.schema import ObjectType

T = TypeVar("T")
_REQUIRED = re.compile(r"Object missing required field `([^`]+)`")
MEDIA_TYPE = "application/json;charset=utf-8"


@dataclass(frozen=True, slots=True)
class Context:
    """One request, as a handler sees it."""

    account: Account
    path: dict[str, str]
    query: QueryParams
    body: bytes
    url: str

    def read(self, shape: type[T]) -> T:
        """The JSON body in a shape; ApiError 400 if it is not JSON or does not fit."""
        try:
            return msgspec.json.decode(self.body, type=shape, strict=False)
        except msgspec.ValidationError as error:
            missing = _REQUIRED.search(str(error))
            if missing:
                raise missing_fields([missing[1]]) from error
            raise invalid(f"Invalid input JSON on line 1, column 2: {error}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise invalid(f"Invalid input JSON on line 1, column 1: {error}") from error

    def form(self) -> dict[str, str]:
        """A form-encoded body together with the query (the first OAuth version took both)."""
        pairs = parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True)
        return {**dict(self.query), **dict(pairs)}

    def kind(self, name: str = "type") -> ObjectType:
        """The object type that the path names."""
        return self.account.records.kind(self.path[name])

    def flag(self, name: str) -> bool:
        """A boolean of the query."""
        return self.query.get(name, "false").lower() == "true"

    def listed(self, name: str) -> list[str]:
        """A list of the query: repeated, with commas, or both."""
        return [part.strip() for value in self.query.getlist(name) for part in value.split(",") if part.strip()]

    def number(self, name: str, default: int, most: int) -> int:
        """A page size of the query; ApiError 400 beyond its bounds."""
        text = self.query.get(name, str(default))
        if not text.isdecimal() or not 0 < int(text) <= most:
            raise invalid(f"{name} must be a number between 1 and {most}", **{name: [text]})
        return int(text)


Reply = tuple[int, Any]
Handler = Callable[[Context], Reply]
Scopes = Callable[[Context], list[str]]
Guard = Callable[[Context, Request], dict[str, str]]


def answer(status: int, payload: Any, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer, or an empty one for None; every answer has a correlation id."""
    correlation = {"x-hubspot-correlation-id": str(uuid.uuid4())}
    shown = correlation | (headers or {})
    if payload is None:
        return Response(status_code=status, headers=shown)
    return Response(orjson.dumps(payload, option=orjson.OPT_NON_STR_KEYS), status, shown, MEDIA_TYPE)


def refuse(error: ApiError) -> Response:
    """An error as an answer; the body and the header have the same correlation id."""
    correlation_id = str(uuid.uuid4())
    return answer(
        error.status, error.body(correlation_id), error.headers | {"x-hubspot-correlation-id": correlation_id}
    )


def bearer(scopes: Scopes | None = None, *, search: bool = False) -> Guard:
    """Let in who has a good token with one of the scopes, within the limits."""

    def guard(context: Context, request: Request) -> dict[str, str]:
        access = context.account.access
        token: Token = access.authenticate(request.headers.get("authorization"))
        headers = access.count(token, search)
        require_scope(token, scopes(context) if scopes else ())
        return headers

    return guard


def developer(context: Context, request: Request) -> dict[str, str]:
    """Let in who has the developer key of the app's account, for this app."""
    options = context.account.options
    if request.query_params.get("hapikey") != options.developer_key:
        raise unauthenticated()
    if context.path["app"] != str(options.app_id):
        raise ApiError(404, "resource not found", "OBJECT_NOT_FOUND")
    return {}


def anyone(_context: Context, _request: Request) -> dict[str, str]:
    """Let everyone in."""
    return {}


class Router:
    """Collects the endpoints of an account."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.routes: list[Route] = []

    def add(self, method: str, path: str, handler: Handler, guard: Guard, *, form: bool = False) -> None:
        """Serve a method and path; a body must be JSON, or a form where `form` says so."""
        self.routes.append(Route(path, self._endpoint(handler, guard, form), methods=[method]))

    def _endpoint(self, handler: Handler, guard: Guard, form: bool) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            body = await request.body()
            url = str(request.url.replace(query=""))
            context = Context(self.account, request.path_params, request.query_params, body, url)
            headers: dict[str, str] = {}
            try:
                headers = guard(context, request)
                if body and not form:
                    _require_json(request)
                status, payload = handler(context)
            except ApiError as error:
                error.headers = headers | error.headers
                return refuse(error)
            return answer(status, payload, headers)

        return endpoint


def _require_json(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise ApiError(415, "HTTP 415 Unsupported Media Type", "UNSUPPORTED_MEDIA_TYPE")
