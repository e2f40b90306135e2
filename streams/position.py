"""Position: what a stage has processed of a partition, compared and advanced in the transaction that does the work."""

from collections.abc import Sequence

import asyncpg

from streams.log_postgres import Connection
from streams.records import Batch, Offsets, Record


async def fresh(conn: Connection, stage: str, batch: Batch) -> tuple[Record, ...]:
    """Lock the stage's position on this partition and return the records beyond it.

    A worker that lost its partition finds the position moved on by the new owner, and has nothing left to do.
    """
    await conn.execute(
        "insert into hub.position (stage, topic, partition, next_offset) values ($1, $2, $3, 0) on conflict do nothing",
        stage, batch.topic, batch.partition,
    )  # fmt: skip
    done: int = await conn.fetchval(
        "select next_offset from hub.position where stage = $1 and topic = $2 and partition = $3 for update",
        stage, batch.topic, batch.partition,
    )  # fmt: skip
    return tuple(r for r in batch.records if r.offset >= done)


async def advance(
    conn: Connection, stage: str, records: Sequence[Record], duplicates: int = 0, parked: int = 0
) -> None:
    """Move the stage's position past these records, and count what became of them."""
    last = records[-1]
    await conn.execute(
        "update hub.position set next_offset = $4, processed = processed + $5, duplicates = duplicates + $6,"
        " parked = parked + $7 where stage = $1 and topic = $2 and partition = $3",
        stage, last.topic, last.partition, last.offset + 1, len(records) - duplicates - parked, duplicates, parked,
    )  # fmt: skip


async def positions(asked: Connection | asyncpg.Pool, stage: str) -> Offsets:
    """How far the stage has come: (topic, partition) -> the next offset."""
    rows = await asked.fetch("select topic, partition, next_offset from hub.position where stage = $1", stage)
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
