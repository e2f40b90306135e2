"""Whether a worker's speed and memory stay what they were as the work grows, and what a second worker is worth.

    python -m bench.growth [--events 100000] [--records 1000 10000 100000] [--edits 20000] [--rounds 1] [--full]

The project stage as it is live, on the embedded log, each worker a process of its own on a fresh database.

events     all of 20,000 records made first, then so many edits of random ones: events/s and CPU of the stretches that
           end at 1,000, 2,000, 5,000, 10,000 … edits, and the worker's memory there
records    for each number: all records made first, then edits of random ones; events/s and CPU of the edits
workers    one worker, and two, on the same events, in turn
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import orjson
import psutil
from rich.console import Console
from rich.table import Table

from bench.fold_hub import CHANGES, model, prepare
from bench.fold_job import OBJECT, START, SYSTEMS, TRUTH, Report
from bench.machine import cpu_of, described, server_of
from hub.edge import embedded
from hub.edge.cli import quiet_logs
from hub.edge.main import collect_seldom
from hub.edge.stopping import until_told
from streams.app import Workers, stage_app
from streams.context import Context
from streams.log import NewRecord, PostgresLog
from streams.project import STAGE, Project
from streams.records import Batch
from streams.registry import Codec
from streams.topics import changes_topic

RESULTS = Path(__file__).parent / "results" / "growth.json"
PORTION = 20_000
RECORDS = 20_000
"""Of the series of events."""
console = Console(stderr=True)


def reports(records: int, events: int, seed: int = 5) -> Iterator[Report]:
    """So many events: each record once, in turn, and then edits of random ones; nothing is kept in memory."""
    random = Random(seed)
    for n in range(events):
        number = n if n < records else random.randrange(records)
        person, system = divmod(number, len(SYSTEMS))
        values = {name: f"{name} of person {person}" for name in TRUTH} | {"email": f"person{person}@example.com"}
        if n >= records:
            values |= {name: f"{name} {random.randrange(1_000_000)}" for name in ("city", "tier")}
        yield Report(SYSTEMS[system], person, START + n * 1_000, values)


async def fill(pool: asyncpg.Pool, log: PostgresLog, codec: Codec, made: Iterator[Report]) -> None:
    """Append them; workers see all of them at once."""
    records = (
        NewRecord(
            changes_topic(one.system, OBJECT).name, b"%d" % one.person, codec.encode("event", one.event().to_avro())
        )
        for one in made
    )
    async with pool.acquire() as conn, conn.transaction():
        while some := list(islice(records, PORTION)):
            await log.append_in(conn, some)


class Meter:
    """Calls the stage; prints, as JSON, the time, the CPU and the memory before the first call and after each."""

    def __init__(self, project: Project, server: psutil.Process) -> None:
        self.project, self.server, self.here = project, server, psutil.Process()
        self.handled = self.peak = 0

    async def __call__(self, batches: list[Batch]) -> None:
        """One call of the stage."""
        if not self.handled:
            self.tell()
        await self.project(batches)
        self.handled += sum(len(batch.records) for batch in batches)
        self.peak = max(self.peak, self.here.memory_info().rss >> 20)
        self.tell()

    def tell(self) -> None:
        """One line."""
        said = {
            "events": self.handled, "at": time.time(), "cpu": time.process_time(), "database_cpu": cpu_of(self.server),
            "peak_mib": self.peak,
        }  # fmt: skip
        print(orjson.dumps(said).decode(), flush=True)


async def work(state_url: str, server: psutil.Process) -> None:
    """A worker, until it is told to stop."""
    async with asyncpg.create_pool(state_url, min_size=1) as pool:
        log = PostgresLog(pool)
        context = Context(model(), pool, log, await prepare(pool, log))
        meter = Meter(Project(context), server)
        workers = Workers([stage_app(STAGE, state_url, [t.name for t in CHANGES], meter)])
        await workers.start()
        await workers.ready()
        print("ready", flush=True)
        await until_told()
        await workers.stop()


async def run(server: embedded.Embedded, records: int, events: int, workers: int = 1) -> list[list[dict[str, Any]]]:
    """What each worker told of one run on a fresh database."""
    name = f"growth_{uuid.uuid4().hex[:10]}"
    url = await server.create(name)
    async with asyncpg.create_pool(url, min_size=1) as pool:
        log = PostgresLog(pool)
        codec = await prepare(pool, log)
        at_work = [await _worker(url, server) for _ in range(workers)]
        await fill(pool, log, codec, reports(records, events))
        await _done(pool, events, at_work)
    told = [await _ended(one) for one in at_work]
    conn = await asyncpg.connect(server.url())
    await conn.execute(f"drop database {name} with (force)")
    await conn.close()
    return told


async def _worker(url: str, server: embedded.Embedded) -> asyncio.subprocess.Process:
    """A worker that takes part."""
    command = (sys.executable, "-m", "bench.growth", "--one", url, str(server_of(server).pid))
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, limit=1 << 24)
    assert child.stdout is not None
    await child.stdout.readline()
    return child


async def _done(pool: asyncpg.Pool, events: int, at_work: list[asyncio.subprocess.Process]) -> None:
    """Return when all is processed; tells how far it is."""
    while True:
        done = await pool.fetchval("select coalesce(sum(processed + duplicates), 0) from hub.position")
        if done >= events:
            return
        if any(one.returncode is not None for one in at_work):
            raise SystemExit("a worker ended")
        console.print(f"  {done:,} of {events:,} events", end="\r")
        await asyncio.sleep(0.5)


async def _ended(child: asyncio.subprocess.Process) -> list[dict[str, Any]]:
    """What a worker told, after it has stopped."""
    child.terminate()
    out, _ = await child.communicate()
    return [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]


def stretch(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What came between two lines of a worker."""
    events, seconds = after["events"] - before["events"], after["at"] - before["at"]
    scale = 100_000 / max(1, events)
    return {
        "events": after["events"], "events_per_second": round(events / seconds) if seconds else 0,
        "cpu_per_100_000": round((after["cpu"] - before["cpu"]) * scale, 1),
        "database_cpu_per_100_000": round((after["database_cpu"] - before["database_cpu"]) * scale, 1),
        "peak_mib": after["peak_mib"],
    }  # fmt: skip


def edited(told: list[dict[str, Any]], records: int) -> list[dict[str, Any]]:
    """What came once all records were made, counted from there."""
    rest = [one for one in told if one["events"] >= records]
    return [one | {"events": one["events"] - rest[0]["events"]} for one in rest]


def marks(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first line, those at 1,000, 2,000, 5,000 … events, and the last."""
    found, wanted = told[:1], (n * 10**power for power in range(3, 9) for n in (1, 2, 5))
    mark = next(wanted)
    for one in told[1:]:
        if one["events"] >= mark:
            found.append(one)
            mark = next(n for n in wanted if n > one["events"])
    return found if found[-1] is told[-1] else [*found, told[-1]]


async def by_events(server: embedded.Embedded, events: int) -> list[dict[str, Any]]:
    """Stretches of one run."""
    (told,) = await run(server, RECORDS, RECORDS + events)
    return [stretch(one, next_) for one, next_ in pairwise(marks(edited(told, RECORDS)))]


async def by_records(server: embedded.Embedded, sizes: list[int], edits: int) -> list[dict[str, Any]]:
    """The edits, by how many records there are; they are the last events of a run."""
    found = []
    for records in sizes:
        (told,) = await run(server, records, records + edits)
        of_edits = edited(told, records)
        found.append({"records": records} | stretch(of_edits[0], of_edits[-1]))
        print_table("records", found)
    return found


async def by_workers(server: embedded.Embedded, events: int, rounds: int) -> list[dict[str, Any]]:
    """One worker and two, in turn; seconds from the first call of any until the last of any has ended."""
    found: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    for _ in range(rounds):
        for workers, some in found.items():
            busy = [one for one in await run(server, max(1, events // 3), events, workers) if one]
            seconds = max(one[-1]["at"] for one in busy) - min(one[0]["at"] for one in busy)
            cpu = sum(one[-1]["cpu"] - one[0]["cpu"] for one in busy)
            some.append(
                {"rate": events / seconds, "cpu": cpu * 100_000 / events, "shares": [o[-1]["events"] for o in busy]}
            )
    return [
        {"workers": workers, "events_per_second": round(statistics.median(one["rate"] for one in some)),
         "cpu_per_100_000": round(statistics.median(one["cpu"] for one in some), 1),
         "shares": [one["shares"] for one in some]}
        for workers, some in found.items()
    ]  # fmt: skip


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    """Figures as they are."""
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    Console().print(table)


async def main(options: argparse.Namespace) -> None:
    """Measure one series after another; what is there is kept after each."""
    results: dict[str, list[dict[str, Any]]] = {}

    def keep(name: str, rows: list[dict[str, Any]]) -> None:
        results[name] = rows
        print_table(name, rows)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(described() | {"results": results}, indent=2) + "\n")

    with tempfile.TemporaryDirectory(prefix="hub-bench-", ignore_cleanup_errors=True) as directory:
        server = await embedded.start_async(Path(directory) / "pg")
        try:
            keep("workers", await by_workers(server, options.shared, options.rounds))
            keep("events", await by_events(server, options.events))
            keep("records", await by_records(server, options.records, options.edits))
        finally:
            server.leave()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=50_000, help="edits of the series of events")
    parser.add_argument("--records", type=int, nargs="+", default=[1_000, 10_000], help="of the series of records")
    parser.add_argument("--edits", type=int, default=10_000, help="for each number of records")
    parser.add_argument("--shared", type=int, default=30_000, help="events for one worker, and for two")
    parser.add_argument("--rounds", type=int, default=1, help="of the series of workers; the median counts")
    parser.add_argument("--full", action="store_true", help="1,000,000 events, 1,000 to 1,000,000 records, 3 rounds")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results are written")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.full:
        given.events, given.edits, given.shared, given.rounds = 1_000_000, 100_000, 300_000, 3
        given.records = [1_000, 10_000, 100_000, 1_000_000]
    if given.one:
        quiet_logs("error")
        collect_seldom()
        with suppress(KeyboardInterrupt):
            asyncio.run(work(given.one[0], psutil.Process(int(given.one[1]))))
    else:
        asyncio.run(main(given))
