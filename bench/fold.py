"""The fold job: the hub beside Kafka Streams, Quix Streams, stock Faust and bare aiokafka, in one interleaved run.

    python -m bench.fold [--events 300000] [--people 50000] [--slow-events 30000] [--rounds 3] [--only NAME ...]

Variant A: golden records to a topic. Variant B: and in PostgreSQL; the hub knows B only, with claims, views, provenance,
identity, ledger and position in the same transaction. Rounds are interleaved, so that a machine that drifts is unfair to
all alike; the table shows medians. Every output is compared with the reference (bench/fold_job.py), and one that is wrong
is called so instead of being timed. CPU seconds are the worker's, and for B PostgreSQL's too; the broker's are nobody's.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import uuid
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import asyncpg
from rich.console import Console
from rich.table import Table

from bench.fold_contestants import CONTESTANTS, Arena
from bench.fold_hub import prepare
from bench.fold_job import OBJECT, Job, deliveries, encoded, golden
from bench.machine import described
from hub.edge import embedded, kafka_local
from streams.log import KafkaLog, NewRecord
from streams.topics import Topic, changes_topic

RESULTS = Path(__file__).parent / "results" / "fold.json"
APPEND_BATCH = 2_000
SOURCE = "fold.changes"
"""One topic with the events of all systems, for the peers; the hub reads a topic for each system and object."""

Result = dict[str, Any]


async def fill(arena: Arena) -> None:
    """Put the same events on the peers' topic and on the hub's."""
    await fill_source(arena)
    await _fill(arena, lambda system: changes_topic(system, OBJECT).name)


async def fill_source(arena: Arena) -> None:
    """Put the events on a new topic for the peers."""
    log = KafkaLog(arena.broker.url)
    await log.ensure_topics([Topic(arena.source, key="person")])
    await log.close()
    await _fill(arena, lambda _: arena.source)


async def _fill(arena: Arena, topic_of: Callable[[str], str]) -> None:
    log = KafkaLog(arena.broker.url)
    async with asyncpg.create_pool(await arena.server.create(f"schemas_{uuid.uuid4().hex[:12]}"), min_size=1) as pool:
        codec = await prepare(pool, log)
    records = (NewRecord(topic_of(system), key, value) for system, key, value in encoded(arena.reports, codec.encode))
    while some := list(islice(records, APPEND_BATCH)):
        await log.append(some)
    await log.close()


def summary(rounds: Sequence[Result]) -> Result:
    """The medians of a contestant's rounds, or what was wrong with one."""
    failed = next((one["wrong"] for one in rounds if one.get("wrong")), None)
    if failed:
        return {"wrong": failed}
    events = rounds[0]["events"]
    rates = [events / one["seconds"] for one in rounds]
    cpu = [(one["cpu"] + one["database_cpu"]) * 100_000 / events for one in rounds]
    return {
        "events": events, "events_per_second": round(statistics.median(rates)), "rounds": [round(r) for r in rates],
        "cpu_seconds_per_100k": round(statistics.median(cpu), 2), "cpu_rounds": [round(c, 2) for c in cpu],
        "emitted": round(statistics.median(one["emitted"] for one in rounds)), "peak_mib": rounds[-1].get("peak_mib"),
    }  # fmt: skip


def print_table(results: dict[str, Result], console: Console) -> None:
    """Medians, and how they stand to the hub's."""
    hub = results.get("hub: B", {})
    table = Table("what", "events", "events/s", "x hub", "CPU s per 100,000", "golden records emitted", "rounds")
    for name, one in results.items():
        if told := one.get("wrong") or one.get("skipped"):
            table.add_row(name, "", "WRONG" if one.get("wrong") else "skipped", "", "", "", told[:90])
            continue
        ratio = one["events_per_second"] / hub["events_per_second"] if "events_per_second" in hub else 0
        table.add_row(
            name, f"{one['events']:,}", f"{one['events_per_second']:,}", f"{ratio:.2f}", f"{one['cpu_seconds_per_100k']}",
            f"{one['emitted']:,}", ", ".join(f"{r:,}" for r in one["rounds"]),
        )  # fmt: skip
    console.print(table)


def document(results: dict[str, Result], job: Job) -> dict[str, Any]:
    """What the run was, for the record."""
    return {**described(), "job": {"events": job.events, "people": job.people}, "results": results}


async def measure(arena: Arena, names: Sequence[str], rounds: int, console: Console) -> dict[str, Result]:
    """Round after round, each contestant in turn; those that cannot run here say why."""
    results: dict[str, Result] = {}
    found: dict[str, list[Result]] = {}
    for name in names:
        if reason := CONTESTANTS[name].unavailable():
            results[name] = {"skipped": reason}
        else:
            found[name] = []
    for number in range(rounds):
        for name, taken in found.items():
            taken.append(await CONTESTANTS[name].run(arena))
            console.print(f"{number + 1}/{rounds} {name}: {taken[-1]}")
    return {name: results.get(name) or summary(found[name]) for name in names}


async def main(options: argparse.Namespace) -> None:
    """Start the servers, fill the topics, measure, print and store."""
    job = Job(options.events, options.people)
    with tempfile.TemporaryDirectory(prefix="hub-bench-", ignore_cleanup_errors=True) as directory:
        server = await embedded.start_async(Path(directory) / "pg")
        broker = kafka_local.up(Path(directory) / "kafka", port=0)
        try:
            reports = deliveries(job)
            arena = Arena(server, broker, reports, golden(reports), Path(directory), options.slow_events, SOURCE)
            await fill(arena)
            results = await measure(arena, options.only or list(CONTESTANTS), options.rounds, Console(stderr=True))
        finally:
            kafka_local.down(broker.data_dir)
            server.leave()
    print_table(results, Console())
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document(results, job), indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=300_000, help="events on the log")
    parser.add_argument("--people", type=int, default=50_000, help="golden records")
    parser.add_argument("--slow-events", type=int, default=20_000, help="of them, for stock Faust")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median counts")
    parser.add_argument("--only", nargs="*", choices=list(CONTESTANTS), help="these contestants alone")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results are written")
    asyncio.run(main(parser.parse_args()))
