"""Prints how long it takes to see a golden record, and all systems' views of it, as it was at a random instant.

    .venv/bin/python -m bench.past [events]

A log of so many events (1,000,000) of three systems on an embedded PostgreSQL, with a receipt for every tenth: 20 events for
each person on average, some hundreds for a few. Log and index are filled by COPY with what the stages would leave.
"""

import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from random import Random
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import orjson

from hub.change import Change
from hub.edge import embedded, history, reasons
from hub.edge.cli import quiet_logs
from hub.edge.main import collect_seldom
from hub.errors import Reject
from hub.event import Event, record
from hub.identity import IdentityEvent, golden_id
from hub.values import moment
from streams import past_index
from streams.records import partition_of
from streams.topics import IDENTITY, PARTITIONS, RECEIPTS, changes_topic
from tests.stages.model import model
from tests.stages.support import SECOND, START, Stages, make

RESULTS = Path(__file__).parent / "results" / "past.json"
EACH, CHUNK, QUESTIONS = 20, 20_000, 500
SYSTEMS = (("crm", "contacts"), ("shop", "customers"), ("news", "members"))


def changes(random: Random, events: int) -> Iterator[Change]:
    """Edits of people by three systems; one person in a hundred is edited twenty times as often."""
    people = max(1, events // EACH)
    for n in range(events):
        person = random.randrange(max(1, people // 100)) if random.random() < 0.2 else random.randrange(people)
        system, object_ = random.choice(SYSTEMS)
        at = START + n * SECOND // 10
        fields = {
            "email": f"p{person}@example.com", "name": f"Name {random.randrange(50)}",
            "city": random.choice(("Bonn", "Berlin", "Köln")), "zip": str(random.randrange(10_000, 99_999)),
            "phone": f"+4930{random.randrange(100_000, 999_999)}", "tier": random.choice(("gold", "silver")),
            "tags": random.choice(("a;b", "b")),
        }  # fmt: skip
        yield Change(system, object_, str(person), fields, version=at, at=at)


@dataclass
class Filling:
    """Writes what capture, the project stage and deliverers would leave of events, by COPY: the log, the events' places,
    links and receipts. The steps before and after a fold cost nothing when one asks of the past, so they are left out."""

    hub: Stages
    events: int
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    homes: dict[tuple[str, str, str], str] = field(default_factory=dict)
    partitions: dict[tuple[str, int], int] = field(default_factory=dict)

    async def fill(self, random: Random) -> None:
        """All of it, in portions."""
        pool = self.hub.context.pool
        rows = await pool.fetch(
            "select t.name, p.number, p.id from hub_log.partition p join hub_log.topic t on t.id = p.topic_id"
        )
        self.partitions = {(name, number): id_ for name, number, id_ in rows}
        every = enumerate(changes(random, self.events), 1)
        while some := list(islice(every, CHUNK)):
            await self._copy([(n, record(change, int(change.at or 0) + SECOND)) for n, change in some])
            print(f"  {some[-1][0]:,} events", end="\r", flush=True)
        await pool.execute("select setval('hub.processed', $1)", self.events + 1)
        ends = [(self.partitions[place], end) for place, end in self.offsets.items()]
        await pool.executemany("update hub_log.partition set next_offset = $2 where id = $1", ends)

    async def _copy(self, some: list[tuple[int, Event]]) -> None:
        encode = self.hub.context.codec.encode
        log, places = [], []
        for n, event in some:
            topic = changes_topic(event.system, event.object).name
            row = self._row(topic, event.external_id, encode("event", event.to_avro()))
            log.append(row[1:])
            golden = golden_id("contact", ("crm", "contacts", event.external_id))
            places.append(
                (event.event_id, topic, row[0], row[2], *event.record, event.observed_at, golden, n, event.at)
            )
            log += [self._row(*made)[1:] for made in self._beside(n, event, golden)]
        async with self.hub.context.pool.acquire() as conn:
            await conn.copy_records_to_table("record", schema_name="hub_log", records=log)
            columns = (
                "event_id topic partition offset system object external_id observed_at golden_id processed processed_at"
            )
            await conn.copy_records_to_table("event", schema_name="hub", records=places, columns=columns.split())

    def _row(self, topic: str, key: str, value: bytes) -> tuple[Any, ...]:
        partition = partition_of(key.encode(), PARTITIONS)
        offset = self.offsets.get((topic, partition), 0)
        self.offsets[topic, partition] = offset + 1
        return (partition, self.partitions[topic, partition], offset, START, key.encode(), value, None)

    def _beside(self, n: int, event: Event, golden: str) -> Iterator[tuple[str, str, bytes]]:
        """The link of a new record; a receipt for every tenth event."""
        encode = self.hub.context.codec.encode
        if event.record not in self.homes:
            self.homes[event.record] = golden
            link = IdentityEvent("link", golden, "contact", event.event_id, event.record, reason="email")
            yield IDENTITY.name, golden, encode("identity", link.to_avro())
        if n % 10 == 0:
            values = orjson.dumps({"city": "Bonn", "name": "Name 1"})
            datum = {
                "target": "shop", "object": "customers", "golden_id": golden, "version": 1, "op": "update",
                "external_id": event.external_id, "key": f"{n:032x}", "outcome": "applied", "written": values,
                "stored": values, "order": 0, "reason": "", "at": event.at, "trace": None, "processed": n,
                "processed_at": event.at,
            }  # fmt: skip
            yield RECEIPTS.name, golden, encode("receipt", datum)


async def asked(count: int, ask: Callable[[], Awaitable[Any]]) -> dict[str, float]:
    """Milliseconds that so many questions took."""
    took = []
    for _ in range(count):
        began = time.perf_counter()
        await ask()
        took.append((time.perf_counter() - began) * 1_000)
    cuts = quantiles(took, n=100)
    return {
        "p50": round(cuts[49], 1),
        "p95": round(cuts[94], 1),
        "p99": round(cuts[98], 1),
        "most": round(max(took), 1),
    }


async def measured(hub: Stages, events: int) -> dict[str, Any]:
    """The figures of one log."""
    random, pool = Random(7), hub.context.pool
    filling = Filling(hub, events)
    await filling.fill(random)
    began = time.perf_counter()
    indexed = await past_index.catch_up(hub.context)
    index_seconds = time.perf_counter() - began
    await pool.execute("analyze")
    ids = sorted(set(filling.homes.values()))
    await pool.executemany(
        "insert into hub.golden (golden_id, entity, version, fields) values ($1, 'contact', 1, '{}')",
        [(id_,) for id_ in ids],
    )
    row = await pool.fetchrow(
        "select min(processed_at), max(processed_at) from hub.event where processed > $1", events // 2
    )
    some: Callable[[], str] = lambda: random.choice(ids)  # noqa: E731

    async def show() -> None:
        with suppress(Reject):  # that it was not known yet is an answer, too
            await history.show(hub.context, "contact", some(), moment(random.randint(row[0], row[1])))

    async def why() -> None:
        await reasons.why(hub.context, "contact", some(), "city", proof=True)

    return {
        "events": events, "golden": len(ids),
        "indexed": indexed, "indexed_per_second": round(indexed / index_seconds),
        "milliseconds": {
            "show --at": await asked(QUESTIONS, show),
            "history": await asked(QUESTIONS, lambda: history.history(hub.context, "contact", some())),
            "why --proof": await asked(QUESTIONS, why),
        },
    }  # fmt: skip


async def main(events: int) -> None:
    """Fill a log, ask, print and keep the figures."""
    quiet_logs("critical")
    collect_seldom()
    with TemporaryDirectory(prefix="hub-bench-", ignore_cleanup_errors=True) as directory:
        server = await embedded.start_async(Path(directory) / "pg")
        try:
            async with asyncpg.create_pool(await server.create("past"), min_size=1) as pool:
                found = await measured(await make(pool, model()), events)
        finally:
            server.leave()
    for name, took in found["milliseconds"].items():
        print(f"{name:12} at {events:,} events: p50 {took['p50']} ms, p95 {took['p95']} ms, most {took['most']} ms")
    print(f"index: {found['indexed']:,} records, {found['indexed_per_second']:,} a second")
    machine = {"cores": os.cpu_count(), "architecture": platform.machine(), "system": platform.system()}
    when = datetime.now(UTC).isoformat(timespec="seconds")
    RESULTS.write_text(json.dumps({"at": when, "machine": machine, **found}, indent=2) + "\n")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
