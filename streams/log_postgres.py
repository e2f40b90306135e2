"""The event log kept in PostgreSQL tables (schema `hub_log`): the embedded default.

An append locks the counter rows of its partitions until its transaction ends, so offsets are gap-free and in
commit order. Appending inside the caller's own transaction (`append_in`) makes records and state one commit.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.resources import files

import asyncpg
import msgspec
from asyncpg.pool import PoolConnectionProxy

from streams.records import Block, Headers, NewRecord, Offsets, Place, Record, UnknownTopicError, partition_of
from streams.topics import Topic

Connection = asyncpg.Connection | PoolConnectionProxy

# One number for the whole hub, so that two processes never create the tables at the same time.
_SETUP_LOCK = 0x68756200

_encode_headers = msgspec.msgpack.Encoder().encode
_decode_headers = msgspec.msgpack.Decoder(Headers).decode


_BLOCK = (
    'select min("offset"), max("offset"), array_agg(key), string_agg(value, \'\'::bytea),'
    " bool_and(coalesce(value >= $4::bytea and ($5::bytea is null or value < $5), false)) from ("
    ' select "offset", key, value from hub_log.record where partition_id = $1 and "offset" >= $2 order by 1 limit $3) r'
)


def record_of(topic: str, partition: int, row: asyncpg.Record) -> Record:
    """A record from a row of (offset, key, value, headers, timestamp_us)."""
    headers = row[3]
    return Record(topic, partition, row[0], row[1], row[2], _decode_headers(headers) if headers else (), row[4])


def _beyond(head: bytes) -> bytes | None:
    """What comes first after all that begins so; None where nothing does. Comparing copies nothing, cutting a head off does."""
    rest = head.rstrip(b"\xff")
    return rest[:-1] + bytes([rest[-1] + 1]) if rest else None


class PostgresLog:
    """A `Log` in the database of the given pool. The pool stays the caller's to close."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._partitions: dict[str, list[int]] = {}

    async def ensure_topics(self, topics: Iterable[Topic]) -> None:
        """Create tables, topics and partitions that are missing; retention and compaction follow the given topics."""
        async with self._pool.acquire() as conn, conn.transaction():
            await set_up(conn)
            for topic in topics:
                await _ensure_topic(conn, topic)
        self._partitions.clear()

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Append in a transaction of its own; committed on return."""
        async with self._pool.acquire() as conn, conn.transaction():
            await self.append_in(conn, records)

    async def append_in(self, conn: Connection, records: Sequence[NewRecord]) -> None:
        """Append within the caller's transaction (READ COMMITTED): records appear, and readers wake, when it commits.

        The partitions stay locked until then, so append last and once per transaction: two calls in one transaction
        could lock partitions in another order than a concurrent appender, and PostgreSQL would abort one of them.
        """
        if not records:
            return
        await _learn(conn, self._partitions, {record.topic for record in records})
        known = self._partitions
        await conn.execute(
            "select hub_log.append($1, $2, $3, $4)",
            [(ids := known[r.topic])[partition_of(r.key, len(ids))] for r in records],
            [r.key for r in records],
            [r.value for r in records],
            [_encode_headers(r.headers) if r.headers else None for r in records],
        )

    async def read(self, topic: str, partition: int, start: int, limit: int) -> list[Record]:
        """Up to `limit` records from offset `start` on."""
        async with self._pool.acquire() as conn:
            await _learn(conn, self._partitions, {topic})
            rows = await conn.fetch(
                'select "offset", key, value, headers, timestamp_us from hub_log.record'
                ' where partition_id = $1 and "offset" >= $2 order by "offset" limit $3',
                self._partitions[topic][partition],
                start,
                limit,
            )
        return [record_of(topic, partition, row) for row in rows]

    async def block(self, topic: str, partition: int, start: int, limit: int, head: bytes) -> Block | None:
        """The same, if all their values begin with `head`; put together by the server, which spares a row for each."""
        async with self._pool.acquire() as conn:
            await _learn(conn, self._partitions, {topic})
            with suppress(asyncpg.ProgramLimitExceededError):  # too long for one value
                row = await conn.fetchrow(_BLOCK, self._partitions[topic][partition], start, limit, head, _beyond(head))
                return Block(*row[:4]) if row and row[4] else None
        return None

    async def pick(self, places: Iterable[Place]) -> list[Record]:
        """The records at these places, by one query."""
        wanted = sorted(set(places))
        async with self._pool.acquire() as conn:
            await _learn(conn, self._partitions, {topic for topic, _, _ in wanted})
            ids = [self._partitions[topic][partition] for topic, partition, _ in wanted]
            rows = await conn.fetch(
                'select r."offset", key, value, headers, timestamp_us, r.partition_id'
                " from unnest($1::int[], $2::bigint[]) as w (id, place)"
                ' join hub_log.record r on r.partition_id = w.id and r."offset" = w.place',
                ids,
                [offset for _, _, offset in wanted],
            )
        named = {id_: place[:2] for id_, place in zip(ids, wanted, strict=True)}
        return [record_of(*named[row[5]], row) for row in rows]

    async def ends(self, topics: Iterable[str]) -> Offsets:
        """The next offset of every partition."""
        return await self._offsets("p.next_offset", topics)

    async def starts(self, topics: Iterable[str]) -> Offsets:
        """The first retained offset of every partition."""
        first = '(select "offset" from hub_log.record r where r.partition_id = p.id order by 1 limit 1)'
        return await self._offsets(f"coalesce({first}, p.next_offset)", topics)

    async def committed(self, group: str, topics: Iterable[str]) -> Offsets:
        """The next offset the group will handle, per partition."""
        position = (
            "(select c.next_offset from hub_log.position c join hub_log.consumer_group g on g.id = c.group_id"
            " where c.partition_id = p.id and g.name = $2)"
        )
        return await self._offsets(f"coalesce({position}, 0)", topics, group)

    async def close(self) -> None:
        """Nothing to release: the pool is the caller's."""

    async def _offsets(self, expression: str, topics: Iterable[str], *more: str) -> Offsets:
        rows = await self._pool.fetch(
            f"select t.name, p.number, {expression} from hub_log.partition p"  # noqa: S608 - constants of this module
            " join hub_log.topic t on t.id = p.topic_id where t.name = any($1)",
            list(topics),
            *more,
        )
        return {(name, number): offset for name, number, offset in rows}


async def _learn(conn: Connection, partitions: dict[str, list[int]], topics: set[str]) -> None:
    """Remember the partition ids of the topics; partitions never change once made."""
    if not (unknown := topics - partitions.keys()):
        return
    rows = await conn.fetch(
        "select t.name, array_agg(p.id order by p.number) from hub_log.topic t"
        " join hub_log.partition p on p.topic_id = t.id where t.name = any($1) group by t.name",
        list(unknown),
    )
    partitions |= {name: ids for name, ids in rows}
    if missing := unknown - partitions.keys():
        raise UnknownTopicError(f"topics {', '.join(sorted(missing))} do not exist; ensure_topics creates them")


async def set_up(conn: Connection) -> None:
    """Create what is missing of the schema `hub_log`, and keep others from doing so until the transaction ends."""
    await conn.execute("select pg_advisory_xact_lock($1)", _SETUP_LOCK)
    await conn.execute("set local client_min_messages = warning")
    await conn.execute(files("streams").joinpath("log.sql").read_text())


async def _ensure_topic(conn: Connection, topic: Topic) -> None:
    topic_id = await conn.fetchval(
        "insert into hub_log.topic as t (name, compacted, retention) values ($1, $2, $3) on conflict (name)"
        " do update set compacted = excluded.compacted, retention = excluded.retention returning id",
        topic.name,
        topic.compacted,
        topic.retention,
    )
    await conn.execute(
        "insert into hub_log.partition (topic_id, number) select $1, generate_series(0, $2 - 1)"
        " where not exists (select from hub_log.partition where topic_id = $1)",
        topic_id,
        topic.partitions,
    )
