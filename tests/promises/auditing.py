"""A hub on one vendor, its stages called by hand, and audits of it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import asyncpg

from hub.drift import Threshold
from hub.model import Model
from streams.audit import Apply, Order, Report, audit
from streams.capture import Capture
from streams.queue import mark_primed
from streams.topics import ALERTS, AUDITS
from tests.promises.vendors import Vendor
from tests.stages.support import Stages, make


@dataclass
class Bench:
    """A hub on one vendor. `meanwhile` is done once, while an audit waits for what is on its way."""

    stages: Stages
    vendor: Vendor
    captures: list[Capture]
    meanwhile: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)

    async def sync(self) -> int:
        """Poll the vendor to its end, and fold what came."""
        captured = sum([await capture.step() for capture in self.captures])
        await self.stages.project()
        return captured

    async def audit(
        self,
        full: bool = True,
        apply: Apply = "deletes",
        threshold: Threshold | None = None,
        sample: int = 1_000,
        patience: int = 3,
    ) -> Report:
        """Audit the vendor while the hub goes on, with so much patience, and fold what it captured."""
        left = [patience]

        async def pause() -> bool:
            while self.meanwhile:
                await self.meanwhile.pop()()
            await self.sync()
            left[0] -= 1
            return left[0] >= 0

        order = Order(
            self.vendor.system, self.vendor.mapping.object, None if full else sample, apply,
            threshold or Threshold(), pause=pause,
        )  # fmt: skip
        report = await audit(self.stages.context, order)
        await self.stages.project()
        self.reports.append(report)
        return report

    async def living(self) -> set[str]:
        """External ids of the records that the hub believes to exist."""
        return set(await self._column("select external_id from hub.record where not gone and system <> 'hub'"))

    async def deleted(self) -> set[str]:
        """Those of golden records that are deleted."""
        return set(
            await self._column(
                "select r.external_id from hub.record r join hub.golden g using (golden_id) where g.deleted"
            )
        )

    async def _column(self, sql: str) -> list[str]:
        return [row[0] for row in await self.stages.context.pool.fetch(sql)]

    async def ids(self, numbers: Iterable[int]) -> set[str]:
        """The external ids of living records."""
        return {await self.vendor.id(n) for n in numbers}

    async def told(self, topic: str = AUDITS.name) -> list[dict[str, object]]:
        """Every event of a topic, partition by partition."""
        context, found = self.stages.context, []
        for (name, partition), end in sorted((await context.log.ends([topic])).items()):
            for record in await context.log.read(name, partition, 0, end):
                found.append(context.codec.decode(record.value)[1])
        return found

    async def alerts(self) -> list[tuple[object, object]]:
        """Name and state of every alert, in order."""
        return [(datum["name"], datum["state"]) for datum in await self.told(ALERTS.name)]


@asynccontextmanager
async def bench(pool: asyncpg.Pool, vendor: Vendor, log_url: str = "postgresql://") -> AsyncIterator[Bench]:
    """A hub that has read nothing yet."""
    entity, key = vendor.mapping.entity, (vendor.system, vendor.mapping.object)
    model = Model({entity.name: entity}, {key: vendor.mapping}, "1")
    stages = await make(pool, model, log_url)
    stages.context = replace(stages.context, connectors={vendor.system: vendor.connector})
    streams = [s for s in vendor.connector.streams() if vendor.mapping.object in s.objects]
    made = Bench(stages, vendor, [Capture(stages.context, vendor.system, s) for s in streams])
    async with pool.acquire() as conn:
        await mark_primed(conn, vendor.system)
    yield made
