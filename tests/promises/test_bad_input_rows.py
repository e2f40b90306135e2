"""Bad rows of PostgreSQL and bad records on the log: each says what is wrong, and those beside them arrive."""

import random
import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from streams import aside, batches, context
from streams.records import Batch
from tests.connectors.pg_fixtures import Crm, crm, object_map
from tests.promises import bad_input
from tests.promises.mutations import broken, mutation
from tests.stages.conftest import hub
from tests.stages.support import Stages, assert_balanced
from tests.stages.test_poison import event, poisons

__all__ = ["crm", "hub"]

TABLE = """
CREATE TABLE odd (
    id text PRIMARY KEY, name text, amount numeric, price double precision, born date, seen timestamptz, bare timestamp,
    big bigint, blob bytea, doc jsonb, tags text[]
)
"""
NATIVES = {
    "name": "text", "amount": "decimal", "price": "decimal", "born": "date", "seen": "timestamp", "bare": "timestamp",
    "big": "integer", "doc": "json", "tags": "tags",
}  # fmt: skip
ODD = {
    "infinite": "seen = 'infinity', born = '-infinity', bare = '-infinity'",
    "no number": "amount = 'NaN', price = 'NaN'",
    "endless": "amount = 'infinity', price = '-infinity'",
    "digits": "amount = ('1' || repeat('0', 5000))::numeric + 0.1, price = 1e308",
    "exact": "amount = 12345678901234567890.12345678901234567890",
    "last day": "born = '9999-12-31', seen = '9999-12-31 23:59:59.999999-14', bare = '9999-12-31 23:59:59.999999'",
    "beyond": "born = '5874897-12-31', seen = '294276-01-01', bare = '294276-01-01'",
    "before": "born = '4713-01-01 BC', seen = '4713-01-01 BC', bare = '0001-01-01 BC'",
    "ends": "big = 9223372036854775807",
    "starts": "big = -9223372036854775808",
    "blob": "blob = decode(repeat('00ff', 1500000), 'hex')",
    "control": "name = E'a\\x01\\x02\\x7f\\u2028b', tags = array[E'\\x01', null, '']",
    "document": 'doc = \'{"a": 1e400, "b": 123456789012345678901234567890, "c": [[[[[[{}]]]]]]}\'',
    "text": "name = repeat('x', 200000)",
}


async def check_odd_rows(crm: Crm, pool: asyncpg.Pool) -> dict[str, int]:
    """Rows with every kind of strange value, among good ones; those that the log cannot take are parked."""
    await crm.run(TABLE)
    table = object_map("odd", NATIVES, table="odd", key="id")
    connector = await crm.open(table)
    hub = await bad_input.hub_on(pool, connector, {"odd": table})
    stream = connector.streams()[0].name
    await bad_input.read(hub, stream)
    for name, values in ODD.items():
        await crm.run(f"INSERT INTO odd (id, name) VALUES ('before {name}', 'Fine'), ('{name}', 'Odd')")
        await crm.run(f"UPDATE odd SET {values} WHERE id = '{name}'")
    await crm.run("INSERT INTO odd (id, name) VALUES (repeat('k', 2000), 'Odd')")
    await crm.run(
        "INSERT INTO odd (id, name) VALUES ('giant', repeat('x', 3000000))", "INSERT INTO odd VALUES ('last')"
    )
    await bad_input.read(hub, stream)
    await bad_input.assert_arrived(hub, "crm", "odd", [*ODD, *(f"before {name}" for name in ODD), "last"])
    await bad_input.assert_parked(hub, {"k" * 100: "longer than 1000 bytes", "giant": "an event of"})
    exact = (await hub.values("crm", "odd", "exact"))["amount"]
    assert Decimal(exact) == Decimal("12345678901234567890.1234567890123456789"), f"money became {exact}"
    assert (await hub.values("crm", "odd", "ends"))["big"] == 2**63 - 1
    assert (await hub.values("crm", "odd", "last day"))["born"] == "9999-12-31"
    assert (await hub.values("crm", "odd", "blob"))["name"] == "Odd"
    assert not (await hub.replay()).differences
    return {"odd_rows": len(ODD) + 2, "good_rows": len(ODD) + 1}


async def test_odd_rows_harm_nothing(crm: Crm, pool: asyncpg.Pool, figures: Callable[..., None]) -> None:
    figures("P9", **await check_odd_rows(crm, pool))


@pytest.mark.parametrize(
    ("owner", "name", "instead"),
    [(aside, "MAX_ID", 10_000), (aside, "MAX_EVENT_BYTES", 2**40), (aside, "mapped", lambda model, change: change)],
    ids=["ids", "bytes", "unmapped"],
)
async def test_the_check_of_rows_fails_without_its_bounds(
    crm: Crm, pool: asyncpg.Pool, owner: Any, name: str, instead: Any
) -> None:
    with mutation(owner, name, instead), broken(name):
        await check_odd_rows(crm, pool)


async def check_odd_log(hub: Stages, seed: int, count: int) -> dict[str, int]:
    """Records of the log with random damage, known damage and a golden record that grows too large."""
    chance = random.Random(seed)
    good = event(hub, hub.change("crm", "contacts", "seed", name="Seed", email="seed@example.com"))
    known = list(poisons(hub).values())
    damaged = [*known, *(_damaged(chance, good) for _ in range(count)), good[:5] + bytes(10_000_000)]
    for number, value in enumerate(damaged):
        await hub.raw("crm", "contacts", f"bad {number}", value)
        await hub.append(hub.change("crm", "contacts", f"good {number}", name="Good"))
    await hub.run()
    await bad_input.assert_arrived(hub, "crm", "contacts", [f"good {n}" for n in range(len(damaged))])
    parked = await hub.parked()
    assert len(parked) >= len(known) + 1, f"only {len(parked)} of {len(known) + 1} known bad records are parked"
    assert all(row["reason"] for row in parked), "parked without a reason"
    assert_balanced(await hub.ledger())
    assert not (await hub.replay()).differences
    return {"damaged": len(damaged), "parked_records": len(parked)}


def _damaged(chance: random.Random, good: bytes) -> bytes:
    """Some bytes changed, left out or put in."""
    body = bytearray(good)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(body))
        body[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
    if chance.random() < 0.2:
        body[1:5] = struct.pack(">I", chance.randrange(2**32))
    return bytes(body)


async def test_damaged_records_of_the_log_are_parked(
    hub: Stages, seeds: Callable[[int], Sequence[int]], figures: Callable[..., None]
) -> None:
    for seed in seeds(1):
        figures("P9", **await check_odd_log(hub, seed, 60))


async def test_the_check_of_the_log_fails_where_nothing_is_isolated(hub: Stages) -> None:
    async def all_or_nothing(made: context.Context, stage: str, some: Sequence[Batch], *_: Any) -> None:
        for batch in some:
            for record in batch.records:
                await batches.park(made, stage, record, ValueError("somewhere in this batch"))

    with mutation(batches, "_isolate", all_or_nothing), broken("isolation"):
        await check_odd_log(hub, 0, 5)


async def check_too_large_golden(hub: Stages) -> None:
    """A golden record that is larger than the log takes parks the change that made it so, and holds nobody else up."""
    many = [f"{n}{'t' * 60_000}" for n in range(20)]
    await hub.tell(hub.change("crm", "contacts", "small", name="Small", tags=["a"]))
    first, second = many[:12], many[12:]
    await hub.tell(hub.change("crm", "contacts", "large", name="L", email="l@example.com", tags=first))
    await hub.tell(hub.change("shop", "customers", "larger", name="L", email="l@example.com", tags=second))
    await hub.tell(hub.change("crm", "contacts", "after", name="After"))
    await bad_input.assert_arrived(hub, "crm", "contacts", ["small", "large", "after"])
    rows = await hub.parked()
    assert [row["reason"] for row in rows if "larger than" in row["reason"]], "nothing says that a record is too large"
    assert_balanced(await hub.ledger())


async def test_a_golden_record_that_grows_too_large_is_parked(hub: Stages) -> None:
    await check_too_large_golden(hub)


async def test_the_check_of_size_fails_without_the_bound(hub: Stages) -> None:
    with mutation(context, "MAX_RECORD_BYTES", 2**40), broken("records of any size"):
        await check_too_large_golden(hub)
