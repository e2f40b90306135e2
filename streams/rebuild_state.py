"""What a rebuild has done, in tables, so that it goes on after whatever ended its process."""

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import orjson

from streams.log_postgres import Connection
from streams.records import Offsets

BUCKET = 200_000  # events, about; a bucket is worked on in memory
TABLES = ("rebuild", "rebuild_step", "rebuild_named", "rebuild_seen", "shadow_record", "shadow_golden")


@dataclass(slots=True)
class State:
    """A rebuild as the table has it; see streams/state.sql."""

    scope: Mapping[str, Any]
    upto: Offsets
    decided: Offsets
    since: Offsets
    buckets: int
    directory: str

    @classmethod
    def new(
        cls, scope: Mapping[str, Any], upto: Offsets, decided: Offsets, since: Offsets, data_dir: Path | None
    ) -> "State":
        """A rebuild that has done nothing; its files lie beside the embedded server's data, or where temporary files do."""
        base = (
            data_dir.with_name(f"{data_dir.name}-rebuild") if data_dir else Path(tempfile.gettempdir()) / "hub-rebuild"
        )
        size = sum(upto.values())
        return cls(scope, upto, decided, since, max(1, -(-size // BUCKET)), str(base.resolve() / uuid4().hex))

    @property
    def size(self) -> int:
        """How many records of the log the bulk is about."""
        return sum(self.upto.values())


async def begin(pool: asyncpg.Pool, state: State | None) -> None:
    """Forget what there was, and note the new rebuild, if any."""
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute(f"truncate {', '.join(f'hub.{table}' for table in TABLES)}")
        if state:
            await conn.execute(
                "insert into hub.rebuild (scope, upto, decided, since, buckets, directory) values ($1, $2, $3, $4, $5, $6)",
                orjson.dumps(state.scope).decode(), _text(state.upto), _text(state.decided), _text(state.since),
                state.buckets, state.directory,
            )  # fmt: skip


async def load(pool: asyncpg.Pool, scope: Mapping[str, Any]) -> State | None:
    """The rebuild under way, if it is of this scope, has read anything into files, and these are here."""
    row = await pool.fetchrow("select * from hub.rebuild where scope = $1", orjson.dumps(scope).decode())
    if row is None or not await steps(pool, "read") or not await asyncio.to_thread(Path(row["directory"]).exists):
        return None
    upto, decided, since = (_offsets(row[name]) for name in ("upto", "decided", "since"))
    return State(scope, upto, decided, since, row["buckets"], row["directory"])


async def step(conn: Connection | asyncpg.Pool, what: str, name: str, value: int) -> None:
    """Note that a step is done; with a value, how far, or how many."""
    await conn.execute(
        "insert into hub.rebuild_step (name, value) values ($1, $2) on conflict (name) do update set value = $2",
        f"{what} {name}", value,
    )  # fmt: skip


async def steps(conn: Connection | asyncpg.Pool, what: str) -> dict[str, int]:
    """The steps of one kind that are done, by name."""
    rows = await conn.fetch("select name, value from hub.rebuild_step where starts_with(name, $1)", f"{what} ")
    return {row["name"].removeprefix(f"{what} "): row["value"] for row in rows}


def _text(offsets: Offsets) -> str:
    return orjson.dumps([[topic, partition, offset] for (topic, partition), offset in offsets.items()]).decode()


def _offsets(text: str) -> Offsets:
    return {(topic, partition): offset for topic, partition, offset in orjson.loads(text)}
