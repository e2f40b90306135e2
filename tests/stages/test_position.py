"""A stage's position: what it has processed of a partition, also where one partition stands in a call more than once."""

from random import Random

import asyncpg
import pytest

from streams.position import Done, advance, fresh
from streams.records import Batch, Record
from tests.stages.support import Stages

PLACES = (("t", 0), ("t", 1), ("u", 0))


def part(place: tuple[str, int], first: int, size: int) -> Batch:
    records = (Record(*place, first + n, b"k", b"v", (), 0) for n in range(size))
    return Batch(*place, tuple(records))


async def standing(conn: asyncpg.Connection, stage: str) -> dict[tuple[str, int], tuple[int, ...]]:
    rows = await conn.fetch(
        "select topic, partition, next_offset, processed, duplicates, parked from hub.position where stage = $1", stage
    )
    return {(row[0], row[1]): tuple(row)[2:] for row in rows}


async def test_of_one_partition_that_stands_twice_in_a_call_all_is_counted_and_the_farthest_stays(hub: Stages) -> None:
    async with hub.context.pool.acquire() as conn:
        call = [part(("t", 0), 3, 2), part(("u", 0), 0, 1), part(("t", 0), 0, 3)]
        new = await fresh(conn, "s", call)
        assert [len(some) for some in new] == [2, 1, 3]
        await advance(conn, "s", [Done(new[0], duplicates=1), Done(new[1]), Done(new[2], parked=1)])
        assert await standing(conn, "s") == {("t", 0): (5, 3, 1, 1), ("u", 0): (1, 1, 0, 0)}
        assert await fresh(conn, "s", call) == [(), (), ()], "what comes again is known"


@pytest.mark.parametrize("seed", range(5))
async def test_every_record_is_fresh_once_however_calls_are_cut_and_repeated(hub: Stages, seed: int) -> None:
    """Calls begin where the last one ended, or up to two records before that, and name partitions in any number."""
    random, seen = Random(seed), dict[tuple[str, int], list[int]]()
    async with hub.context.pool.acquire() as conn:
        for _ in range(random.randint(1, 5)):
            new = [some for some in await fresh(conn, "s", cut(random, seen)) if some]
            if new:
                await advance(conn, "s", [Done(some) for some in new])
            for some in new:
                seen.setdefault((some[0].topic, some[0].partition), []).extend(r.offset for r in some)
        assert all(offsets == list(range(len(offsets))) for offsets in seen.values()), seen
        found = {place: values[:2] for place, values in (await standing(conn, "s")).items() if values[0]}
        assert found == {place: (len(offsets), len(offsets)) for place, offsets in seen.items()}


def cut(random: Random, seen: dict[tuple[str, int], list[int]]) -> list[Batch]:
    """A call: of each partition parts that follow each other, the first of which may repeat what is known."""
    call, ends = list[Batch](), dict[tuple[str, int], int]()
    for place in random.choices(PLACES, k=random.randint(1, 5)):
        first = ends.get(place, max(0, len(seen.get(place, ())) - random.randint(0, 2)))
        call.append(part(place, first, size := random.randint(1, 3)))
        ends[place] = first + size
    return call
