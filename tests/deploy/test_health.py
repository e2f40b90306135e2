"""A worker is ready only while every part of it does its work: real processes, with the database stopped under them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import pytest

from connectors.kit.serving import free_port
from hub.edge import embedded, health, running
from hub.edge.assembly import Worker
from hub.edge.embedded import Embedded
from hub.edge.stopping import until_told
from hub.edge.wiring import Hub, open_hub, read_config
from streams.app import StageApp, Workers, stage_app
from streams.records import Batch, Record
from streams.services import Loop
from tests.deploy.hubs import Process, TwoSystems, hub, two_systems, until


@pytest.fixture
async def own_postgres() -> AsyncIterator[Embedded]:
    """A server that a test may stop."""
    with TemporaryDirectory(prefix="hub-test-", ignore_cleanup_errors=True) as directory:
        server = await embedded.start_async(Path(directory) / "data")
        yield server
        server.stop()


@pytest.fixture
async def opened(postgres: Embedded, tmp_path: Path) -> AsyncIterator[Hub]:
    """An open hub of two systems."""
    async with (
        two_systems(postgres, tmp_path) as systems,
        open_hub(read_config(systems.config, systems.env), env=systems.env) as made,
    ):
        yield made


def run_all(systems: TwoSystems) -> list[str]:
    return ["run", "-c", str(systems.config)]


async def gauge(process: Process, line: str) -> float:
    """The value of one series in /metrics; -1 where it is not there."""
    found = [text for text in (await process.metrics()).splitlines() if text.startswith(f"{line} ")]
    return float(found[0].rpartition(" ")[2]) if found else -1.0


async def test_a_hub_without_its_database_is_alive_but_not_ready_and_recovers(
    own_postgres: Embedded, tmp_path: Path
) -> None:
    async with (
        two_systems(own_postgres, tmp_path) as systems,
        hub(run_all(systems), systems.env, free_port(), tmp_path) as process,
    ):
        await process.until_ready()
        age = 'hub_metrics_age_seconds{group="queue"}'
        await until(lambda: _positive(process, age), lambda: "the first gauges")
        await asyncio.to_thread(own_postgres.stop)
        trouble = (await process.until_ready(503))["trouble"]
        assert "database" in trouble
        assert (await process.http.get("/healthz")).status_code == 200
        await until(lambda: _sees(process, "stage project"), lambda: "the stage to see that the log is away")
        await until(lambda: _older(process, age, 10.0), lambda: "gauges that are known to be old")
        assert await gauge(process, 'hub_part_healthy{kind="stage",name="project"}') == 0.0
        await asyncio.to_thread(own_postgres.start_again)
        await process.until_ready()
        await systems.execute("crm", "insert into contacts (email, first_name) values ('ada@lovelace.example', 'Ada')")
        await until(
            lambda: _arrived(systems), lambda: f"the edit after the outage; log: {process.log.read_text()[-2_000:]}"
        )
        assert await process.until_ready() == {"ready": True, "trouble": {}}
        assert await process.stop() == 0


async def _positive(process: Process, line: str) -> bool:
    return await gauge(process, line) >= 0


async def _older(process: Process, line: str, seconds: float) -> bool:
    return await gauge(process, line) > seconds


async def _sees(process: Process, part: str) -> bool:
    status, document = await process.ready()
    return status == 503 and part in document["trouble"]


async def _arrived(systems: TwoSystems) -> bool:
    return bool(await systems.execute("shop", "select true from customers where mail = 'ada@lovelace.example'"))


async def test_a_source_that_is_away_is_named_and_the_rest_goes_on(
    own_postgres: Embedded, postgres: Embedded, tmp_path: Path
) -> None:
    async with two_systems(own_postgres, tmp_path) as systems:
        env = {**systems.env, "STATE_URL": await postgres.create("hub_elsewhere")}
        async with hub(run_all(systems), env, free_port(), tmp_path) as process:
            await process.until_ready()
            await asyncio.to_thread(own_postgres.stop)
            trouble = (await process.until_ready(503))["trouble"]
            assert "database" not in trouble
            assert any(name.startswith("source crm/") for name in trouble)
            assert not [name for name in trouble if name.startswith("stage")]
            await asyncio.to_thread(own_postgres.start_again)
            await process.until_ready()


async def test_a_worker_without_stages_answers_questions_and_ends_in_order(postgres: Embedded, tmp_path: Path) -> None:
    async with (
        two_systems(postgres, tmp_path) as systems,
        hub(["worker", "-c", str(systems.config)], systems.env, free_port(), tmp_path) as process,
    ):
        await process.until_ready()
        assert (await process.http.get("/api/ledger")).json()["unaccounted"] == 0
        assert (await process.http.post("/webhooks/nobody")).status_code == 404
        assert 'hub_part_healthy{kind="stage"' not in await process.metrics()
        assert 'hub_part_healthy{kind="service",name="upkeep"} 1.0' in await process.metrics()
        assert await process.stop() == 0


class Sleeper:
    """A handler that never returns."""

    def __init__(self) -> None:
        self.called = asyncio.Event()

    async def __call__(self, batches: list[Batch]) -> None:
        self.called.set()
        await asyncio.Event().wait()


def one_batch() -> list[Batch]:
    record = Record("test.topic", 0, 0, b"key", b"value", (), time.time_ns() // 1_000)
    return [Batch("test.topic", 0, (record,))]


def worker_of(opened: Hub, *apps: StageApp, services: tuple[Loop, ...] = ()) -> Worker:
    return Worker(opened, Workers(list(apps), list(services)), [], [])


async def test_a_stage_that_does_not_move_is_not_ready(opened: Hub) -> None:
    sleeper = Sleeper()
    app = stage_app("sleeper", opened.log_url, ["hub.alerts"], sleeper)
    worker = worker_of(opened, app)
    assert health.parts(worker) == {("stage", "sleeper"): "not yet part of its consumer group"}
    app.stage.ready.set()
    assert health.parts(worker) == {("stage", "sleeper"): None}
    handling = asyncio.create_task(app.stage.handle(one_batch(), lambda: True))
    await sleeper.called.wait()
    assert health.parts(worker, stuck_after=3_600.0) == {("stage", "sleeper"): None}
    wrong = health.parts(worker, stuck_after=0.0)[("stage", "sleeper")]
    assert wrong is not None
    assert wrong.startswith("stuck")
    handling.cancel()


async def test_a_service_that_crashed_is_dead_and_ends_the_process(opened: Hub) -> None:
    async def crash() -> None:
        raise RuntimeError("out of luck")

    worker = worker_of(opened, services=(Loop("unlucky", crash),))
    await worker.workers.start()
    with pytest.raises(RuntimeError, match="out of luck"):
        await asyncio.wait_for(until_told(worker.workers.wait()), 30.0)
    assert health.parts(worker) == {("service", "unlucky"): "dead: RuntimeError: out of luck"}
    assert await health.trouble(opened, worker) == {"service unlucky": "dead: RuntimeError: out of luck"}


@asynccontextmanager
async def locked(systems: TwoSystems, system: str, table: str) -> AsyncIterator[None]:
    """Nobody else may read or write a table meanwhile."""
    conn = await asyncpg.connect(systems.urls[system])
    try:
        async with conn.transaction():
            await conn.execute(f"lock table {table} in access exclusive mode")
            yield
    finally:
        await conn.close()


async def until_stuck(worker: Worker, part: tuple[str, str]) -> None:
    async def stuck() -> bool:
        return (health.parts(worker, stuck_after=1.0)[part] or "").startswith("stuck")

    await until(stuck, lambda: f"{part} to be stuck among {health.parts(worker)}")


async def test_a_source_that_does_not_answer_is_stuck_until_it_does(postgres: Embedded, tmp_path: Path) -> None:
    async with two_systems(postgres, tmp_path) as systems:
        config = read_config(systems.config, systems.env)
        async with open_hub(config, env=systems.env) as opened, AsyncExitStack() as stack:
            async with locked(systems, "crm", "contacts"):  # before it is read for the first time
                started = await stack.enter_async_context(running.started(opened, port=0))
                await until_stuck(started.worker, ("source", "crm/wal"))
            await running.until_idle(opened, 60.0)
            assert await health.trouble(opened, started.worker) == {}


async def test_a_target_that_does_not_answer_is_stuck_until_it_does(postgres: Embedded, tmp_path: Path) -> None:
    async with two_systems(postgres, tmp_path) as systems:
        config = read_config(systems.config, systems.env)
        async with open_hub(config, env=systems.env) as opened, running.started(opened, port=0) as started:
            await running.until_idle(opened, 60.0)
            async with locked(systems, "shop", "customers"):
                await systems.execute("crm", "insert into contacts (email) values ('ada@lovelace.example')")
                await until_stuck(started.worker, ("target", "shop"))
            await running.until_idle(opened, 60.0)
            assert await health.trouble(opened, started.worker) == {}
            assert await _arrived(systems)
