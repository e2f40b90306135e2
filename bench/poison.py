"""Prints how fast good records are delivered beside bad ones: writes per second without poison, and with 1 % of each kind.

    .venv/bin/python -m bench.poison [records]

Runs on an embedded PostgreSQL, with a target in memory that takes 2 ms for a call: of one write, and of 20, where one that
is bad fails the whole call and has to be found. The time is that until the last good record is there.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg

from hub.edge import embedded
from hub.edge.cli import quiet_logs
from hub.write import Write
from tests.promises.test_p3_order import POISONS
from tests.promises.told import Vendor, delivering, reached, scene

CALL_SECONDS = 0.002
BATCHES = (1, 20)


async def rate(url: str, records: int, poison: Any, batch: int) -> float:
    """Good records per second until the last of them is there."""
    bad: set[str] = set()

    async def behave(writes: Sequence[Write]) -> Any:
        await asyncio.sleep(CALL_SECONDS)
        if poison and bad & {w.golden_id for w in writes}:
            if len(writes) == 1:
                return await poison(writes)
            raise ValueError("one of them is bad")
        return None

    async with asyncpg.create_pool(url, min_size=1) as pool:
        shop = Vendor("shop", batch=batch, behave=behave)
        stage = await scene(pool, shop, call_seconds=0.5)
        ids = await stage.people(records)
        bad |= set(ids[::100]) if poison else set()
        began = time.perf_counter()
        async with delivering(stage, "shop"):
            await reached(records - len(bad), lambda: len(shop.applied - bad))
            return (records - len(bad)) / (time.perf_counter() - began)


async def main(records: int) -> None:
    """Print a line for each kind of poison."""
    quiet_logs("critical")
    with TemporaryDirectory(prefix="hub-bench-", ignore_cleanup_errors=True) as directory:
        server = await embedded.start_async(Path(directory) / "pg")
        try:
            for batch in BATCHES:
                clean = await rate(await server.create(f"clean_{batch}"), records, None, batch)
                print(f"calls of {batch:2}   without poison {clean:8,.0f} writes/s")
                for poison in POISONS:
                    url = await server.create(f"{poison.__name__}_{batch}")
                    beside = await rate(url, records, poison, batch)
                    print(f"            1 % {poison.__name__:<10} {beside:8,.0f} writes/s  {beside / clean:6.1%}")
        finally:
            server.leave()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 4_000))
