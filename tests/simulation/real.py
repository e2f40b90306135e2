"""The hub's real stages on a real PostgreSQL, stepped by the schedule instead of by their loops."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import asyncpg
import pytest

from hub.change import Notice
from hub.model import Model
from streams import capture, receipts, refetch
from streams.capture import Capture
from streams.deliver import Deliverer
from streams.queue import mark_primed
from streams.refetch import Refetch, take
from streams.topics import notices_topic
from streams.workspace import RECORD_COLUMNS, _record
from tests.simulation.vendor import OBJECT, Clock, Vendor
from tests.stages.support import Stages, empty, make, split


@dataclass
class Real:
    """Capture, refetch, project, plan and deliver of one hub."""

    stages: Stages
    vendors: dict[str, Vendor]

    async def capture(self, system: str, full: bool = False, lose: bool = False) -> None:
        """Poll to the end; `full` from the beginning, `lose` the new checkpoint."""
        pool = self.stages.context.pool
        if full:
            await pool.execute("delete from hub.checkpoint where system = $1", system)
        kept = await pool.fetchval("select state from hub.checkpoint where system = $1", system)
        (stream,) = self.vendors[system].streams()
        await Capture(self.stages.context, system, stream).step()
        if lose and kept is None:
            await pool.execute("delete from hub.checkpoint where system = $1", system)
        elif lose:
            await pool.execute("update hub.checkpoint set state = $2 where system = $1", system, kept)

    async def notified(self, system: str, ids: Sequence[str]) -> None:
        """Webhooks came: they are made durable, and the records are fetched."""
        await take(self.stages.context, [Notice(system, OBJECT, id_, "changed") for id_ in dict.fromkeys(ids)])
        unread = await self.stages.unread("refetch", [notices_topic(system).name])
        for batches in split(unread, None):
            await Refetch(self.stages.context, system)(batches)

    async def project(self, random: Random | None = None) -> None:
        """Process what was not read; with `random` in random portions."""
        await self.stages.project(random)

    async def plan(self, random: Random | None = None) -> None:
        """Queue what was not read."""
        await self.stages.plan(random)

    async def redeliver(self, random: Random) -> None:
        """The log delivers again what was handled already."""
        read = self.stages.read
        read.update({key: random.randint(0, upto) for key, upto in sorted(read.items()) if key[0] != "refetch"})

    async def deliver(self, target: str, between: Callable[[], Awaitable[None]] | None = None) -> None:
        """One step of a new deliverer; whatever waits for its time is due, no circuit is open. Raises Crash."""
        pool = self.stages.context.pool
        await pool.execute("delete from hub.breaker")
        await pool.execute(
            "update hub.write set due_at = now() - interval '1 hour', attempts = 0 where target = $1", target
        )
        self.vendors[target].between = between
        try:
            await Deliverer(self.stages.context, target).step()
        finally:
            self.vendors[target].between = None

    async def prime(self) -> None:
        """Let the hub write: every system was read."""
        async with self.stages.context.pool.acquire() as conn:
            for system in self.vendors:
                await mark_primed(conn, system)

    async def state(self) -> dict[str, Any]:
        """What the stages know, in the words of the twin."""
        pool = self.stages.context.pool
        goldens = await pool.fetch("select golden_id, version, deleted, merged_into from hub.golden")
        fields = {id_: golden for id_, golden in (await self.stages.goldens()).items()}
        states = [_record(row) for row in await pool.fetch(f"select {RECORD_COLUMNS} from hub.record")]
        return {
            "golden": {
                r["golden_id"]: (r["version"], fields[r["golden_id"]].fields if r["golden_id"] in fields else None,
                                 r["deleted"], r["merged_into"]) for r in goldens
            },
            "record": {s.id: (s.golden_id, s.home, s.claims, s.view, s.keys, s.gone) for s in states},
            "queue": {(r[0], r[1]): (r[2], r[3]) for r in
                      await pool.fetch("select target, golden_id, version, state from hub.write")},
            "intents": sorted((r[0], r[1], r[2] or "") for r in
                              await pool.fetch("select target, golden_id, external_id from hub.intent")),
            "key": {(r[0], r[1], r[2]): r[3] for r in
                    await pool.fetch("select entity, kind, value, golden_id from hub.match_key")},
        }  # fmt: skip


@contextmanager
def virtual(clock: Clock) -> Iterator[None]:
    """The stages read the simulation's clock."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (capture, receipts, refetch):
            patch.setattr(module, "now", lambda: clock.now)
        yield


async def open_real(pool: asyncpg.Pool, model: Model) -> Stages:
    """Stages for this model in an empty database."""
    return await make(pool, model)


async def renewed(stages: Stages, vendors: dict[str, Vendor]) -> Real:
    """The stages with nothing in them, on these vendors."""
    fresh = await empty(stages)
    fresh.context.connectors = dict(vendors)
    fresh.context._opened.clear()
    hub = Real(fresh, vendors)
    await hub.prime()
    return hub
