"""A hub on a fresh PostgreSQL database, without vendors."""

import asyncpg
import pytest

from tests.stages.model import model
from tests.stages.support import Stages, make


@pytest.fixture
async def hub(pool: asyncpg.Pool) -> Stages:
    return await make(pool, model())
