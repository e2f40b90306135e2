"""Writing: all writes of a call in one transaction, each behind a savepoint of its own.

A create leaves a row in `hub_sync.created` in that same transaction, so that it happens once however often it is tried:
where the answer to a commit was lost, the next try finds the row and reports what was created then. The hub's own
changes are marked in the feed, so that they come back as its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from connectors.postgresql import faults
from connectors.postgresql.catalogue import quote
from connectors.postgresql.doubles import Doubles, find
from connectors.postgresql.feed import Feed
from connectors.postgresql.mapped import VERSION_COLUMN, Index, Mapped
from connectors.postgresql.position import WAL_CLOCK
from connectors.postgresql.session import Session
from connectors.postgresql.sqltypes import Type
from hub.errors import Fatal
from hub.mapping import decode
from hub.receipt import Applied, Deferred, Receipt, Refused, Unchanged
from hub.values import Value
from hub.write import Write

SCHEMA = """
CREATE SCHEMA IF NOT EXISTS hub_sync;
CREATE TABLE IF NOT EXISTS hub_sync.created (
    key          text PRIMARY KEY,
    object       text NOT NULL,
    external_id  text NOT NULL,
    version      bigint NOT NULL,
    at           timestamptz NOT NULL DEFAULT now()
);
"""
GRANT = "GRANT USAGE ON SCHEMA hub_sync TO <role>; GRANT SELECT, INSERT, UPDATE ON hub_sync.created TO <role>;"
PROVISIONED = "SELECT to_regclass('hub_sync.created') IS NOT NULL"
LIMITS = "SET LOCAL lock_timeout = '3s'; SET LOCAL statement_timeout = '60s'; SET CONSTRAINTS ALL IMMEDIATE"
CLAIM = """
INSERT INTO hub_sync.created AS c (key, object, external_id, version) VALUES ($1, $2, '', 0)
ON CONFLICT (key) DO UPDATE SET at = now() WHERE c.external_id = $3 RETURNING true
"""
CREATED = "UPDATE hub_sync.created SET external_id = $2, version = $3 WHERE key = $1"
MEANWHILE = 0.5


class Target:
    """The database as a target."""

    def __init__(self, session: Session, index: Index, feed: Feed | None) -> None:
        self._session = session
        self._index = index
        self._feed = feed
        self._clock = feed.clock if feed else WAL_CLOCK
        self._denied = ""

    async def provision(self, conn: asyncpg.Connection) -> None:
        """Make the table that creates are remembered in. Where that is not permitted, creates are refused until it is."""
        self._denied = await denied(conn)
        if not self._denied and not await conn.fetchval(PROVISIONED):
            async with conn.transaction():
                await conn.execute(SCHEMA)

    async def deliver(self, writes: Sequence[Write]) -> list[Receipt]:
        """One receipt per write, in their order. Raises what concerns all of them; then nothing was written."""
        mapped = self._mapped(writes[0].object)
        receipts: dict[int, Receipt] = {}
        async with self._session.connection() as conn, conn.transaction():
            await conn.execute(LIMITS)
            doubles = await find(conn, mapped, self._creates(writes), self._clock)
            for at in sorted(range(len(writes)), key=lambda n: writes[n].external_id or ""):  # a common order of locks
                receipts[at] = await self._try(conn, mapped, writes[at], doubles)
            await self._mark(conn, [(writes[at], receipts[at]) for at in sorted(receipts)])
        return [receipts[at] for at in range(len(writes))]

    def _mapped(self, name: str) -> Mapped:
        if name not in self._index.objects:
            raise Fatal(f"object {name} is not mapped to a table")
        return self._index.objects[name]

    def _creates(self, writes: Sequence[Write]) -> list[Write]:
        creates = [write for write in writes if write.op == "create"]
        if creates and self._denied:
            raise Fatal(self._denied)
        return creates

    async def _mark(self, conn: asyncpg.Connection, done: Sequence[tuple[Write, Receipt]]) -> None:
        if self._feed:
            applied = {f"{w.object}/{r.external_id}": w.key for w, r in done if isinstance(r, Applied)}
            await self._feed.mark(conn, applied)

    async def _try(self, conn: asyncpg.Connection, mapped: Mapped, write: Write, doubles: Doubles) -> Receipt:
        try:
            async with conn.transaction():
                if write.op == "create":
                    return await self._create(conn, mapped, write, doubles)
                if write.op == "update":
                    return await self._update(conn, mapped, write)
                return await self._delete(conn, mapped, write)
        except asyncpg.UniqueViolationError as error:
            return await self._doubled(conn, mapped, write) or faults.receipt(error, write.op)
        except asyncpg.PostgresError as error:
            if faults.concerns_all(error):
                raise
            return faults.receipt(error, write.op)
        except ValueError as error:
            return Refused(f"cannot be written: {error}")

    async def _doubled(self, conn: asyncpg.Connection, mapped: Mapped, write: Write) -> Receipt | None:
        """Somebody else may have made the same record since it was looked for."""
        there = (await find(conn, mapped, [write], self._clock)).of(write) if write.op == "create" else None
        return Deferred("found", found=(there,)) if there else None

    async def _create(self, conn: asyncpg.Connection, mapped: Mapped, write: Write, doubles: Doubles) -> Receipt:
        if write.key in doubles.created:
            return await self._earlier(conn, mapped, write, *doubles.created[write.key])
        if (there := doubles.of(write)) is not None:
            return Deferred("found", found=(there,))
        if not doubles.take(write):
            return Deferred("another create of the same record is under way", MEANWHILE)
        if not await conn.fetchval(CLAIM, write.key, write.object, doubles.stale.get(write.key)):
            return Deferred("the same create is under way elsewhere", MEANWHILE)
        row = await _row(conn, *_insert(mapped, write.natives, self._clock))
        if row is None:
            return Refused("a trigger of the database dropped the new row", "dropped")
        external_id = str(mapped.external_id(row))
        await conn.execute(CREATED, write.key, external_id, row[VERSION_COLUMN])
        return Applied(external_id, mapped.natives(row), row[VERSION_COLUMN])

    async def _earlier(
        self, conn: asyncpg.Connection, mapped: Mapped, write: Write, external_id: str, version: int
    ) -> Receipt:
        """The row is there from an earlier try, which may have said something else; and people may have edited it since."""
        row = await _row(conn, _select(mapped, self._clock), *mapped.key_of(external_id))
        if (
            row is None
            or mapped.gone(natives := mapped.natives(row))
            or _holds(write, decode(mapped.mapping, natives).values)
        ):
            return Applied(external_id, order=version)
        return Deferred("an earlier try made it otherwise", MEANWHILE, (mapped.read(row, "read"),), external_id)

    async def _update(self, conn: asyncpg.Connection, mapped: Mapped, write: Write) -> Receipt:
        external_id = str(write.external_id)
        key = mapped.key_of(external_id)
        row = await _row(conn, _select(mapped, self._clock), *key)
        if row is None or mapped.gone(mapped.natives(row)):
            return Refused(f"{mapped.table.full_name} {external_id} is not there", "gone")
        now = decode(mapped.mapping, mapped.natives(row)).values
        if _holds(write, now):
            return Unchanged(external_id, row[VERSION_COLUMN])
        if edited := _edited(write, now):
            return Deferred(f"edited meanwhile: {', '.join(edited)}", MEANWHILE, (mapped.read(row, "read"),))
        after = await _row(conn, *_change(mapped, write.natives, key, self._clock))
        if after is None:
            return Refused("a trigger of the database dropped the update", "dropped")
        return Applied(external_id, mapped.natives(after), after[VERSION_COLUMN])

    async def _delete(self, conn: asyncpg.Connection, mapped: Mapped, write: Write) -> Receipt:
        external_id = str(write.external_id)
        key = mapped.key_of(external_id)
        row = await _row(conn, _select(mapped, self._clock), *key)
        if row is None or mapped.gone(mapped.natives(row)):
            return Unchanged(external_id)
        if mapped.soft:
            after = await _row(conn, *_change(mapped, dict([mapped.soft]), key, self._clock))
        else:
            after = await _row(conn, _remove(mapped, self._clock), *key)
        if after is None:
            return Refused("a trigger of the database dropped the delete", "dropped")
        return Applied(external_id, order=after[VERSION_COLUMN])


async def denied(conn: asyncpg.Connection) -> str:
    """Why creates are not possible, with what to do; empty where they are."""
    if await conn.fetchval(PROVISIONED):
        may = await conn.fetchval("SELECT has_table_privilege('hub_sync.created', 'SELECT, INSERT, UPDATE')")
        return "" if may else GRANT
    may = await conn.fetchval("SELECT has_database_privilege(current_database(), 'CREATE')")
    return "" if may else f"creates need a table of the hub's own. Let the owner of the database run:\n{SCHEMA}{GRANT}"


def agree(held: Value, other: Value) -> bool:
    """Whether two canonical values say the same: consents by their status, references by their id."""
    if isinstance(held, Mapping) and isinstance(other, Mapping):
        for name in ("status", "id"):
            if name in held and name in other:
                return bool(held[name] == other[name])
    return bool(held == other)


def _holds(write: Write, now: Mapping[str, Value]) -> bool:
    return all(name in now and agree(now[name], value) for name, value in write.values.items())


def _edited(write: Write, now: Mapping[str, Value]) -> list[str]:
    """Fields to be sent in which the row holds neither what it is believed to hold nor what it is to hold."""
    return [
        name
        for name, value in write.values.items()
        if name in write.expected and not agree(now.get(name), write.expected[name]) and not agree(now.get(name), value)
    ]


async def _row(conn: asyncpg.Connection, sql: str, *values: Any) -> dict[str, Any] | None:
    row = await conn.fetchrow(sql, *values)
    return None if row is None else dict(row)


# All names in these statements are quoted, all values are parameters.


def _select(mapped: Mapped, clock: str) -> str:
    return f"SELECT {mapped.selection(clock)} FROM {mapped.table.sql} WHERE {mapped.where()} FOR NO KEY UPDATE"  # noqa: S608


def _remove(mapped: Mapped, clock: str) -> str:
    return f"DELETE FROM {mapped.table.sql} WHERE {mapped.where()} RETURNING {mapped.selection(clock)}"  # noqa: S608


def _insert(mapped: Mapped, natives: Mapping[str, Any], clock: str) -> tuple[Any, ...]:
    """The statement and its arguments."""
    columns, values = ", ".join(map(quote, natives)), ", ".join(_casts(mapped, natives, 1))
    what = f"({columns}) VALUES ({values})" if natives else "DEFAULT VALUES"
    sql = f"INSERT INTO {mapped.table.sql} {what} RETURNING {mapped.selection(clock)}"
    return sql, *_texts(mapped, natives)


def _change(mapped: Mapped, natives: Mapping[str, Any], key: Sequence[str], clock: str) -> tuple[Any, ...]:
    casts = _casts(mapped, natives, 1 + len(key))
    columns = ", ".join(f"{quote(name)} = {cast}" for name, cast in zip(natives, casts, strict=True))
    returning = f"RETURNING {mapped.selection(clock)}"
    sql = f"UPDATE {mapped.table.sql} SET {columns} WHERE {mapped.where()} {returning}"  # noqa: S608
    return sql, *key, *_texts(mapped, natives)


def _casts(mapped: Mapped, natives: Mapping[str, Any], first: int) -> list[str]:
    return [_type(mapped, name).cast(f"${n}") for n, name in enumerate(natives, first)]


def _texts(mapped: Mapped, natives: Mapping[str, Any]) -> list[str | None]:
    return [_type(mapped, name).write(value) for name, value in natives.items()]


def _type(mapped: Mapped, column: str) -> Type:
    if column not in mapped.types:
        raise ValueError(f"{mapped.table.full_name} has no column {column}")
    return mapped.types[column]
