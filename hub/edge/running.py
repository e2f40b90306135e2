"""Running: a worker with its web server, until told to stop or until nothing is left to do."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import uvicorn

from hub.edge import web
from hub.edge.wiring import STAGES, Hub, Worker, assemble
from streams.faults import INFRASTRUCTURE
from streams.ledger import Idle, idle


@dataclass(slots=True)
class Running:
    """A started worker; `url` is where its web server listens ("" without one)."""

    worker: Worker
    url: str


@asynccontextmanager
async def started(
    hub: Hub, stages: Sequence[str] = STAGES, host: str = "127.0.0.1", port: int | None = None, public_url: str = ""
) -> AsyncIterator[Running]:
    """Start the stages and (with a port; 0 picks one) the web server; stop all at the end."""
    worker = assemble(hub, stages)
    await worker.workers.start()
    try:
        if port is None:
            yield Running(worker, "")
        else:
            async with _served(hub, worker, host, port, public_url) as url:
                yield Running(worker, url)
    finally:
        await worker.workers.stop()


@asynccontextmanager
async def _served(hub: Hub, worker: Worker, host: str, port: int, public_url: str) -> AsyncIterator[str]:
    app = web.create_app(hub, lambda: trouble(hub, worker), public_url)
    config = uvicorn.Config(app, host=host, port=port, log_level="warning", lifespan="off", access_log=False)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    serving = asyncio.create_task(server.serve())
    while not server.started:
        if serving.done():
            await serving
        await asyncio.sleep(0.01)
    address = server.servers[0].sockets[0].getsockname()
    try:
        yield f"http://{host}:{address[1]}"
    finally:
        server.should_exit = True
        with suppress(asyncio.CancelledError):
            await serving


async def trouble(hub: Hub, worker: Worker) -> dict[str, Any]:
    """What is wrong now, by name; empty when the worker is ready."""
    found: dict[str, Any] = {}
    for stage in worker.workers.stages:
        if not stage.health.healthy:
            found[f"stage {stage.name}"] = stage.health.last_error
    for capture in worker.captures:
        if not capture.healthy:
            found[f"source {capture.system}/{capture.stream.name}"] = capture.last_error
    for deliverer in worker.deliverers:
        if not deliverer.healthy:
            found[f"target {deliverer.target}"] = deliverer.last_error
    try:
        await asyncio.wait_for(hub.context.pool.fetchval("select 1"), 5.0)
    except INFRASTRUCTURE as error:
        found["database"] = f"{type(error).__name__}: {error}"
    return found


async def until_told() -> None:
    """Return at SIGTERM or SIGINT."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    await told.wait()


async def until_idle(
    hub: Hub, seconds: float = 600.0, tell: Callable[[Idle], Awaitable[None] | None] | None = None
) -> Idle:
    """Return when every change has its outcome and every source was read since the last write. Raises TimeoutError with
    what is left when that takes longer."""
    end = time.monotonic() + seconds
    while True:
        left = await idle(hub.context)
        if tell is not None and (told := tell(left)) is not None:
            await told
        if left.done:
            return left
        if time.monotonic() > end:
            raise TimeoutError(f"not idle after {seconds:.0f} s: {left}")
        await asyncio.sleep(0.2)
