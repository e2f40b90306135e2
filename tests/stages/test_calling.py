"""Cutting connectors off: what was asked is at an end before its pages are closed."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from streams.calling import CutOff, bounded, closing, paced


class Source:
    """Pages of which the second does not come; it takes a moment to tidy up, or `deaf` bears its cancellation."""

    def __init__(self, deaf: bool = False) -> None:
        self.deaf = deaf
        self.asked = asyncio.Event()
        self.tidied = False

    async def pages(self) -> AsyncGenerator[int, None]:
        """One page, and nothing more."""
        try:
            yield 1
            self.asked.set()
            await self._wait()
        finally:
            self.tidied = True

    async def _wait(self) -> None:
        while True:
            try:
                await asyncio.sleep(3_600)
            except asyncio.CancelledError:
                if not self.deaf:
                    await asyncio.sleep(0.05)
                    raise


async def read(source: Source, seconds: float) -> None:
    async with closing(source.pages()) as pages:
        async for _ in paced(pages, seconds, "reading"):
            pass


async def test_a_reading_that_is_cancelled_ends_as_cancelled_with_its_source_tidied_up() -> None:
    source = Source()
    reading = asyncio.create_task(read(source, 3_600))
    await source.asked.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert source.tidied


async def test_a_reading_of_a_source_that_does_not_stop_is_cut_off_and_says_so() -> None:
    source = Source(deaf=True)
    with pytest.raises(CutOff, match="reading took longer"):
        await read(source, 0.05)
    assert not source.tidied
    source.deaf = False  # and it may end now


async def test_a_call_that_is_cancelled_has_ended_when_its_caller_goes_on() -> None:
    source = Source()
    pages = source.pages()
    assert await anext(pages) == 1
    calling = asyncio.create_task(bounded(anext(pages), 3_600, "asking"))
    await source.asked.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert not pages.ag_running
