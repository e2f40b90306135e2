"""Sandboxes: the vendors' stand-ins, served for people (`hub sandbox`) and as processes of their own for the demo."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
from starlette.applications import Starlette

from connectors.hubspot.sandbox import create_app as hubspot
from connectors.kit.serving import serve as serving
from connectors.mailchimp.sandbox import create_app as mailchimp
from hub.edge.stopping import until_told
from hub.errors import Reject

SANDBOXES: dict[str, Callable[[], Starlette]] = {"hubspot": hubspot, "mailchimp": mailchimp}


async def serve(name: str, port: int, seed: Path | None = None) -> None:
    """Serve a sandbox on 127.0.0.1 until told to stop; prints its address first."""
    if name not in SANDBOXES:
        raise Reject(f"no sandbox {name!r}; there are {', '.join(SANDBOXES)}", "unknown")
    async with serving(SANDBOXES[name](), port=port) as running:
        if seed is not None:
            await control(running.url, "seed", orjson.loads(await asyncio.to_thread(seed.read_bytes)))
        sys.stdout.write(f"{running.url}\n")
        sys.stdout.flush()
        await until_told()


@asynccontextmanager
async def process(name: str, start: Callable[..., Any] = asyncio.create_subprocess_exec) -> AsyncIterator[str]:
    """A sandbox in a process of its own, made by `start`; yields its address, and ends the process at the end."""
    command = (sys.executable, "-m", "hub.edge", "sandbox", name)
    child = await start(*command, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    try:
        line = await asyncio.wait_for(child.stdout.readline(), 30.0)
        if not line:
            raise RuntimeError(f"the {name} sandbox did not start")
        yield line.decode().strip()
    finally:
        if child.returncode is None:
            child.terminate()
            await child.wait()


async def control(url: str, what: str, document: Any) -> Any:
    """Call a sandbox's control API: seed, webhooks, edit, faults."""
    async with httpx.AsyncClient(timeout=60.0) as client:
        answer = await client.post(f"{url}/_sandbox/{what}", content=orjson.dumps(document, default=str))
        if answer.status_code >= 400:
            raise RuntimeError(f"sandbox {what}: {answer.status_code} {answer.text[:300]}")
        return answer.json() if answer.content else None
