"""Applying: put another configuration into effect, and do exactly what `whatif` shows, in one transaction.

Everybody else waits meanwhile: workers hold the version in effect while they do a batch (see `versions`), and rows of the
write queue that are being delivered are waited for. What is decided is emitted as events, so that a replay under the new
configuration gives what is live now. Nothing is written to a system here: golden events go to `plan`, as always.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from hub.errors import Reject, Retry
from hub.identity import IdentityEvent
from hub.model import Model
from streams import conflicts, metrics, versions
from streams.context import Context, emit, publish
from streams.log_postgres import Connection
from streams.project import repoint
from streams.projecting import golden_event
from streams.records import NewRecord
from streams.regrouping import CAUSE
from streams.rereading import translated
from streams.topics import CONFLICTS, DECISIONS, IDENTITY
from streams.versions import Deployment
from streams.whatif import Outlook, foresee
from streams.workspace import replace_records, save_golden

DRAIN_SECONDS = 60.0


async def apply(
    context: Context, old: Model, new: Model, said: Deployment, former: str, agreed: tuple[int, int] | None = None
) -> Outlook:
    """Deploy `new` in place of `old`, whose version is `former`; what changed. `agreed` is how many golden records somebody
    has agreed to merge and to set apart (None: any). Raises Reject where it would be more, or where another version has been
    put into effect meanwhile, Retry where deliveries under way do not end."""
    async with metrics.tally(), context.pool.acquire() as conn, conn.transaction():
        if await versions.hold(conn) != former:
            raise Reject("another configuration was deployed meanwhile; look at `hub whatif` again", "configuration")
        await _drained(conn)
        await _published(context)
        outlook = await foresee(context, conn, old, new)
        if agreed is not None and any(more > some for more, some in zip(outlook.regroups, agreed, strict=True)):
            raise Reject("more records came meanwhile that would be merged or set apart; look again", "unconfirmed")
        number, emitted = await versions.record(context, conn, said, quiet=True)
        emitted += await _store(context, conn, outlook, number)
        await _translate_intents(conn, old, new)
        await _account(conn, new, outlook)
        await emit(context, conn, emitted + [golden_event(context, outlook.goldens[g]) for g in _bumped(outlook)])
    await publish(context)
    return outlook


def _bumped(outlook: Outlook) -> list[str]:
    return sorted(outlook.changed | outlook.ended)


async def _published(context: Context) -> None:
    """Now that nobody works any more, what the last ones decided goes to the log before that is read."""
    while await context.pool.fetchval("select exists (select from hub.outbox)"):
        if not await publish(context):
            await asyncio.sleep(0.05)  # another process is at it


async def _drained(conn: Connection) -> None:
    """Return when no living deliverer is at work on a row; none takes another while this transaction holds."""
    end = time.monotonic() + DRAIN_SECONDS
    while await conn.fetchval(
        "select exists (select from hub.write w join hub.lease l on l.token = w.lease where l.alive_until > clock_timestamp())"
    ):
        if time.monotonic() > end:
            raise Retry("writes under way do not end; try again, or stop the workers first")
        await asyncio.sleep(0.1)


async def _store(context: Context, conn: Connection, outlook: Outlook, number: int) -> list[NewRecord]:
    """Records, golden records, keys and conflicts as they are from now on; the events of it."""
    made = outlook.reread
    records = [made.records[id_] for id_ in sorted(made.changed)]
    await replace_records(conn, records)
    decisions = outlook.regrouped.decisions
    await repoint(conn, {d.golden_id: str(d.into) for d in decisions if d.kind == "merge"})
    await _conflicts_follow(conn)
    await save_golden(conn, [outlook.goldens[g] for g in sorted(outlook.goldens)])
    await _keys(conn)
    emitted = [_identity(context, d, number) for d in decisions] + _unsaid(context, outlook, number)
    return emitted + await _contest(context, conn, outlook)


def _identity(context: Context, decision: IdentityEvent, number: int) -> NewRecord:
    """A decision, and which deployment led to it. Keyed by the golden id; a move by its record: its moves stay in order."""
    key = "/".join(decision.record) if decision.kind == "move" and decision.record else decision.golden_id
    told = decision.to_avro() | {"event_id": f"{CAUSE}/{number}"}
    return NewRecord(IDENTITY.name, key.encode(), context.codec.encode("identity", told))


def _unsaid(context: Context, outlook: Outlook, number: int) -> list[NewRecord]:
    """What events do not claim from now on; the last decision counts."""
    emitted = []
    for (event_id, id_), (unsaid, echo) in outlook.reread.unsaid.items():
        datum = {
            "event_id": event_id, "system": id_[0], "object": id_[1], "external_id": id_[2],
            "unsaid": sorted(unsaid), "echo": echo, "deployment": number,
        }  # fmt: skip
        emitted.append(NewRecord(DECISIONS.name, "/".join(id_).encode(), context.codec.encode("decision", datum)))
    return emitted


async def _conflicts_follow(conn: Connection) -> None:
    """Open conflicts belong to the golden record that their record belongs to."""
    await conn.execute(
        "update hub.conflict c set golden_id = r.golden_id from hub.record r where c.state = 'open'"
        " and (r.system, r.object, r.external_id) = (c.system, c.object, c.external_id) and r.golden_id <> c.golden_id"
    )


async def _keys(conn: Connection) -> None:
    """Match keys are those that records hold; of a key that several hold which must not be merged, one keeps it."""
    await conn.execute("delete from hub.match_key")
    await conn.execute(
        "insert into hub.match_key (entity, kind, value, golden_id)"
        " select entity, split_part(k, '=', 1), substr(k, strpos(k, '=') + 1), golden_id"
        " from hub.record, unnest(keys) as k where golden_id <> '' order by 1, 2, 3, 4 on conflict do nothing"
    )


async def _contest(context: Context, conn: Connection, outlook: Outlook) -> list[NewRecord]:
    closed: Sequence[int] = [row["id"] for row in outlook.closed]
    await conn.execute("update hub.conflict set state = 'resolved' where id = any($1::bigint[])", closed)
    again = [c.event_id for c in outlook.opened if c.open]
    await conn.execute(
        "delete from hub.conflict c using unnest($1::text[], $2::text[]) as k (event_id, field)"
        " where c.event_id = k.event_id and c.field = k.field",
        again, [c.field for c in outlook.opened if c.open],
    )  # fmt: skip
    emitted = await conflicts.store(context, conn, outlook.opened, {})
    encode = context.codec.encode
    ended = [_ended(row) for row in outlook.closed]
    return emitted + [NewRecord(CONFLICTS.name, d["golden_id"].encode(), encode("conflict", d)) for d in ended]


def _ended(row: Mapping[str, Any]) -> dict[str, Any]:
    """A closed conflict as its event tells it."""
    names = ("golden_id", "entity", "field", "event_id", "system", "object", "external_id", "winner_event_id", "rule")
    told = {name: row[name] for name in names}
    return told | {name: (row[name] or "null").encode() for name in ("value", "base", "golden")} | {"state": "resolved"}


async def _translate_intents(conn: Connection, old: Model, new: Model) -> None:
    """What was written in the old mapping's terms comes back in the new one's, and must be known then."""
    for row in await conn.fetch('select key, content, target, object, "values" from hub.intent'):
        before, after = old.mapping(row["target"], row["object"]), new.mapping(row["target"], row["object"])
        values = orjson.loads(row["values"])
        if before is None or after is None:
            continue
        told = {name: translated(before, after, name, value) for name, value in values.items()}
        said = {name: values[name] if value is None else value for name, value in told.items()}
        if said != values:
            await conn.execute(
                'update hub.intent set "values" = $3::jsonb where key = $1 and content = $2',
                row["key"], row["content"], orjson.dumps(said).decode(),
            )  # fmt: skip


async def _account(conn: Connection, new: Model, outlook: Outlook) -> None:
    """Events of before have an outcome at new targets, too: on its way where something is written, else filtered."""
    for entity in new.entities:
        targets = list(new.targets(entity))
        await conn.execute(
            "insert into hub.ledger (event_id, target, golden_id, version, outcome, reason)"
            " select e.event_id, t.target, r.golden_id, g.version,"
            " case when g.golden_id = any($3) then null else 'filtered' end,"
            " case when g.golden_id = any($3) then '' else 'nothing to write when the target was added' end"
            " from hub.record r join hub.event e using (system, object, external_id)"
            " join hub.golden g on g.golden_id = r.golden_id cross join unnest($2::text[]) as t (target)"
            " where r.entity = $1 and r.system <> 'hub' and g.merged_into is null"
            " and not exists (select from hub.ledger l where l.event_id = e.event_id and l.target = '-')"
            " on conflict do nothing",
            entity, targets, sorted(outlook.changed),
        )  # fmt: skip
