"""Retention and compaction of the PostgreSQL log (Kafka does its own); for a timer to call, once an hour or so.

Offsets are never given again: readers simply find holes.
"""

import asyncpg

# A reader that is further behind than this may miss that a key was deleted (Kafka's default for the same).
TOMBSTONE_SECONDS = 24 * 3_600

_EXPIRE = """
delete from hub_log.record r using hub_log.partition p join hub_log.topic t on t.id = p.topic_id
where p.id = r.partition_id and t.retention is not null and not t.compacted
  and r.timestamp_us < (extract(epoch from clock_timestamp() - t.retention) * 1000000)::bigint
"""
_PARTITIONS = (
    "select p.id from hub_log.partition p join hub_log.topic t on t.id = p.topic_id where t.name = $1 order by p.id"
)
_COMPACT = """
delete from hub_log.record r using (
  select "offset", timestamp_us, value is null as gone, row_number() over (partition by key order by "offset" desc) as age
  from hub_log.record where partition_id = $1
) s
where r.partition_id = $1 and r."offset" = s."offset"
  and (s.age > 1 or s.gone and s.timestamp_us < (extract(epoch from clock_timestamp()) * 1000000)::bigint - $2)
"""


async def expire(pool: asyncpg.Pool) -> int:
    """Delete what is older than its topic's retention; returns how many records."""
    return _count(await pool.execute(_EXPIRE))


async def compact(pool: asyncpg.Pool, topic: str, tombstone_seconds: float = TOMBSTONE_SECONDS) -> int:
    """Delete records that a newer one of the same key supersedes, and tombstones of that age; returns how many."""
    partitions = [row[0] for row in await pool.fetch(_PARTITIONS, topic)]
    return sum([_count(await pool.execute(_COMPACT, id_, int(tombstone_seconds * 1e6))) for id_ in partitions])


async def maintain(pool: asyncpg.Pool) -> int:
    """Expire, and compact every compacted topic; returns how many records were deleted."""
    topics = [row[0] for row in await pool.fetch("select name from hub_log.topic where compacted order by name")]
    return await expire(pool) + sum([await compact(pool, topic) for topic in topics])


def _count(status: str) -> int:
    """How many rows a command's status (`DELETE 12`) speaks of."""
    return int(status.rpartition(" ")[2])
