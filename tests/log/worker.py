"""A worker process for tests: writes "<partition> <offset> ." for every record after it has been handled."""

import asyncio
import logging
import os
import sys

from streams.app import run, stage_app
from streams.log import Batch


async def main(log_url: str, stage: str, topic: str, path: str, delay: str) -> None:
    out = os.open(path, os.O_WRONLY | os.O_APPEND)

    async def handle(batches: list[Batch]) -> None:
        await asyncio.sleep(float(delay))
        lines = [f"{batch.partition} {record.offset} ." for batch in batches for record in batch.records]
        os.write(out, ("\n".join(lines) + "\n").encode())

    await run([stage_app(stage, log_url, [topic], handle, call_records=200, waiting_records=200)])


logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
asyncio.run(main(*sys.argv[1:]))
