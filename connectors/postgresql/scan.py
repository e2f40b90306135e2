"""Reading a table completely in one snapshot, for audits and for deletes that no feed told.

The log and the triggers tell of every delete; what they cannot tell is what was removed by a TRUNCATE that is ignored, or
while the table was not captured.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from connectors.postgresql.mapped import Index, Mapped
from connectors.postgresql.position import WAL_CLOCK
from connectors.postgresql.reading import read_records
from connectors.postgresql.session import Session
from hub.change import Change, Notice
from hub.errors import Reject

NARROWED = "SELECT row_security_active($1::text::regclass)"


@dataclass(frozen=True, slots=True)
class Scan:
    """One table; see connectors.kit.connector.Scanner. `clock` is SQL for the version of this moment."""

    session: Session
    index: Index
    object: str
    page: int
    clock: str
    settle_seconds: float = 0.0

    @property
    def _mapped(self) -> Mapped:
        return self.index.objects[self.object]

    async def listing(self) -> AsyncGenerator[Sequence[Change], None]:
        """Every row, as of one moment, in the order of the key."""
        mapped = self._mapped
        sql = f"SELECT {mapped.selection(WAL_CLOCK)} FROM {mapped.table.sql} t ORDER BY {mapped.order()}"  # noqa: S608
        async with self.session.connection() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            cursor = await conn.cursor(sql)
            while rows := await cursor.fetch(self.page):
                yield [mapped.read(dict(row), "audit") for row in rows]

    async def total(self) -> int:
        """How many rows there are. Raises Reject where row-level security may hide some from the hub's role."""
        table = self._mapped.table
        async with self.session.connection() as conn:
            if await conn.fetchval(NARROWED, table.sql):
                what = f"row-level security may hide rows of {table.full_name} from the hub"
                raise Reject(f"{what}: give its role BYPASSRLS", "narrowed")
            return int(await conn.fetchval(f"SELECT count(*) FROM {table.sql}"))  # noqa: S608 - quoted

    async def look(self, ids: Sequence[str]) -> list[Change]:
        """The rows with these keys as they are now; one that is not there as a delete."""
        notices = [Notice(self.index.system, self.object, one, "audit") for one in ids]
        return await read_records(self.session, self.index, notices, self.clock)
