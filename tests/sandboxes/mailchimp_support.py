"""What the tests of the Mailchimp sandbox share: a served sandbox whose every exchange is validated, and a receiver."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.kit.sandbox import serve_in_thread
from connectors.mailchimp.sandbox import API_KEY, create_app
from tests.sandboxes.openapi import Description, Exchange, Recorder, load

DESCRIPTION = "mailchimp/marketing-3.0.85.openapi.json"
LIST = "a1"
PATIENCE_SECONDS = 20.0
FIELDS = [
    {"tag": "FNAME", "name": "First Name", "type": "text"},
    {"tag": "LNAME", "name": "Last Name", "type": "text"},
    {"tag": "PHONE", "name": "Phone", "type": "phone", "options": {"phone_format": "US"}},
    {"tag": "ADDRESS", "name": "Address", "type": "address"},
    {"tag": "SCORE", "name": "Score", "type": "number"},
    {"tag": "SINCE", "name": "Since", "type": "date"},
    {"tag": "BDAY", "name": "Birthday", "type": "birthday"},
    {"tag": "TIER", "name": "Tier", "type": "dropdown", "options": {"choices": ["gold", "silver"]}},
]
ADA: dict[str, Any] = {
    "email_address": "Ada@Example.com",
    "status": "subscribed",
    "merge_fields": {"FNAME": "Ada"},
    "last_changed": "2026-01-01T10:00:00+00:00",
}


def md5(email: str) -> str:
    """A member's hash."""
    return hashlib.md5(email.lower().encode(), usedforsecurity=False).hexdigest()


def bearer_too(description: Description) -> None:
    """The description knows Basic only; Mailchimp documents OAuth tokens and keys as bearers beside it."""
    description["components"]["securitySchemes"]["bearerAuth"] = {"type": "http", "scheme": "bearer"}
    description["security"].append({"bearerAuth": []})


def unchecked(exchange: Exchange) -> bool:
    """Whether an exchange is outside the description: the bare 403, which is an HTML page."""
    return exchange.response_headers.get("content-type", "").startswith("text/html")


@dataclass
class Box:
    """A served sandbox. `api` talks to the vendor's API with the key, `control` to the control API."""

    url: str
    recorder: Recorder
    api: httpx.Client
    control: httpx.Client

    def seed(self, *members: dict[str, Any], **more: Any) -> None:
        """Load members into the one audience of the tests."""
        audience = {"id": LIST, "name": "Customers", "merge_fields": FIELDS, "members": list(members)}
        self.control.post("/seed", json={"lists": [audience], **more}).raise_for_status()

    def edit(self, action: str, email: str, **more: Any) -> Any:
        """Edit as a person; answers the member."""
        body = {"list": LIST, "email": email, "action": action, **more}
        return self.control.post("/edit", json=body).raise_for_status().json()

    def member(self, email: str) -> dict[str, Any]:
        """A member as the API shows it."""
        answer: dict[str, Any] = self.api.get(f"/lists/{LIST}/members/{md5(email)}").raise_for_status().json()
        return answer


@contextmanager
def running() -> Iterator[Box]:
    """Serve a sandbox with one audience; at the end every exchange is validated against the official description."""
    checker = load(DESCRIPTION, bearer_too)
    recorder = Recorder(create_app(), "/3.0")
    with serve_in_thread(recorder) as server:
        api = httpx.Client(base_url=f"{server.url}/3.0", auth=("any", API_KEY), timeout=30, trust_env=False)
        control = httpx.Client(base_url=f"{server.url}/_sandbox", timeout=60, trust_env=False)
        with api, control:
            box = Box(server.url, recorder, api, control)
            box.seed()
            yield box
    for exchange in recorder.exchanges:
        if not unchecked(exchange):
            checker.check(exchange)


@dataclass
class Receiver:
    """A webhook endpoint: what was posted (fields and headers), the GET probes, and the status it answers with."""

    url: str = ""
    posts: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    probes: int = 0
    refuse_first: int = 0
    probe_status: int = 200
    lock: threading.Lock = field(default_factory=threading.Lock)

    async def serve(self, request: Request) -> Response:
        """Take one request."""
        body = await request.body()
        with self.lock:
            if request.method == "GET":
                self.probes += 1
                return Response(status_code=self.probe_status)
            if self.refuse_first > 0:
                self.refuse_first -= 1
                return Response(status_code=503)
            self.bodies.append(body)
            self.headers.append(dict(request.headers))
            self.posts.append(dict(parse_qsl(body.decode(), keep_blank_values=True)))
        return Response()

    def wait(self, count: int) -> list[dict[str, str]]:
        """The posts, once there are this many."""
        until(lambda: len(self.posts) >= count, f"{count} webhooks, got {self.posts}")
        return self.posts


def until(happened: Callable[[], bool], what: str) -> None:
    """Wait for something, and fail with its name when it does not come."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        if time.monotonic() > end:
            raise AssertionError(f"never came: {what}")
        time.sleep(0.01)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Serve a receiver."""
    receiver = Receiver()
    app = Starlette(routes=[Route("/{path:path}", receiver.serve, methods=["GET", "POST"])])
    with serve_in_thread(app) as server:
        receiver.url = f"{server.url}/hook?secret=s3cret"
        yield receiver
