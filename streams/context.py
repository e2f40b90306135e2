"""Context: what every stage is given. Built once, by the composition root in `hub.edge.wiring`."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import asyncpg

from connectors.kit.connector import Connector
from hub.model import Model
from streams.log import Log, PostgresLog
from streams.log_postgres import Connection
from streams.records import NewRecord
from streams.registry import Codec


@dataclass(slots=True)
class Context:
    """The model, the state database, the log and the connectors of one running hub."""

    model: Model
    pool: asyncpg.Pool
    log: Log
    codec: Codec
    connectors: Mapping[str, Connector] = field(default_factory=dict)
    max_attempts: int = 12
    poll_now: asyncio.Event = field(default_factory=asyncio.Event)
    _opened: set[str] = field(default_factory=set)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def connector(self, system: str) -> Connector:
        """The connector, opened: at first use, so that a system that is down keeps only its own streams from starting."""
        async with self._opening:
            if system not in self._opened:
                await self.connectors[system].open()
                self._opened.add(system)
        return self.connectors[system]

    @property
    def atomic(self) -> bool:
        """Whether the log lives in the state database, so that both change in one transaction."""
        return isinstance(self.log, PostgresLog)


def now() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000


async def emit(context: Context, conn: Connection, records: list[NewRecord]) -> None:
    """Let records appear on the log when the transaction commits: at once where the log is in this database, else by
    way of the outbox, which `publish` empties. Call last, and once, in a transaction."""
    if not records:
        return
    if isinstance(context.log, PostgresLog):
        await context.log.append_in(conn, records)
        return
    await conn.execute(
        "insert into hub.outbox (topic, key, value) select * from unnest($1::text[], $2::bytea[], $3::bytea[])",
        [r.topic for r in records],
        [r.key for r in records],
        [r.value for r in records],
    )


async def publish(context: Context, limit: int = 5_000) -> int:
    """Append what committed transactions left in the outbox, oldest first; how many. Safe to run anywhere, any time:
    a crash between append and delete publishes a record twice, and every reader of the log bears that."""
    if context.atomic:
        return 0
    async with context.pool.acquire() as conn, conn.transaction():
        rows = await conn.fetch(
            "select id, topic, key, value from hub.outbox order by id limit $1 for update skip locked", limit
        )
        if rows:
            await context.log.append([NewRecord(r["topic"], r["key"], r["value"]) for r in rows])
            await conn.execute("delete from hub.outbox where id = any($1::bigint[])", [r["id"] for r in rows])
    return len(rows)
