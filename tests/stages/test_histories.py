"""Whatever happens, in whatever portions it is processed: replay equals live, nothing is unaccounted for, and state that
was lost or damaged comes back from the log."""

import os

import asyncpg
import pytest

from hub.fold import IN, OUT
from tests.stages.histories import live
from tests.stages.model import model
from tests.stages.support import Stages, assert_balanced, empty, make

LENGTH = 60
BLOCK = 8 if os.environ.get("HUB_LONG") == "1" else 4


@pytest.mark.parametrize("block", range(5))
async def test_replay_equals_live_and_the_ledger_balances(hub: Stages, block: int) -> None:
    for seed in range(block * BLOCK, block * BLOCK + BLOCK):
        one = await empty(hub)
        await live(one, seed, LENGTH)
        rebuilt = await one.replay()
        assert not rebuilt.differences, f"seed {seed}: {rebuilt.differences[:2]}"
        assert rebuilt.golden == len(await one.goldens()), f"seed {seed}"
        assert_balanced(await one.ledger())
        await assert_consistent(one, seed)


async def assert_consistent(hub: Stages, seed: int) -> None:
    """What must hold of the state after any history."""
    pool = hub.context.pool
    astray = await pool.fetchval(
        "select count(*) from hub.record r where golden_id <> '' and not exists"
        " (select from hub.golden g where g.golden_id = r.golden_id and merged_into is null)"
    )
    assert astray == 0, f"seed {seed}: {astray} records belong to nothing that lives"
    keys = await pool.fetchval(
        "select count(*) from hub.match_key k where not exists"
        " (select from hub.golden g where g.golden_id = k.golden_id and merged_into is null)"
    )
    assert keys == 0, f"seed {seed}: {keys} keys of nothing that lives"
    apart = await pool.fetch(
        "select a.golden_id from hub.apart p join hub.record a on a.home = p.one join hub.record b on b.home = p.other"
        " where a.golden_id = b.golden_id"
    )
    assert not apart, f"seed {seed}: set apart, and together again: {apart}"
    for golden_id, golden in (await hub.goldens()).items():
        consent = golden.fields.get("consent")
        if consent and consent.value and consent.value["status"] == "in":
            records = await hub.records(golden_id)
            outs = [c.at for r in records for n, c in r.claims.items() if n.endswith(OUT)]
            ins = [c.at for r in records for n, c in r.claims.items() if n.endswith(IN) and r.id[0] != "shop"]
            assert max(ins) > max(outs, default=0) or not outs, f"seed {seed}: an opt-out was lifted"


async def test_a_damaged_golden_record_is_restored_from_the_log(hub: Stages) -> None:
    await live(hub, 4711, LENGTH)
    before = await hub.goldens()
    victim = sorted(before)[0]
    await hub.context.pool.execute(
        """update hub.golden set fields = '{"name": ["Mallory", "", "", "", 0, "", "", ""]}'
        where golden_id = $1""",
        victim,
    )
    found = await hub.replay()
    assert [difference.golden_id for difference in found.differences] == [victim]
    assert not found.swapped
    assert (await hub.replay(swap=True)).swapped
    assert await hub.goldens() == before
    assert not (await hub.replay()).differences


async def test_lost_golden_records_come_back_from_the_log(hub: Stages) -> None:
    await live(hub, 42, LENGTH)
    before = await hub.goldens()
    await hub.context.pool.execute("delete from hub.golden where merged_into is null")
    assert (await hub.replay(swap=True)).swapped
    assert await hub.goldens() == before


async def test_the_portions_in_which_a_log_is_processed_do_not_matter(pool: asyncpg.Pool) -> None:
    """One log, processed whole and in portions by two hubs: the same claims and the same golden records."""
    from random import Random

    hub = await make(pool, model())
    for seed in range(6):
        one = await empty(hub)
        for n in range(30):
            system, object_ = (("crm", "contacts"), ("shop", "customers"), ("news", "members"))[n % 3]
            who = Random(seed * 100 + n).randint(1, 6)
            await one.append(
                one.change(system, object_, str(who), email=f"{who % 4}@example.com", name=f"N{n}", tags=f"t{n}")
            )
        finals = []
        for portions in (None, Random(seed), Random(seed + 1)):
            await forget(one)
            await one.project(portions)
            claims = [(r["system"], r["external_id"], r["claims"]) for r in await pool.fetch(
                "select system, external_id, claims from hub.record order by 1, 2"
            )]  # fmt: skip
            finals.append((claims, sorted((g.values() for g in (await one.goldens()).values()), key=repr)))
        assert finals[0] == finals[1] == finals[2]


async def forget(hub: Stages) -> None:
    """All state but the log."""
    rows = await hub.context.pool.fetch("select tablename from pg_tables where schemaname = 'hub'")
    await hub.context.pool.execute("truncate " + ", ".join(f"hub.{row['tablename']}" for row in rows))
    hub.read.clear()
