"""A hub without vendors: the real codec, log and state on PostgreSQL, and the stages called with batches of that log."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import count
from random import Random
from typing import Any

import asyncpg
import orjson

from hub.change import Change
from hub.model import Model
from hub.projection import Golden, load
from hub.receipt import Applied, Receipt
from streams import outcomes, receipts, steward
from streams.capture import to_records
from streams.context import Context
from streams.ledger import Ledger, balance, change_topics
from streams.log import Batch, NewRecord, Record, open_log
from streams.log_postgres import set_up
from streams.plan import Plan
from streams.preparing import Prepared, prepare
from streams.project import Project
from streams.queue import lease
from streams.rebuild import MEMORY, Options
from streams.registry import Codec, TableRegistry
from streams.replay import Rebuilt, replay
from streams.topics import STATIC, changes_topic, golden_topic, notices_topic
from streams.workspace import RecordState, records_of

START = 1_700_000_000_000_000  # a time in microseconds, in the past of every test
SECOND = 1_000_000
MEMORIES = (MEMORY, 3_000, 0)  # of a replay: for all of a history, a part of it, nothing


@dataclass(slots=True)
class Stages:
    """Appends changes and moves them through the stages; remembers how far each stage has read."""

    context: Context
    read: dict[tuple[str, str, int], int] = field(default_factory=dict)
    clock: Any = field(default_factory=lambda: count(START, SECOND))
    handled: list[Batch] = field(default_factory=list)

    def change(self, system: str, object_: str, external_id: str, /, **fields: Any) -> Change:
        """A change one second after the last one."""
        at = next(self.clock)
        return Change(system, object_, external_id, fields, version=at, at=at)

    async def append(self, *changes: Change) -> None:
        """Append changes the way capture does."""
        await self.context.log.append(await to_records(self.context, changes))

    async def tell(self, *changes: Change) -> None:
        """Append changes one by one and process each before the next."""
        for change in changes:
            await self.append(change)
            await self.run()

    async def crm(self, external_id: str, /, **fields: Any) -> None:
        """A contact of the CRM, processed."""
        await self.tell(self.change("crm", "contacts", external_id, **fields))

    async def shop(self, external_id: str, /, **fields: Any) -> None:
        """A customer of the shop, processed."""
        await self.tell(self.change("shop", "customers", external_id, **fields))

    async def news(self, external_id: str, /, **fields: Any) -> None:
        """A member of the newsletter, processed."""
        await self.tell(self.change("news", "members", external_id, **fields))

    async def delete(self, system: str, object_: str, external_id: str) -> None:
        """A delete, processed."""
        at = next(self.clock)
        await self.tell(Change(system, object_, external_id, op="delete", version=at, at=at))

    async def order(self, golden_id: str, action: str, **said: Any) -> None:
        """A steward's decision, processed."""
        fields = {"action": action, "author": "ann", "reason": "because", **said}
        at = next(self.clock)
        await self.tell(Change(steward.SYSTEM, steward.OBJECT, golden_id, fields, at=at, channel="steward"))

    async def raw(self, system: str, object_: str, key: str, value: bytes | None) -> None:
        """Something on a change topic that no capture would put there."""
        await self.context.log.append([NewRecord(changes_topic(system, object_).name, key.encode(), value)])

    async def unread(self, stage: str, topics: Sequence[str]) -> list[list[Record]]:
        """What a stage has not read, per partition."""
        found = []
        for (topic, partition), end in sorted((await self.context.log.ends(topics)).items()):
            start = self.read.get((stage, topic, partition), 0)
            if start < end:
                found.append(await self.context.log.read(topic, partition, start, end - start))
                self.read[stage, topic, partition] = end
        return found

    async def project(self, random: Random | None = None) -> None:
        """Process all changes; with `random` in random portions, partitions interleaved at random."""
        for batches in split(await self.unread("project", change_topics(self.context)), random):
            self.handled += batches
            await Project(self.context)(batches)

    async def plan(self, random: Random | None = None) -> None:
        """Plan all golden records."""
        topics = [golden_topic(entity).name for entity in self.context.model.entities]
        for batches in split(await self.unread("plan", topics), random):
            await Plan(self.context)(batches)

    async def run(self, random: Random | None = None) -> None:
        """Both stages."""
        await self.project(random)
        await self.plan(random)

    async def deliver(self, target: str, answer: Receipt | None = None) -> list[Prepared]:
        """Deliver what is due to a target that gives this answer to everything, or takes everything as it is and tells
        so, with an external id for each create."""
        async with self.context.pool.acquire() as conn:
            prepared = await prepare(conn, self.context.model, await lease(conn, target, "test", 500))
            await receipts.leave_intents(conn, [w for p in prepared for w in p.writes])
        results = []
        for one in prepared:
            taken = [
                Applied(w.external_id or f"{target}-{w.golden_id}", w.natives, next(self.clock)) for w in one.writes
            ]
            results.append((one, [(w, answer or applied) for w, applied in zip(one.writes, taken, strict=True)]))
        await receipts.record(self.context, "test", results)
        return prepared

    async def goldens(self) -> dict[str, Golden]:
        """Every golden record that lives, by id."""
        rows = await self.context.pool.fetch(
            "select golden_id, entity, fields, deleted from hub.golden where merged_into is null"
        )
        return {
            r["golden_id"]: load(r["golden_id"], r["entity"], orjson.loads(r["fields"]), r["deleted"]) for r in rows
        }

    async def golden_of(self, system: str, object_: str, external_id: str) -> str:
        """The golden id of a record."""
        found = await self.context.pool.fetchval(
            "select golden_id from hub.record where (system, object, external_id) = ($1, $2, $3)",
            system, object_, external_id,
        )  # fmt: skip
        assert found is not None, f"{system}/{object_}/{external_id} is not known"
        return str(found)

    async def values(self, system: str, object_: str, external_id: str) -> dict[str, Any]:
        """The golden values of the thing that a record belongs to."""
        return (await self.goldens())[await self.golden_of(system, object_, external_id)].values()

    async def records(self, golden_id: str) -> list[RecordState]:
        """The records of a golden record."""
        async with self.context.pool.acquire() as conn:
            return (await records_of(conn, [golden_id])).get(golden_id, [])

    async def ledger(self) -> Ledger:
        """The ledger's balance."""
        return await balance(self.context)

    async def replay(self, swap: bool = False, **options: Any) -> Rebuilt:
        """Rebuild from the log."""
        return await replay(self.context, swap, Options(**options))

    async def conflicts(self) -> list[dict[str, Any]]:
        """Every conflict, oldest first; values decoded."""
        rows = await self.context.pool.fetch("select * from hub.conflict order by id")
        return [{**row, **{n: orjson.loads(row[n]) for n in ("value", "base", "golden")}} for row in rows]

    async def parked(self) -> list[asyncpg.Record]:
        """Every parked record, in order."""
        return list(await self.context.pool.fetch("select * from hub.parked order by id"))

    async def state(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything that processing an event may change, for comparison."""
        queries = {
            "golden": "select golden_id, version, fields, deleted, merged_into from hub.golden order by 1",
            "record": "select * from hub.record order by system, object, external_id",
            "key": "select * from hub.match_key order by 1, 2, 3",
            "ledger": "select * from hub.ledger order by 1, 2",
            "event": "select * from hub.event order by 1",
            "conflict": "select * from hub.conflict order by id",
            "write": "select target, golden_id, version, state from hub.write order by 1, 2",
            "position": "select * from hub.position order by 1, 2, 3",
            "log": "select t.name, p.number, p.next_offset from hub_log.partition p"
            " join hub_log.topic t on t.id = p.topic_id order by 1, 2",
        }
        return {name: [tuple(row) for row in await self.context.pool.fetch(sql)] for name, sql in queries.items()}


def split(partitions: Sequence[Sequence[Record]], random: Random | None) -> list[list[Batch]]:
    """Calls of a stage's handler: one call with everything, or random portions of randomly chosen partitions."""
    waiting = [list(records) for records in partitions if records]
    if random is None:
        return [[_batch(records) for records in waiting]] if waiting else []
    calls: list[list[Batch]] = []
    while waiting:
        chosen = random.sample(waiting, random.randint(1, len(waiting)))
        call = []
        for records in chosen:
            size = random.randint(1, len(records))
            call.append(_batch(records[:size]))
            del records[:size]
        calls.append(call)
        waiting = [records for records in waiting if records]
    return calls


def _batch(records: Sequence[Record]) -> Batch:
    return Batch(records[0].topic, records[0].partition, tuple(records))


async def make(pool: asyncpg.Pool, model: Model, log_url: str = "postgresql://") -> Stages:
    """Tables and topics of a new hub in an empty database, on its own log or on a new Kafka."""
    async with pool.acquire() as conn, conn.transaction():
        await set_up(conn)
        await conn.execute(files("streams").joinpath("state.sql").read_text())
    log = open_log(log_url, pool)
    changes = [changes_topic(s, o) for s, o in model.mappings] + [changes_topic(steward.SYSTEM, steward.OBJECT)]
    await log.ensure_topics([*STATIC, *changes, *map(golden_topic, model.entities), *map(notices_topic, model.systems)])
    return Stages(Context(model, pool, log, await Codec.prepare(TableRegistry(pool))))


async def empty(stages: Stages) -> Stages:
    """The same hub with nothing in it."""
    pool = stages.context.pool
    tables = [f"hub.{row[0]}" for row in await pool.fetch("select tablename from pg_tables where schemaname = 'hub'")]
    counters = await pool.fetch("select sequencename from pg_sequences where schemaname = 'hub'")
    # Not truncated: of tables that hold little, that takes ten times as long.
    emptying = [f"delete from {name}" for name in (*tables, "hub_log.record", "hub_log.position")]
    emptying += [f"select setval('hub.{row[0]}', 1, false)" for row in counters]
    await pool.execute("; ".join([*emptying, "update hub_log.partition set next_offset = 0"]))
    return Stages(stages.context)


def assert_balanced(ledger: Ledger) -> None:
    """Every captured change is accounted for."""
    assert ledger.unaccounted == 0, ledger
    assert ledger.waiting == 0, ledger
    assert all(outcome in (*outcomes.OUTCOMES, "pending") for counts in ledger.targets.values() for outcome in counts)
