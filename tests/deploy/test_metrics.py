"""What is counted, when it counts, and what the gauges say of a real hub on both logs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from hub.change import Change
from hub.edge import gauges, running, telemetry
from hub.edge.assembly import assemble
from hub.edge.embedded import Embedded
from hub.edge.running import Running
from hub.edge.telemetry import Gauges
from hub.edge.wiring import Hub, open_hub, read_config
from hub.errors import AuthError, Hold, Reject, Retry
from hub.receipt import Deferred, Held, Refused, Unchanged
from streams import metrics
from streams.capture import to_records
from streams.metrics import METRICS, Kind, Metric
from tests.brokers import emptied
from tests.deploy.hubs import TwoSystems, two_systems, until

LOGS = ["embedded", pytest.param("kafka", marks=pytest.mark.kafka)]


@pytest.fixture
async def systems(postgres: Embedded, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[TwoSystems]:
    """Two systems; parametrise with "kafka" for a hub on the real broker."""
    kind = getattr(request, "param", "embedded")
    log = (await emptied(request.getfixturevalue("kafka"))).url if kind == "kafka" else kind
    async with two_systems(postgres, tmp_path, log) as made:
        yield made


@pytest.fixture
async def opened(systems: TwoSystems) -> AsyncIterator[Hub]:
    async with open_hub(read_config(systems.config, systems.env), env=systems.env) as made:
        yield made


@pytest.fixture
async def started(opened: Hub) -> AsyncIterator[Running]:
    async with running.started(opened, port=0) as made:
        yield made


def value(metric: Metric, *labels: str) -> float:
    """A counter's value in this process."""
    registry = CollectorRegistry()
    registry.register(metrics.LIVE[metric.name])
    suffix = "_count" if metric.kind is Kind.histogram else ""
    return registry.get_sample_value(metric.name + suffix, dict(zip(metric.labels, labels, strict=True))) or 0.0


def test_names_follow_the_conventions_of_prometheus() -> None:
    assert len({m.name for m in METRICS}) == len(METRICS) > 20
    for metric in METRICS:
        assert metric.name.startswith("hub_"), metric
        assert metric.name.endswith("_total") == (metric.kind is Kind.counter), metric
        assert bool(metric.buckets) == (metric.kind is Kind.histogram), metric
        assert metric.help.endswith(".")
        for unit in ("seconds", "bytes"):
            assert (metric.unit == unit) == metric.name.endswith(f"_{unit}"), metric


async def test_what_is_counted_in_a_transaction_counts_when_it_is_committed() -> None:
    before = value(metrics.GOLDEN, "thing")

    async def undone() -> None:
        async with metrics.tally():
            metrics.count(metrics.GOLDEN, "thing", by=5)
            raise ValueError("undone")

    with pytest.raises(ValueError):
        await undone()
    assert value(metrics.GOLDEN, "thing") == before
    async with metrics.tally():
        metrics.count(metrics.GOLDEN, "thing", by=2)
        metrics.count(metrics.GOLDEN, "thing")
        assert value(metrics.GOLDEN, "thing") == before
    assert value(metrics.GOLDEN, "thing") == before + 3


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Retry("busy"), "retry"), (Hold("company"), "hold"), (Reject("bad"), "reject"), (AuthError("no"), "fatal"),
        (ConnectionResetError(), "infrastructure"), (TimeoutError(), "infrastructure"), (KeyError("x"), "unexpected"),
    ],
)  # fmt: skip
def test_errors_are_counted_by_what_to_do_next(error: Exception, kind: str) -> None:
    before = value(metrics.ERRORS, "capture", "crm", kind)
    metrics.failed("capture", "crm", error)
    assert value(metrics.ERRORS, "capture", "crm", kind) == before + 1


def test_receipts_that_are_no_success_are_errors_but_a_record_found_is_none() -> None:
    names = ("retry", "hold", "reject")
    before = [value(metrics.ERRORS, "deliver", "mill", name) for name in names]
    found = Deferred("found", found=(Change("mill", "contacts", "1", {}),))
    metrics.answered(
        "mill", [Deferred("later"), Held("company"), Refused("bad"), Refused("bad"), found, Unchanged("1")]
    )
    after = [value(metrics.ERRORS, "deliver", "mill", name) for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 2]


async def test_an_edit_is_counted_all_along_its_way(systems: TwoSystems, started: Running) -> None:
    watched = [
        (metrics.PROJECTED, ("crm", "contacts")),
        (metrics.RECEIPTS, ("shop", "applied")), (metrics.OUTCOMES, ("shop", "applied")),
        (metrics.JOURNEY_SECONDS, ("shop",)),
    ]  # fmt: skip
    before = {(m, labels): value(m, *labels) for m, labels in watched}
    captured, versions = _captured("crm", "contacts"), value(metrics.GOLDEN, "contact")
    await systems.execute("crm", "insert into contacts (email, first_name) values ('ada@lovelace.example', 'Ada')")
    await running.until_idle(started.worker.hub, 60.0)
    assert {key: value(key[0], *key[1]) - was for key, was in before.items()} == dict.fromkeys(before, 1.0)
    assert _captured("crm", "contacts") == captured + 1
    # One for the edit; a second where the shop told of its new record before it answered the call that made it.
    written = await started.worker.hub.context.pool.fetchval("select sum(version)::int from hub.golden")
    assert written in (1, 2)
    assert value(metrics.GOLDEN, "contact") == versions + written


def _captured(system: str, object_: str) -> float:
    """Changes captured of an object, by whatever channel."""
    series = [s for family in metrics.LIVE[metrics.CAPTURED.name].collect() for s in family.samples]
    return sum(s.value for s in series if (s.labels["system"], s.labels["object"]) == (system, object_))


@pytest.mark.parametrize("systems", LOGS, indirect=True)
async def test_lag_is_told_by_partition_in_records_and_seconds(opened: Hub) -> None:
    """Nobody projects here, so what is appended waits."""
    context = opened.context
    changes = [Change("crm", "contacts", str(n), {"email": f"{n}@example.com"}, version=n) for n in range(20)]
    await context.log.append(await to_records(context, changes))
    await asyncio.sleep(0.2)
    samples = {(m.name, labels): number for m, labels, number in await gauges.lag(context)}
    waiting = {labels: n for (name, labels), n in samples.items() if name == metrics.LAG.name and n}
    assert sum(waiting.values()) == 20
    assert {labels[:2] for labels in waiting} == {("project", "hub.changes.crm.contacts")}
    for labels in waiting:
        assert 0.1 <= samples[metrics.LAG_SECONDS.name, labels] < 120.0
    assert samples[metrics.LAG.name, ("plan", "hub.golden.contact", "0")] == 0
    assert samples[metrics.LAG_SECONDS.name, ("plan", "hub.golden.contact", "0")] == 0.0


async def test_what_is_paused_parked_or_queued_is_told(opened: Hub) -> None:
    pool = opened.context.pool
    await pool.execute("insert into hub.pause (target, reason) values ('shop', 'token expired')")
    await pool.execute(
        "insert into hub.write (target, golden_id, entity, version, state, due_at) values"
        " ('shop', 'a', 'contact', 1, 'due', now() - interval '10 minutes'), ('shop', 'b', 'contact', 1, 'parked', now()),"
        " ('shop', 'c', 'contact', 1, 'due', now() + interval '10 minutes')"
    )
    await pool.execute(
        'insert into hub.parked (stage, topic, partition, "offset", reason, fingerprint, payload)'
        " values ('project', 't', 0, 0, 'why', 'f', '')"
    )
    samples = {(m.name, labels): number for m, labels, number in await gauges.queue(opened.context)}
    assert samples[metrics.PAUSED.name, ("shop",)] == 1
    assert samples[metrics.PAUSED.name, ("crm",)] == 0
    assert samples[metrics.QUEUE.name, ("shop", "due")] == 2
    assert samples[metrics.QUEUE.name, ("shop", "held")] == 0
    assert samples[metrics.QUEUE.name, ("shop", "parked")] == 1
    assert 599 <= samples[metrics.QUEUE_SECONDS.name, ("shop",)] < 720
    assert samples[metrics.QUEUE_SECONDS.name, ("crm",)] == 0
    assert samples[metrics.PARKED.name, ("project",)] == 1
    assert samples[metrics.PARKED.name, ("plan",)] == 0


async def test_a_loss_shows(systems: TwoSystems, started: Running) -> None:
    """Take an outcome away behind the hub's back: the gauge says so."""
    await systems.execute("crm", "insert into contacts (email, first_name) values ('ada@lovelace.example', 'Ada')")
    hub = started.worker.hub
    await running.until_idle(hub, 60.0)
    assert (metrics.UNACCOUNTED, (), 0) in await gauges.ledger(hub.context)
    await hub.context.pool.execute("delete from hub.ledger where ctid = (select ctid from hub.ledger limit 1)")
    assert (metrics.UNACCOUNTED, (), 1) in await gauges.ledger(hub.context)


async def test_sources_and_slots_are_told(systems: TwoSystems, started: Running) -> None:
    await running.until_idle(started.worker.hub, 60.0)
    samples = await gauges.sources(started.worker.hub.context)
    ages = {labels[0]: number for m, labels, number in samples if m is metrics.SOURCE_AGE}
    assert ages.keys() == {"crm", "shop"}
    assert all(0 <= age < 60 for age in ages.values())
    assert {labels for m, labels, _ in samples if m is metrics.SLOT_LAG} == {("crm",), ("shop",)}


async def test_one_worker_asks_and_another_takes_over(opened: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "STANDBY_SECONDS", 0.1)
    worker = assemble(opened, [])
    first, second = Gauges(opened.context, worker), Gauges(opened.context, worker)
    asking = asyncio.create_task(first.forever())
    await until(lambda: _tells(first), lambda: "the first to ask")
    standing_by = asyncio.create_task(second.forever())
    await asyncio.sleep(0.5)
    assert not await _tells(second)
    await telemetry.ended(asking)
    await until(lambda: _tells(second), lambda: "the second to take over")
    await telemetry.ended(standing_by)


async def _tells(gauges_: Gauges) -> bool:
    return any(family.name == metrics.AGE.name for family in gauges_.collect())


async def test_scraping_does_not_ask_the_database(systems: TwoSystems, started: Running) -> None:
    """The answer is what is known already, even with every connection of the pool in use."""
    pool = started.worker.hub.context.pool
    held = []
    try:
        async with asyncio.timeout(60.0):
            while pool.get_idle_size() or pool.get_size() < pool.get_max_size():
                held.append(await pool.acquire())
        async with httpx.AsyncClient(trust_env=False, timeout=10.0) as client:
            answer = await client.get(f"{started.url}/metrics")
            openmetrics = await client.get(f"{started.url}/metrics", headers={"accept": "application/openmetrics-text"})
    finally:
        for conn in held:
            await pool.release(conn)
    assert answer.status_code == 200
    assert "# HELP hub_part_healthy " in answer.text
    assert openmetrics.text.endswith("# EOF\n")
