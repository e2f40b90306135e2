"""P9, trouble is visible: each fault, made on a running hub, turns health and its metric on; healed, they turn off.

Thresholds are shortened by configuration, so that what takes hours takes seconds. Each check is also run with the part
switched off that sees the fault, and then it must fail.
"""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from ruamel.yaml import YAML

from connectors.kit.connector import Page
from hub import habit
from hub.edge import inquiry, running
from hub.edge.embedded import Embedded
from hub.edge.running import Running
from hub.edge.wiring import Hub, open_hub, read_config
from streams import watch
from streams.app import Workers, stage_app
from streams.log import Batch, NewRecord, open_log
from streams.stage import Health
from streams.topics import Topic
from tests.deploy.hubs import ROOT, TwoSystems, two_systems
from tests.promises.mutations import broken, mutation

WATCH = """
watch: {seconds: 0.1, period_seconds: 0.4, cycle: 1, learn: 6, source_seconds: 1.2, stale_seconds: 1.5, near_misses: 2,
  slot_bytes: 3000000, disk_bytes: 1}
"""
PATIENCE, SHORT = 40.0, 2.5
ALERTS = {
    rule["expr"]: rule["alert"]
    for group in YAML(typ="safe").load(ROOT / "deploy/prometheus/alerts.yml")["groups"]
    for rule in group["rules"]
}


@dataclass
class Scene:
    """A running hub on two databases, and what it tells of itself."""

    systems: TwoSystems
    hub: Hub
    started: Running
    http: httpx.AsyncClient
    patience: float = PATIENCE

    async def told(self) -> dict[str, str]:
        """Trouble and warnings of /readyz; what is stuck must make it not ready."""
        answer = await self.http.get("/readyz")
        document = answer.json()
        stuck = {kind.name for kind in watch.FAULTS if kind.stuck} | {"stage", "source", "target", "service"}
        assert (answer.status_code == 503) == bool(document["trouble"]), document
        odd = document.get("warnings", {})
        assert not [name for name in odd if name.split()[0] in stuck], f"stuck and yet ready: {document}"
        return {**document["trouble"], **odd}

    async def value(self, line: str) -> float | None:
        """One series of /metrics."""
        lines = (await self.http.get("/metrics")).text.splitlines()
        return next((float(text.rpartition(" ")[2]) for text in lines if text.startswith(f"{line} ")), None)

    async def until(self, holds: Callable[[], Awaitable[bool]], what: str, then: Callable[[], Awaitable[Any]]) -> None:
        """Repeat `then` until something holds; AssertionError with what was waited for."""
        end = time.monotonic() + self.patience
        while not await holds():
            assert time.monotonic() < end, f"waited in vain for {what}; told is {await self.told()}"
            await then()
            await asyncio.sleep(0.05)

    async def crm(self, sql: str, *values: Any) -> Any:
        """A statement at the CRM."""
        return await self.systems.execute("crm", sql, *values)

    async def edit(self, rows: int = 1) -> None:
        """New contacts."""
        await self.crm("insert into contacts (first_name) select 'n' from generate_series(1, $1)", rows)

    async def pause(self) -> None:
        """Do nothing."""


async def check_turns_on(scene: Scene, fault: str, subject: str, then: Callable[[], Awaitable[Any]]) -> None:
    """Health names the fault, `hub status` too, and the metric that its alert is about is 1."""
    name = f"{fault} {subject}"

    async def on() -> bool:
        if name not in await scene.told():
            return False
        return bool(await scene.value(f'hub_fault{{fault="{fault}",subject="{subject}"}}'))

    await scene.until(on, f"{name} in health and metrics", then)
    assert f'max by (subject) (hub_fault{{fault="{fault}"}}) == 1' in ALERTS, f"no alert is about {fault}"


async def check_turns_off(scene: Scene, fault: str, subject: str, then: Callable[[], Awaitable[Any]]) -> None:
    """Health and metric say that the trouble is over."""

    async def off() -> bool:
        series = f'hub_fault{{fault="{fault}",subject="{subject}"}}'
        return f"{fault} {subject}" not in await scene.told() and not await scene.value(series)

    await scene.until(off, f"the end of {fault} {subject}", then)


@asynccontextmanager
async def scene_on(server: Embedded, directory: Path, log: str = "embedded") -> AsyncIterator[Scene]:
    """A hub that has read both systems, with short thresholds."""
    async with two_systems(server, directory, log) as systems, AsyncExitStack() as stack:
        systems.config.write_text(systems.config.read_text() + WATCH)
        config = read_config(systems.config, systems.env)
        hub = await stack.enter_async_context(open_hub(config, env=systems.env, data_dir=directory))
        started = await stack.enter_async_context(running.started(hub, port=0))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=started.url, timeout=30, trust_env=False))
        await running.until_idle(hub, 60.0)
        yield Scene(systems, hub, started, http)


# Each fault: what makes it, whether it goes on being made until it is seen, and what heals it.


@asynccontextmanager
async def source_away(scene: Scene) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """The CRM lets nobody in."""
    name = scene.systems.urls["crm"].split("?")[0].rpartition("/")[2]
    await scene.systems.execute("shop", f"alter database {name} allow_connections false")
    await scene.systems.execute(
        "shop", "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = $1", name
    )
    yield scene.pause
    await scene.systems.execute("shop", f"alter database {name} allow_connections true")


@asynccontextmanager
async def silence(scene: Scene) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """The CRM yields in every period, and then nothing."""
    for _ in range(12):
        await scene.edit()
        await asyncio.sleep(0.2)
    yield scene.pause
    await scene.edit()


@asynccontextmanager
async def old_data(scene: Scene) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """The CRM goes on yielding, but by its own clock nothing that is new: as if it answered from an old copy."""
    connector: Any = scene.hub.context.connectors["crm"]
    poll = connector.poll

    async def of_old(*asked: Any) -> AsyncIterator[Page]:
        async for page in poll(*asked):
            aged = [replace(change, at=(change.at or 0) - 90 * 86_400_000_000) for change in page.changes]
            yield replace(page, changes=aged)

    with mutation(connector, "poll", of_old):
        yield scene.edit


@asynccontextmanager
async def flood(scene: Scene) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """Now and then far more than usual."""
    turn = iter(range(10**9))

    async def more() -> None:
        await scene.edit(rows=150 if next(turn) % 30 == 15 else 1)
        await asyncio.sleep(0.05)

    yield more


@asynccontextmanager
async def slot_lags(scene: Scene) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """The hub cannot store how far it is, and the CRM keeps its log for it."""
    conn = await asyncpg.connect(scene.hub.state_url)
    try:
        async with conn.transaction():
            await conn.execute("lock table hub.checkpoint in exclusive mode")
            await scene.crm("create table if not exists bulk (filler text)")
            await scene.crm("insert into bulk select repeat(md5(i::text), 20) from generate_series(1, 10000) i")
            yield scene.pause
    finally:
        await conn.close()


@asynccontextmanager
async def crossing(scene: Scene) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """Again and again somebody at the shop edits what the hub has written there, each time of somebody else: a field that
    goes to and fro is left to a person."""
    row = count(1)

    async def edit() -> None:
        await scene.systems.execute(
            "shop", "update customers set given_name = md5(random()::text) where id = $1", next(row)
        )
        await asyncio.sleep(0.1)

    yield edit


@asynccontextmanager
async def full_disk(scene: Scene) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """The disk of the hub's data has less left than it should."""
    directory, some = scene.hub.context.data_dir, 2**30
    assert directory is not None
    free = (await watch.disks(scene.hub.context))["hub"]
    scene.hub.context.watch = scene.hub.context.watch.model_copy(update={"disk_bytes": free - some})
    with (directory / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 2 * some)
        yield scene.pause
    (directory / "filler").unlink()
    scene.hub.context.watch = scene.hub.context.watch.model_copy(update={"disk_bytes": 1})


async def nothing(*_: Any, **__: Any) -> AsyncIterator[watch.Fault]:
    """A part of the watch that sees nothing."""
    for fault in ():
        yield fault


CASES = [
    pytest.param("source_stuck", "crm/wal", source_away, (watch, "_sources", nothing), id="source-stuck"),
    pytest.param("zero_yield", "crm/wal", silence, (habit, "silent", lambda *_: False), id="zero-yield"),
    pytest.param("stale_data", "crm/wal", old_data, (watch, "_stale", lambda *_: ""), id="stale-data"),
    pytest.param("volume", "crm/wal", flood, (habit, "deviation", lambda *_: 0.0), id="volume"),
    pytest.param("slot_lag", "crm", slot_lags, (watch, "_slots", nothing), id="slot-lag"),
    pytest.param("near_misses", "shop", crossing, (watch, "_near_misses", nothing), id="near-misses"),
    pytest.param("disk", "hub", full_disk, (watch, "_disks", nothing), id="disk"),
]


async def check_each_fault(scene: Scene) -> int:
    """One fault after the other; each first with the part switched off that sees it. How many."""
    for case in CASES:
        fault, subject, made, (owner, name, instead) = case.values
        blinded = ExitStack()
        blinded.enter_context(mutation(owner, name, instead))
        async with made(scene) as then:
            with blinded, broken(fault):
                scene.patience = SHORT
                await check_turns_on(scene, fault, subject, then)
            scene.patience = PATIENCE
            await check_turns_on(scene, fault, subject, then)
            told = (await inquiry.status(scene.hub.context))["trouble"]
            passing = fault in ("volume", "near_misses")  # over with their periods, which are short here
            assert passing or [t for t in told if (t["fault"], t["subject"]) == (fault, subject)], told
        await check_turns_off(scene, fault, subject, scene.edit)
    return len(CASES)


async def test_each_fault_turns_health_and_its_metric_on(
    postgres: Embedded, tmp_path: Path, figures: Callable[..., None]
) -> None:
    async with scene_on(postgres, tmp_path) as scene:
        figures("P9", faults_seen=await check_each_fault(scene))


async def test_a_lost_slot_is_told_with_what_to_do(postgres: Embedded, tmp_path: Path) -> None:
    async with scene_on(postgres, tmp_path) as scene:
        slot = await scene.crm("select slot_name::text from pg_replication_slots where database = current_database()")
        with mutation(watch, "_slots", nothing), broken("slot_lost"):
            while await scene.crm("select count(*) from pg_replication_slots where slot_name = $1", slot):
                with suppress(asyncpg.ObjectInUseError):  # the hub is looking at it
                    await scene.crm("select pg_drop_replication_slot($1)", slot)
            scene.patience = SHORT
            await check_turns_on(scene, "slot_lost", "crm", scene.pause)
        scene.patience = PATIENCE
        await check_turns_on(scene, "slot_lost", "crm", scene.edit)
        told = await scene.told()
        assert "reset the stream's checkpoint" in told["slot_lost crm"]
        assert "is gone" in told["source crm/wal"]


async def check_failing_stage(scene: Scene) -> None:
    """A stage whose handler fails is not ready, and its metric says so, until it goes on."""

    async def fails(batches: Any) -> None:
        raise ConnectionError("away")

    (stage,) = (one for one in scene.started.worker.workers.stages if one.name == "project")
    series = 'hub_part_healthy{kind="stage",name="project"}'

    async def on() -> bool:
        return "stage project" in await scene.told() and await scene.value(series) == 0.0

    with mutation(stage, "handler", fails):
        await scene.until(on, "the failing stage", scene.edit)


async def test_a_failing_stage_is_not_ready(postgres: Embedded, tmp_path: Path) -> None:
    async with scene_on(postgres, tmp_path) as scene:
        await check_failing_stage(scene)
        scene.patience = SHORT
        await running.until_idle(scene.hub, 60.0)
        assert "stage project" not in await scene.told()
        with mutation(Health, "failed", lambda *_: None), broken("a stage that tells nothing"):
            await check_failing_stage(scene)


async def check_rebalance(log_url: str, pool: asyncpg.Pool) -> int:
    """A rebalance that leaves a worker a partition whose batch fails does not make the worker look well; how many did."""
    log, topic = open_log(log_url, pool), Topic(f"p9.{uuid.uuid4().hex[:12]}", key="none", partitions=4)
    await log.ensure_topics([topic])
    await log.append([NewRecord(topic.name, f"{n}".encode(), b"v") for n in range(40)])
    failing: set[tuple[str, int]] = set()
    kept: list[bool] = []

    async def fails(batches: list[Batch]) -> None:
        failing.update((batch.topic, batch.partition) for batch in batches)
        raise ConnectionError("away")

    async def waits(batches: list[Batch]) -> None:
        await asyncio.sleep(0.1)

    name = topic.name.replace(".", "-")
    app = stage_app(name, log_url, [topic.name], fails)
    ended = app.on_rebalance_end

    def after() -> None:
        ended()
        failing.intersection_update(app.consumer.assignment())
        kept.extend([app.stage.health.healthy] if failing else [])

    with mutation(app, "on_rebalance_end", after):
        first, other = Workers([app]), Workers([stage_app(name, log_url, [topic.name], waits)])
        await first.start()
        async with asyncio.timeout(120):
            while not kept:  # until a rebalance leaves the worker a partition that fails
                while not failing or app.stage.health.healthy:  # noqa: ASYNC110 - it fails in the worker
                    await asyncio.sleep(0.05)
                await other.start()
                await other.ready()
                await other.stop()
                other = Workers([stage_app(name, log_url, [topic.name], waits)])
            await first.stop()
    assert not any(kept), "a failing stage looked well right after a rebalance"
    return len(kept)


async def test_a_rebalance_does_not_hide_a_failing_stage(database: str, pool: asyncpg.Pool) -> None:
    assert await check_rebalance(database, pool) >= 1


async def test_the_check_of_rebalances_fails_where_they_forgive(database: str, pool: asyncpg.Pool) -> None:
    def forgiving(health: Health, partitions: Any) -> None:
        health._failing.clear()

    with mutation(Health, "assigned", forgiving), broken("a rebalance that forgives"):
        await check_rebalance(database, pool)
