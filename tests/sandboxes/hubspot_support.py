"""What the tests of the HubSpot sandbox share: a served sandbox, its SDK client, and a receiver of webhooks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import hubspot
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.hubspot.sandbox import Options, create_app
from connectors.kit.sandbox import serve_in_thread

TOKEN = Options().token
PATIENCE_SECONDS = 20.0
FILTERS = dict[str, Any]


@dataclass(frozen=True)
class Box:
    """A sandbox that listens, with a client of HubSpot's API and of the control API."""

    url: str
    http: httpx.Client

    def sdk(self, **more: Any) -> Any:
        """HubSpot's official client, pointed at the sandbox."""
        return hubspot.Client.create(access_token=TOKEN, host=self.url, **more)

    def call(self, method: str, path: str, body: Any = None, expect: int = 200) -> Any:
        """One call of the API; the answer's JSON, or None where it is empty."""
        answer = self.http.request(method, path, json=body)
        assert answer.status_code == expect, (answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def create(self, kind: str, **properties: str) -> str:
        """A new record's id."""
        return str(self.call("POST", f"/crm/v3/objects/{kind}", {"properties": properties}, 201)["id"])

    def read(self, kind: str, record_id: str, *properties: str) -> dict[str, Any]:
        """A record's properties."""
        query = f"?properties={','.join(properties)}" if properties else ""
        shown: dict[str, Any] = self.call("GET", f"/crm/v3/objects/{kind}/{record_id}{query}")["properties"]
        return shown

    def search(self, kind: str, *filters: FILTERS, **more: Any) -> Any:
        """A search with one group of filters."""
        body = {"filterGroups": [{"filters": list(filters)}] if filters else [], **more}
        return self.call("POST", f"/crm/v3/objects/{kind}/search", body)

    def control(self, name: str, body: Any) -> Any:
        """A call of the control API."""
        return self.call("POST", f"/_sandbox/{name}", body)


@contextmanager
def running(options: Options | None = None) -> Iterator[Box]:
    """A fresh sandbox."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with (
        serve_in_thread(create_app(options)) as served,
        httpx.Client(base_url=served.url, headers=headers, trust_env=False, timeout=30) as http,
    ):
        yield Box(served.url, http)


@dataclass
class Receiver:
    """Keeps what was posted to it and answers with the statuses it was told, then 200."""

    statuses: list[int] = field(default_factory=list)
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    async def post(self, request: Request) -> Response:
        """Take one delivery."""
        body = await request.body()
        with self.lock:
            self.requests.append((dict(request.headers), body))
            return Response(status_code=self.statuses.pop(0) if self.statuses else 200)


@contextmanager
def receiving() -> Iterator[tuple[Receiver, str]]:
    """A receiver and its URL."""
    receiver = Receiver()
    with serve_in_thread(Starlette(routes=[Route("/hook", receiver.post, methods=["POST"])])) as served:
        yield receiver, f"{served.url}/hook"


def until(done: Callable[[], Any]) -> None:
    """Wait for something that another thread brings about; an AssertionError if it never comes."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
