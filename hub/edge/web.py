"""Web: webhooks in, health and answers out. A webhook is answered only after its notices are durable."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from connectors.kit.connector import Connector
from connectors.kit.connector import Request as Webhook
from hub.edge import access, inquiry, source_status, web_past, web_records
from hub.edge import history as histories
from hub.edge.wiring import Hub
from hub.errors import HubError, Reject
from schemas.wire import WireError
from streams import metrics
from streams.faults import INFRASTRUCTURE
from streams.ledger import balance
from streams.refetch import take

MAX_BODY = 2 * 1024 * 1024
TROUBLE: tuple[type[BaseException], ...] = (HubError, *INFRASTRUCTURE)
STATUS = {"signature": 401, "stale": 401, "unknown": 404, "too-long": 413, "unsupported": 415}


def create_app(
    hub: Hub,
    ready: Callable[[], Awaitable[dict[str, Any]]],
    public_url: str = "",
    warnings: Callable[[], dict[str, str]] = dict,
    token: str = "",
) -> FastAPI:
    """The hub's web application. `ready` tells what is wrong, by name, and `warnings` what is odd; `public_url` is what
    vendors call (scheme and host), where a proxy hides it; `token` is what questions must carry (see `access`)."""
    app = FastAPI(title="Integration hub", version="1")
    app.add_middleware(access.Guarded, token=token)

    @app.get("/webhooks/{system}", include_in_schema=False)
    @app.head("/webhooks/{system}", include_in_schema=False)
    @app.post("/webhooks/{system}")
    async def webhook(system: str, request: Request) -> Response:
        """A vendor's webhook. 200 only after its notices are durable; 503 asks the vendor to try again."""
        connector = hub.context.connectors.get(system)
        if connector is None:
            return _problem(404, f"no system {system!r} is configured here")
        metrics.count(metrics.ATTEMPTS, "webhook", system)
        if (encoding := request.headers.get("content-encoding", "identity")) != "identity":
            metrics.count(metrics.WEBHOOKS, system, "refused")
            return _problem(415, f"encoded as {encoding[:40]!r}: webhooks are read as they come")
        body = await _bounded(request)
        if body is None:
            metrics.count(metrics.WEBHOOKS, system, "refused")
            return _problem(413, f"larger than {MAX_BODY} bytes")
        url = f"{public_url.rstrip('/')}{request.url.path}" if public_url else str(request.url).split("?")[0]
        url = f"{url}?{request.url.query}" if request.url.query else url
        headers = {name.lower(): value for name, value in request.headers.items()}
        return await _taken(hub, system, connector, Webhook(request.method, url, headers, body, time.time()))

    @app.get("/healthz")
    async def healthz() -> PlainTextResponse:
        """Alive: the process answers."""
        return PlainTextResponse("ok")

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """Ready: the database answers, and no stage, source or target is in trouble; else 503 and what is wrong. Sources
        that a person halted are no trouble, and named."""
        trouble = await ready()
        odd = {"warnings": found} if (found := warnings()) else {}
        said = {"ready": not trouble, "trouble": trouble, **odd, **await _halted(hub)}
        return JSONResponse(said, 503 if trouble else 200)

    _questions(app, hub)
    web_past.mount(app, hub.context)
    web_records.mount(app, hub.context)
    return app


async def _taken(hub: Hub, system: str, connector: Connector, webhook: Webhook) -> Response:
    try:
        notices = await connector.receive(webhook)
        await take(hub.context, notices, webhook.headers.get("traceparent"))
    except Reject as error:
        metrics.count(metrics.WEBHOOKS, system, "refused")
        return _problem(STATUS.get(error.code, 400), error.reason)
    except WireError:  # a number beyond 64 bits
        metrics.count(metrics.WEBHOOKS, system, "refused")
        return _problem(400, "a value of it is beyond what can be kept")
    except TROUBLE as error:
        metrics.count(metrics.WEBHOOKS, system, "failed")
        metrics.failed("webhook", system, error)
        return _problem(503, f"{type(error).__name__}; try again")
    metrics.count(metrics.WEBHOOKS, system, "accepted")
    return Response(status_code=200)


def _questions(app: FastAPI, hub: Hub) -> None:
    context = hub.context

    @app.exception_handler(Reject)
    async def rejected(_: Request, error: Reject) -> JSONResponse:
        return _problem(STATUS.get(error.code, 400), error.reason)

    @app.get("/api/status")
    async def status() -> dict[str, Any]:
        return await inquiry.status(context)

    @app.get("/api/ledger")
    async def ledger() -> dict[str, Any]:
        balanced = await balance(context)
        counts = {
            n: getattr(balanced, n) for n in ("captured", "events", "duplicates", "parked", "waiting", "unaccounted")
        }
        return {**counts, "targets": balanced.targets}

    @app.get("/api/golden/{entity}/{name:path}")
    async def show(entity: str, name: str) -> dict[str, Any]:
        return await inquiry.show(context, entity, name)

    @app.get("/api/why/{entity}/{field}/{name:path}")
    async def why(entity: str, field: str, name: str) -> dict[str, Any]:
        return await inquiry.why(context, entity, name, field)

    @app.get("/api/history/{entity}/{name:path}")
    async def history(entity: str, name: str) -> list[dict[str, Any]]:
        return await histories.history(context, entity, name, web_past.STEPS)


async def _halted(hub: Hub) -> dict[str, Any]:
    try:
        halted = await source_status.halted(hub.context)
    except INFRASTRUCTURE:
        return {}  # that the database does not answer is told as trouble
    return {"halted": halted} if halted else {}


async def _bounded(request: Request) -> bytes | None:
    """The body, or None as soon as it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            return None
    return bytes(body)


def _problem(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"status": status, "detail": detail[:500]}, status)
