"""Capture by logical decoding: a publication, a slot, and plain SQL.

The slot is only looked at (`peek`) and moved on once the changes are durable in the hub, so a crash at any point
reads changes again and never skips one. Needs PostgreSQL 14 or later with `wal_level = logical`.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import partial

import asyncpg
import structlog

from connectors.kit.connector import Finding
from connectors.postgresql import publication
from connectors.postgresql.catalogue import quote
from connectors.postgresql.feed import Batch, Position
from connectors.postgresql.mapped import Index
from connectors.postgresql.pace import Moves, Pace
from connectors.postgresql.pgoutput import Relation, decode
from connectors.postgresql.position import WAL_CLOCK, format_lsn, parse_lsn
from connectors.postgresql.session import Session
from connectors.postgresql.slot import Slot, SlotState
from connectors.postgresql.sqltypes import load_types
from connectors.postgresql.transactions import PREFIX, Place, Step, Transactions
from hub.change import Change
from hub.errors import Fatal

log = structlog.get_logger(__name__)

PEEK = """
SELECT data FROM pg_logical_slot_peek_binary_changes($1, NULL, $2, 'proto_version', '1', 'publication_names', $3,
                                                     'messages', 'true')
"""
PEEK_ROWS = 20_000
"""A look ends after the transaction that reaches this many rows; a larger one is read through a cursor."""
FETCH_ROWS = 2_000
IDLE_BYTES = 1 << 20
"""Log of no interest to us is let go in portions of this size, so that an idle source costs no checkpoints."""


class Logical:
    """The log of one database as a feed."""

    stream = "wal"
    clock = WAL_CLOCK

    def __init__(
        self, session: Session, index: Index, slot: Slot, publication_name: str, page: int, stop_on_truncate: bool
    ) -> None:
        self._session = session
        self._index = index
        self._slot = slot
        self._publication = publication_name
        self._page = page
        self._stop_on_truncate = stop_on_truncate
        self._pace = Pace()
        self._rows = 0  # of the last look
        self._end: tuple[Position, int] | None = None  # behind the place nothing was committed before the number
        self._moves = Moves(IDLE_BYTES, PEEK_ROWS // 2)

    async def provision(self, conn: asyncpg.Connection) -> None:
        """Publish exactly the mapped tables. Raises ConfigError for a table that may not be published, Fatal with the
        SQL to run where rights are missing."""
        await publication.provision(conn, self._publication, self._index)

    async def members(self, conn: asyncpg.Connection) -> Mapping[str, int]:
        """By table: its membership of the publication."""
        return await publication.members(conn, self._publication)

    async def resume(self, position: Position | None) -> Position:
        """See `Feed.resume`."""
        async with self._session.connection() as conn:
            if position is None:
                return {"lsn": format_lsn(await self._slot.begin(conn))}
            lsn = parse_lsn(position["lsn"])
            await self._slot.resume(conn, lsn, release=self._moves.due(lsn, self._rows))
            return position

    async def end(self) -> int:
        """The end of the log that is safe on the server's disk."""
        async with self._session.connection() as conn:
            return parse_lsn(await conn.fetchval("SELECT pg_current_wal_flush_lsn()::text"))

    def passed(self, position: Position, end: int) -> bool:
        """See `Feed.passed`."""
        place, upto = self._end or (None, 0)
        return parse_lsn(position["lsn"]) >= end or (place == position and upto >= end)

    async def batches(self, position: Position) -> AsyncGenerator[Batch, None]:
        """See `Feed.batches`. One look at the slot; where it found something, the next call may find more."""
        async with self._session.connection() as conn:
            upto = parse_lsn(await conn.fetchval("SELECT pg_current_wal_flush_lsn()::text"))
            place, changes = _place(position), list[Change]()
            if await self._pace.needless(place, upto):
                return
            async with aclosing(self._steps(conn, place)) as steps:
                async for step in steps:
                    if step.truncated and self._stop_on_truncate:
                        yield Batch(changes, _position(place))
                        raise _stop(step)
                    place = step.place
                    changes.extend(step.changes)
                    if len(changes) >= self._page:
                        yield Batch(changes, _position(place))
                        changes = []
        found, complete = place != _place(position), self._rows < PEEK_ROWS
        self._pace.looked(place, upto, found or not complete)
        if complete and not found and upto - place.lsn > IDLE_BYTES:
            place = Place(upto)
        self._end = (_position(place), upto) if complete else None
        if changes or place != _place(position):
            yield Batch(changes, _position(place), partial(self._release, place.lsn))

    async def _release(self, lsn: int) -> None:
        """All before this is durable in the hub."""
        if self._moves.due(lsn, self._rows):
            await self._slot.release(self._session, lsn)

    async def _steps(self, conn: asyncpg.Connection, place: Place) -> AsyncGenerator[Step, None]:
        transactions, self._rows = Transactions(self._index, place), 0
        async with conn.transaction():
            cursor = await conn.cursor(PEEK, self._slot.name, PEEK_ROWS, quote(self._publication))
            while rows := await cursor.fetch(FETCH_ROWS):
                self._rows += len(rows)
                for row in rows:
                    message = decode(row["data"])
                    if isinstance(message, Relation) and transactions.unknown_types(message):
                        self._index.types = await load_types(conn)
                    for step in transactions.feed(message):
                        if step.truncated:
                            log.warning("tables were truncated: their records stay", tables=step.truncated)
                        yield step

    async def mark(self, conn: asyncpg.Connection, intents: Mapping[str, str]) -> None:
        """Put a note into the transaction's log."""
        await publication.note(conn, PREFIX, intents)

    async def slot_state(self) -> SlotState:
        """How the slot fares."""
        async with self._session.connection() as conn:
            return await self._slot.fares(conn)

    async def findings(self, conn: asyncpg.Connection) -> list[Finding]:
        """Settings, rights, publication and slot."""
        return [*await publication.findings(conn, self._publication, self._index), *await self._slot.findings(conn)]


def _place(position: Position) -> Place:
    commit, steps = position.get("inside") or ("0/0", 0)
    return Place(parse_lsn(position["lsn"]), parse_lsn(commit), steps)


def _position(place: Place) -> Position:
    inside = {"inside": [format_lsn(place.commit), place.steps]} if place.commit else {}
    return {"lsn": format_lsn(place.lsn), **inside}


def _stop(step: Step) -> Fatal:
    return Fatal(
        f"{', '.join(step.truncated)} was truncated; the log does not say which records are gone."
        " Set `on_truncate: ignore` to go on and keep them, then delete them where they should be gone"
    )
