"""Mutations for the promise that no captured change is lost: a hub that dies at the worst moment."""

import os
import signal
from dataclasses import replace

from connectors.kit.connector import Page
from streams.capture import Capture

_store = Capture._store


def _numbered(page: Page) -> bool:
    return any(str(change.fields.get("city") or "").startswith("Number ") for change in page.changes)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_before_it_acknowledges() -> None:
    """The order as it should be: what is stored is read again."""

    async def store(self: Capture, page: Page) -> None:
        await _store(self, page)
        if _numbered(page):
            _die()

    Capture._store = store  # type: ignore[method-assign]


def forgets_before_it_stores() -> None:
    """The order the other way round: the checkpoint is stored and the source told, and only then would the changes be."""

    async def store(self: Capture, page: Page) -> None:
        await _store(self, replace(page, changes=()))
        await page.acknowledge()
        if _numbered(page):
            _die()
        await _store(self, page)

    Capture._store = store  # type: ignore[method-assign]
