"""Batches: run a stage's work on a batch in one transaction, and isolate what is bad in it.

Trouble with the world (see streams.faults) is raised, so that the stage waits. Anything else is bisected down to the
record that causes it, which is parked with its reason while the rest goes on.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence

import structlog

from streams import metrics, position, versions
from streams.context import MAX_RECORD_BYTES, Context, emit, now, publish
from streams.faults import INFRASTRUCTURE
from streams.log_postgres import Connection
from streams.position import Done
from streams.records import Batch, NewRecord, Record
from streams.topics import DEADLETTERS

Work = Callable[[Connection, Sequence[Record]], Awaitable[tuple[list[NewRecord], int]]]
"""Do the work for these records; return what to emit and how many were duplicates."""

VARIES = re.compile(r"""'[^']*'|"[^"]*"|\S+@\S+|\w*\d\w*""")
MAX_PAYLOAD = MAX_RECORD_BYTES - 8_192

log = structlog.get_logger(__name__)


async def process(context: Context, stage: str, batches: Sequence[Batch], work: Work) -> None:
    """Work on batches exactly once in effect, however often they are delivered."""
    try:
        await _transact(context, stage, batches, work)
    except INFRASTRUCTURE:
        raise
    except Exception as error:
        await _isolate(context, stage, batches, work, error)
    await publish(context)


async def _transact(context: Context, stage: str, batches: Sequence[Batch], work: Work) -> None:
    async with metrics.tally(), context.pool.acquire() as conn, conn.transaction():
        await versions.in_effect(context, conn)
        ordered = sorted(batches, key=lambda batch: (batch.topic, batch.partition))
        fresh = [records for records in await position.fresh(conn, stage, ordered) if records]
        if not fresh:
            return
        emitted, duplicates = await work(conn, [record for records in fresh for record in records])
        done = _shared(fresh, duplicates)
        await position.advance(conn, stage, done)
        for records, mine, _ in done:
            metrics.count(metrics.PROCESSED, stage, records[0].topic, "processed", by=len(records) - mine)
            metrics.count(metrics.PROCESSED, stage, records[0].topic, "duplicate", by=mine)
        await emit(context, conn, emitted)


def _shared(fresh: Sequence[Sequence[Record]], duplicates: int) -> list[Done]:
    """So many duplicates, booked to the first partitions: of which they are counts little."""
    done = []
    for records in fresh:
        mine = min(duplicates, len(records))
        done.append(Done(records, mine))
        duplicates -= mine
    return done


async def _isolate(context: Context, stage: str, batches: Sequence[Batch], work: Work, error: Exception) -> None:
    """Halve what failed until the record that fails stands alone; it is parked, and all others went through."""
    halves = list(_halves(batches))
    if not halves:
        await park(context, stage, batches[0].records[0], error)
    for half in halves:
        await process(context, stage, half, work)


def _halves(batches: Sequence[Batch]) -> Iterator[Sequence[Batch]]:
    if len(batches) > 1:
        middle = len(batches) // 2
        yield from (batches[:middle], batches[middle:])
        return
    (batch,) = batches
    if len(batch.records) > 1:
        middle = len(batch.records) // 2
        for some in (batch.records[:middle], batch.records[middle:]):
            yield [Batch(batch.topic, batch.partition, some)]


async def park(context: Context, stage: str, record: Record, error: Exception) -> None:
    """Set one record aside, whole, with the reason; everything else goes on."""
    reason = f"{type(error).__name__}: {error}"[:2_000]
    # Not the reason: it may repeat what the record holds. `hub parked` shows it.
    where = f"{record.topic}/{record.partition}@{record.offset}"
    log.warning("parked", stage=stage, where=where, error=type(error).__name__)
    async with metrics.tally(), context.pool.acquire() as conn, conn.transaction():
        if not any(await position.fresh(conn, stage, [Batch(record.topic, record.partition, (record,))])):
            return
        await conn.execute(
            'insert into hub.parked (stage, topic, partition, "offset", reason, fingerprint, key, payload)'
            " values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing",
            stage, record.topic, record.partition, record.offset, reason, fingerprint(reason), record.key,
            record.value or b"",
        )  # fmt: skip
        await position.advance(conn, stage, [Done((record,), parked=1)])
        metrics.count(metrics.PROCESSED, stage, record.topic, "parked")
        metrics.failed(stage, metrics.HUB, error)
        await emit(context, conn, [dead_letter(context, stage, record, reason)])


def fingerprint(reason: str) -> str:
    """Groups failures of one cause: the reason without what differs from record to record (what is quoted, addresses, and
    words with digits)."""
    return hashlib.blake2b(VARIES.sub("?", reason).encode(), digest_size=6).hexdigest()


def dead_letter(context: Context, stage: str, record: Record, reason: str) -> NewRecord:
    """A parked record as an event; without its content where that is more than the log takes."""
    payload = record.value if record.value and len(record.value) <= MAX_PAYLOAD else b""
    datum = {
        "topic": record.topic, "partition": record.partition, "offset": record.offset, "stage": stage,
        "reason": reason, "fingerprint": fingerprint(reason), "payload": payload, "at": now(),
    }  # fmt: skip
    return NewRecord(DEADLETTERS.name, record.key, context.codec.encode("deadletter", datum))
