"""P7, replay is deterministic and silent: from zero to the same bytes as live, however the log is read, and without a call.

Histories are random: edits, deletes, duplicates, vendors' merges, stewards' pins and unmerges, processed in random portions.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import polars as pl
import pytest

from hub import fold
from hub.change import Change
from streams import bulk_fold, bulk_work, decided, rebuild, rebuild_state, replay, shadow
from streams.hashes import partition_hashes
from tests.connectors.hubspot_support import contact
from tests.promises import bad_input
from tests.promises.mutations import broken, mutation
from tests.stages.conftest import hub
from tests.stages.histories import live
from tests.stages.support import MEMORIES, SECOND, START, Stages, empty

__all__ = ["hub"]

LONG = os.environ.get("HUB_LONG") == "1"
ROOT = Path(__file__).parents[2]
OTHER, STAMP = ROOT / ".venv-other/bin/python", ROOT / ".venv/other.stamp"
LENGTH, ORDERS = 60, 3


def shuffled(random: Random) -> Callable[[dict[Any, int]], list[Any]]:
    """Partitions in slices of random length, interleaved at random; of one partition in order."""

    def turns(upto: dict[Any, int]) -> list[Any]:
        slices: list[Any] = []
        for place, end in sorted(upto.items()):
            cuts = sorted(random.sample(range(1, end), min(end - 1, random.randint(0, 5)))) if end > 1 else []
            slices.append([(place, cut) for cut in [*cuts, end]])
        mixed = []
        while slices:
            chosen = random.choice(slices)
            mixed.append(chosen.pop(0))
            slices = [one for one in slices if one]
        return mixed

    return turns


BY = {
    "bulk": lambda one, memory: one.replay(memory=memory),
    "event": lambda one, memory: replay.replay_by_event(one.context),
}


async def check_any_order(one: Stages, seed: int, orders: int = ORDERS, by: str = "bulk") -> int:
    """Live after a history, and rebuilds by several interleavings and batch sizes: the same hash of every partition."""
    await live(one, seed, LENGTH)
    random = Random(seed)
    for _ in range(orders):
        chunk, turns = random.choice((1, 3, 10, 5_000)), shuffled(random)
        with ExitStack() as stack:
            for owner, name, instead in (
                (shadow, "turns", turns), (rebuild, "turns", turns), (decided, "CHUNK", chunk), (rebuild, "READ", chunk),
                (rebuild_state, "BUCKET", random.choice((7, 50, 200_000))),
            ):  # fmt: skip
                stack.enter_context(mutation(owner, name, instead))
            found = await BY[by](one, random.choice(MEMORIES))
        assert found.hashes == found.live, f"seed {seed}: rebuilt {found.hashes}, live {found.live}"
        assert found.live, f"seed {seed}: nothing to compare"
    return orders


async def test_any_interleaving_gives_the_bytes_of_live(
    hub: Stages, seeds: Callable[[int], Sequence[int]], figures: Callable[..., None]
) -> None:
    chosen = seeds(200 if LONG else 5)
    rebuilt = [await check_any_order(await empty(hub), seed, by=by) for seed in chosen for by in BY]
    figures("P7", histories=len(chosen), rebuilds=sum(rebuilt))


@pytest.mark.parametrize("by", BY)
async def test_a_late_report_brings_nothing_back_in_a_replay(hub: Stages, by: str) -> None:
    """Of a record that ended, and ended once more in other words, from between the two ends."""
    at = [START + n * SECOND for n in range(4)]
    place = ("shop", "customers", "1")
    await hub.tell(Change(*place, {"email": "eva@example.com", "city": "Bonn"}, version=at[0], at=at[0]))
    for n in (1, 3):
        await hub.tell(Change(*place, {}, "delete", version=at[n], at=at[n]))
    await hub.tell(Change(*place, {"city": "Berlin"}, version=at[2], at=at[2]))
    assert await hub.context.pool.fetchval("select gone from hub.record")
    found = await BY[by](hub, rebuild.MEMORY)
    assert found.differences == []
    assert found.hashes == found.live


def last_wins(left: fold.Claim | None, right: fold.Claim) -> fold.Claim:
    """A fold that believes whatever it is told last."""
    return right


read_decisions = shadow.read_decisions


async def forgetful(context: Any, built: shadow.Shadow) -> None:
    """What was found not to be said is forgotten."""
    await read_decisions(context, built)
    built.unsaid.clear()


def all_said(spill: Any, bucket: int, events: pl.DataFrame) -> pl.DataFrame:
    """The same in bulk."""
    return events.with_columns(unsaid=pl.lit(None, dtype=pl.List(pl.String)))


def apart(built: Any, golden_id: str) -> str:
    """Golden records that were never merged."""
    return golden_id


@pytest.mark.parametrize(
    ("by", "owner", "name", "instead"),
    [("event", fold, "join", last_wins), ("event", shadow, "root", apart), ("event", shadow, "read_decisions", forgetful),
     ("bulk", bulk_fold, "_newest_first", lambda rows: rows.sort("system", "object", "external_id")),
     ("bulk", bulk_work, "root", apart), ("bulk", bulk_fold, "_with_unsaid", all_said)],
    ids=["order", "merges", "decisions", "order in bulk", "merges in bulk", "decisions in bulk"],
)  # fmt: skip
async def test_the_check_of_orders_fails_without(hub: Stages, by: str, owner: Any, name: str, instead: Any) -> None:
    with mutation(owner, name, instead), broken(name):
        for seed in range(8):
            await check_any_order(await empty(hub), seed, by=by)


async def elsewhere(python: Path | str, url: str, hash_seed: str) -> dict[str, Any]:
    """A rebuild in a process of its own."""
    env = {"PATH": os.environ["PATH"], "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    child = await asyncio.create_subprocess_exec(
        str(python), "-m", "tests.promises.p7_elsewhere", url, cwd=ROOT, env=env,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await child.communicate()
    assert child.returncode == 0, err.decode()[-2_000:]
    told: dict[str, Any] = json.loads(out)
    return told


async def test_other_processes_rebuild_the_same_bytes(hub: Stages, database: str, figures: Callable[..., None]) -> None:
    """A restart is another process, with another seed of hashes."""
    await live(hub, 99, 2 * LENGTH)
    here = await hub.replay()
    for hash_seed in ("0", "4711"):
        there = await elsewhere(sys.executable, database, hash_seed)
        assert there["rebuilt"] == there["live"] == here.hashes, there
    figures("P7", processes=3, partitions=len(here.hashes))


@pytest.mark.skipif(not STAMP.exists(), reason="no .venv-other: `make other` builds it where there is a newer Python")
async def test_another_python_rebuilds_the_same_bytes(hub: Stages, database: str, figures: Callable[..., None]) -> None:
    await live(hub, 98, 2 * LENGTH)
    here, there = await hub.replay(), await elsewhere(OTHER, database, "1")
    assert there["python"].split(".")[:2] != sys.version.split()[0].split(".")[:2], "it is the same Python"
    assert there["rebuilt"] == there["live"] == here.hashes, there
    figures("P7", pythons=f"{sys.version.split()[0]} and {there['python']}")


async def check_silent(pool: asyncpg.Pool) -> dict[str, int]:
    """A rebuild asks a vendor nothing, writes nothing to one, and plans no write."""
    async with bad_input.tampered_hubspot(pool) as (hub, _, rig):
        await rig.seed(contacts=[contact(n) for n in range(1, 31)])
        await bad_input.read(hub, "contacts")
        before, queue = len(await rig.calls()), await hub.context.pool.fetch("select * from hub.write order by 1, 2")
        await hub.context.pool.execute(
            "delete from hub.golden where golden_id in (select golden_id from hub.golden limit 9)"
        )
        found = await hub.replay(swap=True)
        await hub.run()
        calls = (await rig.calls())[before:]
        assert not calls, f"{len(calls)} calls of the vendor during a replay: {calls[:2]}"
        assert await hub.context.pool.fetch("select * from hub.write order by 1, 2") == queue, "a replay planned writes"
        assert found.swapped
        assert len(found.differences) == 9
        return {"vendor_calls": len(calls), "restored": len(found.differences)}


async def test_a_replay_is_silent(pool: asyncpg.Pool, figures: Callable[..., None]) -> None:
    figures("P7", **await check_silent(pool))


async def test_the_check_of_silence_fails_where_a_replay_asks(pool: asyncpg.Pool) -> None:
    async def asks(context: Any) -> None:
        async for _ in context.connectors["hubspot"].poll("contacts", None):
            return

    with mutation(replay, "publish_all", asks), broken("a replay that reads the vendor"):
        await check_silent(pool)


def test_a_hash_tells_any_difference() -> None:
    rows = [("contact_1", "contact", {"a": [1, "e"], "b": [None, ""]}, False), ("contact_2", "contact", {}, False)]
    same = partition_hashes([rows[1], ("contact_1", "contact", {"b": [None, ""], "a": [1, "e"]}, False)])
    assert partition_hashes(rows) == same
    texts = ("contact_1", "contact", {"a": ["1", "e"], "b": [None, ""]}, False)
    others = [[rows[0]], [rows[0], (*rows[1][:3], True)], [texts, rows[1]]]
    assert all(partition_hashes(other) != same for other in others)
