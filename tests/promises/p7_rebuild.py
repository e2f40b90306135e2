"""A rebuild in small steps in a process of its own, which ends itself by kill -9 after some of them.

python -m tests.promises.p7_rebuild <database url> <data directory> <read:9, fold:2, or - for the end> <resumes: yes or no>
    <bytes that it holds in memory>
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import asyncpg

from streams import rebuild, rebuild_state
from streams.context import Context
from streams.log import open_log
from streams.registry import Codec, TableRegistry
from streams.replay import replay
from tests.stages.model import model


def small_steps(last: str, resumes: bool) -> None:
    """A rebuild reads 20 records at a time into buckets of some 30, and dies at its n-th step of a kind."""
    rebuild.READ, rebuild_state.BUCKET = 20, 30
    step, (kind, _, number) = rebuild_state.step, last.partition(":")
    left = iter(range(int(number or 0), 0, -1))

    async def counted(conn: Any, what: str, name: str, value: int) -> None:
        await step(conn, what, name, value)
        if what == kind and next(left) == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    rebuild.step = counted
    if not resumes:
        rebuild.load = _nothing


async def _nothing(*args: Any) -> None:
    """A rebuild that never goes on."""


async def main(url: str, directory: str, memory: int) -> None:
    """Rebuild, and tell what was found."""
    async with asyncpg.create_pool(url, min_size=1) as pool:
        log = open_log("postgresql://", pool)
        codec = await Codec.prepare(TableRegistry(pool))
        context = Context(model(), pool, log, codec, data_dir=Path(directory))
        found = await replay(context, options=rebuild.Options(memory=memory))
    print(json.dumps({"rebuilt": found.hashes, "live": found.live, "read": found.read, "events": found.events}))


if __name__ == "__main__":
    small_steps(sys.argv[3], sys.argv[4] == "yes")
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[5])))
