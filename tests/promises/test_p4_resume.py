"""P4: resume from any checkpoint. From each that was ever given out, with records created, updated and deleted since."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest

from connectors.kit.connector import Checkpoint, Page
from connectors.mailchimp import scan
from connectors.mailchimp.audience import Audience, Listing
from connectors.mailchimp.scan import _iso
from hub.change import Change
from tests.promises import p4
from tests.promises.mutations import broken, mutation
from tests.promises.p4 import SOURCES, Source, folded

Figures = Callable[..., None]
PAGES_WITH_CHANGES = 4
"""Between the first pages somebody changes something; later no more, or small pages would never catch up."""


@pytest.fixture(params=SOURCES)
async def source(request: pytest.FixtureRequest, database: str) -> AsyncIterator[Source]:
    """Each source in turn."""
    async with p4.opened(request.param, database) as made:
        yield made


async def read(source: Source, checkpoint: Checkpoint | None, changing: bool = False) -> list[Page]:
    """One poll to its end by a new process, which crashes before it acknowledges anything."""
    connector = await source.fresh()
    found: list[Page] = []
    async with aclosing(connector.poll(source.stream, checkpoint)) as pages:
        async for page in pages:
            found.append(page)
            if changing and len(found) <= PAGES_WITH_CHANGES:
                await source.change(len(found))
    await connector.close()
    return found


def all_of(pages: list[Page]) -> list[Change]:
    """The changes of pages in their order."""
    return [change for page in pages for change in page.changes]


async def check_every_checkpoint_resumes(source: Source) -> dict[str, int]:
    """Restart from each checkpoint S_i, something having changed in between: what was read up to S_i and what is read
    after are together what is there. Counts checkpoints and changes."""
    pages: list[Page] = []
    reread = 0
    for _ in range(2):  # two polls, for a database forgets what is before the checkpoint that was last resumed from
        new = await read(source, pages[-1].checkpoint if pages else None, changing=True)
        for page in new:
            pages.append(page)
            await source.change(100 + len(pages))
            rest = all_of(await read(source, page.checkpoint))
            assert rest, f"nothing was read after {page.checkpoint}, although there were changes"
            found = folded(source, [*all_of(pages), *rest])
            assert found == await _truth(source, found), f"resumed from checkpoint {len(pages)}: {page.checkpoint}"
            reread += len(rest)
    return {"checkpoints": len(pages), "read": len(all_of(pages)), "read_after": reread}


async def check_every_checkpoint_of_a_snapshot_resumes(source: Source) -> dict[str, int]:
    """A snapshot while others change things, resumed from each of its checkpoints: with what a poll brings since before
    it, it is what is there."""
    before = (await read(source, None))[-1].checkpoint
    chunks = [page async for page in _chunks(source, None, changing=True)]
    for place, chunk in enumerate(chunks):
        await source.change(100 + place)
        rest = [page async for page in _chunks(source, chunk.checkpoint)]
        polled = all_of(await read(source, before))
        assert polled, "nothing was polled, although there were changes"
        found = folded(source, [*polled, *all_of(chunks[: place + 1]), *all_of(rest)])
        assert found == await _truth(source, found), f"resumed from chunk {place}: {chunk.checkpoint}"
    return {"chunks": len(chunks), "rows": len(all_of(chunks))}


async def _chunks(source: Source, checkpoint: Checkpoint | None, changing: bool = False) -> AsyncIterator[Page]:
    connector: Any = await source.fresh()
    number = 0
    async with aclosing(connector.snapshot(source.stream, source.object, checkpoint)) as pages:
        async for page in pages:
            yield page
            number += 1
            if changing and number <= PAGES_WITH_CHANGES:
                await source.change(number)
    await connector.close()


async def _truth(source: Source, found: dict[str, Any]) -> dict[str, Any]:
    """The truth in the shape of what was found: an activity's id ends with its second, which nobody else tells."""
    truth = await source.truth()
    if source.object != "activity":
        return truth
    named = {id_.rpartition("-")[0]: id_ for id_ in found}
    assert len(named) == len(found)
    return {named.get(name, name): value for name, value in truth.items()}


@pytest.mark.timeout(120)
async def test_every_checkpoint_resumes(source: Source, figures: Figures) -> None:
    counted = await check_every_checkpoint_resumes(source)
    assert counted["checkpoints"] >= 5
    figures("P4", source=f"{type(source).__name__} {source.stream}", **counted)


@pytest.mark.timeout(120)
async def test_every_checkpoint_of_a_snapshot_resumes(source: Source, figures: Figures) -> None:
    counted = await check_every_checkpoint_of_a_snapshot_resumes(source)
    assert counted["chunks"] >= 3
    figures("P4", snapshot=f"{type(source).__name__} {source.stream}", **counted)


async def only_later(audience: Audience, since: int, status: str | None) -> Listing:
    """A cursor that goes on behind the last second it saw: others of that second are skipped."""
    return await audience.listing(since_last_changed=_iso(since), status=status)


async def test_every_checkpoint_resumes_fails_without_looking_at_equal_timestamps() -> None:
    async with p4.members() as source:
        with broken("members of one second"), mutation(scan, "_page", only_later):
            await check_every_checkpoint_resumes(source)
