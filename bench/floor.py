"""How much of the live fold is PostgreSQL's, how much the driver's, and how much the hub's own.

    python -m bench.floor [--events 30000] [--people 5000] [--rounds 3] [--profile]

The fold job (bench/fold_job.py) on the embedded log, in calls as large as a worker's while it catches up, without Faust and
Kafka. In each round three runs, each on a fresh database:

hub      the project stage itself; every statement that it sends is kept, with its arguments
same     these statements alone, in the same transactions: what PostgreSQL and the driver take, with no thought in between
writes   of them only those that write: what must be stored for the promises that the hub gives, if nothing had to be read

CPU seconds per 100,000 events, medians; the share is of the hub's sum.
"""

import argparse
import asyncio
import cProfile
import json
import pstats
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from rich.console import Console
from rich.table import Table

from bench.fold_hub import CHANGES, golden, model, prepare
from bench.fold_job import OBJECT, Golden, Job, deliveries, encoded, wrong
from bench.fold_job import golden as expected
from bench.machine import cpu_of, described, server_of
from hub.edge import embedded
from hub.edge.main import collect_seldom
from streams.context import Context
from streams.log import NewRecord, PostgresLog
from streams.project import Project
from streams.records import Batch
from streams.stage import CALL_RECORDS
from streams.topics import changes_topic

RESULTS = Path(__file__).parent / "results" / "floor.json"
WRITES = ("insert", "update", "delete", "with given", "with saved", "select hub_log.append", "copy")

Call = list[tuple[str, tuple[Any, ...]]]


class Recording(asyncpg.Connection):  # type: ignore[misc]
    """Keeps what is sent over it, call by call, in `told`; a copy is kept with the table's name."""

    told: list[Call] | None = None

    async def _execute(self, query: str, args: Any, *how: Any, **more: Any) -> Any:
        if self.told is not None and args:
            self.told[-1].append((query, tuple(args)))
        return await super()._execute(query, args, *how, **more)

    async def copy_records_to_table(self, table_name: str, **how: Any) -> Any:
        """As the driver's."""
        if self.told is not None:
            self.told[-1].append(("copy", (table_name, how)))
        return await super().copy_records_to_table(table_name, **how)


@dataclass
class Scene:
    """A fresh database with the job on its log."""

    pool: asyncpg.Pool
    context: Context
    url: str
    calls: list[list[Batch]] = field(default_factory=list)


async def scene(server: embedded.Embedded, made: Sequence[tuple[str, bytes, Any]], kind: type) -> Scene:
    """Made for one run; the pool is the caller's to close."""
    url = await server.create(f"floor_{uuid.uuid4().hex[:10]}")
    pool = await asyncpg.create_pool(url, min_size=1, max_size=2, connection_class=kind)
    log = PostgresLog(pool)
    codec = await prepare(pool, log)
    reports = [NewRecord(changes_topic(s, OBJECT).name, key, codec.encode("event", datum)) for s, key, datum in made]
    for start in range(0, len(reports), 10_000):
        await log.append(reports[start : start + 10_000])
    await pool.execute("checkpoint")
    return Scene(pool, Context(model(), pool, log, codec), url, await batches(log))


async def batches(log: PostgresLog) -> list[list[Batch]]:
    """What is on the log, in calls: of every partition an even share."""
    ends = await log.ends([topic.name for topic in CHANGES])
    part, calls = CALL_RECORDS // len(ends), list[list[Batch]]()
    for start in range(0, max(ends.values()), part):
        some = [Batch(*place, tuple(await log.read(*place, start, part))) for place in ends if ends[place] > start]
        calls.append(some)
    return calls


async def measured(
    server: psutil.Process, calls: Sequence[Any], work: Callable[[Any], Any], profile: Any
) -> dict[str, float]:
    """CPU and time of working on all calls, one after another."""
    before, began, clock = cpu_of(server), time.process_time(), time.perf_counter()
    with profile:
        for call in calls:
            await work(call)
    return {
        "own": time.process_time() - began, "postgresql": cpu_of(server) - before, "seconds": time.perf_counter() - clock,
    }  # fmt: skip


async def of_hub(
    server: embedded.Embedded, made: Sequence[Any], right: Golden, told: list[Call] | None, profile: Any
) -> dict[str, float]:
    """The project stage; its golden records are held against the reference. Raises SystemExit where they are wrong."""
    found = await scene(server, made, Recording if told is not None else asyncpg.Connection)
    project = Project(found.context)

    async def work(call: list[Batch]) -> None:
        if told is not None:
            told.append([])
        await project(call)

    Recording.told = told
    taken = await measured(server_of(server), found.calls, work, profile)
    Recording.told = None
    await found.pool.close()
    if problem := wrong(await golden(found.url), right):
        raise SystemExit(f"the golden records are wrong: {problem}")
    return taken


async def of_statements(
    server: embedded.Embedded, made: Sequence[Any], told: list[Call], only: tuple[str, ...] | None
) -> dict[str, float]:
    """The same statements, or some of them."""
    found = await scene(server, made, asyncpg.Connection)
    kept = [[(q, a) for q, a in call if only is None or q.startswith(only)] for call in told]

    async def work(call: Call) -> None:
        async with found.pool.acquire() as conn, conn.transaction():
            for query, args in call:
                if query == "copy":
                    await conn.copy_records_to_table(args[0], **args[1])
                else:
                    await conn.fetch(query, *args)

    taken = await measured(server_of(server), kept, work, nullcontext())
    await found.pool.close()
    return taken


async def rounds(server: embedded.Embedded, options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Round after round, each run in turn."""
    reports = deliveries(Job(options.events, options.people))
    right, made = expected(reports), list(encoded(reports, lambda _, datum: datum))  # type: ignore[arg-type,return-value]
    told: list[Call] = []
    found: dict[str, list[dict[str, float]]] = {"hub": [], "same": [], "writes": []}
    if not options.only_hub:
        await of_hub(server, made, right, told, nullcontext())
    for _ in range(options.rounds):
        profile = cProfile.Profile() if options.profile else nullcontext()
        found["hub"].append(await of_hub(server, made, right, None, profile))
        Console(stderr=True).print(found["hub"][-1])
        if not options.only_hub:
            found["same"].append(await of_statements(server, made, told, None))
            found["writes"].append(await of_statements(server, made, told, WRITES))
        if isinstance(profile, cProfile.Profile):
            pstats.Stats(profile).sort_stats(options.profile).print_stats(options.lines)
    return found


def summary(found: dict[str, list[dict[str, float]]], events: int) -> list[dict[str, Any]]:
    """Medians per 100,000 events, by kind of run."""
    rows = []
    for name, some in found.items():
        if some:
            own, theirs = (statistics.median(one[k] for one in some) * 100_000 / events for k in ("own", "postgresql"))
            rate = statistics.median(events / one["seconds"] for one in some)
            rows.append({"run": name, "own": round(own, 2), "postgresql": round(theirs, 2), "events/s": round(rate)})
    whole = rows[0]["own"] + rows[0]["postgresql"]
    return [row | {"share": f"{(row['own'] + row['postgresql']) / whole:.0%}"} for row in rows]


async def main(options: argparse.Namespace) -> None:
    """Start a server, measure, print and store."""
    collect_seldom()
    with tempfile.TemporaryDirectory(prefix="hub-bench-", ignore_cleanup_errors=True) as directory:
        server = await embedded.start_async(Path(directory) / "pg")
        try:
            results = summary(await rounds(server, options), options.events)
        finally:
            server.leave()
    table = Table(*results[0], title=f"CPU seconds per 100,000 events; load {psutil.getloadavg()[0]:.1f}")
    for row in results:
        table.add_row(*map(str, row.values()))
    Console().print(table)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(described() | {"results": results}, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=30_000, help="events on the log")
    parser.add_argument("--people", type=int, default=5_000, help="golden records")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median counts")
    parser.add_argument("--only-hub", action="store_true", help="leave out the statements by themselves")
    parser.add_argument("--profile", choices=["tottime", "cumtime"], help="print where the hub's own time goes")
    parser.add_argument("--lines", type=int, default=45, help="of the profile")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results are written")
    asyncio.run(main(parser.parse_args()))
