"""Steward: what a person decided about a golden record, as events of the system `hub`: pins, kept values, unmerges.

Payload: {"action": "pin", "field", "value", "author", "reason", "expires_at"}, {"action": "unpin", "field"},
{"action": "keep", "field"} (the golden value stands against open conflicts), {"action": "unmerge", "author", "reason"}.
The external id is the golden id. {"action": "retry" | "edit" | "discard", "parked", "author", "reason"} record what became
of something parked; of an event, the external id is where it stands on the log.
"""

from collections.abc import Sequence
from typing import Any

from hub.event import Event
from hub.fold import Claim, fold
from hub.identity import IdentityEvent
from hub.projection import STEWARD
from streams import projecting
from streams.conflicts import CONTESTED
from streams.context import Context
from streams.log_postgres import Connection
from streams.records import NewRecord, Record
from streams.topics import IDENTITY
from streams.workspace import RecordState, lock_golden, lock_records, save_records

SYSTEM = STEWARD
OBJECT = "stewardship"
PIN = ("value", "author", "reason", "expires_at")


async def apply(context: Context, conn: Connection, events: Sequence[tuple[Record, Event]]) -> list[NewRecord]:
    """Apply stewards' decisions to the golden records concerned and project those anew."""
    emitted: list[NewRecord] = []
    touched: set[str] = set()
    for _, event in events:
        golden_id = await _alive(conn, event.external_id)
        if golden_id is None:
            continue
        emitted += await ACTIONS[event.fields()["action"]](context, conn, event, golden_id, touched)
    goldens = await lock_golden(conn, touched)
    emitted += await projecting.project_all(context, conn, [], goldens, forced=touched)
    await _note(conn, events)
    return emitted


async def _alive(conn: Connection, golden_id: str) -> str | None:
    """The golden id under which this thing lives now; None if there never was one."""
    row = await conn.fetchrow("select merged_into from hub.golden where golden_id = $1", golden_id)
    while row is not None and row["merged_into"]:
        golden_id = row["merged_into"]
        row = await conn.fetchrow("select merged_into from hub.golden where golden_id = $1", golden_id)
    return golden_id if row is not None else None


async def _pin(context: Context, conn: Connection, event: Event, golden_id: str, touched: set[str]) -> list[NewRecord]:
    """The pin is a claim of the golden id that it was given to, so that it goes along in merges, and back."""
    said = event.fields()
    id_ = (SYSTEM, OBJECT, event.external_id)
    entity = await conn.fetchval("select entity from hub.golden where golden_id = $1", golden_id)
    states = await lock_records(conn, [id_])
    state = states.get(id_) or RecordState(id_, entity, golden_id, event.external_id)
    value: dict[str, Any] | None = None
    if said["action"] == "pin":
        value = {name: said.get(name) for name in PIN}
    state.claims = fold(state.claims, [(said["field"], Claim(value, event.at, event.clock))])
    state.last_event = event.event_id
    await save_records(conn, [state])
    await conn.execute(
        "update hub.conflict set state = 'resolved' where golden_id = $1 and field = $2 and state = 'open' and rule = $3",
        golden_id, said["field"], CONTESTED,
    )  # fmt: skip
    touched.add(golden_id)
    return []


async def _keep(context: Context, conn: Connection, event: Event, golden_id: str, touched: set[str]) -> list[NewRecord]:
    await conn.execute(
        "update hub.conflict set state = 'resolved' where golden_id = $1 and field = $2 and state = 'open'",
        golden_id, event.fields()["field"],
    )  # fmt: skip
    touched.add(golden_id)
    return []


async def _unmerge(
    context: Context, conn: Connection, event: Event, golden_id: str, touched: set[str]
) -> list[NewRecord]:
    """Give the records and pins that came in by merges back to the golden ids they first belonged to."""
    homes = await conn.fetch(
        "select distinct home from hub.record where golden_id = $1 and home <> $1 and system <> $2", golden_id, SYSTEM
    )
    back = [row["home"] for row in homes]
    await conn.execute(
        "update hub.record set golden_id = home where golden_id = $1 and (home = any($2) or system <> $3)",
        golden_id, back, SYSTEM,
    )  # fmt: skip
    await conn.execute("update hub.golden set merged_into = null where golden_id = any($1)", back)
    await conn.execute(
        "update hub.conflict c set golden_id = r.golden_id from hub.record r where c.golden_id = $1 and c.state = 'open'"
        " and (r.system, r.object, r.external_id) = (c.system, c.object, c.external_id)",
        golden_id,
    )
    pairs = [(a, b) for a in (golden_id, *back) for b in (golden_id, *back) if a < b]
    await conn.executemany("insert into hub.apart values ($1, $2) on conflict do nothing", pairs)
    touched.update(back, [golden_id])
    entity = await conn.fetchval("select entity from hub.golden where golden_id = $1", golden_id)
    reason = str(event.fields().get("reason", ""))
    decisions = [IdentityEvent("unmerge", home, entity, event.event_id, into=golden_id, reason=reason) for home in back]
    encode = context.codec.encode
    return [NewRecord(IDENTITY.name, d.golden_id.encode(), encode("identity", d.to_avro())) for d in decisions]


async def _done(context: Context, conn: Connection, event: Event, golden_id: str, touched: set[str]) -> list[NewRecord]:
    """What was done about something parked took effect when it was decided (see streams.quarantine); this is the record."""
    return []


ACTIONS = {
    "pin": _pin, "unpin": _pin, "keep": _keep, "unmerge": _unmerge, "retry": _done, "edit": _done, "discard": _done,
}  # fmt: skip


async def _note(conn: Connection, events: Sequence[tuple[Record, Event]]) -> None:
    """A steward's decision is an event like any other; its effect is a golden version of its own."""
    await conn.executemany(
        'insert into hub.event (event_id, topic, partition, "offset", system, object, external_id, observed_at, golden_id,'
        " processed_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $7, hub.moment())",
        [
            (e.event_id, r.topic, r.partition, r.offset, e.system, e.object, e.external_id, e.observed_at)
            for r, e in events
        ],
    )
    await conn.executemany(
        "insert into hub.ledger (event_id, target, golden_id, outcome, reason) values ($1, '-', $2, 'applied', 'steward')",
        [(e.event_id, e.external_id) for _, e in events],
    )
