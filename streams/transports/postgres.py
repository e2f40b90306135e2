"""The Faust driver for the event log in PostgreSQL.

Each Faust app holds one session for its membership, its locks and its wake-ups (LISTEN), and up to two pooled connections
that read batches and store positions. When PostgreSQL goes away, the partitions are revoked, and the driver joins again
until it succeeds.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import asyncpg
from faust.transport import base
from faust.types import TP

from streams.records import Batch
from streams.transports.reader import Place, Reader
from streams.transports.sharing import DOWN, REJOIN_SECONDS, SharingConsumer


class Consumer(SharingConsumer):
    """Reads the partitions that membership of the group gives this worker."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._position: dict[TP, int] = {}

    async def on_start(self) -> None:
        """Make ready to read."""
        self._reader = await Reader.open(self.app.log_url)

    async def on_stop(self) -> None:
        """Commit what is handled, then leave the group so that others take over at once."""
        await super().on_stop()
        self._wake.set()
        await self._leave()
        if self._reader:
            await self._reader.close()

    async def fetch(self, partitions: set[TP], seconds: float, limit: int) -> list[Batch]:
        """Read what is there, or wait for a notification and leave the reading to the next call."""
        self._wake.clear()
        known = partitions & self._ids.keys() & self._position.keys()
        places = {self._ids[tp]: Place(tp.topic, tp.partition, self._position[tp]) for tp in known}
        generation = self._generation
        try:
            assert self._reader
            batches = await self._reader.read(places, limit)
        except DOWN as error:
            self._tell_away(error)
            await self.sleep(REJOIN_SECONDS)
            return []
        self._tell_back()
        if generation != self._generation or not self.flow_active:
            return []  # Read for an assignment that is over: its positions must not overwrite the new ones.
        if not batches:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), seconds)
        self._position |= {TP(batch.topic, batch.partition): batch.records[-1].offset + 1 for batch in batches}
        return batches

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Read on from what is handled: what this worker has done itself, else where the group stood when it took over."""
        self._position = {tp: max(start, self._handled.get(tp, 0)) for tp, start in self._start.items()}
        return dict(self._start)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        membership, reader = self._membership, self._reader
        if not membership or not reader:
            return False
        try:
            await reader.commit(membership.group_id, {self._ids[tp]: offset for tp, offset in offsets.items()})
        except DOWN as error:
            self._tell_away(error)
            return False
        return True


class Producer(base.Producer):
    """Faust asks for one; the hub appends through `streams.log` instead."""


class Transport(base.Transport):
    """Registered as `hub-postgres`; the address itself is the app's `log_url`, so that no password enters Faust's settings."""

    Consumer = Consumer
    Producer = Producer
    driver_version = f"hub-postgres asyncpg={asyncpg.__version__}"
