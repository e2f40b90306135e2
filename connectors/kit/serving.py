"""Run an ASGI application on a loopback port, in the running event loop or in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from email.utils import formatdate

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class Running:
    """A server that listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://{self.host}:{self.port}"


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever runs the event loop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Dated:
    """Tells the time with every answer that does not tell its own, as a sandbox with a clock of its own does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start" and b"date" not in dict(message["headers"]):
                message = {**message, "headers": [*message["headers"], (b"date", formatdate(usegmt=True).encode())]}
            await send(message)

        await self._app(scope, receive, dated)


@contextlib.asynccontextmanager
async def serve(app: ASGIApp, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Running]:
    """Serve an application in the running loop until the block ends; port 0 is a free one; OSError if taken."""
    listener = socket.create_server((host, port))
    # asyncio leaves Nagle's algorithm on for a socket it did not make: with delayed acknowledgement 40 ms a call.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        _Dated(app),
        log_level="warning",
        access_log=False,
        ws="none",
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            if task.done():
                task.result()
                raise OSError("the server ended before it listened")
            await asyncio.sleep(0.005)
        yield Running(host, listener.getsockname()[1])
    finally:
        server.should_exit = True
        await task
        listener.close()


def free_port() -> int:
    """A loopback port that nobody listens on, below those that systems hand to clients: a server that is stopped and
    started again finds it free."""
    for port in random.SystemRandom().sample(range(20_000, 32_000), 200):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("no free port between 20000 and 32000 on 127.0.0.1")


@contextlib.contextmanager
def serve_in_thread(app: ASGIApp, host: str = "127.0.0.1", port: int = 0) -> Iterator[Running]:
    """Serve an application in a thread with its own loop, for callers that block (a vendor's synchronous SDK)."""
    ready: deque[Running | BaseException] = deque(maxlen=1)
    listening, stop = threading.Event(), threading.Event()

    async def main() -> None:
        async with serve(app, host, port) as running:
            ready.append(running)
            listening.set()
            while not stop.is_set():  # noqa: ASYNC110 - the stop comes from another thread
                await asyncio.sleep(0.02)

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            ready.append(error)
            listening.set()

    thread = threading.Thread(target=run, name="sandbox", daemon=True)
    thread.start()
    listening.wait()
    try:
        if isinstance(ready[0], BaseException):
            raise ready[0]
        yield ready[0]
    finally:
        stop.set()
        thread.join()
