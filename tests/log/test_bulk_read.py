"""A partition in portions of columns: whatever stands on it, every record once, but for those that are parked."""

from dataclasses import replace
from typing import Any

import asyncpg
import msgspec
import pytest

from schemas import wire
from streams import bulk_avro, bulk_read
from streams.bulk_read import Reading
from streams.bulk_spill import EVENT
from streams.context import Context
from streams.log import NewRecord, PostgresLog
from streams.registry import Codec, TableRegistry, shipped_schemas
from streams.topics import Topic
from tests.log.test_bulk_avro import event
from tests.promises.mutations import broken, mutation

TOPIC = Topic("hub.changes.crm.contacts", "external id", 1)
COUNT = 60


@pytest.fixture
async def context(pool: asyncpg.Pool) -> Context:
    """A log with events, those in the middle written by an older schema."""
    log = PostgresLog(pool)
    await log.ensure_topics([TOPIC])
    codec = await Codec.prepare(TableRegistry(pool))
    schema = shipped_schemas()["event"]
    older = {**schema, "fields": [f for f in schema["fields"] if f["name"] != "trace"]}
    older_id = await TableRegistry(pool).register("other", older)
    for n in range(COUNT):
        datum = event(n)
        value = codec.encode("event", datum)
        if 20 <= n < 30:
            value = wire.encode(older_id, wire.parsed(older), {k: v for k, v in datum.items() if k != "trace"})
        await log.append([NewRecord(TOPIC.name, datum["external_id"].encode(), value)])
    nothing: Any = None
    return Context(nothing, pool, log, codec)


async def check_reading(context: Context, start: int, end: int, most: int, parked: set[int]) -> list[int]:
    """The portions follow each other, and hold every event once; how many records each held."""
    places = {(TOPIC.name, 0, offset) for offset in parked}
    reading = Reading(context, TOPIC.name, 0, "event", EVENT, end, most, places)
    portions = [portion async for portion in reading.portions(start)]
    found = [external_id for portion in portions for external_id in portion.rows["external_id"].to_list()]
    expected = [event(n)["external_id"] for n in range(start, end) if n not in parked]
    assert found == expected, f"read {found}, not {expected}"
    assert [p.start for p in portions] == [start, *(p.behind for p in portions[:-1])]
    assert portions[-1].behind == end
    assert all(p.count <= most for p in portions)
    return [portion.count for portion in portions]


async def test_every_record_is_read_once(context: Context) -> None:
    assert sum(await check_reading(context, 0, COUNT, 1_000, set())) == COUNT
    for most in (1, 7, 20, 35):
        await check_reading(context, 3, 52, most, set())
        await check_reading(context, 0, COUNT, most, {0, 5, 25, COUNT - 1})


async def test_portions_are_as_long_as_their_values_allow(context: Context) -> None:
    with mutation(bulk_read, "BYTES", 4_000), mutation(bulk_read, "FIRST", 2):
        sizes = await check_reading(context, 30, COUNT, 1_000, set())
    assert sizes[0] == 2
    assert len(sizes) > 4


async def test_the_check_of_reading_fails_where_parked_records_are_read(context: Context) -> None:
    async def of_all(self: Reading, start: int, limit: int) -> Any:
        return await by_record(replace(self, parked=set()), start, limit)

    by_record = Reading._by_record
    with mutation(Reading, "_by_record", of_all), broken("what was set aside is read"):
        await check_reading(context, 0, COUNT, 1_000, {5})


async def test_values_that_shift_each_other_are_told_by_their_keys(context: Context) -> None:
    """Where one value is as much shorter as another is longer, a block of both can be decoded, and is wrong."""
    head = bulk_avro.head(context.codec, "event")
    block = await context.log.block(TOPIC.name, 0, 0, 10, head)
    assert block is not None
    assert bulk_avro.at_once(context.codec, "event", [block], EVENT) is not None
    swapped = msgspec.structs.replace(block, keys=[*block.keys[1:], block.keys[0]])
    assert bulk_avro.at_once(context.codec, "event", [block, swapped], EVENT) is None
    with mutation(bulk_avro, "_fit", lambda keys, expected: True):
        assert bulk_avro.at_once(context.codec, "event", [block, swapped], EVENT) is not None
