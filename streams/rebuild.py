"""Rebuild: claims and golden records from the topics alone into the shadow tables, in bulk and resumable.

    read      decisions and changes, from the log into columns in memory or on disk, in buckets by record
    fold      each bucket: its records' claims
    project   each bucket of these: its golden records
    follow    what came after the bulk (see streams.follow), event by event, while live processing goes on

What is done is in `hub.rebuild` and `hub.rebuild_step`; a step that was cut off is done again. A rebuild that is held in
memory begins anew. One rebuild runs at a time.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from hub.errors import Hold
from streams import bulk_work, follow
from streams.bulk_avro import Columns
from streams.bulk_project import GOLDEN
from streams.bulk_read import Reading
from streams.bulk_spill import DECISION, EVENT, IDENTITY, Memory, place
from streams.bulk_work import Files
from streams.bulk_workers import LoadModel, Workers
from streams.context import Context, publish_all
from streams.decided import TOPICS as DECIDED
from streams.decided import read_parked
from streams.log_postgres import Connection
from streams.position import positions
from streams.project import STAGE
from streams.rebuild_state import State, begin, load, step, steps
from streams.records import Offsets
from streams.scope import Scope
from streams.shadow import turns
from streams.topics import DECISIONS
from streams.topics import IDENTITY as IDENTITIES

Told = Callable[[str, int, int], None]
"""(what is being done, how much of it is done, of how much)."""
READ = 50_000  # records, at most, that are read at once
READERS = 3  # partitions that are read side by side; each waits for PostgreSQL a part of the time
MEMORY = 512 << 20  # bytes of what is read, before it goes to disk
LOCK = 0x68756203
HOURS = 6 * 3_600.0
ALL = Scope()


@dataclass(frozen=True, slots=True)
class Options:
    """How to replay.

    scope       which golden records
    fresh       begin anew, also where a replay of this scope was cut off
    hashes      make the hashes
    load_model  makes the model in other processes; without it everything is done in this one
    memory      how many bytes of what is read stay in memory, of a log that has no more; a larger one is kept on disk
    """

    scope: Scope = ALL
    fresh: bool = False
    hashes: bool = True
    load_model: LoadModel | None = None
    memory: int = MEMORY


@dataclass(slots=True)
class Rebuild:
    """One rebuild at work. `read` counts the records that this run read from the log."""

    context: Context
    scope: Scope
    state: State
    workers: Workers
    memory: Memory | None
    told: Told
    read: int = 0
    parked: set[tuple[str, int, int]] = field(default_factory=set)

    @property
    def files(self) -> Files:
        """Where it keeps what it has read."""
        return Files(Path(self.state.directory), self.state.buckets, self.memory)

    async def bulk(self) -> None:
        """Everything up to where live processing stood when the rebuild began."""
        for what in (self._read, self._name, self._fold, self._project):
            await what()

    async def _read(self) -> None:
        noted = await steps(self.context.pool, "read")
        done, ends = dict(noted), {**self.state.decided, **self.state.upto}
        total = sum(ends.values())
        self.parked = await read_parked(self.context)
        waiting: dict[tuple[str, int], list[int]] = {}
        for partition, end in [*turns(self.state.decided), *turns(self.state.upto)]:
            waiting.setdefault(partition, []).append(end)
        left = iter(waiting.items())

        async def note() -> None:
            """How far all partitions are read, as soon as that is on disk."""
            on_disk = self.memory is None or self.memory.full
            for name, behind in list(done.items()) if on_disk else ():
                if noted.get(name, 0) < behind:
                    noted[name] = behind
                    await step(self.context.pool, "read", name, behind)

        async def one_after_another() -> None:
            for (topic, partition), upto in left:
                for end in upto:
                    async for name, behind in self._partition(topic, partition, done, end):
                        done[name] = behind
                        await note()
                        self.told("read", sum(done.values()), total)

        await _at_once(READERS, one_after_another)
        if self.memory:
            self.memory.settle()

    async def _partition(
        self, topic: str, partition: int, done: Mapping[str, int], end: int
    ) -> AsyncIterator[tuple[str, int]]:
        """Read a partition up to an offset, from where it was read to; its name, and how far it is read."""
        name, (kind, columns, keep) = f"{topic} {partition}", self._kind(topic)
        reading = Reading(self.context, topic, partition, kind, columns, end, READ, self.parked)
        async for portion in reading.portions(done.get(name, 0)):
            self.read += portion.count
            await asyncio.to_thread(keep, place(topic, partition, portion.start), portion.rows)
            yield name, portion.behind

    def _kind(self, topic: str) -> tuple[str, Columns, Callable[[str, pl.DataFrame], None]]:
        """What stands on a topic: its schema, the columns that are wanted of it, and what keeps them."""
        spill = self.files.spill
        if topic == IDENTITIES.name:
            return "identity", IDENTITY, spill.links
        if topic == DECISIONS.name:
            return "decision", DECISION, spill.unsaid
        return "event", EVENT, spill.events

    async def _name(self) -> None:
        """Of a partial rebuild, which golden records it is about."""
        if not self.scope.partial or await steps(self.context.pool, "name"):
            return
        named, of = set[str](), set[str]()
        for bucket in range(self.state.buckets):
            some, ours = await asyncio.to_thread(bulk_work.name, self.files, self.scope, bucket)
            named, of = named | some, of | ours
        chosen = sorted(named & of if self.scope.entity else named)
        bulk_work.write_named(self.files, chosen)
        async with self.context.pool.acquire() as conn, conn.transaction():
            await conn.execute("truncate hub.rebuild_named")
            await conn.copy_records_to_table("rebuild_named", schema_name="hub", records=[(g,) for g in chosen])
            await step(conn, "name", "", len(chosen))

    async def _fold(self) -> None:
        async def keep(conn: Connection, bucket: int, counts: tuple[int, int]) -> None:
            copy = self.files.folded(bucket) / bulk_work.RECORDS
            await _copy(conn, "shadow_record", bulk_work.RECORD_COLUMNS, copy)
            await step(conn, "events", str(bucket), counts[0])

        await self._buckets("fold", self.workers.fold, keep)

    async def _project(self) -> None:
        async def keep(conn: Connection, bucket: int, count: int) -> None:
            copy = self.files.projected(bucket) / bulk_work.GOLDEN
            await _copy(conn, "shadow_golden", GOLDEN, copy)

        await self._buckets("project", self.workers.project, keep)

    async def _buckets(
        self, what: str, work: Callable[[Files, int], Awaitable[Any]], keep: Callable[..., Awaitable[None]]
    ) -> None:
        """Do each bucket that is not done, several at once; take its result over, in one transaction with the note."""
        done = await steps(self.context.pool, what)
        waiting = iter([n for n in range(self.state.buckets) if str(n) not in done])
        count = len(done)

        async def one_after_another(buckets: Iterator[int]) -> None:
            nonlocal count
            for bucket in buckets:
                result = await work(self.files, bucket)
                async with self.context.pool.acquire() as conn, conn.transaction():
                    await keep(conn, bucket, result)
                    await step(conn, what, str(bucket), 1)
                count += 1
                self.told(what, count, self.state.buckets)

        await _at_once(self.workers.count, lambda: one_after_another(waiting))

    async def follow(self, conn: Connection, upto: Offsets) -> follow.Followed:
        """Bring the shadow tables from where they stand to these positions, in the caller's transaction."""
        found = await follow.follow(self.context, self.scope, self.state, self.files, conn, upto)
        self.read += found.read
        return found

    async def events(self) -> int:
        """Distinct events that were folded."""
        counted = await self.context.pool.fetchval(
            "select coalesce(sum(value), 0)::bigint from hub.rebuild_step where name like 'events %'"
        )
        return int(counted) + int(await self.context.pool.fetchval("select count(*) from hub.rebuild_seen"))

    async def clear(self) -> None:
        """Forget the rebuild."""
        await begin(self.context.pool, None)
        await asyncio.to_thread(self.files.spill.clear)


@asynccontextmanager
async def rebuilding(context: Context, options: Options, told: Told) -> AsyncIterator[Rebuild]:
    """The rebuild under way, if it has this scope and configuration and is not to begin afresh, else a new one. Raises Hold
    where another process is at it."""
    async with context.pool.acquire() as conn:
        if not await conn.fetchval("select pg_try_advisory_lock($1)", LOCK):
            raise Hold("the replay that another process is at: wait for it, or end that process")
        try:
            begun = None if options.fresh else await load(context.pool, options.scope.told(context.model))
            state = begun or await _anew(context, options.scope)
            async with Workers(context.model, state.size, options.load_model) as workers:
                on_disk = begun or workers.apart or options.memory <= 0
                memory = None if on_disk else Memory(options.memory)
                yield Rebuild(context, options.scope, state, workers, memory, told)
        finally:
            await conn.execute("select pg_advisory_unlock($1)", LOCK)


async def _anew(context: Context, scope: Scope) -> State:
    """Begin a rebuild. Decisions are appended with or, by way of the outbox, after the position they belong to; so what is
    decided about all events up to the positions is known at the ends that are looked up last."""
    since = await context.log.ends(DECIDED)
    stands = await positions(context.pool, STAGE)
    await publish_all(context)
    decided = await context.log.ends([IDENTITIES.name, DECISIONS.name])
    topics = set(scope.topics(context.model))
    upto = {place: end for place, end in stands.items() if place[0] in topics}
    old = await context.pool.fetchval("select directory from hub.rebuild")
    if old:
        await asyncio.to_thread(Files(Path(old), 1).spill.clear)
    state = State.new(scope.told(context.model), upto, decided, since, context.data_dir)
    await begin(context.pool, state)
    return state


async def _at_once(count: int, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(work())


async def _copy(conn: Connection, table: str, columns: tuple[str, ...], path: Path) -> None:
    """Take a file over; where this is undone, the file is made again."""
    if (await asyncio.to_thread(path.stat)).st_size:
        await conn.copy_to_table(table, source=path, schema_name="hub", columns=columns, format="text", timeout=HOURS)
    await asyncio.to_thread(path.unlink)
