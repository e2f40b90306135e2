"""Prints how long it takes to see a golden record, and all systems' views of it, as it was at a random instant.

    .venv/bin/python -m bench.past [events]

A log of so many events (1,000,000) of three systems on an embedded PostgreSQL, processed by the real project stage, with a
receipt for every tenth: 20 events for each person on average, a few hundred for some. Every question is of another person.
"""

import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
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
from hub.values import moment
from streams import past_index
from streams.records import NewRecord
from streams.topics import RECEIPTS
from tests.stages.model import model
from tests.stages.support import SECOND, START, Stages, make

RESULTS = Path(__file__).parent / "results" / "past.json"
EACH, CHUNK, QUESTIONS = 20, 5_000, 500
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


async def fill(hub: Stages, random: Random, events: int) -> float:
    """Append and process; how many events a second."""
    began, some = time.perf_counter(), list[Change]()
    for n, change in enumerate(changes(random, events), 1):
        some.append(change)
        if len(some) == CHUNK or n == events:
            await hub.append(*some)
            await hub.project()
            hub.handled.clear()
            await receipts(hub, some[::10])
            some = []
        if n % 100_000 == 0:
            print(f"  {n:,} events, {n / (time.perf_counter() - began):,.0f}/s", flush=True)
    return events / (time.perf_counter() - began)


async def receipts(hub: Stages, some: list[Change]) -> None:
    """What was written to the shop of some of them, as its receipts tell."""
    context, records = hub.context, []
    rows = await context.pool.fetch(
        "select external_id, golden_id from hub.record where system = 'crm' and external_id = any($1)",
        [change.external_id for change in some],
    )
    turn = await context.pool.fetchrow("select nextval('hub.processed') as processed, hub.moment() as processed_at")
    for row in rows:
        values = orjson.dumps({"city": "Bonn", "name": "Name 1"})
        datum = {
            "target": "shop", "object": "customers", "golden_id": row["golden_id"], "version": 1, "op": "update",
            "external_id": row["external_id"], "key": os.urandom(16).hex(), "outcome": "applied", "written": values,
            "stored": values, "order": 0, "reason": "", "at": turn["processed_at"], "trace": None, **turn,
        }  # fmt: skip
        records.append(NewRecord(RECEIPTS.name, row["golden_id"].encode(), context.codec.encode("receipt", datum)))
    await context.log.append(records)


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
    rate = await fill(hub, random, events)
    began = time.perf_counter()
    indexed = await past_index.catch_up(hub.context)
    index_seconds = time.perf_counter() - began
    await pool.execute("analyze")
    ids = [row[0] for row in await pool.fetch("select golden_id from hub.golden where merged_into is null")]
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
        "events": events, "golden": len(ids), "processed_per_second": round(rate),
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
    print(
        f"index: {found['indexed_per_second']:,} records/s; projected with it {found['processed_per_second']:,} events/s"
    )
    machine = {"cores": os.cpu_count(), "architecture": platform.machine(), "system": platform.system()}
    when = datetime.now(UTC).isoformat(timespec="seconds")
    RESULTS.write_text(json.dumps({"at": when, "machine": machine, **found}, indent=2) + "\n")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
