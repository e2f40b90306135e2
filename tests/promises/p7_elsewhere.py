"""Rebuild in another process, perhaps by another Python: prints the hashes of what came out.

python -m tests.promises.p7_elsewhere <database url>
"""

import asyncio
import json
import sys

import asyncpg

from streams.context import Context
from streams.log import open_log
from streams.registry import Codec, TableRegistry
from streams.replay import replay
from tests.stages.model import model


async def main(url: str) -> None:
    """Replay the log of the hub of tests/stages in this database."""
    async with asyncpg.create_pool(url, min_size=1) as pool:
        log = open_log("postgresql://", pool)
        found = await replay(Context(model(), pool, log, await Codec.prepare(TableRegistry(pool))))
    print(json.dumps({"python": sys.version.split()[0], "rebuilt": found.hashes, "live": found.live}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
