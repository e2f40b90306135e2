"""Plan: golden records -> the write queue. One row per target and golden record; a newer version replaces a waiting one."""

from collections.abc import Sequence
from typing import Any

from hub.model import Model
from streams import tracing
from streams.batches import process
from streams.context import Context
from streams.log_postgres import Connection
from streams.records import Batch, NewRecord, Record

STAGE = "plan"
WAKE = "hub_write"


class Plan:
    """The handler of the plan stage."""

    def __init__(self, context: Context) -> None:
        self.context = context

    async def __call__(self, batches: list[Batch]) -> None:
        """Queue the newest version of every golden record for each of its targets."""
        await process(self.context, STAGE, batches, self.work)

    async def work(self, conn: Connection, records: Sequence[Record]) -> tuple[list[NewRecord], int]:
        """Queue within the caller's transaction; deliverers wake when it commits. Nothing is emitted."""
        await self.context.codec.learn(record.value for record in records)
        golden = [self.context.codec.decode(r.value)[1] for r in records if r.value is not None]
        newest = {datum["golden_id"]: datum for datum in sorted(golden, key=lambda datum: datum["version"])}
        with tracing.working(STAGE, (datum["trace"] for datum in golden)):
            await _drop_merged(conn, [g for g, datum in newest.items() if datum["merged_into"]])
            rows = [row for datum in newest.values() if not datum["merged_into"] for row in self._rows(datum)]
            await _queue(conn, rows)
        return [], 0

    def _rows(self, datum: dict[str, Any]) -> list[tuple[Any, ...]]:
        golden = (datum["golden_id"], datum["entity"], datum["version"], datum["trace"])
        return [(target, *golden) for target in self.context.model.targets(datum["entity"])]


async def _queue(conn: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    if not rows:
        return
    await conn.execute(
        "insert into hub.write as w (target, golden_id, entity, version, trace)"
        " select * from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[]) order by 1, 2"
        " on conflict (target, golden_id) do update set version = excluded.version, state = 'due', due_at = now(),"
        " attempts = 0, failed_at = null, waits_for = null, held_since = null, reason = '', code = '', trace = excluded.trace"
        " where w.version < excluded.version",
        *([row[i] for row in rows] for i in range(5)),
    )
    await conn.execute("select pg_notify($1, '')", WAKE)


async def _drop_merged(conn: Connection, golden_ids: Sequence[str]) -> None:
    """A golden record that lives on inside another is not written any more."""
    if golden_ids:
        await conn.execute("delete from hub.write where golden_id = any($1)", list(golden_ids))


async def queue_again(model: Model, conn: Connection, golden_id: str) -> None:
    """Plan a golden record as it is now, after its own event could not be."""
    golden = await conn.fetchrow(
        "select entity, version from hub.golden where golden_id = $1 and merged_into is null", golden_id
    )
    if golden is not None:
        targets = model.targets(golden["entity"])
        await _queue(conn, [(target, golden_id, golden["entity"], golden["version"], None) for target in targets])
