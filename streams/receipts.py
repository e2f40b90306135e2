"""Receipts: what became of writes, recorded in one transaction with view, links, ledger and queue."""

import asyncio
from collections.abc import Sequence

import asyncpg
import orjson
import structlog

from hub import event, view
from hub.change import Change
from hub.identity import IdentityEvent, match_keys, own_key
from hub.mapping import decode
from hub.receipt import Applied, Deferred, Receipt, Refused, Unchanged
from hub.values import Value
from hub.write import Write
from streams import alerts, breaker, metrics, refused, tracing
from streams.context import Context, emit, now, publish, turn
from streams.faults import Contention
from streams.finishing import Judge, fate, finish
from streams.linking import alive
from streams.log_postgres import Connection
from streams.preparing import Prepared
from streams.records import NewRecord
from streams.topics import IDENTITY, RECEIPTS, changes_topic
from streams.workspace import RecordState, lock_records, save_records

log = structlog.get_logger(__name__)

Results = Sequence[tuple[Prepared, list[tuple[Write, Receipt]]]]


async def leave_intents(conn: Connection, writes: Sequence[Write]) -> None:
    """Note what is about to be written, before it is: the change that comes back is then known as an echo."""
    await conn.executemany(
        'insert into hub.intent (key, target, object, golden_id, external_id, "values", content)'
        " values ($1, $2, $3, $4, $5, $6::jsonb, md5($6::jsonb::text))"
        " on conflict (key, content) do update set at = now(), tries = intent.tries + 1",
        [
            (w.key, w.target, w.object, w.golden_id, w.external_id, orjson.dumps(dict(w.values)).decode())
            for w in writes
        ],
    )


async def record(context: Context, lease: str, results: Results) -> None:
    """Record receipts of rows held under a lease, and what follows from each."""
    if not results:
        return
    with tracing.working("receipt", (w.trace for _, some in results for w, _ in some)):
        for target, seconds in await _recorded_at_last(context, lease, results):
            metrics.observe(metrics.JOURNEY_SECONDS, seconds, target)
        await publish(context)


async def _recorded_at_last(context: Context, lease: str, results: Results) -> list[tuple[str, float]]:
    """What was written cannot be taken back, so its receipt is not given up for another worker's sake."""
    while True:
        try:
            return await _recorded(context, lease, results)
        except (Contention, asyncpg.DeadlockDetectedError):
            continue


async def _recorded(context: Context, lease: str, results: Results) -> list[tuple[str, float]]:
    """Record in one transaction; for every event that this brought to its target: (target, seconds since it was seen)."""
    async with metrics.tally(), context.pool.acquire() as conn, conn.transaction():
        await _lock_rows(conn, [p for p, _ in results])
        emitted: list[NewRecord] = []
        pairs = [pair for _, some in results for pair in some]
        arrived = await _arrived(conn, [p for p, some in results if any(isinstance(r, Applied) for _, r in some)])
        emitted += await _views(context, conn, pairs)
        when = await turn(conn)
        emitted += [_receipt(context, w, r, when) for w, r in pairs]
        found = [(change, w.trace) for p, some in results for w, r in some for change in _found(p, w, r)]
        emitted += [_captured(context, change, trace) for change, trace in found]
        metrics.captured(change for change, _ in found)
        await _forget_intents(conn, pairs)
        if any(isinstance(r, Applied) for _, r in pairs):
            await _note_activity(conn, results[0][0].due.target)
        target = results[0][0].due.target
        judge = Judge(context.patience.attempts, await breaker.good_at(conn, target))
        await finish(conn, target, lease, [fate(p, [r for _, r in some], judge) for p, some in results])
        for write, receipt in pairs:
            metrics.count(metrics.RECEIPTS, write.target, type(receipt).__name__.lower())
        await emit(context, conn, emitted)
    return arrived


async def _lock_rows(conn: Connection, prepared: Sequence[Prepared]) -> None:
    """Lock what this may change in the queue in the order in which the plan stage does, or the two wait for each other."""
    await conn.execute(
        "select from hub.write where target = $1 and (golden_id = any($2) or state = 'held' and waits_for = any($2))"
        " order by golden_id for update",
        prepared[0].due.target, [p.due.golden_id for p in prepared],
    )  # fmt: skip


async def _arrived(conn: Connection, prepared: Sequence[Prepared]) -> list[tuple[str, float]]:
    if not prepared:
        return []
    rows = await conn.fetch(
        "select l.target, e.observed_at from unnest($1::text[], $2::text[], $3::bigint[]) as p (target, golden_id, version)"
        " join hub.ledger l on l.target = p.target and l.golden_id = p.golden_id and l.version <= p.version"
        " and l.outcome is null join hub.event e using (event_id)",
        [p.due.target for p in prepared], [p.due.golden_id for p in prepared], [p.version for p in prepared],
    )  # fmt: skip
    return [(row["target"], (now() - row["observed_at"]) / 1_000_000) for row in rows]


async def _note_activity(conn: Connection, target: str) -> None:
    await conn.execute(
        "insert into hub.activity values ($1, clock_timestamp()) on conflict (target) do update set at = excluded.at",
        target,
    )


async def _views(context: Context, conn: Connection, pairs: Sequence[tuple[Write, Receipt]]) -> list[NewRecord]:
    """What the target holds now; a created record belongs to its golden record from here on."""
    taken = [(w, r, (w.target, w.object, there)) for w, r in pairs if (there := _there(r))]
    states = await lock_records(conn, [id_ for _, _, id_ in taken])
    links: list[IdentityEvent] = []
    for write, receipt, id_ in taken:
        if id_ not in states or not states[id_].golden_id:
            lives = (await alive(conn, write.mapping.entity.name, [write.golden_id])).get(write.golden_id)
            states[id_] = _created(write, id_, lives or write.golden_id, stored=id_ in states)
            links.append(IdentityEvent("link", write.golden_id, states[id_].entity, write.key, id_, reason="created"))
        if isinstance(receipt, Applied | Unchanged):
            _acknowledge(states[id_], write, receipt, now())
    if states:
        await save_records(conn, list(states.values()))
    await _own_keys(conn, links)
    encode = context.codec.encode
    return [NewRecord(IDENTITY.name, link.golden_id.encode(), encode("identity", link.to_avro())) for link in links]


def _there(receipt: Receipt) -> str:
    """The record that is the golden record's, as this answer says; what it holds may still have to be read."""
    if isinstance(receipt, Applied | Unchanged):
        return receipt.external_id
    return receipt.created if isinstance(receipt, Deferred) else ""


def _created(write: Write, id_: tuple[str, str, str], lives: str, stored: bool) -> RecordState:
    """The record that a write created. Its golden record may have become part of another meanwhile: it `lives` there."""
    entity = write.mapping.entity
    held = frozenset({own_key(id_), *match_keys(entity, write.values)})
    return RecordState(id_, entity.name, lives, write.golden_id, keys=held, stored=stored)


async def _own_keys(conn: Connection, links: Sequence[IdentityEvent]) -> None:
    await conn.executemany(
        "insert into hub.match_key (entity, kind, value, golden_id) values ($1, 'record', $2, $3) on conflict do nothing",
        [(link.entity, "/".join(link.record or ()), link.golden_id) for link in links],
    )


def _acknowledge(state: RecordState, write: Write, receipt: Applied | Unchanged, at: int) -> None:
    stored = _stored(write, receipt)
    state.view = view.acknowledged(state.view, write.values, stored, receipt.order, at)
    if write.op == "delete":
        state.gone = True


def _stored(write: Write, receipt: Receipt) -> dict[str, Value]:
    """What the target says it holds now, of the fields written."""
    if not isinstance(receipt, Applied) or not receipt.natives:
        return {}
    values = decode(write.mapping, receipt.natives).values
    return {name: values[name] for name in write.values if name in values}


def _found(prepared: Prepared, write: Write, receipt: Receipt) -> list[Change]:
    """Changes that an answer revealed: records that were there already, were edited meanwhile, or are gone."""
    if isinstance(receipt, Deferred):
        return list(receipt.found)
    if isinstance(receipt, Refused) and receipt.code == "gone" and write.external_id and write.op == "update":
        version = _last_order(prepared.records.get(write.external_id))
        return [
            Change(
                write.target, write.object, write.external_id, op="delete", version=version, at=now(), channel="read"
            )
        ]
    return []


def _last_order(record: RecordState | None) -> int | None:
    """A refusal tells no version: it is as new as the newest report, in the system's own count, so that a record that
    comes back is newer still."""
    return max((held.order for held in record.view.values() if held.order), default=None) if record else None


def _captured(context: Context, change: Change, trace: str | None) -> NewRecord:
    captured = event.record(change, now(), trace=trace)
    topic = changes_topic(change.system, change.object).name
    return NewRecord(topic, change.external_id.encode(), context.codec.encode("event", captured.to_avro()))


async def _forget_intents(conn: Connection, pairs: Sequence[tuple[Write, Receipt]]) -> None:
    """An intent has done its work once the target told what it holds, or did not take the write at all. Where the
    outcome is not known (a time-out), it stays for the echo that may come; so it does where a record was found that an
    earlier try, of which no answer came, may have left."""
    over = [w.key for w, r in pairs if not _may_echo(r)]
    if over:
        await conn.execute(
            "delete from hub.intent where key = any($1) and (key <> all($2)"
            " or (select sum(tries) from hub.intent i where i.key = hub.intent.key) = 1)",
            over, [w.key for w, r in pairs if isinstance(r, Deferred)],
        )  # fmt: skip


def _may_echo(receipt: Receipt) -> bool:
    if isinstance(receipt, Applied):
        return not receipt.natives
    return isinstance(receipt, Deferred) and not receipt.found


def _receipt(context: Context, write: Write, receipt: Receipt, when: dict[str, int]) -> NewRecord:
    datum = {
        "target": write.target, "object": write.object, "golden_id": write.golden_id, "version": write.version,
        "external_id": getattr(receipt, "external_id", write.external_id), "op": write.op, "key": write.key,
        "outcome": type(receipt).__name__.lower(), "written": orjson.dumps(dict(write.values)),
        "stored": orjson.dumps(_stored(write, receipt)), "order": getattr(receipt, "order", 0),
        "reason": getattr(receipt, "reason", getattr(receipt, "waits_for", ""))[:2_000], "at": now(),
        "trace": write.trace, **when,
    }  # fmt: skip
    key = f"{write.target}/{write.golden_id}".encode()
    return NewRecord(RECEIPTS.name, key, context.codec.encode("receipt", datum))


async def pause(context: Context, conn: Connection, target: str, reason: str, generation: int | None = None) -> None:
    """Stop writing to one target; everything else goes on. Raises one alert, however often it fails; none where what was
    refused is of a `generation` that a newer token has replaced meanwhile."""
    known = await asyncio.to_thread(refused.digest, context.renewal.used(target)) if context.renewal else ""
    new = await conn.fetchval(
        "insert into hub.pause (target, reason, credentials) select $1, $2, $4"
        " where not exists (select from hub.token where system = $1 and generation > $3)"
        " on conflict do nothing returning true", target, reason, generation, known,
    )  # fmt: skip
    if new:
        mend = f"; renew its credentials: it resumes when they are proven, or by `hub resume {target}`"
        await alerts.raised(context, "target_paused", target, reason + ("" if "`hub auth " in reason else mend))


async def resume(context: Context, conn: Connection, target: str) -> bool:
    """Write to a paused target again; whether it was paused."""
    was = await conn.fetchval("delete from hub.pause where target = $1 returning true", target)
    if was:
        await alerts.cleared(context, "target_paused", target, "resumed")
    return bool(was)
