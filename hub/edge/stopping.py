"""How a process that goes on until it is told to stop is told so."""

import asyncio
import signal
from collections.abc import Awaitable
from typing import Any


async def until_told(broken: Awaitable[Any] | None = None) -> None:
    """Return at SIGTERM or SIGINT. Raises what `broken` raises before that, as the services of a worker do that crash:
    whoever started this process should start it anew, for it would never do its work again."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    waiting: list[asyncio.Future[Any]] = [asyncio.ensure_future(told.wait())]
    if broken is not None:
        waiting.append(asyncio.ensure_future(broken))
    done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    for task in done:
        task.result()
