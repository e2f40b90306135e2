"""Reading: a partition of the log in portions of columns. The next portion is read while the last one is worked on."""

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass

import polars as pl

from streams import bulk_avro
from streams.bulk_avro import Columns
from streams.context import Context
from streams.records import Block, Place

BYTES = 16 << 20  # of values in a portion, about
PIECES = (
    8  # in which a portion is asked for: PostgreSQL takes three times as long for each record in blocks of many MiB
)
FIRST = 2_000  # records of the first portion, which tells how long they are


@dataclass(frozen=True, slots=True)
class Portion:
    """Some records: the rows of those that are not parked, where the first stands, the offset behind the last, how many were
    read, and how long they were in bytes."""

    rows: pl.DataFrame
    start: int
    behind: int
    count: int
    size: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read: a partition with values of the named schema, up to an offset, at most `most` records at once."""

    context: Context
    topic: str
    partition: int
    name: str
    columns: Columns
    end: int
    most: int
    parked: Collection[Place]

    async def portions(self, start: int) -> AsyncIterator[Portion]:
        """Everything from an offset on."""
        coming = asyncio.create_task(self._portion(start, FIRST))
        try:
            while portion := await coming:
                coming = asyncio.create_task(self._portion(portion.behind, BYTES * portion.count // (portion.size + 1)))
                yield portion
        finally:
            coming.cancel()

    async def _portion(self, start: int, some: int) -> Portion | None:
        limit = min(max(some, 1), self.most, self.end - start)
        if limit <= 0:
            return None
        parked = any(p[:2] == (self.topic, self.partition) and p[2] >= start for p in self.parked)
        portion = None if parked else await self._at_once(start, limit)
        return portion or await self._by_record(start, limit)

    async def _at_once(self, start: int, limit: int) -> Portion | None:
        blocks = await self._blocks(start, limit)
        if not blocks or blocks[-1].last >= self.end:
            return None
        rows = await asyncio.to_thread(bulk_avro.at_once, self.context.codec, self.name, blocks, self.columns)
        if rows is None:
            return None
        size = sum(len(block.values) for block in blocks)
        return Portion(rows, blocks[0].first, blocks[-1].last + 1, rows.height, size)

    async def _blocks(self, start: int, limit: int) -> list[Block]:
        """The records in several blocks: a log may be slow at making large ones."""
        blocks, left = list[Block](), limit
        head = bulk_avro.head(self.context.codec, self.name)
        while left > 0:
            piece = min(left, max(1, limit // PIECES))
            block = await self.context.log.block(self.topic, self.partition, start, piece, head)
            if block is None:
                break
            blocks.append(block)
            start, left = block.last + 1, left - len(block.keys)
        return blocks

    async def _by_record(self, start: int, limit: int) -> Portion | None:
        found = await self.context.log.read(self.topic, self.partition, start, limit)
        if not found:
            return None
        kept = [r for r in found if r.offset < self.end and (r.topic, r.partition, r.offset) not in self.parked]
        rows = await bulk_avro.table(self.context.codec, self.name, kept, self.columns)
        behind = min(found[-1].offset + 1, self.end)
        return Portion(rows, found[0].offset, behind, len(found), sum(len(r.value or b"") for r in found))
