"""Capture by triggers: for databases whose log cannot be decoded (no `wal_level = logical`, no REPLICATION right).

Rows are read in the order of (transaction id, number), and only those of transactions older than the oldest that is
still running. So no transaction can commit later and stand before a place that was already passed, in whatever order
transactions commit. The number, taken while the row is locked, grows per record and is the change's version.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from functools import partial

import asyncpg
import orjson

from connectors.kit.connector import Finding
from connectors.postgresql.arrays import parse_record
from connectors.postgresql.feed import Batch, Position
from connectors.postgresql.mapped import Index
from connectors.postgresql.outbox_sql import AHEAD, grants, install, mark
from connectors.postgresql.session import Session
from connectors.postgresql.slot import RESET, SlotState
from hub.change import Change
from hub.errors import Fatal

START: Position = {"txid": "0", "seq": 0}
# By the columns of `c`: a bare `txid` would be the text in the answer, in which 1000 comes before 999.
READ = """
SELECT seq, txid::text AS txid, (extract(epoch FROM at) * 1000000)::bigint AS at, relation, op::text AS op, columns,
       content, intents
FROM hub_outbox.change c
WHERE (c.txid, c.seq) > ($1::text::xid8, $2) AND c.txid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY c.txid, c.seq LIMIT $3
"""
WAITING = "SELECT EXISTS (SELECT FROM hub_outbox.change WHERE (txid, seq) > ($1::text::xid8, $2))"
CERTAIN = f"SELECT EXISTS ({READ.replace('LIMIT $3', 'LIMIT 1')})"
WAITS = 25
WAIT_SECONDS = 0.02
RELEASE = "DELETE FROM hub_outbox.change WHERE (txid, seq) <= ($1::text::xid8, $2)"
RELEASED = """
INSERT INTO hub_outbox.released (txid, seq) VALUES ($1::text::xid8, $2)
ON CONFLICT (one) DO UPDATE SET txid = excluded.txid, seq = excluded.seq
WHERE (released.txid, released.seq) < (excluded.txid, excluded.seq)
"""
MEMBERS = """
SELECT n.nspname || '.' || c.relname AS table, t.oid::bigint AS member, obj_description(t.oid, 'pg_trigger') AS mark
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.tgname = 'hub_outbox_change' AND t.tgenabled <> 'D' AND t.tgparentid = 0
"""


class Outbox:
    """The outbox of one database as a feed."""

    stream = "outbox"
    clock = "nextval('hub_outbox.change_seq')"

    def __init__(self, session: Session, index: Index, page: int) -> None:
        self._session = session
        self._index = index
        self._page = page

    async def provision(self, conn: asyncpg.Connection) -> None:
        """Install triggers where they are missing or of another make. Raises Fatal with the SQL where rights are."""
        if await self._missing(conn):
            await self._install(conn)
        await conn.execute(AHEAD)

    async def _install(self, conn: asyncpg.Connection) -> None:
        sql = install(self._index.tables)
        try:
            async with conn.transaction():
                await conn.execute("SET LOCAL lock_timeout = '10s'")
                await conn.execute(sql)
        except asyncpg.InsufficientPrivilegeError as error:
            role = await conn.fetchval("SELECT current_user")
            raise Fatal(f"{error.args[0]}. Let the owner of the tables run:\n{sql}{grants(role)}") from None

    async def _missing(self, conn: asyncpg.Connection) -> list[str]:
        marks = {row["table"]: row["mark"] for row in await conn.fetch(MEMBERS)}
        return [name for name, objects in self._index.tables.items() if marks.get(name) != mark(name, objects)]

    async def members(self, conn: asyncpg.Connection) -> Mapping[str, int]:
        """By table: its trigger."""
        return {row["table"]: row["member"] for row in await conn.fetch(MEMBERS)}

    async def resume(self, position: Position | None) -> Position:
        """See `Feed.resume`."""
        position = position or START
        async with self._session.connection() as conn:
            ahead = await conn.fetchval(
                "SELECT (txid, seq) > ($1::text::xid8, $2) FROM hub_outbox.released", position["txid"], position["seq"]
            )
        if ahead and position != START:
            raise Fatal(f"the outbox was released beyond what the hub has; was it restored from a backup? {RESET}")
        await _release(self._session, position)
        return position

    async def end(self) -> int:
        """The next transaction's id: whatever was committed has a lower one."""
        async with self._session.connection() as conn:
            return int(await conn.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text"))

    def passed(self, position: Position, end: int) -> bool:
        """See `Feed.passed`."""
        return int(position["txid"]) >= end

    async def batches(self, position: Position) -> AsyncGenerator[Batch, None]:
        """See `Feed.batches`."""
        while True:
            async with self._session.connection() as conn:
                rows = await conn.fetch(READ, position["txid"], position["seq"], self._page)
                if any(not _known(self._index, row) for row in rows):
                    await self._index.load(conn)
                if not rows and not await _more(conn, position):
                    return
            if not rows:
                continue
            position = {"txid": rows[-1]["txid"], "seq": rows[-1]["seq"]}
            yield Batch(
                [c for row in rows for c in _changes(self._index, row)],
                position,
                partial(_release, self._session, position),
            )

    async def mark(self, conn: asyncpg.Connection, intents: Mapping[str, str]) -> None:
        """Note whose the transaction's changes are beside them."""
        if intents:
            said = orjson.dumps(intents).decode()
            await conn.execute(
                "UPDATE hub_outbox.change SET intents = $1 WHERE txid = pg_current_xact_id_if_assigned()", said
            )

    async def slot_state(self) -> SlotState:
        """Triggers need no slot; the outbox stands in for it."""
        async with self._session.connection() as conn:
            size = await conn.fetchval("SELECT pg_total_relation_size('hub_outbox.change')")
        return SlotState("hub_outbox", int(size))

    async def findings(self, conn: asyncpg.Connection) -> list[Finding]:
        """Whether the triggers are there."""
        missing = await self._missing(conn)
        if missing:
            return [Finding(True, f"triggers are to be installed on {', '.join(missing)}", "the first run does it")]
        return [Finding(True, "the outbox's triggers are installed on every mapped table")]


async def _release(session: Session, position: Position) -> None:
    async with session.connection() as conn, conn.transaction():
        await conn.execute(RELEASE, position["txid"], position["seq"])
        if position != START:
            await conn.execute(RELEASED, position["txid"], position["seq"])


async def _more(conn: asyncpg.Connection, position: Position) -> bool:
    """Whether more may be read: rows that wait for older transactions are given a moment, for most are short."""
    for _ in range(WAITS):
        if not await conn.fetchval(WAITING, position["txid"], position["seq"]):
            return False
        await asyncio.sleep(WAIT_SECONDS)
        if await conn.fetchval(CERTAIN, position["txid"], position["seq"]):
            return True
    return False


def _known(index: Index, row: asyncpg.Record) -> bool:
    return all(set(row["columns"]) <= one.types.keys() for one in index.tables.get(row["relation"], ()))


def _changes(index: Index, row: asyncpg.Record) -> list[Change]:
    texts = dict(zip(row["columns"], parse_record(row["content"]), strict=True))
    intents = orjson.loads(row["intents"]) if row["intents"] else {}
    changes = []
    for one in index.tables.get(row["relation"], ()):
        external_id = str(one.external_id(texts))
        natives = None if row["op"] == "D" else one.natives({n: texts[n] for n in one.columns if n in texts})
        intent = intents.get(f"{one.object}/{external_id}")
        clock = {"version": row["seq"], "exact": True, "at": row["at"], "channel": "outbox", "intent": intent}
        changes.append(one.change(external_id, natives, **clock))
    return changes
