"""Index of the past: where identity, decisions and receipts stand, by record; filled from their topics alone.

The topics are read on from where the index stands, so it follows them, survives being emptied, and is the same after a
rebuild. Rows are small: ids, places and names of fields, no values.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from schemas.wire import WireError
from streams.context import Context, publish
from streams.log_postgres import Connection
from streams.records import Record
from streams.topics import CONFIGURATION, DECISIONS, IDENTITY, RECEIPTS

CHUNK = 5_000
TOPICS = (IDENTITY.name, DECISIONS.name, RECEIPTS.name, CONFIGURATION.name)

Row = dict[str, Any]


async def catch_up(context: Context, chunks: int | None = None) -> int:
    """Index what stands on the topics by now, or at most so many chunks of it; returns how many records were read. Any
    number of workers may do so at once."""
    await publish(context)
    read = 0
    ends = await context.log.ends(TOPICS)
    rows = await context.pool.fetch("select topic, partition, next_offset from hub.indexed")
    done = {(r["topic"], r["partition"]): r["next_offset"] for r in rows}
    for (topic, partition), end in sorted(ends.items()):
        start = done.get((topic, partition), 0)
        while start < end and (chunks is None or read < chunks * CHUNK):
            found = await context.log.read(topic, partition, start, min(CHUNK, end - start))
            if not found:
                break
            start, read = found[-1].offset + 1, read + len(found)
            await _store(context, topic, partition, found)
    return read


async def rebuild(context: Context) -> int:
    """Empty the index and fill it again; returns how many records were read."""
    async with context.pool.acquire() as conn, conn.transaction():
        await conn.execute("truncate hub.indexed, hub.identity, hub.decision, hub.receipt, hub.deployment")
    return await catch_up(context)


async def _store(context: Context, topic: str, partition: int, found: Sequence[Record]) -> None:
    await context.codec.learn(record.value for record in found)
    rows = list({_key(row): row for record in found if (row := _row(context, record))}.values())
    async with context.pool.acquire() as conn, conn.transaction():
        await _insert(conn, STORE[topic], rows)
        await conn.execute(
            "insert into hub.indexed as i values ($1, $2, $3) on conflict (topic, partition)"
            " do update set next_offset = greatest(i.next_offset, excluded.next_offset)",
            topic, partition, found[-1].offset + 1,
        )  # fmt: skip


async def _insert(conn: Connection, sql: str, rows: Sequence[Row]) -> None:
    await conn.execute(sql, orjson.dumps(rows).decode())


def _row(context: Context, record: Record) -> Row | None:
    """The record's row; None for what the hub cannot have written."""
    try:
        name, datum = context.codec.decode(record.value)
    except WireError:
        return None
    return ROWS[record.topic](record, datum) if name == NAMES[record.topic] else None


def _key(row: Row) -> tuple[Any, ...]:
    """What there is one row of: of the decisions about an event the last."""
    names = ("event_id", "external_id", "deployment") if "unsaid" in row else ("partition", "offset")
    return tuple(row.get(name) for name in names)


def _place(record: Record) -> Row:
    return {"partition": record.partition, "offset": record.offset}


def _identity(record: Record, datum: Mapping[str, Any]) -> Row:
    names = ("kind", "golden_id", "entity", "system", "object", "external_id", "event_id")
    reason = datum["reason"].replace("\x00", "")  # a person's words; the database cannot hold it
    return {
        **_place(record),
        **{n: datum[n] for n in names},
        "into_id": datum["into"],
        "reason": reason,
        "at": record.timestamp_us,
    }


def _decision(record: Record, datum: Mapping[str, Any]) -> Row:
    return {
        "offset": record.offset,
        **{n: datum[n] for n in ("event_id", "external_id", "unsaid", "echo", "deployment")},
    }


def _deployment(record: Record, datum: Mapping[str, Any]) -> Row:
    told = {n: datum[n].replace("\x00", "") for n in ("version", "former", "author", "reason")}
    return {
        "offset": record.offset,
        **told,
        "processed": datum["processed"],
        "at": datum["processed_at"] or datum["at"],
    }


def _receipt(record: Record, datum: Mapping[str, Any]) -> Row:
    names = ("target", "object", "external_id", "golden_id", "key", "outcome", "processed")
    return {**_place(record), **{n: datum[n] for n in names}, "at": datum["processed_at"] or datum["at"]}


NAMES = {
    IDENTITY.name: "identity", DECISIONS.name: "decision", RECEIPTS.name: "receipt",
    CONFIGURATION.name: "configuration",
}  # fmt: skip
ROWS: dict[str, Callable[[Record, Mapping[str, Any]], Row]] = {
    IDENTITY.name: _identity, DECISIONS.name: _decision, RECEIPTS.name: _receipt,
    CONFIGURATION.name: _deployment,
}  # fmt: skip
STORE = {
    topic: f"insert into {table} as known select given.* from jsonb_populate_recordset(null::{table}, $1::jsonb) given"  # noqa: S608
    f" on conflict {conflict}"
    for topic, table, conflict in (
        (IDENTITY.name, "hub.identity", "do nothing"),
        (DECISIONS.name, "hub.decision", "(event_id, external_id, deployment) do update set unsaid = excluded.unsaid,"
         ' echo = excluded.echo, "offset" = excluded."offset" where known."offset" < excluded."offset"'),
        (RECEIPTS.name, "hub.receipt", "do nothing"),
        (CONFIGURATION.name, "hub.deployment", "do nothing"),
    )
}  # fmt: skip
