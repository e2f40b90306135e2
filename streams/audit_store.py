"""What is kept of audits: their rows, what they found record by record, and the events that tell of both."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from hub.drift import Drift
from streams.context import Context, now
from streams.log_postgres import Connection
from streams.records import NewRecord
from streams.topics import AUDITS

KEPT = 20
ENDS = ("clean", "drift", "incomplete", "waiting")
COLUMNS = (
    "system", "object", "mode", "state", "reason", "known", "read", "unsettled", "deleted", "repaired", "began", "ended",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One audit of one object; see hub.audit in streams/state.sql."""

    system: str
    object: str
    mode: str
    state: str
    reason: str
    began: datetime
    known: int = 0
    read: int = 0
    unsettled: int = 0
    deleted: int = 0
    repaired: int = 0
    ended: datetime = field(default_factory=lambda: datetime.now(UTC))
    id: int = 0


async def store(conn: Connection, row: Row, drift: Sequence[Drift]) -> tuple[Row, set[str]]:
    """Keep an audit and what it found; with its number, and the states that it takes the place of: that of the last audit
    of its mode, and "waiting" where a reading as complete as an earlier one replaces it. Deletes wait until then."""
    key = (row.system, row.object)
    last = await conn.fetchval(
        "select state from hub.audit where system = $1 and object = $2 and mode = $3 order by id desc limit 1",
        *key, row.mode,
    )  # fmt: skip
    before = {last} - {"waiting", None}
    if row.mode == "full" and row.state != "incomplete":
        replaced = await conn.fetch(
            "update hub.audit set state = 'replaced' where system = $1 and object = $2 and state = 'waiting' returning 1",
            *key,
        )  # fmt: skip
        before |= {"waiting"} if replaced else set()
    values = asdict(row)
    places = ", ".join(f"${place}" for place in range(1, len(COLUMNS) + 1))
    number = await conn.fetchval(
        f"insert into hub.audit ({', '.join(COLUMNS)}) values ({places}) returning id",  # noqa: S608 - our own names
        *(values[name] for name in COLUMNS),
    )
    await conn.executemany(
        "insert into hub.drift (audit_id, external_id, kind, fields) values ($1, $2, $3, $4)",
        [(number, d.external_id, d.kind, list(d.fields)) for d in drift],
    )
    await conn.execute(
        "delete from hub.audit where system = $1 and object = $2 and state <> 'waiting' and id <= $3 - $4::int",
        *key, number, KEPT,
    )  # fmt: skip
    return replace(row, id=number), before


async def latest(context: Context) -> list[dict[str, Any]]:
    """Of every object the newest audit of each mode, and those whose deletes wait; with how many records of each kind of
    drift it found."""
    rows = await context.pool.fetch(
        "select a.*,"
        " (select count(*) from hub.drift d where d.audit_id = a.id and d.kind = 'missing') as missing,"
        " (select count(*) from hub.drift d where d.audit_id = a.id and d.kind = 'stale') as stale,"
        " (select count(*) from hub.drift d where d.audit_id = a.id and d.kind = 'extra') as extra"
        " from hub.audit a where a.state = 'waiting' or a.id in"
        " (select max(id) from hub.audit group by system, object, mode) order by a.system, a.object, a.id"
    )
    return [dict(r) for r in rows]


def event_of(context: Context, row: Row, drift: Drift | None = None, author: str = "") -> NewRecord:
    """How an audit ended, what was decided of it, or what it found of one record, as a record of the log."""
    one = drift.external_id if drift else None
    datum = {
        "audit": row.id, "system": row.system, "object": row.object, "kind": drift.kind if drift else row.state,
        "external_id": one, "fields": list(drift.fields) if drift else [], "deleted": 0 if drift else row.deleted,
        "reason": "" if drift else row.reason[:2_000], "author": author, "at": now(),
    }  # fmt: skip
    key = "/".join((row.system, row.object, *([one] if one else [])))
    return NewRecord(AUDITS.name, key.encode(), context.codec.encode("audit", datum))
