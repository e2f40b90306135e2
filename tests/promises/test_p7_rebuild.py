"""P7 while the world goes on: a rebuild that is killed goes on where it was, live processing goes on meanwhile, and a part
of the golden records is rebuilt to what the whole would be."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest

from hub.errors import Hold
from streams import follow, position, replay, scope
from streams.project import STAGE
from streams.rebuild import LOCK, Rebuild
from streams.records import Batch
from streams.replay import Rebuilt
from streams.scope import Scope
from streams.topics import changes_topic
from tests.promises.mutations import broken, mutation
from tests.stages.conftest import hub
from tests.stages.histories import History, live
from tests.stages.support import MEMORIES, Stages, empty

__all__ = ["hub"]

LONG = os.environ.get("HUB_LONG") == "1"
ROOT = Path(__file__).parents[2]
LENGTH = 60


async def killed(url: str, directory: Path, last: str, resumes: bool, memory: int) -> dict[str, Any] | None:
    """A rebuild in another process; None where it was killed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.promises.p7_rebuild", url, str(directory), last, "yes" if resumes else "no",
        str(memory), cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await child.communicate()
    if child.returncode == -signal.SIGKILL:
        return None
    assert child.returncode == 0, err.decode()[-2_000:]
    told: dict[str, Any] = json.loads(out)
    return told


READ, FOLDED = {"read"}, {"events", "fold"}


async def check_resumes(
    hub: Stages, url: str, directory: Path, kills: dict[str, set[str]], resumes: bool = True, memory: int = 0
) -> int:
    """A rebuild that is killed again and again ends as one that is not, and reads nothing twice but what was in hand or in
    memory. `kills` are where it is killed, and what is done by then."""
    whole, done = await hub.replay(), list[set[str]]()
    for step in kills:
        assert await killed(url, directory, step, resumes, memory) is None, f"it did not come to {step}"
        rows = await hub.context.pool.fetch("select name, value from hub.rebuild_step")
        done.append({row["name"].split()[0] for row in rows})
    assert not resumes or done == list(kills.values()), done
    read = sum(row["value"] for row in rows if row["name"].startswith("read "))
    last = await killed(url, directory, "-", resumes, memory)
    assert last is not None, "it was killed"
    assert last["rebuilt"] == whole.hashes == last["live"], last
    assert last["events"] == whole.events, (last["events"], whole.events)
    assert last["read"] == whole.read - read, f"read {last['read']} of {whole.read}, of which {read} were done"
    assert not any(files for _, _, files in os.walk(directory.parent)), "files were left behind"
    return read


async def test_a_killed_rebuild_goes_on(
    hub: Stages, database: str, tmp_path: Path, figures: Callable[..., None]
) -> None:
    """Killed while it reads, and while it folds."""
    await live(hub, 5, 2 * LENGTH)
    done = await check_resumes(hub, database, tmp_path / "pg", {"read:9": READ, "fold:2": READ | FOLDED})
    figures("P7", kills=2, records_not_read_again=done)


async def test_a_killed_rebuild_that_is_held_in_memory_begins_anew(hub: Stages, database: str, tmp_path: Path) -> None:
    """But where it became too much for the memory, it goes on from what is on disk by then."""
    await live(hub, 5, 2 * LENGTH)
    kills = {"fold:2": FOLDED, "fold:1": set()}
    assert await check_resumes(hub, database, tmp_path / "pg", kills, memory=1 << 30) == 0
    kills = {"read:2": READ, "fold:2": READ | FOLDED}
    assert await check_resumes(hub, database, tmp_path / "pg", kills, memory=20_000) > 0


async def test_the_check_of_kills_fails_where_a_rebuild_begins_anew(hub: Stages, database: str, tmp_path: Path) -> None:
    await live(hub, 5, LENGTH)
    with broken("a rebuild that never goes on"):
        await check_resumes(hub, database, tmp_path / "pg", {"read:9": READ}, resumes=False)


async def check_live_goes_on(hub: Stages, seed: int) -> int:
    """Behind the bulk, and again while it is followed, all kinds of things happen and are processed."""
    one = await empty(hub)
    history = History(Random(seed), one, [])
    bulk, publish = Rebuild.bulk, replay.publish_all

    async def more() -> None:
        for _ in range(LENGTH // 2):
            await history.happen()
        await one.run(history.random)

    async def and_more(self: Rebuild) -> None:
        await bulk(self)
        await more()

    async def meanwhile() -> None:
        if len(rounds := rounds_left):
            rounds.pop()
            await more()
        await publish(one.context)

    rounds_left = [1]
    await more()
    with (
        mutation(Rebuild, "bulk", and_more), mutation(replay, "positions", _then(meanwhile, replay.positions)),
        mutation(replay, "FEW", -1), mutation(replay, "ROUNDS", 3), mutation(follow, "BATCH", 7),
    ):  # fmt: skip
        found = await one.replay(memory=MEMORIES[seed % 3])
    assert found.hashes == found.live, f"seed {seed}: rebuilt {found.hashes}, live {found.live}"
    reference = await replay.replay_by_event(one.context)
    assert (found.events, found.hashes) == (reference.events, reference.hashes), f"seed {seed}"
    return found.events


def _then(first: Callable[[], Any], second: Callable[..., Any]) -> Callable[..., Any]:
    async def both(*given: Any) -> Any:
        await first()
        return await second(*given)

    return both


async def test_live_goes_on_meanwhile(
    hub: Stages, seeds: Callable[[int], Sequence[int]], figures: Callable[..., None]
) -> None:
    events = [await check_live_goes_on(hub, seed) for seed in seeds(100 if LONG else 4)]
    figures("P7", histories_while_rebuilding=len(events), events=sum(events))


async def nothing(*args: Any) -> Any:
    """A mechanism that is not there."""
    return set()


@pytest.mark.parametrize("name", ["_regroup", "_apply", "_seen"])
async def test_the_check_of_following_fails_without(hub: Stages, name: str) -> None:
    with mutation(follow, name, nothing), broken(name):
        for seed in range(6):
            await check_live_goes_on(hub, seed)


async def test_rebuild_and_live_run_side_by_side(hub: Stages) -> None:
    """Not in turns, but at once."""
    await live(hub, 3, LENGTH)
    history = History(Random(4), hub, [])

    async def go_on() -> None:
        for _ in range(LENGTH):
            await history.happen()

    found, _ = await asyncio.gather(hub.replay(), go_on())
    assert found.hashes == found.live
    assert (await hub.replay()).hashes == (await replay.replay_by_event(hub.context)).hashes


@pytest.mark.parametrize("by_event", [False, True])
async def test_who_is_at_the_first_records_of_a_partition_is_waited_for(hub: Stages, by_event: bool) -> None:
    """Live processing has no position there yet that could be locked."""
    topic, pool = changes_topic("crm", "contacts").name, hub.context.pool
    async with pool.acquire() as conn, conn.transaction():
        await position.fresh(conn, STAGE, [Batch(topic, 0, ())])
        replaying = asyncio.create_task(replay.replay_by_event(hub.context) if by_event else hub.replay())
        waits = "select exists (select from pg_locks where not granted)"
        while not replaying.done() and not await pool.fetchval(waits):  # noqa: ASYNC110 - a server is asked
            await asyncio.sleep(0.02)
        assert not replaying.done()
    found = await replaying
    assert found.hashes == found.live


SCOPES = {
    "entity": Scope(entity="company"),
    "system": Scope(system="news"),
    "steward": Scope(system="hub"),
    "time": Scope(since=30, until=50),
    "all of them": Scope(entity="contact", system="shop", since=40),
}
"""Times are percentiles of those at which the history's events were seen."""


async def check_partial(hub: Stages, seed: int, name: str) -> int:
    """What is rebuilt are the golden records that an event in scope names, each as the whole rebuild has it."""
    one = await empty(hub)
    await live(one, seed, LENGTH)
    scope = await timed(one, SCOPES[name])
    expected = await named(one, scope)
    await one.context.pool.execute("update hub.golden set fields = '{}'")
    whole, part = found(await replay.replay_by_event(one.context)), found(await one.replay(scope=scope))
    assert part.keys() == expected & whole.keys(), f"seed {seed}: {part.keys() ^ (expected & whole.keys())}"
    assert part == {g: whole[g] for g in part}, f"seed {seed}: other than the whole"
    return len(part)


async def timed(hub: Stages, scope: Scope) -> Scope:
    """The scope with times instead of percentiles."""
    times = [r[0] for r in await hub.context.pool.fetch("select observed_at from hub.event order by 1")]
    at = {
        what: percent and times[len(times) * percent // 100]
        for what, percent in (("since", scope.since), ("until", scope.until))
    }
    return replace(scope, **at)


def found(rebuilt: Rebuilt) -> dict[str, Any]:
    """What was rebuilt, of those that differ from live."""
    return {d.golden_id: d.rebuilt for d in rebuilt.differences}


async def named(hub: Stages, scope: Scope) -> set[str]:
    """By the state of live: the golden records that events in scope are about."""
    rows = await hub.context.pool.fetch(
        "with recursive told as (select coalesce(r.golden_id, e.external_id) as id from hub.event e"
        " left join hub.record r using (system, object, external_id) where ($2 = '' or e.system = $2)"
        " and ($3::bigint is null or e.observed_at >= $3) and ($4::bigint is null or e.observed_at < $4)"
        " union select golden_id from hub.golden where $5"
        " union select g.merged_into from told join hub.golden g on g.golden_id = told.id)"
        " select g.golden_id from told join hub.golden g on g.golden_id = told.id where $1 in ('', g.entity)",
        scope.entity, scope.system, scope.since, scope.until, not scope.by_event,
    )  # fmt: skip
    return {row["golden_id"] for row in rows}


@pytest.mark.parametrize("name", SCOPES)
async def test_a_part_is_rebuilt_as_the_whole(hub: Stages, name: str, figures: Callable[..., None]) -> None:
    parts = [await check_partial(hub, seed, name) for seed in range(20 if LONG else 2)]
    assert sum(parts), "nothing was in scope"
    figures("P7", scope=name, golden_records=sum(parts))


async def test_the_check_of_parts_fails_where_only_events_in_scope_are_folded(hub: Stages) -> None:
    def only_its_own(self: Scope, model: Any) -> list[str]:
        return [topic for topic in topics(self, model) if ".news." in topic]

    topics = scope.Scope.topics
    with mutation(scope.Scope, "topics", only_its_own), broken("what other systems say"):
        await check_partial(hub, 1, "system")
    with mutation(scope.Scope, "chooses", lambda self: pl.lit(value=True)), broken("everything is in scope"):
        await check_partial(hub, 1, "system")


async def test_a_second_replay_waits_for_the_first(hub: Stages) -> None:
    await live(hub, 1, 10)
    async with hub.context.pool.acquire() as conn:
        await conn.execute("select pg_advisory_lock($1)", LOCK)
        with pytest.raises(Hold, match="another process"):
            await hub.replay()
        await conn.execute("select pg_advisory_unlock($1)", LOCK)
    assert not (await hub.replay()).differences


@pytest.mark.parametrize("scope", [Scope(), Scope(entity="contact", since=5)], ids=["whole", "part"])
async def test_of_nothing_nothing_is_rebuilt(hub: Stages, scope: Scope) -> None:
    assert (await hub.replay(scope=scope)).golden == 0
