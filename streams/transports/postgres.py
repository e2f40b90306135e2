"""The Faust driver for the event log in PostgreSQL.

Each Faust app holds one session for its membership, its locks and its wake-ups (LISTEN), and up to two pooled connections
that read batches and store positions. When PostgreSQL goes away, the partitions are revoked, and the driver joins again
until it succeeds.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import asyncpg
from faust.transport import base
from faust.types import TP
from mode import Service

from streams.log_postgres import record_of
from streams.records import Batch
from streams.transports.batches import BatchConsumer
from streams.transports.membership import Membership
from streams.transports.unused import StreamsOnly

MAX_FETCH_BYTES = 8 * 1024 * 1024
# How often membership is looked at when no notification says that it changed.
MEMBERS_SECONDS = 1.0
# How soon a partition is tried again that its former owner has not released yet.
WAITING_SECONDS = 0.1
REJOIN_SECONDS = 0.5

# PostgreSQL is away, stopping, starting or full. Anything else is a fault and breaks the app down.
DOWN = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)

# Partitions with a backlog share the limit evenly. The running sum bounds the bytes of each partition's part, and counts
# only what comes before a record, so that a single huge record still gets through.
_FETCH = """
with ready as (
  select w.id, w.start, count(*) over () as n
  from unnest($1::int[], $2::bigint[]) w(id, start) join hub_log.partition p on p.id = w.id and p.next_offset > w.start
)
select r."offset", r.key, r.value, r.headers, r.timestamp_us, ready.id
from ready cross join lateral (
  select *, sum(octet_length(value)) over (order by "offset") - octet_length(value) as before
  from (
    select * from hub_log.record where partition_id = ready.id and "offset" >= ready.start
    order by "offset" limit greatest(1, $3 / ready.n)
  ) part
) r
where coalesce(r.before, 0) < $4 / ready.n
order by ready.id, r."offset"
limit $3
"""
_POSITIONS = (
    "select p.id, coalesce(c.next_offset, 0) from hub_log.partition p"
    " left join hub_log.position c on c.partition_id = p.id and c.group_id = $1 where p.id = any($2)"
)
_COMMIT = (
    "insert into hub_log.position as c (group_id, partition_id, next_offset)"
    " select $1, id, next_offset from unnest($2::int[], $3::bigint[]) u(id, next_offset) order by id"
    " on conflict (group_id, partition_id) do update set next_offset = greatest(c.next_offset, excluded.next_offset)"
)


class Consumer(StreamsOnly, BatchConsumer):
    """Reads the partitions that membership of the group gives this worker."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._pool: asyncpg.Pool | None = None
        self._membership: Membership | None = None
        self._topics: list[str] = []
        self._ids: dict[TP, int] = {}
        self._start: dict[TP, int] = {}
        self._position: dict[TP, int] = {}
        self._generation = 0
        self._wake = asyncio.Event()
        self._look = asyncio.Event()
        self._subscribed = asyncio.Event()

    async def on_start(self) -> None:
        """Open the pool that reads and commits. Losing the last commits in a crash only repeats batches, so none waits
        for the disk."""
        self._pool = asyncpg.create_pool(
            self.app.log_url, min_size=0, max_size=2, server_settings={"synchronous_commit": "off"}
        )
        await self._pool

    async def on_stop(self) -> None:
        """Commit what is handled, then leave the group so that others take over at once."""
        await super().on_stop()
        self._wake.set()
        membership, self._membership = self._membership, None
        if membership:
            with suppress(*DOWN):
                await membership.leave()
        if self._pool:
            await self._pool.close()

    async def fetch(self, partitions: set[TP], seconds: float, limit: int) -> list[Batch]:
        """Read what is there, or wait for a notification and leave the reading to the next call."""
        self._wake.clear()
        wanted = [(self._ids[tp], self._position[tp]) for tp in partitions if tp in self._position]
        generation = self._generation
        try:
            rows = await self._fetch_rows(wanted, limit)
        except DOWN as error:
            self._mark_away(error)
            await self.sleep(REJOIN_SECONDS)
            return []
        if generation != self._generation or not self.flow_active:
            return []  # Read for an assignment that is over: its positions must not overwrite the new ones.
        if not rows:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), seconds)
            return []
        return self._batches(rows)

    async def _fetch_rows(self, wanted: list[tuple[int, int]], limit: int) -> list[asyncpg.Record]:
        ids, starts = [w[0] for w in wanted], [w[1] for w in wanted]
        assert self._pool
        return await self._pool.fetch(_FETCH, ids, starts, limit, MAX_FETCH_BYTES)

    def _batches(self, rows: list[asyncpg.Record]) -> list[Batch]:
        names = {id_: tp for tp, id_ in self._ids.items()}
        found: dict[TP, list[Any]] = {}
        for row in rows:
            found.setdefault(names[row[5]], []).append(row)
        batches = []
        for tp, part in found.items():
            self._position[tp] = part[-1][0] + 1
            batches.append(Batch(tp.topic, tp.partition, tuple(record_of(tp.topic, tp.partition, row) for row in part)))
        return batches

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        known = [(self._ids[tp], offset) for tp, offset in offsets.items() if tp in self._ids]
        membership = self._membership
        if not membership or not self._pool:
            return False
        try:
            await self._pool.execute(_COMMIT, membership.group_id, [k[0] for k in known], [k[1] for k in known])
        except DOWN as error:
            self._mark_away(error)
            return False
        return True

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Ask for the topics; partitions are assigned in the background, as Faust expects."""
        self._topics = sorted(topics)
        self._subscribed.set()

    @Service.task
    async def _take_part(self) -> None:
        """Be a member until the app stops; join again whenever the session is lost."""
        await self._subscribed.wait()
        while not self.should_stop:
            try:
                await self._be_member()
            except DOWN as error:
                self._mark_away(error)
                await self._lose_all()
                await self.sleep(REJOIN_SECONDS)

    def _mark_away(self, error: BaseException) -> None:
        """Say it once, not at every attempt."""
        health = self.app.stage.health
        if health.healthy and not self.should_stop:
            self.log.warning("the log is away, trying again: %s: %s", type(error).__name__, error)
        health.failed(error)

    async def _be_member(self) -> None:
        self._membership = membership = await Membership.join(
            self.app.log_url,
            self.app.conf.id,
            self._topics,
            on_records=self._on_records,
            on_members=lambda *_: self._look.set(),
        )
        membership.on_lost(lambda _: self._look.set())
        first = True
        while not self.should_stop and self._membership is membership:
            self._look.clear()
            settled = await self._rebalance(membership, first)
            first = False
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._look.wait(), MEMBERS_SECONDS if settled else WAITING_SECONDS)

    async def _rebalance(self, membership: Membership, first: bool) -> bool:
        """Take and release what membership says; False when partitions are still held by their former owners."""
        share = await membership.share()
        taken, lost = await membership.take(share), membership.held - share
        if taken or lost or first:
            self.app.on_rebalance_start()
            if not first:
                await self.on_partitions_revoked(self.assignment())
                await membership.release(lost)
            await self._assign(membership)
        return membership.held == share

    async def _assign(self, membership: Membership) -> None:
        assert self._pool
        ids = {TP(*membership.partitions[id_]): id_ for id_ in sorted(membership.held)}
        rows = await self._pool.fetch(_POSITIONS, membership.group_id, list(ids.values()))
        offsets = {row[0]: row[1] for row in rows}
        self._ids, self._start = ids, {tp: offsets[id_] for tp, id_ in ids.items()}
        self._handled.clear()
        self._generation += 1
        self.app.consumer_generation_id = self._generation
        await self.on_partitions_assigned(self.assignment(), self._generation)

    async def _lose_all(self) -> None:
        membership, self._membership = self._membership, None
        if membership:
            membership.abandon()
            self.app.on_rebalance_start()
            await self.on_partitions_revoked(self.assignment())
            self._ids, self._start, self._position = {}, {}, {}

    def _on_records(self, _conn: object, _pid: int, _channel: str, payload: object) -> None:
        mine = self._membership.held if self._membership else set()
        if not payload or any(int(id_) in mine for id_ in str(payload).split(",")):
            self._wake.set()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Read on from what is handled: what this worker has done itself, else where the group stood when it took over."""
        self._position = {tp: max(start, self._handled.get(tp, 0)) for tp, start in self._start.items()}
        return dict(self._start)

    def assignment(self) -> set[TP]:
        """The partitions of this worker."""
        return set(self._ids)


class Producer(base.Producer):
    """Faust asks for one; the hub appends through `streams.log` instead."""


class Transport(base.Transport):
    """Registered as `hub-postgres`; the address itself is the app's `log_url`, so that no password enters Faust's settings."""

    Consumer = Consumer
    Producer = Producer
    driver_version = f"hub-postgres asyncpg={asyncpg.__version__}"
