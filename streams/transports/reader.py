"""Reads batches from the PostgreSQL log and keeps a group's positions, over at most two connections of its own."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import asyncpg

from streams.log_postgres import record_of
from streams.records import Batch

MAX_FETCH_BYTES = 4 * 1024 * 1024

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


class Place(NamedTuple):
    """Where to read on: a partition, by name and number, and the offset."""

    topic: str
    number: int
    offset: int


class Reader:
    """Made by `open`; every method raises the driver's connection errors."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, dsn: str) -> "Reader":
        """Connects when first used. Losing the last positions in a crash only repeats batches, so none waits for the disk."""
        return cls(
            await asyncpg.create_pool(dsn, min_size=0, max_size=2, server_settings={"synchronous_commit": "off"})
        )

    async def read(self, places: Mapping[int, Place], limit: int) -> list[Batch]:
        """What there is from these places on, by partition id: a batch for each that has any, `limit` records in all."""
        starts = [place.offset for place in places.values()]
        rows = await self._pool.fetch(_FETCH, list(places), starts, limit, MAX_FETCH_BYTES)
        found: dict[int, list[asyncpg.Record]] = {}
        for row in rows:
            found.setdefault(row[5], []).append(row)
        return [_batch(places[id_], part) for id_, part in found.items()]

    async def positions(self, group_id: int, ids: Collection[int]) -> dict[int, int]:
        """Where the group stands in these partitions."""
        return {row[0]: row[1] for row in await self._pool.fetch(_POSITIONS, group_id, list(ids))}

    async def commit(self, group_id: int, offsets: Mapping[int, int]) -> None:
        """Move the group's positions forward, never back."""
        await self._pool.execute(_COMMIT, group_id, list(offsets), list(offsets.values()))

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()


def _batch(place: Place, rows: list[asyncpg.Record]) -> Batch:
    return Batch(place.topic, place.number, tuple(record_of(place.topic, place.number, row) for row in rows))
