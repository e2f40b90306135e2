"""A running hub on three systems, anew for each test that asks for it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.edge.embedded import Embedded
from tests.e2e.systems import Systems, systems_on


@pytest.fixture
async def systems(postgres: Embedded, tmp_path: Path) -> AsyncIterator[Systems]:
    """Three systems with overlapping, conflicting contents; no hub yet."""
    async with systems_on(postgres, tmp_path) as systems:
        yield systems
