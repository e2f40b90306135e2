"""Context: what every stage is given. Built once, by the composition root in `hub.edge.wiring`."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, Protocol, TypeVar

import asyncpg

from connectors.kit.connector import Connector
from hub.config.models import Watch
from hub.model import Model
from hub.patience import Patience
from streams.calling import bounded
from streams.log import Log, PostgresLog
from streams.log_postgres import Connection
from streams.records import NewRecord
from streams.registry import Codec

T = TypeVar("T")


class Renewal(Protocol):
    """The systems' settings with their secrets, as the connectors got them and as they are now."""

    def used(self, system: str) -> bytes:
        """What the system's connector was made with."""

    def now(self, system: str) -> bytes | None:
        """What it would be made with now; None where a reference leads nowhere."""

    def make(self, system: str) -> Connector:
        """The connector made anew; from here on that is what is used."""


@dataclass(slots=True)
class Context:
    """The model, the state database, the log and the connectors of one running hub."""

    model: Model
    pool: asyncpg.Pool
    log: Log
    codec: Codec
    connectors: Mapping[str, Connector] = field(default_factory=dict)
    patience: Patience = field(default_factory=Patience)
    renewal: Renewal | None = None
    watch: Watch = field(default_factory=Watch)
    data_dir: Path | None = None
    configuration: str = ""  # the version that this process works by; "" asks for none
    load_model: Callable[[dict[str, Any]], Model] | None = None  # of a deployed version's document; see `in_force`
    models: dict[str, Model] = field(default_factory=dict)  # those of former versions that were asked for
    most_records: int = 1_000_000  # so many a what-if and a deployment hold in memory
    looked: dict[str, float] = field(default_factory=dict)  # when paused targets' credentials were looked at
    poll_now: asyncio.Event = field(default_factory=asyncio.Event)
    _opened: set[str] = field(default_factory=set)
    _opening: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    async def connector(self, system: str) -> Connector:
        """The connector, opened: at first use, so that a system that is down, or hangs, keeps only its own streams from
        starting."""
        if system not in self._opened:
            async with self._opening[system]:
                if system not in self._opened:
                    await self.bounded(self.connectors[system].open(), f"opening {system}")
                    self._opened.add(system)
        return self.connectors[system]

    async def bounded(self, work: Awaitable[T], what: str) -> T:
        """The result of a connector's call; CutOff where it takes longer than the configuration's patience."""
        return await bounded(work, self.patience.call_seconds, what)

    async def replace(self, system: str, connector: Connector) -> None:
        """Another connector, open already, takes the place of a system's."""
        old, self.connectors = self.connectors[system], {**self.connectors, system: connector}
        self._opened.add(system)
        await self.bounded(old.close(), f"closing {system}")

    @property
    def atomic(self) -> bool:
        """Whether the log lives in the state database, so that both change in one transaction."""
        return isinstance(self.log, PostgresLog)


MAX_RECORD_BYTES = 1_000_000
"""Of one record of the log: a little less than what Kafka's brokers take by default. The same on both logs."""


def now() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000


async def turn(conn: Connection) -> dict[str, int]:
    """When this transaction was, in the order of all processing and by the clock. Ask when everything is locked."""
    row = await conn.fetchrow("select nextval('hub.processed') as processed, hub.moment() as processed_at")
    assert row is not None, "a select without a table gives one row"
    return dict(row)


async def emit(context: Context, conn: Connection, records: list[NewRecord]) -> None:
    """Let records appear on the log when the transaction commits: at once where the log is in this database, else by
    way of the outbox, which `publish` empties. Call last, and once, in a transaction. Raises ValueError for a record that
    is too large: a broker would refuse it for ever, and everything behind it would wait."""
    if not records:
        return
    for record in records:
        if len(record.value or b"") > MAX_RECORD_BYTES:
            raise ValueError(f"a record for {record.topic} is larger than {MAX_RECORD_BYTES} bytes")
    if isinstance(context.log, PostgresLog):
        await context.log.append_in(conn, records)
        return
    rows = [(r.topic, r.key, r.value) for r in records]
    await conn.copy_records_to_table("outbox", schema_name="hub", columns=("topic", "key", "value"), records=rows)


async def publish(context: Context, limit: int = 5_000) -> int:
    """Append what committed transactions left in the outbox, oldest first, until it is empty; how many. Safe to run
    anywhere, any time: a crash between append and delete publishes a record twice, and every reader of the log bears
    that."""
    published = 0
    while not context.atomic and (some := await _publish(context, limit)):
        published += some
        if some < limit:
            break
    return published


async def _publish(context: Context, limit: int) -> int:
    async with context.pool.acquire() as conn, conn.transaction():
        rows = await conn.fetch(
            "delete from hub.outbox where id = any(array("
            "select id from hub.outbox order by id limit $1 for update skip locked)) returning id, topic, key, value",
            limit,
        )
        if rows:
            rows.sort(key=itemgetter(0))
            await context.log.append([NewRecord(topic, key, value) for _, topic, key, value in rows])
    return len(rows)


async def publish_all(context: Context) -> None:
    """Return when all is appended that is in the outbox by now, whoever appends it."""
    last = await context.pool.fetchval("select max(id) from hub.outbox")
    while last and await context.pool.fetchval("select exists (select from hub.outbox where id <= $1)", last):
        if not await publish(context):
            await asyncio.sleep(0.05)  # another worker is at it
