"""The hub's own run of the fold job: one worker, the project stage as it is live, from Kafka into PostgreSQL and to Kafka.

    python -m bench.fold_hub KAFKA_URL STATE_URL EVENTS [apart]

With `apart` no person has two events in one call of the stage, so that none are folded into one golden record.
A process of its own, as a worker is. Reads what is on the change topics, and prints one JSON document: seconds from the
first call of the stage until its last one returned (all is committed and published), the process's CPU seconds in between
and its memory at the most, looked at after every call (what the system keeps as the maximum is that of the parent, too).
"""

import asyncio
import sys
import time
import uuid
from importlib.resources import files
from typing import Any

import asyncpg
import orjson
import psutil

from bench.fold_job import OBJECT, SYSTEMS, TRUTH, Golden
from hub.edge.cli import quiet_logs
from hub.edge.main import collect_seldom
from hub.entity import Entity, Field
from hub.mapping import FieldMap, ObjectMap
from hub.model import Model
from hub.rules import Rule
from streams.app import Workers, stage_app
from streams.context import Context
from streams.log import KafkaLog, Log
from streams.project import Project
from streams.records import Batch, Record
from streams.registry import Codec, TableRegistry
from streams.topics import STATIC, changes_topic, golden_topic

CHANGES = [changes_topic(system, OBJECT) for system in SYSTEMS]
GOLDEN = golden_topic("contact")


def model() -> Model:
    """One entity, whose fields each have a source of truth, read from three systems."""
    fields = {
        name: Field(name, "email" if name == "email" else "text", Rule("truth", order)) for name, order in TRUTH.items()
    }
    contact = Entity("contact", fields, match=("email",), version="v1")
    told = tuple(FieldMap(name, (name,), direction="in") for name in TRUTH)
    return Model({"contact": contact}, {(s, OBJECT): ObjectMap(s, OBJECT, contact, told) for s in SYSTEMS}, "v1")


async def prepare(pool: asyncpg.Pool, log: Log) -> Codec:
    """State tables, topics and codec."""
    async with pool.acquire() as conn:
        await conn.execute("set client_min_messages = warning")
        for name in ("log.sql", "state.sql"):
            await conn.execute(files("streams").joinpath(name).read_text())
    await log.ensure_topics([*STATIC, *CHANGES, GOLDEN])
    return await Codec.prepare(TableRegistry(pool))


class Clock:
    """Calls the stage, and takes the time from the first call to the end of that which handles the last event."""

    def __init__(self, project: Project, events: int, apart: bool) -> None:
        self.project, self.left, self.apart = project, events, apart
        self.began: tuple[float, float] | None = None
        self.took = (0.0, 0.0)
        self.calls = self.peak = 0
        self.done = asyncio.Event()

    async def __call__(self, batches: list[Batch]) -> None:
        """One call of the stage."""
        self.began = self.began or (time.perf_counter(), time.process_time())
        for some in separated(batches) if self.apart else [batches]:
            await self.project(some)
            self.calls += 1
            self.peak = max(self.peak, psutil.Process().memory_info().rss)
        self.left -= sum(len(batch.records) for batch in batches)
        if self.left <= 0:
            self.took = (time.perf_counter() - self.began[0], time.process_time() - self.began[1])
            self.done.set()


def separated(batches: list[Batch]) -> list[list[Batch]]:
    """The same in several calls, none of which has a key twice."""
    calls: list[dict[tuple[str, int], list[Record]]] = [{}]
    seen: set[bytes] = set()
    for batch in batches:
        for record in batch.records:
            if record.key in seen:
                calls.append({})
                seen.clear()
            seen.add(record.key)
            calls[-1].setdefault((batch.topic, batch.partition), []).append(record)
    return [[Batch(*place, tuple(some)) for place, some in call.items()] for call in calls]


async def run(kafka_url: str, state_url: str, events: int, apart: bool) -> dict[str, Any]:
    """One run on a fresh database; what it took."""
    log = KafkaLog(kafka_url)
    async with asyncpg.create_pool(state_url, min_size=1) as pool:
        context = Context(model(), pool, log, await prepare(pool, log))
        clock = Clock(Project(context), events, apart)
        workers = Workers([stage_app(f"fold-{uuid.uuid4().hex}", kafka_url, [t.name for t in CHANGES], clock)])
        await workers.start()
        await clock.done.wait()
        await workers.stop()
        await log.close()
    return {"seconds": clock.took[0], "cpu": clock.took[1], "calls": clock.calls, "peak_mib": clock.peak >> 20}


async def golden(state_url: str) -> Golden:
    """The golden records of a run, as the job compares them."""
    conn = await asyncpg.connect(state_url)
    rows = await conn.fetch("select fields from hub.golden where merged_into is null")
    await conn.close()
    found = ({name: said[0] for name, said in orjson.loads(row["fields"]).items()} for row in rows)
    return {str(fields["email"]): fields for fields in found}


if __name__ == "__main__":
    quiet_logs("error")
    collect_seldom()
    print(orjson.dumps(asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3]), "apart" in sys.argv))).decode())
