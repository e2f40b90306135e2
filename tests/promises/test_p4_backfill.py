"""P4, a snapshot while changes are captured: nothing older wins, nothing is missing, killed and resumed on the way."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import asyncpg
import orjson
import pytest

from hub.change import Change
from streams import backfill, capture
from streams.backfill import current
from streams.context import Context
from streams.log_postgres import Connection
from streams.records import NewRecord
from tests.promises import p4
from tests.promises.backfilling import Hub, hub_on, overtaken
from tests.promises.mutations import broken, mutation
from tests.promises.p4 import Source

Figures = Callable[..., None]
SOURCES = ("postgresql/logical", "postgresql/outbox", "hubspot/contacts", "mailchimp/members")
EDITS = 8


@pytest.fixture(params=SOURCES)
async def source(request: pytest.FixtureRequest, database: str) -> AsyncIterator[Source]:
    """Each source in turn."""
    async with p4.opened(request.param, database) as made:
        yield made


@pytest.fixture
async def logical(database: str) -> AsyncIterator[Source]:
    """A CRM captured by its log."""
    async with p4.database(database, "logical") as made:
        yield made


async def check_a_snapshot_fits_the_stream(pool: asyncpg.Pool, source: Source) -> dict[str, Any]:
    """While records are created, updated and deleted between the reading and the appending of each chunk, and the worker is
    killed: the hub holds what is there, each record that was there all the time was read, and nothing older stands
    behind what is newer."""
    hub = await hub_on(pool, source)
    before, first = await source.truth(), await hub.events()
    turns = await hub.run_snapshot(EDITS)
    await hub.capture.step()
    truth, held = await source.truth(), await hub.held()
    assert held == {id_: _name(content) for id_, content in truth.items()}, "the hub does not hold what is there"
    events = await hub.events()
    again = Counter(e.external_id for e in events) - Counter(e.external_id for e in first)
    unread = (before.keys() & truth.keys()) - again.keys()
    assert unread == set(), f"neither read by the snapshot nor captured meanwhile: {unread}"
    late = overtaken(events)
    assert late == [], f"older rows stand behind newer events of {late}"
    row = await hub.snapshot()
    return {"rows": row["rows"], "dropped": row["dropped"], "turns": turns, "edits": EDITS}


def _name(content: Any) -> Any:
    return content[0] if isinstance(content, tuple) else content


@pytest.mark.timeout(120)
async def test_a_snapshot_fits_the_stream(pool: asyncpg.Pool, source: Source, figures: Figures) -> None:
    counted = await check_a_snapshot_fits_the_stream(pool, source)
    assert counted["dropped"] > 0
    figures("P4", snapshot=f"{type(source).__name__} {source.stream}", **counted)


def newest_word(rows: Sequence[Change], window: Mapping[str, int]) -> list[Change]:
    """No watermark: what was read counts as of when it is appended."""
    latest = max(window.values(), default=0) + 1
    return [replace(row, version=max(latest, row.version or 0)) for row in rows]


def all_of_them(rows: Sequence[Change], window: Mapping[str, int]) -> list[Change]:
    """A watermark, and no look at what came meanwhile."""
    return list(rows)


@pytest.mark.parametrize("mutant", [newest_word, all_of_them])
async def test_a_snapshot_fits_the_stream_fails_without_watermarks(
    pool: asyncpg.Pool, logical: Source, mutant: Callable[[Sequence[Change], Mapping[str, int]], list[Change]]
) -> None:
    with broken("an older row wins"), mutation(backfill, "current", mutant):
        await check_a_snapshot_fits_the_stream(pool, logical)


async def test_a_row_is_dropped_only_for_an_event_that_is_as_new() -> None:
    rows = [Change("s", "o", id_, {}, version=5) for id_ in ("unseen", "older", "tied", "newer")]
    kept = current(rows, {"older": 4, "tied": 5, "newer": 6, "other": 9})
    assert [row.external_id for row in kept] == ["unseen", "older"]


async def test_a_snapshot_finds_what_the_capture_missed(pool: asyncpg.Pool, database: str) -> None:
    """Rows changed while somebody had switched the triggers off are news to the snapshot only."""
    async with p4.database(database, "outbox") as source:
        assert isinstance(source, p4.Database)
        hub = await hub_on(pool, source)
        await source.crm.run(
            "ALTER TABLE contacts DISABLE TRIGGER hub_outbox_change",
            "UPDATE contacts SET first_name = 'unseen' WHERE id < 4",
            "ALTER TABLE contacts ENABLE ALWAYS TRIGGER hub_outbox_change",
        )
        await hub.capture.step()
        assert "unseen" not in (await hub.held()).values()
        await hub.run_snapshot(0, crash=False)
        assert [id_ for id_, name in sorted((await hub.held()).items()) if name == "unseen"] == ["1", "2", "3"]


class Crash(ConnectionError):
    """The worker's end."""


async def check_no_crash_loses_a_page(pool: asyncpg.Pool, source: Source) -> int:
    """Each page is tried twice: at first the worker dies when it is about to append. Then the log holds what is there.
    Counts crashes."""
    hub = await hub_on(pool, source)
    append, calls = capture.append, 0

    async def dying(context: Context, conn: Connection, records: Sequence[NewRecord]) -> None:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise Crash
        await append(context, conn, records)

    with mutation(capture, "append", dying):
        for number in range(1, 6):
            await source.change(number)
        while await _dies(hub):
            await hub.restart()
    held, truth = await hub.held(), await source.truth()
    assert held == {id_: _name(content) for id_, content in truth.items()}, (
        f"changes were lost in one of {calls} crashes"
    )
    return calls // 2


async def _dies(hub: Hub) -> bool:
    try:
        await hub.capture.step()
    except Crash:
        return True
    return False


async def test_no_crash_loses_a_page(pool: asyncpg.Pool, logical: Source, figures: Figures) -> None:
    crashes = await check_no_crash_loses_a_page(pool, logical)
    assert crashes >= 5
    figures("P4", crashes=crashes)


async def checkpoint_first(one: capture.Capture, page: Any) -> None:
    """A checkpoint that is durable before its changes are."""
    await one.context.pool.execute(
        "update hub.checkpoint set state = $3 where system = $1 and stream = $2",
        one.system, one.stream.name, orjson.dumps(page.checkpoint).decode(),
    )  # fmt: skip
    records = await capture.to_records(one.context, page.changes)
    async with one.context.pool.acquire() as conn, conn.transaction():
        await capture.append(one.context, conn, records)


async def test_no_crash_loses_a_page_fails_with_the_checkpoint_before_its_changes(
    pool: asyncpg.Pool, logical: Source
) -> None:
    with broken("a page is skipped"), mutation(capture.Capture, "_store", checkpoint_first):
        await check_no_crash_loses_a_page(pool, logical)
