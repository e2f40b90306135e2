"""Running: a worker with its web server, until told to stop or until nothing is left to do."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from connectors.kit.serving import serve
from hub.edge import access, health, telemetry, web
from hub.edge.assembly import STAGES, Worker, assemble
from hub.edge.wiring import Hub
from streams import versions
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
    """Start the stages and (with a port; 0 picks one) the web server; stop all at the end. Raises Reject where another
    configuration is in effect."""
    await versions.adopt(hub.context, hub.config.document, "hub run")
    worker = assemble(hub, stages)
    async with telemetry.exported():
        await worker.workers.start()
        try:
            if port is None:
                yield Running(worker, "")
            else:
                async with telemetry.measured(hub, worker) as registry:
                    app = web.create_app(
                        hub,
                        lambda: health.trouble(hub, worker),
                        public_url,
                        lambda: health.warnings(worker),
                        access.token(os.environ),
                    )
                    telemetry.mount(app, registry)
                    async with serve(app, host, port) as serving:
                        yield Running(worker, serving.url)
        finally:
            await worker.workers.stop()


async def until_idle(
    hub: Hub, seconds: float = 600.0, tell: Callable[[Idle], Awaitable[None] | None] | None = None
) -> Idle:
    """Return when every change has its outcome and every source was read since the last write, and since this was called.
    Raises TimeoutError with what is left when that takes longer."""
    end, began = time.monotonic() + seconds, datetime.now(UTC)
    while True:
        left = await idle(hub.context, began)
        if tell is not None and (told := tell(left)) is not None:
            await told
        if left.done:
            hub.context.poll_now.clear()
            return left
        if not left.queued and not any(left.lag.values()):
            hub.context.poll_now.set()
        if time.monotonic() > end:
            raise TimeoutError(f"not idle after {seconds:.0f} s: {left}")
        await asyncio.sleep(0.2)
