"""What the hub stands on goes away and comes back: it says so, waits, and loses nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from starlette.applications import Starlette

from connectors.kit.sandbox import serve
from hub.edge import embedded, kafka_local
from hub.edge.embedded import Embedded
from hub.edge.kafka_local import Broker
from hub.edge.sandboxes import SANDBOXES
from tests.e2e.process import Process, finish, running
from tests.e2e.systems import Systems, eventually, show, systems_on

SECONDS = 240.0
pytestmark = pytest.mark.timeout(900)


async def until(hub: Process, wanted: Callable[[int, dict[str, Any]], bool]) -> dict[str, Any]:
    """Return the trouble that /readyz tells of as soon as its answer is as wanted."""
    answers: list[tuple[int, dict[str, Any]]] = []

    async def as_wanted() -> bool:
        answers.append(await hub.ready())
        return wanted(*answers[-1])

    try:
        await eventually(as_wanted, SECONDS)
    except TimeoutError:
        raise AssertionError(f"/readyz still says {answers[-1]}") from None
    return dict(answers[-1][1].get("trouble") or {})


async def healthy(hub: Process) -> None:
    """Return when the hub is ready."""
    await until(hub, lambda status, _: status == 200)


async def edit(systems: Systems, mark: str) -> None:
    """One edit in each system, each of another person."""
    one, two, three = systems.friends[:3]
    await systems.crm_edit("contacts", one.crm, first_name=f"Crm {mark}")
    await systems.hubspot_edit("contacts", two.hubspot, jobtitle=f"Hubspot {mark}")
    await systems.mailchimp_edit(three.email, "tag", {"tags": sorted({mark, *TAGS})}, tags=[mark])
    TAGS.add(mark)


TAGS: set[str] = set()


async def assert_as_expected(systems: Systems) -> None:
    """Everything arrived everywhere."""
    await finish(systems)
    assert (problems := await systems.problems()) == [], show(problems)


async def test_postgresql_stops_and_comes_back(tmp_path: Path) -> None:
    TAGS.clear()
    with TemporaryDirectory(prefix="hub-test-", ignore_cleanup_errors=True) as directory:
        server = await embedded.start_async(Path(directory) / "data")
        try:
            async with systems_on(server, tmp_path, scale=0.02) as systems:
                server.stop()
                async with running(systems) as hub:
                    await asyncio.sleep(2.0)
                    assert hub.running, "a hub that starts before its database waits for it"
                    server.start_again()
                    await healthy(hub)
                    server.restart()  # in the middle of the first reading
                    await healthy(hub)
                    await edit(systems, "before")
                    server.stop()
                    assert await until(hub, lambda status, _: status == 503)
                    server.start_again()
                    await healthy(hub)
                    await edit(systems, "after")
                await assert_as_expected(systems)
        finally:
            server.leave()


@pytest.mark.kafka
async def test_the_kafka_broker_stops_and_comes_back(postgres: Embedded, broker: Broker, tmp_path: Path) -> None:
    TAGS.clear()
    async with systems_on(postgres, tmp_path, scale=0.02, log=broker.url) as systems:
        async with running(systems) as hub:
            await healthy(hub)
            await edit(systems, "before")
            await asyncio.to_thread(kafka_local.down, broker.data_dir)
            await edit(systems, "during")
            assert await until(hub, lambda status, _: status == 503)
            await asyncio.to_thread(kafka_local.up, broker.data_dir, broker.port)
            await healthy(hub)
            await edit(systems, "after")
        await assert_as_expected(systems)


class Vendor:
    """A vendor whose server goes away and comes back at its address, with all it knows."""

    def __init__(self, app: Starlette) -> None:
        self._app = app
        self._serving: Any = None
        self._port = 0

    async def start(self) -> str:
        """Listen; the URL."""
        self._serving = serve(self._app, port=self._port)
        server = await self._serving.__aenter__()
        self._port = server.port
        return str(server.url)

    async def stop(self) -> None:
        """Hang up."""
        await self._serving.__aexit__(None, None, None)


async def test_a_vendor_goes_away_and_comes_back(postgres: Embedded, tmp_path: Path) -> None:
    TAGS.clear()
    vendors = {name: Vendor(create()) for name, create in SANDBOXES.items()}

    @asynccontextmanager
    async def sandbox(name: str) -> AsyncIterator[str]:
        yield await vendors[name].start()
        await vendors[name].stop()

    async with systems_on(postgres, tmp_path, scale=0.02, sandbox=sandbox) as systems:
        async with running(systems) as hub:
            await systems.read_once()
            await edit(systems, "before")
            await vendors["hubspot"].stop()
            await systems.crm_edit("contacts", systems.friends[3].crm, first_name="Patient")
            trouble = await until(hub, lambda _, body: "target hubspot" in (body.get("trouble") or {}))
            assert not any("mailchimp" in part or "crm" in part for part in trouble), trouble
            await vendors["hubspot"].start()
            await healthy(hub)
            await edit(systems, "after")
        await assert_as_expected(systems)
