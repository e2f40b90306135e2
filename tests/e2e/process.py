"""A hub as a process of its own, which can be killed; and its commands, as a user calls them."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests import children
from tests.children import PIPE, Child
from tests.e2e.systems import Systems

COMMAND = (sys.executable, "-m", "hub.edge")


class Process:
    """`hub run`; its output goes to a file beside the configuration."""

    def __init__(self, systems: Systems, command: tuple[str, ...] = COMMAND) -> None:
        self.systems = systems
        self.command = command
        self._child: Child | None = None

    async def start(self) -> None:
        """Start it; returns at once."""
        with self.systems.config.with_suffix(".log").open("ab") as out:
            self._child = await children.start(
                *self.command, "run", "--config", str(self.systems.config), "--port", str(self.systems.port),
                env=self.systems.env, stdout=out, stderr=out,
            )  # fmt: skip

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._child is not None and self._child.returncode is None

    async def ended(self) -> int:
        """Return when it has ended by itself: its exit code, or the negative number of the signal."""
        assert self._child is not None
        return await self._child.wait()

    async def kill(self) -> None:
        """End it by SIGKILL: it gets no chance to tidy up."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Ask it to end, and wait."""
        await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        assert self._child is not None
        if self._child.returncode is None:
            self._child.send_signal(number)
            await self._child.wait()

    async def ready(self) -> tuple[int, dict[str, Any]]:
        """The status and the body of /readyz; status 0 where nobody listens."""
        try:
            async with httpx.AsyncClient(timeout=10.0) as http:
                answer = await http.get(f"http://127.0.0.1:{self.systems.port}/readyz")
                return answer.status_code, answer.json()
        except httpx.HTTPError:
            return 0, {}


@asynccontextmanager
async def running(systems: Systems) -> AsyncIterator[Process]:
    """A running hub, stopped at the end."""
    hub = Process(systems)
    await hub.start()
    try:
        yield hub
    finally:
        await hub.stop()


async def command(systems: Systems, *args: str, seconds: float = 500.0) -> tuple[int, Any]:
    """Run a command of the hub to its end: its exit code, and its output, as JSON where it is JSON."""
    child = await children.start(
        *COMMAND, *args, "--config", str(systems.config), env=systems.env,
        stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(child.communicate(), seconds)
    except TimeoutError:
        child.kill()
        await child.wait()
        raise
    text = out.decode()
    assert child.returncode is not None
    if child.returncode > 2:
        text += err.decode()[-2_000:]
    try:
        return child.returncode, json.loads(text)
    except ValueError:
        return child.returncode, text


async def finish(systems: Systems, seconds: float = 500.0) -> dict[str, Any]:
    """`hub run --until-idle`; the ledger that it prints must balance with nothing on its way."""
    until = ("--until-idle", "--limit", str(seconds), "--json")
    code, ledger = await command(systems, "run", "--port", str(systems.port), *until, seconds=seconds + 30)
    assert code == 0, ledger
    assert (ledger["unaccounted"], ledger["waiting"], ledger["parked"], ledger["pending"]) == (0, 0, 0, 0), ledger
    return dict(ledger)
