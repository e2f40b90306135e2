"""The replication slot: how the database remembers what the hub has not read yet.

A slot keeps log on the database's disk until it is released, without end: an abandoned one fills the disk. Drop it
with `SELECT pg_drop_replication_slot('<name>')` when the hub no longer reads this database, and consider
`max_slot_wal_keep_size`, which sacrifices the slot instead; the hub then says so and stops.
"""

from dataclasses import dataclass

import asyncpg

from connectors.kit.connector import Finding
from connectors.postgresql.position import format_lsn, parse_lsn
from connectors.postgresql.session import Session
from hub.errors import Fatal, Retry

PLUGIN = "pgoutput"
STATE = """
SELECT plugin, database = current_database() AS here, wal_status, coalesce(confirmed_flush_lsn, '0/0')::text AS confirmed,
       (pg_current_wal_lsn() - coalesce(restart_lsn, pg_current_wal_lsn()))::bigint AS kept,
       (pg_current_wal_lsn() - coalesce(confirmed_flush_lsn, pg_current_wal_lsn()))::bigint AS behind,
       safe_wal_size, to_regprocedure('pg_log_standby_snapshot()') IS NOT NULL
           AND has_function_privilege(to_regprocedure('pg_log_standby_snapshot()'), 'EXECUTE') AS may_hint
FROM pg_replication_slots WHERE slot_name = $1
"""
REREAD_BYTES = 4 << 20
"""Every look at the slot decodes from where the oldest transaction began that was running at the server's last note of
running transactions, which it makes every 15 seconds: on a busy server the same log is read again and again. From
PostgreSQL 16 on, a role that may do so (a superuser, or by GRANT EXECUTE) asks for such a note earlier."""


@dataclass(frozen=True, slots=True)
class SlotState:
    """How a slot (or an outbox) fares: bytes that are kept, why it is `lost` ("" while it is not), whether the server is
    about to give it up, and how many more bytes it may keep (None: without end)."""

    name: str
    behind: int = 0
    lost: str = ""
    endangered: bool = False
    room: int | None = None


RESET = "reset this stream's checkpoint, and every table is read again; deletes made meanwhile are not found that way"


@dataclass(frozen=True, slots=True)
class Slot:
    """A logical slot of the database the session is connected to."""

    name: str

    async def state(self, conn: asyncpg.Connection) -> asyncpg.Record | None:
        """What the database says of the slot; None if it is not there."""
        return await conn.fetchrow(STATE, self.name)

    async def begin(self, conn: asyncpg.Connection) -> int:
        """The place from which changes are kept, of a slot made now if need be.

        Raises Retry while transactions that were already running go on, Fatal where the server cannot decode its log.
        """
        state = await self.state(conn)
        if state is not None and state["wal_status"] == "lost":
            await conn.execute("SELECT pg_drop_replication_slot($1)", self.name)
        if state is None or state["wal_status"] == "lost":
            await self._create(conn)
            state = await self.state(conn)
        assert state is not None
        self._ours(state)
        return parse_lsn(state["confirmed"])

    async def resume(self, conn: asyncpg.Connection, lsn: int, *, release: bool = True) -> None:
        """Make sure that everything behind `lsn` is still there, and, with `release`, let go of what is before."""
        state = await self.state(conn)
        if state is None:
            raise Fatal(f"replication slot {self.name} is gone, and changes since {format_lsn(lsn)} with it: {RESET}")
        self._ours(state)
        if state["wal_status"] == "lost":
            raise Fatal(f"replication slot {self.name} was given up because it kept too much log: {RESET}")
        confirmed = parse_lsn(state["confirmed"])
        if confirmed > lsn:
            raise Fatal(
                f"replication slot {self.name} is at {state['confirmed']}, ahead of what the hub has"
                f" ({format_lsn(lsn)}): it was moved or made anew, or the hub was restored from a backup: {RESET}"
            )
        if confirmed < lsn and release:
            await self._advance(conn, lsn)
        if state["kept"] - state["behind"] > REREAD_BYTES and state["may_hint"]:
            await conn.execute("SELECT pg_log_standby_snapshot()")

    async def release(self, session: Session, lsn: int) -> None:
        """Everything before `lsn` is durable in the hub: the database need not keep it."""
        async with session.connection() as conn:
            await self._advance(conn, lsn)

    async def fares(self, conn: asyncpg.Connection) -> SlotState:
        """How it fares."""
        state = await self.state(conn)
        if state is None:
            return SlotState(self.name, lost="gone")
        lost = "lost: it kept more log than max_slot_wal_keep_size allows" if state["wal_status"] == "lost" else ""
        return SlotState(
            self.name, int(state["behind"]), lost, state["wal_status"] == "unreserved", state["safe_wal_size"]
        )

    async def findings(self, conn: asyncpg.Connection) -> list[Finding]:
        """What is to be said of the slot."""
        state = await self.state(conn)
        if state is None:
            return [Finding(True, f"replication slot {self.name} will be made by the first run")]
        if state["wal_status"] == "lost":
            return [Finding(False, f"replication slot {self.name} was given up by the server", RESET)]
        what = f"replication slot {self.name} is {state['wal_status']}, {state['behind']:,} bytes behind"
        hint = f"the server keeps {state['kept']:,} bytes of log; run the hub, or raise max_slot_wal_keep_size"
        return [Finding(state["wal_status"] != "unreserved", what, hint if state["wal_status"] != "reserved" else "")]

    async def _create(self, conn: asyncpg.Connection) -> None:
        try:
            async with conn.transaction():
                await conn.execute("SET LOCAL lock_timeout = '10s'")
                await conn.execute("SELECT pg_create_logical_replication_slot($1, $2)", self.name, PLUGIN)
        except asyncpg.LockNotAvailableError:
            raise Retry("the replication slot waits for transactions that were running before it", after=5.0) from None
        except asyncpg.ObjectNotInPrerequisiteStateError as error:
            raise Fatal(f"{error.args[0]}: set wal_level = logical and restart, or use `capture: outbox`") from None
        except asyncpg.ConfigurationLimitExceededError as error:
            raise Fatal(f"{error.args[0]}: raise max_replication_slots and restart") from None

    def _ours(self, state: asyncpg.Record) -> None:
        if state["plugin"] != PLUGIN or not state["here"]:
            raise Fatal(f"replication slot {self.name} is of another database or plugin: name another in `slot`")

    async def _advance(self, conn: asyncpg.Connection, lsn: int) -> None:
        await conn.execute("SELECT pg_replication_slot_advance($1, $2::text::pg_lsn)", self.name, format_lsn(lsn))
