"""Systems of the tests' own, that behave as they are told; and a hub without a network between it and them.

Time is virtual: what waits for a time is due after `pass_time`, and whoever asks how often asks by rounds and calls.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg

from connectors.kit.connector import Checkpoint, Finding, Limits, Manifest, Page, Request, Stream
from hub.change import Change, Notice
from hub.patience import Patience
from hub.receipt import Applied, Receipt
from hub.write import Write
from streams import calling, deliver
from streams.context import Context
from streams.deliver import Deliverer
from streams.queue import Lane, mark_primed
from tests.stages.model import model
from tests.stages.support import Stages, make

Behaviour = Callable[[Sequence[Write]], Awaitable[Any]]


async def well(writes: Sequence[Write]) -> None:
    """Take everything."""


@dataclass
class Vendor:
    """Takes every write, unless `behave` raises, or returns something else to answer.

    taken    (golden id, version) of every write that was taken, in order
    held     golden id -> values, as it is there now
    calls    the golden ids of every call that came, taken or not
    """

    name: str
    batch: int = 1
    behave: Behaviour = well
    opening: Callable[[], Awaitable[None]] | None = None
    fetching: Callable[[Sequence[Notice]], Awaitable[list[Change]]] | None = None
    pages: Callable[[], AsyncGenerator[Page, None]] | None = None
    taken: list[tuple[str, int]] = field(default_factory=list)
    held: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[list[str]] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)
    twice: set[str] = field(default_factory=set)

    @property
    def manifest(self) -> Manifest:
        """Its limits."""
        return Manifest(self.name, self.name, (), limits=Limits(batch=self.batch))

    async def open(self) -> None:
        """Open, or do what `opening` does."""
        if self.opening:
            await self.opening()

    async def close(self) -> None:
        """Nothing is held."""

    async def check(self) -> list[Finding]:
        """All is well."""
        return [Finding(True, "it answers")]

    def streams(self) -> Sequence[Stream]:
        """One, where there are pages."""
        return (Stream("all", ("any",), 0.05),) if self.pages else ()

    def poll(self, stream: str, checkpoint: Checkpoint | None) -> AsyncGenerator[Page, None]:
        """What `pages` gives."""
        assert self.pages is not None
        return self.pages()

    async def receive(self, request: Request) -> list[Notice]:
        """No webhooks."""
        return []

    async def fetch(self, notices: Sequence[Notice]) -> list[Change]:
        """What `fetching` gives."""
        assert self.fetching is not None
        return await self.fetching(notices)

    async def deliver(self, writes: Sequence[Write]) -> list[Receipt]:
        """Note the call, behave, take."""
        ids = {write.golden_id for write in writes}
        self.calls.append([write.golden_id for write in writes])
        self.twice |= ids & self.busy
        self.busy |= ids
        try:
            answer = await self.behave(writes)
            return answer if answer is not None else [self.take(write) for write in writes]
        finally:
            self.busy -= ids

    def take(self, write: Write) -> Applied:
        """Take one write."""
        self.taken.append((write.golden_id, write.version))
        self.held.setdefault(write.golden_id, {}).update(write.values)
        return Applied(write.external_id or f"{self.name}-{write.golden_id}", write.natives, len(self.taken))

    @property
    def applied(self) -> set[str]:
        """The golden records that are there."""
        return {golden_id for golden_id, _ in self.taken}


@dataclass
class Scene:
    """A hub on vendors, all of them read once, so that writing may begin."""

    hub: Stages
    vendors: dict[str, Vendor]

    @property
    def context(self) -> Context:
        """The hub's context."""
        return self.hub.context

    @property
    def pool(self) -> asyncpg.Pool:
        """The state database."""
        return self.hub.context.pool

    async def people(self, count: int, first: int = 0) -> list[str]:
        """So many people that the newsletter knows and nobody else; their golden ids. They are to be written to all."""
        numbers = range(first, first + count)
        changes = [
            self.hub.change("news", "members", f"m{n}", email=f"p{n}@example.com", name=f"Name {n}") for n in numbers
        ]
        await self.hub.append(*changes)
        await self.hub.run()
        rows = await self.pool.fetch("select external_id, golden_id from hub.record where system = 'news'")
        golden = {row["external_id"]: row["golden_id"] for row in rows}
        return [golden[f"m{n}"] for n in numbers]

    async def rename(self, number: int, name: str) -> None:
        """An edit of one of them."""
        await self.hub.news(f"m{number}", email=f"p{number}@example.com", name=name)

    def deliverer(self, target: str) -> Deliverer:
        """A deliverer to one of them."""
        return Deliverer(self.context, target)

    async def round(self, *deliverers: Deliverer) -> None:
        """One turn of every lane of these deliverers."""
        for deliverer in deliverers:
            for lane in (Lane.fresh, Lane.again):
                await deliver._step(deliverer, lane)

    async def pass_time(self, seconds: float) -> None:
        """Let so much time pass, as far as the queue and the circuits can tell."""
        await self.pool.execute("update hub.write set due_at = due_at - make_interval(secs => $1)", seconds)
        await self.pool.execute("update hub.breaker set probe_at = probe_at - make_interval(secs => $1)", seconds)

    async def queue(self, target: str) -> dict[str, int]:
        """Rows of the write queue, by state."""
        rows = await self.pool.fetch("select state, count(*) as n from hub.write where target = $1 group by 1", target)
        return {row["state"]: row["n"] for row in rows}

    async def outcomes(self, golden_id: str, target: str) -> list[str | None]:
        """The ledger of one golden record at a target, oldest version first."""
        rows = await self.pool.fetch(
            "select outcome from hub.ledger where golden_id = $1 and target = $2 order by version", golden_id, target
        )
        return [row["outcome"] for row in rows]


async def scene(pool: asyncpg.Pool, *vendors: Vendor, **patience: Any) -> Scene:
    """A new hub on the stages' model, with these as its systems."""
    stages = await make(pool, model())
    stages.context.connectors = {vendor.name: vendor for vendor in vendors}
    stages.context.patience = replace(Patience(call_seconds=20.0), **patience)
    async with pool.acquire() as conn:
        for system in stages.context.model.systems:
            await mark_primed(conn, system)
    return Scene(stages, {vendor.name: vendor for vendor in vendors})


@asynccontextmanager
async def delivering(scene: Scene, *targets: str) -> AsyncIterator[None]:
    """Deliver to these targets for as long as the block lasts. As in a worker, one that crashes ends all."""
    running = [
        asyncio.create_task(deliver.forever(Deliverer(scene.context, t), asyncio.Event(), 0.02)) for t in targets
    ]
    watch = asyncio.create_task(_end_all_with_the_first(running))
    try:
        yield
    finally:
        watch.cancel()
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=10.0)
        for left in list(calling.LEFT):
            while not left.done():  # also one that bears being cancelled
                left.cancel()
                await asyncio.wait([left], timeout=0.2)


async def _end_all_with_the_first(running: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    for task in running:
        task.cancel()


async def reached(goal: int, counted: Callable[[], int], seconds: float = 20.0) -> bool:
    """Whether so many are counted in the end; it is the end when the count has not moved for so many seconds."""
    last, moved = counted(), time.monotonic()
    while last < goal and time.monotonic() - moved < seconds:
        await asyncio.sleep(0.02)
        if (now := counted()) != last:
            last, moved = now, time.monotonic()
    return last >= goal
