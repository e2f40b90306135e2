"""The frame every vendor's sandbox stands in: faults, a journal of calls, the control API and a server.

A sandbox is a stateful stand-in of a vendor's HTTP API that keeps its records in memory. What differs between vendors
is a `Vendor`; `install` puts the rest around its application:

- armed faults are applied to vendor endpoints, never to the control API under `/_sandbox/`;
- every vendor call is journalled (bounded in number and in bytes; headers, and so tokens, are not kept);
- the control API: POST and DELETE `/_sandbox/faults`, GET `/_sandbox/requests?since=N`, GET `/_sandbox/state`,
  POST `/_sandbox/seed`, POST and GET `/_sandbox/webhooks`, POST `/_sandbox/edit`, POST `/_sandbox/clock`.

`serve` runs an application in the running event loop and `serve_in_thread` in a thread of its own. Both, and the sender
of webhooks, are offered from here.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import Annotated, Any, Literal, Protocol
from urllib.parse import parse_qsl

import msgspec
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors.kit.sandbox.spoiling import SPOILED, Spoiling, answer_spoiled
from connectors.kit.sandbox.webhooks import WebhookSender, WebhookSettings

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_JOURNAL_CALLS = 50_000
MAX_JOURNAL_BYTES = 64 * 1024 * 1024

FaultKind = Literal[
    "status", "timeout_after_commit", "slow", "expired_token", "rate_limit", "drop_connection",
    "truncated", "empty", "miscounted", "narrowed",
]  # fmt: skip


class Fault(msgspec.Struct, forbid_unknown_fields=True):
    """One armed fault; it is applied to the next `times` calls that it matches.

    `match` is a method (or `*`) and a path prefix with a space between, or null for any vendor call. `status` belongs
    to kind `status`; `retry_after` (seconds) to `rate_limit`; `seconds` to `slow` and `timeout_after_commit`.

    Four kinds spoil the answer of a list, which still is a 200: `truncated` leaves out the second half of a page and
    what comes after it, `empty` everything, `miscounted` makes the total greater by one, and `narrowed` leaves out, as if
    they were not there, the records and the fields that `hide` names by id and by name.
    """

    kind: FaultKind
    times: Annotated[int, msgspec.Meta(ge=1)] = 1
    match: str | None = None
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 500
    retry_after: Annotated[float, msgspec.Meta(ge=0)] = 2
    seconds: Annotated[float, msgspec.Meta(ge=0, le=600)] = 1.0
    hide: list[str] = []

    def matches(self, method: str, path: str) -> bool:
        """Whether a call with this method and path gets the fault."""
        if self.match is None:
            return True
        wanted, _, prefix = self.match.partition(" ")
        return wanted in ("*", method) and path.startswith(prefix)


class Faults:
    """The armed faults, first in first out among those that match a call."""

    def __init__(self) -> None:
        self._armed: list[Fault] = []

    def arm(self, faults: list[Fault]) -> None:
        """Append faults."""
        self._armed.extend(faults)

    def clear(self) -> None:
        """Disarm everything."""
        self._armed.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """Use up one application of the first fault that matches, if there is one."""
        for fault in self._armed:
            if fault.matches(method, path):
                fault.times -= 1
                if not fault.times:
                    self._armed.remove(fault)
                return fault
        return None

    def to_list(self) -> list[dict[str, Any]]:
        """What is still armed, as JSON."""
        return [msgspec.structs.asdict(fault) for fault in self._armed]


class Clock:
    """The sandbox's UTC clock: the machine's, plus what `advance` added."""

    def __init__(self) -> None:
        self._offset = timedelta()

    def now(self) -> datetime:
        """The present instant, in UTC."""
        return datetime.now(UTC) + self._offset

    def advance(self, seconds: float) -> None:
        """Move the clock ahead; a negative number is refused with ValueError."""
        if seconds < 0:
            raise ValueError("the clock only moves ahead")
        self._offset += timedelta(seconds=seconds)


class Vendor(Protocol):
    """What one vendor's sandbox gives the frame. `seed` and `edit` raise ValueError for input they cannot use."""

    clock: Clock
    webhooks: WebhookSender

    def refuse(self, fault: Fault) -> Response:
        """The vendor's own error answer for a fault of kind `status`, `expired_token` or `rate_limit`."""
        ...

    def seed(self, body: Any) -> Any:
        """Load records in bulk, without webhooks; answers a JSON value (counts)."""
        ...

    def edit(self, body: Any) -> Any:
        """Make an edit as a person in the vendor's user interface, with webhooks; answers the record's JSON."""
        ...

    def state(self) -> Any:
        """The whole state as a JSON value that depends on nothing but what was done."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """One vendor call as it was received; `status` is null where the caller got no answer."""

    n: int
    at: datetime
    method: str
    path: str
    query: str
    status: int | None
    fault: str | None
    body: bytes
    is_json: bool

    def to_json(self) -> dict[str, Any]:
        """The call for the control API: a JSON body as it is, any other as its SHA-256 (forms carry secrets)."""
        shown: dict[str, Any] = {name: getattr(self, name) for name in ("n", "at", "method", "path", "status", "fault")}
        shown["query"] = [list(pair) for pair in parse_qsl(self.query, keep_blank_values=True)]
        shown["body_sha256"] = hashlib.sha256(self.body).hexdigest() if self.body else None
        shown["body"] = _json_or_none(self.body) if self.is_json else None
        return shown


def _json_or_none(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


class Journal:
    """The last vendor calls, bounded in number and in the bytes of their bodies."""

    def __init__(self, calls: int = MAX_JOURNAL_CALLS, body_bytes: int = MAX_JOURNAL_BYTES) -> None:
        self._calls: deque[Call] = deque()
        self._max_calls, self._max_bytes = calls, body_bytes
        self._bytes = 0
        self.last = 0

    def add(self, call: Call) -> None:
        """Append a call and forget the oldest ones that no longer fit."""
        self._calls.append(call)
        self._bytes += len(call.body)
        while len(self._calls) > self._max_calls or self._bytes > self._max_bytes:
            self._bytes -= len(self._calls.popleft().body)

    def number(self) -> int:
        """The next call's number, from 1."""
        self.last += 1
        return self.last

    def since(self, number: int) -> list[Call]:
        """The calls still kept with a greater number, in the order they ended."""
        return [call for call in self._calls if call.n > number]


class Frame:
    """ASGI middleware that journals vendor calls and applies armed faults to them."""

    def __init__(self, app: ASGIApp, *, vendor: Vendor, faults: Faults, journal: Journal) -> None:
        self._app, self._vendor, self._faults, self._journal = app, vendor, faults, journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            try:
                await self._app(scope, receive, send)
            finally:
                await self._vendor.webhooks.aclose()
        elif scope["type"] != "http" or scope["path"].startswith("/_sandbox/"):
            await self._app(scope, receive, send)
        else:
            await self._call(scope, receive, send)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        number, at = self._journal.number(), self._vendor.clock.now()
        fault = self._faults.take(scope["method"], scope["path"])
        body = await _read(receive)
        answered: list[int] = []

        async def replay() -> Message:
            return {"type": "http.request", "body": body or b"", "more_body": False}

        async def recording(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered.append(message["status"])
                message["headers"] = [*message["headers"], (b"date", formatdate(at.timestamp(), usegmt=True).encode())]
            await send(message)

        if body is None:
            await Response(status_code=413)(scope, replay, recording)
        else:
            await self._apply(fault, scope, replay, receive, recording)
        headers = dict(scope["headers"])
        self._journal.add(
            Call(
                number,
                at,
                scope["method"],
                scope["path"],
                scope["query_string"].decode("latin-1"),
                answered[0] if answered else None,
                fault.kind if fault else None,
                body or b"",
                b"json" in headers.get(b"content-type", b""),
            )
        )

    async def _apply(self, fault: Fault | None, scope: Scope, replay: Receive, receive: Receive, send: Send) -> None:
        match fault:
            case None:
                await self._app(scope, replay, send)
            case Fault(kind="slow"):
                await asyncio.sleep(fault.seconds)
                await self._app(scope, replay, send)
            case Fault(kind="timeout_after_commit"):
                await self._app(scope, replay, _swallow)
                await _hang_up(receive, fault.seconds)
            case Fault(kind="drop_connection"):
                await _hang_up(receive, 0)
            case Fault(kind=kind) if kind in SPOILED:
                await answer_spoiled(self._app, self._vendor, fault, scope, replay, send)
            case _:
                await self._vendor.refuse(fault)(scope, replay, send)


async def _swallow(_: Message) -> None:
    """The answer that the caller never sees."""


async def _read(receive: Receive) -> bytes | None:
    """The whole request body, or None where it is over the bound."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


async def _hang_up(receive: Receive, seconds: float) -> None:
    """Hold the connection until the caller leaves or the time is over, then cut it without an answer.

    ASGI has no word for that, so the server's own transport is taken from its receive channel; a server without one
    (a test client in the same process) sees a ConnectionResetError.
    """
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(_gone(receive), seconds)
    if transport is None:
        raise ConnectionResetError("the sandbox closed the connection without an answer")
    transport.abort()
    await _gone(receive)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def install(app: Starlette, vendor: Vendor) -> None:
    """Put the frame around a vendor's application and add the control API to it."""
    faults, journal = Faults(), Journal()
    app.add_middleware(Frame, vendor=vendor, faults=faults, journal=journal)
    app.router.routes.extend(_controls(vendor, faults, journal))


def _controls(vendor: Vendor, faults: Faults, journal: Journal) -> list[Route]:
    def arm(body: bytes) -> Any:
        given = msgspec.json.decode(body, type=list[Fault] | Fault)
        wanted = given if isinstance(given, list) else [given]
        if any(fault.kind in SPOILED for fault in wanted) and not isinstance(vendor, Spoiling):
            raise ValueError(f"this sandbox has no lists that could be {', '.join(SPOILED)}")
        faults.arm(wanted)
        return {"armed": faults.to_list()}

    def disarm(_: bytes) -> Any:
        faults.clear()
        return {"armed": []}

    def aim(body: bytes) -> Any:
        vendor.webhooks.configure(msgspec.json.decode(body, type=WebhookSettings))
        return vendor.webhooks.counts()

    def advance(body: bytes) -> Any:
        vendor.clock.advance(float(orjson.loads(body)["advance_seconds"]))
        return {"now": vendor.clock.now()}

    async def requests(request: Request) -> Response:
        calls = journal.since(int(request.query_params.get("since", 0)))
        return _json({"last": journal.last, "requests": [call.to_json() for call in calls]})

    return [
        _control("POST", "faults", arm),
        _control("DELETE", "faults", disarm),
        _control("GET", "faults", lambda _: {"armed": faults.to_list()}),
        Route("/_sandbox/requests", requests, methods=["GET"]),
        _control("GET", "state", lambda _: vendor.state()),
        _control("POST", "seed", lambda body: vendor.seed(orjson.loads(body))),
        _control("POST", "edit", lambda body: vendor.edit(orjson.loads(body))),
        _control("POST", "webhooks", aim),
        _control("GET", "webhooks", lambda _: vendor.webhooks.counts()),
        _control("POST", "clock", advance),
    ]


def _control(method: str, name: str, act: Callable[[bytes], Any]) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            return _json(act(await request.body()))
        except (ValueError, LookupError, TypeError) as error:  # msgspec's and orjson's errors are ValueErrors
            return _json({"error": f"{type(error).__name__}: {error}"}, 400)

    return Route(f"/_sandbox/{name}", endpoint, methods=[method])


def _json(value: Any, status: int = 200) -> Response:
    body = orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)
    return Response(body, status, media_type="application/json")
