"""Position: what a stage has processed of a partition, compared and advanced in the transaction that does the work."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import asyncpg

from streams.log_postgres import Connection
from streams.records import Batch, Offsets, Record


class Done(NamedTuple):
    """What became of records of one partition that follow each other: all processed, but for those that are counted."""

    records: Sequence[Record]
    duplicates: int = 0
    parked: int = 0


async def fresh(conn: Connection, stage: str, batches: Sequence[Batch]) -> list[tuple[Record, ...]]:
    """Lock the stage's positions on these batches' partitions, in the order of their names so that no two workers wait
    for each other, and return of each batch the records beyond its position.

    A worker that lost its partition finds the position moved on by the new owner, and has nothing left to do.
    """
    places = {(batch.topic, batch.partition) for batch in batches}
    done = await _locked(conn, stage, places)
    if len(done) < len(places):
        await begin(conn, stage, places)
        done = await _locked(conn, stage, places)
    return [tuple(r for r in b.records if r.offset >= done[b.topic, b.partition]) for b in batches]


async def begin(asked: Connection | asyncpg.Pool, stage: str, places: Collection[tuple[str, int]]) -> None:
    """Give the stage a position on each of these partitions; waits for who is at the first records of one."""
    await asked.execute(
        "insert into hub.position (stage, topic, partition, next_offset)"
        " select $1, *, 0 from unnest($2::text[], $3::int[]) order by 2, 3 on conflict do nothing",
        stage, *_columns(places),
    )  # fmt: skip


async def _locked(conn: Connection, stage: str, places: Collection[tuple[str, int]]) -> Offsets:
    rows = await conn.fetch(
        "select topic, partition, next_offset from hub.position join unnest($2::text[], $3::int[]) as b (topic, partition)"
        " using (topic, partition) where stage = $1 order by topic, partition for update of position",
        stage, *_columns(places),
    )  # fmt: skip
    return {(row[0], row[1]): row[2] for row in rows}


def _columns(places: Collection[tuple[str, int]]) -> tuple[list[str], list[int]]:
    return [topic for topic, _ in places], [partition for _, partition in places]


async def advance(conn: Connection, stage: str, done: Sequence[Done]) -> None:
    """Move the stage's positions past these records, and count what became of them; of one partition several may stand
    here, in any order."""
    last = [one.records[-1] for one in done]
    await conn.execute(
        "update hub.position p set next_offset = d.next_offset, processed = p.processed + d.processed,"
        " duplicates = p.duplicates + d.duplicates, parked = p.parked + d.parked"
        " from (select topic, partition, max(next_offset) as next_offset, sum(processed) as processed,"
        " sum(duplicates) as duplicates, sum(parked) as parked"
        " from unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])"
        " as d (topic, partition, next_offset, processed, duplicates, parked) group by topic, partition) as d"
        " where p.stage = $1 and p.topic = d.topic and p.partition = d.partition",
        stage, [r.topic for r in last], [r.partition for r in last], [r.offset + 1 for r in last],
        [len(one.records) - one.duplicates - one.parked for one in done],
        [one.duplicates for one in done], [one.parked for one in done],
    )  # fmt: skip


async def positions(asked: Connection | asyncpg.Pool, stage: str) -> Offsets:
    """How far the stage has come: (topic, partition) -> the next offset."""
    rows = await asked.fetch("select topic, partition, next_offset from hub.position where stage = $1", stage)
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
