"""Bulk decoding gives what decoding value by value gives, also of older schemas, and refuses what that refuses."""

from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from hub.change import Change
from hub.event import record
from schemas import wire
from schemas.wire import WireError
from streams import bulk_avro
from streams.bulk_spill import EVENT
from streams.log_postgres import set_up
from streams.records import Record
from streams.registry import Codec, TableRegistry, shipped_schemas


@pytest.fixture
async def codec(pool: asyncpg.Pool) -> Codec:
    async with pool.acquire() as conn, conn.transaction():
        await set_up(conn)
    return await Codec.prepare(TableRegistry(pool))


def event(n: int) -> dict[str, Any]:
    """A change of whatever kind."""
    fields = {"name": "Žofie \U0001f600" * (n % 70), "n": n, "empty": None}
    change = Change("crm", "contacts", f"id {n}", fields, version=None if n % 3 else -n, at=n * 10**12)
    merged = tuple(str(i) for i in range(n % 4))
    return replace(record(change, n * 10**12 + 1), merged=merged, op="merge" if merged else "upsert").to_avro()


def records(values: list[bytes]) -> list[Record]:
    """Values as they stand on the log."""
    return [
        Record("t", 0, offset, b"id %d" % n, value, (), 0) for n, (offset, value) in enumerate(enumerate(values, 7))
    ]


async def assert_alike(codec: Codec, values: list[bytes]) -> None:
    """Both ways of decoding give the same rows."""
    found = await bulk_avro.table(codec, "event", records(values), EVENT)
    told = [codec.decode(value)[1] for value in values]
    assert found.to_dicts() == [{name: row[name] for name in EVENT} for row in told]


async def test_columns_hold_what_every_value_says(codec: Codec) -> None:
    await assert_alike(codec, [codec.encode("event", event(n)) for n in range(300)])
    await assert_alike(codec, [])


async def test_values_of_an_older_schema_join_them(codec: Codec, pool: asyncpg.Pool) -> None:
    schema = shipped_schemas()["event"]
    older = {**schema, "fields": [f for f in schema["fields"] if f["name"] not in ("merged", "trace")]}
    older_id = await TableRegistry(pool).register("other", older)
    data = [event(4 * n) for n in range(20)]
    old = [wire.encode(older_id, wire.parsed(older), {k: v for k, v in d.items() if k not in ("merged", "trace")})
           for d in data]  # fmt: skip
    new = [codec.encode("event", d) for d in data]
    await assert_alike(
        codec, [value for pair in zip(old, new, strict=True) for value in pair]
    )  # and keys that do not fit


@pytest.mark.parametrize("spoil", [lambda v: v[:-3], lambda v: v + b"\x00", lambda v: b"\x01" + v[1:], lambda v: b""])
async def test_what_cannot_be_decoded_is_refused(codec: Codec, spoil: Any) -> None:
    values = [codec.encode("event", event(n)) for n in range(5)]
    values[2] = spoil(values[2])
    with pytest.raises(WireError):
        await bulk_avro.table(codec, "event", records(values), EVENT)
