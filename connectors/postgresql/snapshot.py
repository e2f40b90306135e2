"""The first reading of a table, which fits the feed without a gap and without undoing anything.

A row read here and the same row's changes in the feed are put in order by version alone, so the two may come in any
order and interleaved. For that, the version P of a table's snapshot must satisfy two conditions:

1. every transaction whose changes of the table a reading may lack is delivered by the feed, with a version above P;
2. every other transaction is contained in every reading.

The feed keeps all changes of the table that are made from some moment on (`Feed.provision`, and for the log the
slot). After that moment, read P from the feed's clock, and after P take a transaction id X. A transaction with an id
of X or later made its first change after P was read: the feed has all of it, and it commits (or, with an outbox, is
numbered) behind P, so that condition 1 holds for it. A transaction with a lower id may be neither: it may have changed
the table before the feed began and still be open, or its commit may be in the log and not yet be seen by anybody, as
with synchronous replication. So no row is read before all of them are over, which is when the oldest running
transaction (`pg_snapshot_xmin`) is X or later; from then on every reading contains them, condition 2. Until
then the feed is read and the snapshot is not.

What a reading contains although the feed delivers it too (a transaction with a version above P that committed before
the reading) comes again in the same words, and whatever came after it, after it. A row deleted meanwhile is either not
read any more, or read and deleted above P. A row whose key changed while pages were read may be missed or be met
twice: the feed deletes the old one and has the new one, both above P. Rows are read in the order of their key, a page
per query; a page read again after a crash may show newer contents under the same P, therefore P is not exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import asyncpg

from connectors.postgresql.feed import Feed
from connectors.postgresql.mapped import Index, Mapped
from connectors.postgresql.session import Session
from hub.change import Change

OVER = "SELECT pg_snapshot_xmin(pg_current_snapshot()) >= $1::text::xid8"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one object's table was read.

    member     the table's membership of the feed: another one means that changes were missed, so it is read anew
    version    P;  barrier: X;  after: the key of the last row read;  done: whether all was read
    """

    table: str
    key: tuple[str, ...]
    member: int
    version: int
    barrier: str
    after: tuple[str, ...] = ()
    done: bool = False

    def dump(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "key": list(self.key), "after": list(self.after)}


def load(stored: Mapping[str, Any]) -> Progress:
    """The inverse of `Progress.dump`."""
    return Progress(**{**stored, "key": tuple(stored["key"]), "after": tuple(stored["after"])})


class Snapshots:
    """The snapshots of all mapped tables, or of `only` one object's, one page at a time."""

    def __init__(
        self, session: Session, index: Index, feed: Feed, stored: Mapping[str, Any], page: int, only: str = ""
    ) -> None:
        self._session = session
        self._index = index
        self._feed = feed
        self._page = page
        self._only = only
        self._progress = {name: load(one) for name, one in stored.items()}

    def dump(self) -> dict[str, Any]:
        """Where to go on, as JSON values."""
        return {name: one.dump() for name, one in sorted(self._progress.items())}

    @property
    def done(self) -> bool:
        """Whether every table was read."""
        return not self.waiting

    @property
    def waiting(self) -> list[str]:
        """Tables that were not read to the end."""
        return sorted({one.table for one in self._progress.values() if not one.done})

    async def begin(self) -> None:
        """Note which tables are to be read: new ones, and those that were out of the feed or have another key now."""
        async with self._session.connection() as conn:
            members = await self._feed.members(conn)
            kept = {n: p for n, p in self._progress.items() if self._same(n, p, members)}
            for name, mapped in self._index.objects.items():
                if name not in kept and self._only in ("", name):
                    kept[name] = await self._barrier(conn, mapped, members[mapped.table.full_name])
        self._progress = kept

    def _same(self, name: str, progress: Progress, members: Mapping[str, int]) -> bool:
        mapped = self._index.objects.get(name)
        if mapped is None:
            return False
        table = mapped.table.full_name
        return (progress.table, progress.key, progress.member) == (table, mapped.key, members.get(table))

    async def _barrier(self, conn: asyncpg.Connection, mapped: Mapped, member: int) -> Progress:
        """P, and after it X."""
        version = await conn.fetchval(f"SELECT {self._feed.clock}")
        barrier = await conn.fetchval("SELECT pg_current_xact_id()::text")
        return Progress(mapped.table.full_name, mapped.key, member, version, barrier)

    async def step(self) -> Sequence[Change] | None:
        """The next page, or None where nothing is left or transactions older than a barrier go on."""
        for name, progress in sorted(self._progress.items()):
            if progress.done:
                continue
            async with self._session.connection() as conn:
                if await conn.fetchval(OVER, progress.barrier):
                    return await self._read(conn, self._index.objects[name], progress)
        return None

    async def _read(self, conn: asyncpg.Connection, mapped: Mapped, progress: Progress) -> list[Change]:
        rows = await conn.fetch(_query(mapped, bool(progress.after), progress.version), self._page, *progress.after)
        last = tuple(str(rows[-1][column]) for column in mapped.key) if rows else progress.after
        self._progress[mapped.object] = replace(progress, after=last, done=len(rows) < self._page)
        return [mapped.read(dict(row), "snapshot") for row in rows]


def _query(mapped: Mapped, resumed: bool, version: int) -> str:
    behind = ", ".join(mapped.types[column].cast(f"${n}") for n, column in enumerate(mapped.key, 2))
    where = f"WHERE ({mapped.order()}) > ({behind})" if resumed else ""
    return (
        f"SELECT {mapped.selection(f'{version}::bigint')} FROM {mapped.table.sql} t {where}"  # noqa: S608 - quoted names
        f" ORDER BY {mapped.order()} LIMIT $1"
    )
