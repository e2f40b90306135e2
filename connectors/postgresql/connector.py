"""PostgreSQL: captured by its log or by triggers, written in transactions. See NOTES.md for rights and limits."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import asyncpg

from connectors.kit.connector import Checkpoint, Finding, Limits, Manifest, Page, Request, Setting, Stream
from connectors.postgresql import capture, checks, faults
from connectors.postgresql.feed import Feed
from connectors.postgresql.logical import Logical
from connectors.postgresql.mapped import Index
from connectors.postgresql.outbox import Outbox
from connectors.postgresql.reading import read_records
from connectors.postgresql.scan import Scan
from connectors.postgresql.session import Session
from connectors.postgresql.slot import Slot, SlotState
from connectors.postgresql.target import Target
from hub.change import Change, Notice
from hub.errors import ConfigError, Problem, Reject, Retry
from hub.mapping import ObjectMap
from hub.receipt import Receipt
from hub.write import Write

MANIFEST = Manifest(
    name="postgresql",
    title="PostgreSQL",
    auth="dsn",
    settings=(
        Setting("url", "address: postgresql://user:password@host:5432/database", secret=True),
        Setting(
            "capture", "logical (from the log), outbox (by triggers) or none (only written)", False, False, "logical"
        ),
        Setting("slot", "replication slot; hub_<system> by default", required=False),
        Setting("publication", "publication; hub_<system> by default", required=False),
        Setting(
            "on_truncate", "stop or ignore: the log does not say which rows a TRUNCATE removed", False, False, "stop"
        ),
        Setting("poll_seconds", "seconds between polls while nothing happens", False, False, 0.05),
        Setting("page", "changes per page", False, False, 1000),
    ),
    limits=Limits(batch=200, concurrency=4),
    api_version="14 to 18",
)
OLDEST = 14


class PostgreSQL:
    """One database; one object per mapped table."""

    manifest = MANIFEST

    def __init__(self, system: str, settings: Mapping[str, Any], mappings: Mapping[str, ObjectMap]) -> None:
        self.system = system
        self._page = int(settings.get("page") or 1000)
        self._seconds = float(settings.get("poll_seconds") or 0.05)
        self._session = Session(str(settings["url"]))
        self._index = Index(system, mappings)
        self._feed = _feed(system, settings, self._session, self._index, self._page)
        self._target = Target(self._session, self._index, self._feed)

    async def open(self) -> None:
        """Connect, read the catalogue, and provision publication or triggers, and the hub's table of creates.

        Raises ConfigError for mappings that do not fit, Fatal with the SQL to run where rights are missing.
        """
        await self._session.open()
        async with self._session.connection() as conn:
            await _load(self._index, conn)
            if self._feed:
                await self._feed.provision(conn)
            await self._target.provision(conn)

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def check(self) -> list[Finding]:
        """Connection, version, rights on each table, and the state of the capture."""
        return await checks.check(self._session, self._index, self._feed)

    def streams(self) -> Sequence[Stream]:
        """One stream for everything: a database has one order."""
        if not self._feed:
            return ()
        return (Stream(self._feed.stream, tuple(self._index.mappings), self._seconds),)

    async def poll(self, stream: str, checkpoint: Checkpoint | None) -> AsyncGenerator[Page, None]:
        """See `Connector.poll`. Where the schema was changed it is read again, and the poll is to be tried again."""
        if not self._feed or stream != self._feed.stream:
            raise ConfigError([Problem(self.system, f"there is no stream {stream}")])
        pages = capture.poll(self._session, self._index, self._feed, checkpoint, self._page)
        async with aclosing(pages), _reloading(self._session, self._index):
            async for page in pages:
                yield page

    def scanner(self, object_: str) -> Scan:
        """See connectors.postgresql.scan."""
        return Scan(self._session, self._index, object_, self._page, self._feed.clock if self._feed else "")

    async def snapshot(self, stream: str, object_: str, checkpoint: Checkpoint | None) -> AsyncGenerator[Page, None]:
        """See `Connector.snapshot`; a table that left the feed meanwhile is begun anew."""
        if not self._feed or stream != self._feed.stream:
            raise ConfigError([Problem(self.system, f"there is no stream {stream}")])
        chunks = capture.snapshot(self._session, self._index, self._feed, object_, checkpoint, self._page)
        async with aclosing(chunks), _reloading(self._session, self._index):
            async for chunk in chunks:
                yield chunk

    async def receive(self, request: Request) -> list[Notice]:
        """A database sends no webhooks."""
        raise Reject("PostgreSQL sends no webhooks", "unexpected")

    async def fetch(self, notices: Sequence[Notice]) -> list[Change]:
        """The records as they are now, in the order of the notices; one that is not there as a delete."""
        clock = self._feed.clock if self._feed else ""
        return await read_records(self._session, self._index, notices, clock)

    async def deliver(self, writes: Sequence[Write]) -> list[Receipt]:
        """See `Connector.deliver`. Where the schema was changed it is read again, and the writes are to be retried."""
        if not writes:
            return []
        async with _reloading(self._session, self._index):
            return await self._target.deliver(writes)

    async def slot_state(self) -> SlotState | None:
        """How the replication slot, or the outbox, fares; None where nothing is captured."""
        return await self._feed.slot_state() if self._feed else None


@asynccontextmanager
async def _reloading(session: Session, index: Index) -> AsyncIterator[None]:
    try:
        yield
    except faults.SchemaChanged as error:
        async with session.connection() as conn:
            await _load(index, conn)
        raise Retry(str(error), after=0.1) from None


async def _load(index: Index, conn: asyncpg.Connection) -> None:
    server = conn.get_server_version()
    if server.major < OLDEST:
        problem = Problem(index.system, f"PostgreSQL {server.major} is too old", f"needs {OLDEST} or later")
        raise ConfigError([problem])
    await index.load(conn)


def _feed(system: str, settings: Mapping[str, Any], session: Session, index: Index, page: int) -> Feed | None:
    way = settings.get("capture") or "logical"
    truncate = settings.get("on_truncate") or "stop"
    problems = [
        Problem(f"{system}.{name}", f"{value!r} is none of {', '.join(known)}")
        for name, value, known in (
            ("capture", way, ("logical", "outbox", "none")),
            ("on_truncate", truncate, ("stop", "ignore")),
        )
        if value not in known
    ]
    if problems:
        raise ConfigError(problems)
    if way == "none":
        return None
    if way == "outbox":
        return Outbox(session, index, page)
    default = f"hub_{system}".lower().replace("-", "_")
    slot = Slot(str(settings.get("slot") or default))
    return Logical(session, index, slot, str(settings.get("publication") or default), page, truncate == "stop")
