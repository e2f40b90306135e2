"""P10: a source that hangs, breaks or computes stops no other; and a real vendor's new token resumes its target by itself."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from connectors.kit.connector import Page, Stream
from hub.change import Change
from hub.edge import sandboxes
from hub.edge.embedded import Embedded
from streams import calling, capture, heartbeat
from streams.backfill import Backfill
from streams.capture import Capture
from tests.e2e.systems import eventually, hub_on, settled, show, systems_on
from tests.e2e.test_faults import alerts
from tests.promises.mutations import broken, mutation
from tests.promises.told import Vendor, reached, scene

PAGES = 5


async def good_pages() -> AsyncGenerator[Page, None]:
    """One page with one change each time."""
    at = time.time_ns()
    yield Page([Change("shop", "customers", f"s{at}", {"name": "x"}, version=at)], {"at": at})


async def hanging_pages() -> AsyncGenerator[Page, None]:
    yield Page([], {})
    await asyncio.Event().wait()


async def breaking_pages() -> AsyncGenerator[Page, None]:
    yield Page([], {})
    raise KeyError("a bug of the connector")


async def garbage_pages() -> AsyncGenerator[Page, None]:
    yield "no page"  # type: ignore[misc]


async def hanging_acknowledgement() -> AsyncGenerator[Page, None]:
    async def never() -> None:
        await asyncio.Event().wait()

    yield Page([], {}, never)


BAD = (hanging_pages, breaking_pages, garbage_pages, hanging_acknowledgement)


@asynccontextmanager
async def capturing(context: Any, *systems: str) -> Any:
    """Read these systems meanwhile; gives their captures."""
    captures = [Capture(context, system, Stream("all", ("any",), 0.05)) for system in systems]
    running = [asyncio.create_task(capture.forever(one, Backfill(context, one.system, one.stream))) for one in captures]
    try:
        yield captures
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=10.0)


async def check_a_source_ends_and_others_go_on(pool: asyncpg.Pool, pages: Any, seconds: float = 20.0) -> None:
    """Beside a source like this another is read again and again, and this one is seen to be in trouble."""
    stage = await scene(pool, Vendor("crm", pages=pages), Vendor("shop", pages=good_pages), call_seconds=0.2)
    read: list[int] = []

    async def count() -> None:
        while True:
            read[:] = [
                await stage.pool.fetchval("select coalesce(max(changes), 0) from hub.checkpoint where system = 'shop'")
            ]
            await asyncio.sleep(0.05)

    async with capturing(stage.context, "crm", "shop") as (bad, _):
        counting = asyncio.create_task(count())
        done = await reached(PAGES, lambda: read[0] if read else 0, seconds)
        seen = await reached(1, lambda: int(not bad.healthy), seconds)
        counting.cancel()
    assert done, f"{read} of {PAGES} pages of the healthy source were read"
    assert seen, "nobody was told of the bad source"


@pytest.mark.parametrize("pages", BAD, ids=lambda one: one.__name__)
async def test_a_bad_source_stops_no_other(pool: asyncpg.Pool, pages: Any) -> None:
    await check_a_source_ends_and_others_go_on(pool, pages)


async def test_being_told_fails_without_cutting_off(pool: asyncpg.Pool) -> None:
    async def unbounded(work: Any, seconds: float, what: str) -> Any:
        return await work

    with mutation(calling, "bounded", unbounded), broken("no time-out for pages"):
        await check_a_source_ends_and_others_go_on(pool, hanging_pages, 3.0)


async def check_a_blocked_loop_is_seen() -> float:
    """A connector that computes for a second and a half is seen in the gauge."""
    heartbeat._late.clear()
    beating = asyncio.create_task(heartbeat.forever())
    await asyncio.sleep(0.05)
    time.sleep(1.5)  # noqa: ASYNC251 - it blocks the event loop, on purpose
    await asyncio.sleep(0.4)
    beating.cancel()
    assert heartbeat.worst() > 1.0, f"{heartbeat.worst():.2f} s were seen of 1.5"
    return heartbeat.worst()


async def test_a_blocked_event_loop_is_seen() -> None:
    await check_a_blocked_loop_is_seen()


async def test_being_seen_fails_without_a_heartbeat() -> None:
    async def silent() -> None:
        await asyncio.Event().wait()

    with mutation(heartbeat, "forever", silent), broken("no heartbeat"):
        await check_a_blocked_loop_is_seen()


async def test_a_new_token_in_its_file_resumes_a_real_target(
    postgres: Embedded, tmp_path: Path, figures: Callable[..., None]
) -> None:
    file = tmp_path / "token"
    rules = {"access_token: ${HUBSPOT_TOKEN}": f"access_token: file:{file}"}
    async with systems_on(postgres, tmp_path, scale=0.02, rules=rules) as systems:
        file.write_text(systems.env["HUBSPOT_TOKEN"])
        async with hub_on(systems) as (hub, _):
            await settled(hub, systems)
            await sandboxes.control(systems.hubspot, "seed", {"token": "pat-another-token"})
            for number, friend in enumerate(systems.friends[:3]):
                await systems.crm_edit("contacts", friend.crm, first_name=f"Patient{number}")
            paused = "select count(*) from hub.pause where target = 'hubspot'"
            await eventually(lambda: hub.context.pool.fetchval(paused))
            file.write_text("pat-another-token")
            await eventually(lambda: hub.context.pool.fetchval(f"select ({paused}) = 0"))
            await settled(hub, systems)
            assert (problems := await systems.problems()) == [], show(problems)
            assert await alerts(hub, "target_paused") == ["raised", "cleared"]
            assert (
                await hub.context.pool.fetchval(
                    "select count(*) from hub.write where code in ('attempts', 'connector')"
                )
                == 0
            )
    figures("P10", token_renewed_in_its_file=1, alerts=1, parked=0)
