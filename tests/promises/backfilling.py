"""A hub in this process on one real source, moved by hand: poll, a turn of the snapshot, fold; crashed at will."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from connectors.kit.connector import Stream
from hub.event import Event, from_avro
from hub.mapping import ObjectMap
from hub.model import Model
from streams import sources
from streams.backfill import Backfill
from streams.capture import Capture
from streams.topics import changes_topic
from tests.connectors import hubspot_support, mailchimp_support
from tests.connectors.pg_fixtures import contacts
from tests.promises.p4 import Database, HubSpotObject, Source
from tests.stages.support import Stages, make

MOST_TURNS, LAST_CRASH = 100, 12


def _mapping(source: Source) -> ObjectMap:
    if isinstance(source, Database):
        return contacts()
    known = (
        hubspot_support.mappings([source.object]) if isinstance(source, HubSpotObject) else mailchimp_support.mappings()
    )
    return known[source.object]


@dataclass
class Hub:
    """State, log and stages on PostgreSQL, and a worker that captures the source."""

    source: Source
    system: str
    stages: Stages
    capture: Capture = field(init=False)
    backfill: Backfill = field(init=False)

    async def restart(self) -> None:
        """A new worker, as after kill -9 of the one before: what it held in hand is gone."""
        context = self.stages.context
        context.connectors = {self.system: await self.source.fresh()}
        context._opened.clear()
        stream = Stream(self.source.stream, (self.source.object,), 0.0)
        self.capture, self.backfill = Capture(context, self.system, stream), Backfill(context, self.system, stream)

    async def ask(self) -> None:
        """Ask for a snapshot, as fast as it goes."""
        asked = sources.Asked(self.system, (self.capture.stream,), (self.source.object,))
        assert await sources.request(self.stages.context, asked, rate=1e9) == [self.source.object]

    async def snapshot(self) -> asyncpg.Record:
        """The row of the snapshot."""
        return await self.stages.context.pool.fetchrow("select * from hub.snapshot")

    async def run_snapshot(self, edits: int, crash: bool = True) -> int:
        """Take a snapshot to its end: between the reading of a chunk and its appending somebody changes something (so
        often), and it is captured. Every third turn (up to LAST_CRASH) the worker is killed with a chunk
        in hand. Counts turns."""
        await self.ask()
        for turn in range(1, MOST_TURNS):
            if turn <= edits:
                await self.source.change(turn)
            await self.capture.step()
            await self.backfill.turn()
            row = await self.snapshot()
            assert row["error"] is None, row["error"]
            if row["state"] == "done":
                return turn
            if crash and turn % 3 == 0 and turn <= LAST_CRASH:
                await self.restart()
        raise AssertionError(f"the snapshot was not done after {MOST_TURNS} turns: {dict(row)}")

    async def held(self) -> dict[str, Any]:
        """What the hub believes the records' first names are, by record."""
        await self.stages.run()
        rows = await self.stages.context.pool.fetch(
            "select external_id, fields -> 'first_name' -> 0 #>> '{}' as name from hub.record r"
            " join hub.golden g using (golden_id) where r.system = $1 and not r.gone", self.system,
        )  # fmt: skip
        return {row["external_id"]: row["name"] for row in rows}

    async def events(self) -> list[Event]:
        """Every event of the source, in the log's order per record."""
        context, found = self.stages.context, list[Event]()
        for (topic, partition), end in (
            await context.log.ends([changes_topic(self.system, self.source.object).name])
        ).items():
            records = await context.log.read(topic, partition, 0, end)
            found += [from_avro(context.codec.decode(record.value)[1]) for record in records]
        return found


async def hub_on(pool: asyncpg.Pool, source: Source) -> Hub:
    """A hub that has read the source once."""
    mapping = _mapping(source)
    model = Model({mapping.entity.name: mapping.entity}, {(mapping.system, mapping.object): mapping}, "v1")
    hub = Hub(source, mapping.system, await make(pool, model))
    await hub.restart()
    await hub.capture.step()
    await hub.stages.run()
    return hub


def overtaken(events: Sequence[Event]) -> list[str]:
    """Records of which something older and other stands on the log behind something newer."""
    newest: dict[str, Event] = {}
    found = []
    for event in events:
        last = newest.get(event.external_id)
        if last is not None and event.clock.order < last.clock.order and event.payload != last.payload:
            found.append(event.external_id)
        if last is None or event.clock.order >= last.clock.order:
            newest[event.external_id] = event
    return found
