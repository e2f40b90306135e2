"""Quarantine: what waits for a person. Events of the log that could not be processed, and writes that targets refused.

A name says which: `12` is the event parked under that number, `hubspot/<golden id>` the write to that target. Whatever a
person does about them is an event of the system `hub` with author and reason, in the transaction that does it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson
from msgspec.structs import replace

from hub.change import Change
from hub.errors import Reject
from hub.event import Event, from_avro
from hub.projection import STEWARD
from streams import aside, metrics, outcomes, plan, project, steward
from streams.capture import to_records
from streams.context import Context, emit, now, publish
from streams.log_postgres import Connection
from streams.records import NewRecord

BULK = 10_000


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which of what is parked: by names, everything with a fingerprint, all writes to a target."""

    names: Sequence[str] = ()
    fingerprint: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """Who decides, and why."""

    author: str
    reason: str


EVENTS = (
    'select id, stage, topic, partition, "offset", reason, fingerprint, key, payload, at from hub.parked'
    " where ($1 = '' or fingerprint = $1) and ($2::text[] is null or id::text = any($2)) and $4 = ''"
    " order by id desc limit $3"
)
WRITES = (
    "select target, golden_id, entity, version, code, reason, fingerprint, attempts from hub.write where state = 'parked'"
    " and ($1 = '' or fingerprint = $1) and ($2::text[] is null or target || '/' || golden_id = any($2))"
    " and ($4 = '' or target = $4)"
    " order by target, golden_id limit $3"
)


async def find(
    conn: Connection, chosen: Chosen, limit: int = BULK, lock: bool = False
) -> tuple[list[asyncpg.Record], list[asyncpg.Record]]:
    """The events and the writes that are meant."""
    given = (chosen.fingerprint, list(chosen.names) or None, limit, chosen.target)
    locked = " for update" if lock else ""
    return await conn.fetch(EVENTS + locked, *given), await conn.fetch(WRITES + locked, *given)


def name_of(row: asyncpg.Record) -> str:
    """How a person calls it."""
    return str(row["id"]) if "id" in row.keys() else f"{row['target']}/{row['golden_id']}"  # noqa: SIM118


async def content(context: Context, row: asyncpg.Record) -> dict[str, Any] | None:
    """What a parked event holds, as far as it can be read; None where it cannot."""
    try:
        await context.codec.learn([row["payload"]])
        datum = context.codec.decode(row["payload"])[1]
        return {n: _shown(v) for n, v in datum.items()}
    except Exception:
        return None


def _shown(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value.decode(errors="replace")


async def retry(context: Context, chosen: Chosen, said: Said) -> int:
    """Try again, as they are; how many."""
    return await _each(context, chosen, said, "retry", _again, _due)


async def discard(context: Context, chosen: Chosen, said: Said) -> int:
    """Give up for good; how many. A discarded write leaves the target as it is until the record changes again; its changes
    end in the ledger as filtered. A discarded event stays on the log, and in the ledger as parked."""
    return await _each(context, chosen, said, "discard", _nothing, _drop)


async def edit(context: Context, name: str, fields: Mapping[str, Any], said: Said) -> None:
    """Put a parked change on the log anew, with other native fields (None: known to be empty). It keeps its place in the
    order of its record, so that what came after it still counts more. Raises Reject where that cannot be."""
    async with metrics.tally(), context.pool.acquire() as conn, conn.transaction():
        rows, _ = await find(conn, Chosen([name]), lock=True)
        if not rows:
            raise Reject(f"no event is parked as {name!r}: see `hub parked`", "unknown")
        event = await _readable(context, rows[0])
        payload = orjson.dumps({**event.fields(), **fields}, option=orjson.OPT_SORT_KEYS)
        edited = replace(event, payload=payload, channel="steward")
        value = context.codec.encode("event", edited.to_avro())
        record = NewRecord(rows[0]["topic"], rows[0]["key"], value)
        note = await _noted(context, "edit", rows[0], said, fields=dict(fields))
        await _taken(conn, rows[0], redone=True)
        await emit(context, conn, [record, note])
    await publish(context)


async def _readable(context: Context, row: asyncpg.Record) -> Event:
    if row["stage"] != project.STAGE:
        raise Reject(f"{name_of(row)} is no change but was parked by {row['stage']}: retry or discard it", "unknown")
    try:
        await context.codec.learn([row["payload"]])
        event = from_avro(context.codec.decode(row["payload"])[1])
        event.fields().keys()
    except Exception as error:
        reason = f"{name_of(row)} cannot be read ({type(error).__name__}), so there is nothing to edit: discard it"
        raise Reject(reason, "unreadable") from None
    return event


Work = Callable[[Context, Connection, asyncpg.Record, Said], Awaitable[list[NewRecord]]]


async def _each(context: Context, chosen: Chosen, said: Said, action: str, event: Work, write: Work) -> int:
    """Do the work for each that is chosen, in one transaction with the notes of it."""
    async with metrics.tally(), context.pool.acquire() as conn, conn.transaction():
        events, writes = await find(conn, chosen, lock=True)
        emitted: list[NewRecord] = []
        for rows, work in ((events, event), (writes, write)):
            for row in rows:
                emitted += await work(context, conn, row, said)
                emitted.append(await _noted(context, action, row, said))
        if writes:
            await conn.execute("select pg_notify($1, '')", plan.WAKE)
        for row in events:
            await _taken(conn, row, redone=action == "retry")
        await emit(context, conn, emitted)
    await publish(context)
    return len(events) + len(writes)


async def _again(context: Context, conn: Connection, row: asyncpg.Record, said: Said) -> list[NewRecord]:
    """The same record once more, behind all others. A golden record is planned as it is now; what never was on the log is
    fetched anew from its system."""
    if row["stage"] == plan.STAGE:
        await plan.queue_again(context.model, conn, row["key"].decode(errors="replace"))
        return []
    if row["stage"] == aside.STAGE:
        return [aside.asked_again(context, row["topic"], row["payload"])]
    return [NewRecord(row["topic"], row["key"], row["payload"])]


async def _nothing(context: Context, conn: Connection, row: asyncpg.Record, said: Said) -> list[NewRecord]:
    return []


async def _due(context: Context, conn: Connection, row: asyncpg.Record, said: Said) -> list[NewRecord]:
    await conn.execute(
        "update hub.write set state = 'due', due_at = now(), attempts = 0, failed_at = null"
        " where target = $1 and golden_id = $2", row["target"], row["golden_id"],
    )  # fmt: skip
    return []


async def _drop(context: Context, conn: Connection, row: asyncpg.Record, said: Said) -> list[NewRecord]:
    target, golden_id = row["target"], row["golden_id"]
    reason = f"discarded by {said.author}: {said.reason}"
    await outcomes.settle(conn, target, [(golden_id, row["version"], "filtered", reason)])
    await conn.execute("delete from hub.write where target = $1 and golden_id = $2", target, golden_id)
    return []


async def _taken(conn: Connection, row: asyncpg.Record, redone: bool) -> None:
    """It waits for nobody any more. One that is on the log anew is from here on counted as having come twice."""
    await conn.execute("delete from hub.parked where id = $1", row["id"])
    if redone:
        await conn.execute(
            "update hub.position set parked = parked - 1, duplicates = duplicates + 1"
            " where stage = $1 and topic = $2 and partition = $3", row["stage"], row["topic"], row["partition"],
        )  # fmt: skip


async def _noted(context: Context, action: str, row: asyncpg.Record, said: Said, **more: Any) -> NewRecord:
    """What a person did, as an event: who, why, and to what."""
    names = ("stage", "topic", "partition", "offset", "target", "golden_id", "version", "reason", "fingerprint")
    about = {name: row[name] for name in names if name in row.keys()}  # noqa: SIM118
    where = row["golden_id"] if "target" in about else f"{row['topic']}/{row['partition']}@{row['offset']}"
    fields = {"action": action, "author": said.author, "reason": said.reason, "parked": about, **more}
    change = Change(STEWARD, steward.OBJECT, where, fields, at=now(), channel="steward")
    metrics.captured([change])
    (record,) = await to_records(context, [change])
    return record
