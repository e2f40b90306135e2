"""Taking part in a consumer group of the PostgreSQL log: joins, shares the partitions out, and joins again after an outage."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import asyncpg
from faust.types import TP
from mode import Service

from streams.transports.batches import QUIESCE_SECONDS, BatchConsumer
from streams.transports.membership import Membership
from streams.transports.reader import Reader
from streams.transports.unused import StreamsOnly

# How often membership is looked at when no notification says that it changed.
MEMBERS_SECONDS = 1.0
# How soon a partition is tried again that its former owner has not released yet.
WAITING_SECONDS = 0.1
REJOIN_SECONDS = 0.5
LEAVE_SECONDS = 2 * QUIESCE_SECONDS

# PostgreSQL is away, stopping, starting or full. Anything else is a fault and breaks the app down.
DOWN = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that broke in the middle of something
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)


class SharingConsumer(StreamsOnly, BatchConsumer):
    """A consumer that holds its fair share of the partitions; reading them is left to the class below it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._reader: Reader | None = None
        self._membership: Membership | None = None
        self._topics: list[str] = []
        self._ids: dict[TP, int] = {}
        self._start: dict[TP, int] = {}
        self._generation = 0
        self._wake = asyncio.Event()
        self._look = asyncio.Event()
        self._subscribed = asyncio.Event()
        self._away = False
        self._talking = asyncio.Lock()  # a session can be asked one thing at a time

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Ask for the topics; partitions are assigned in the background, as Faust expects."""
        self._topics = sorted(topics)
        self._subscribed.set()

    def assignment(self) -> set[TP]:
        """The partitions of this worker."""
        return set(self._ids)

    @Service.task
    async def _take_part(self) -> None:
        """Be a member until the app stops; join again whenever the session is lost."""
        await self._subscribed.wait()
        while not self.should_stop:
            try:
                await self._be_member()
            except DOWN as error:
                self._tell_away(error)
                await self._lose_all()
                await self.sleep(REJOIN_SECONDS)

    async def _be_member(self) -> None:
        membership = await Membership.join(
            self.app.log_url, self.app.conf.id, self._topics, on_records=self._wake.set, on_change=self._look.set
        )
        if self.should_stop:
            membership.abandon()
            return
        self._membership, first = membership, True
        while not self.should_stop and self._membership is membership:
            self._look.clear()
            async with self._talking:
                settled = await self._rebalance(membership, first)
            first = False
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._look.wait(), MEMBERS_SECONDS if settled else WAITING_SECONDS)

    async def _rebalance(self, membership: Membership, first: bool) -> bool:
        """Take and release what membership says; False when partitions are still held by their former owners."""
        share = await membership.share()
        taken, lost = await membership.take(share), membership.held - share
        if taken or lost or first:
            self.app.on_rebalance_start()
            if not first:
                await self.on_partitions_revoked(self.assignment())
                await membership.release(lost)
            await self._assign(membership)
        return membership.held == share

    async def _assign(self, membership: Membership) -> None:
        assert self._reader
        ids = {TP(*membership.partitions[id_]): id_ for id_ in sorted(membership.held)}
        positions = await self._reader.positions(membership.group_id, ids.values())
        self._ids, self._start = ids, {tp: positions[id_] for tp, id_ in ids.items()}
        self._handled.clear()
        self._generation += 1
        self.app.consumer_generation_id = self._generation
        await self.on_partitions_assigned(self.assignment(), self._generation)

    async def _leave(self) -> None:
        """Leave the group for good, once what is being asked of the session is answered."""
        membership, self._membership = self._membership, None
        if membership is None:
            return
        try:
            async with asyncio.timeout(LEAVE_SECONDS), self._talking:
                await membership.leave()
        except DOWN:
            membership.abandon()

    async def _lose_all(self) -> None:
        membership, self._membership = self._membership, None
        if membership:
            membership.abandon()
            self.app.on_rebalance_start()
            await self.on_partitions_revoked(self.assignment())
            self._ids, self._start = {}, {}

    def _tell_away(self, error: BaseException) -> None:
        """The log cannot be reached: say it once, not at every attempt."""
        if not self._away and not self.should_stop:
            self.log.warning("the log is away, trying again: %s: %s", type(error).__name__, error)
        self._away = True
        self.app.stage.health.failed(error)

    def _tell_back(self) -> None:
        """The log has answered."""
        if self._away:
            self._away = False
            self.app.stage.health.recovered()
