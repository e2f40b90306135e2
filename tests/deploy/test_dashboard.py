"""The dashboard and the alert rules on a real Prometheus that scrapes a real hub."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytest_asyncio
from ruamel.yaml import YAML

from hub.edge import embedded
from hub.edge.demo.run import Options, stage
from streams.metrics import METRICS
from tests.deploy.hubs import ROOT, hub, until
from tests.deploy.prometheus_server import Prometheus, scraping

pytestmark = pytest.mark.timeout(900)

DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/hub.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
RULES = ROOT / "deploy/prometheus/alerts.yml"


def load(path: str) -> Any:
    """A YAML file of the repository."""
    return YAML(typ="safe").load(ROOT / path)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def prometheus(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    """Prometheus, and the demo's three systems, small, with a hub in a process of its own that it scrapes."""
    with TemporaryDirectory(prefix="hub-test-", ignore_cleanup_errors=True) as directory:
        server = await embedded.start_async(Path(directory) / "pg")
        try:
            async with stage(Options(scale=0.03, directory=Path(directory)), server) as systems:
                port = int(systems.env["HUB_PORT"])
                arguments = [
                    "run",
                    "-c",
                    str(ROOT / "hub/edge/demo/hub.yaml"),
                    "--data-dir",
                    str(Path(directory) / "pg"),
                ]
                # Prometheus first: what happens before the first scrape has no rate.
                with scraping(f"127.0.0.1:{port}", tmp_path_factory.mktemp("prometheus"), RULES) as scraper:
                    async with hub(arguments, systems.env, port, Path(directory)) as process:
                        await process.until_ready()
                        yield scraper
        finally:
            server.leave()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("title", "expression"), QUERIES, ids=[f"{i}-{title}" for i, (title, _) in enumerate(QUERIES)])
async def test_every_panel_shows_something(prometheus: Prometheus, title: str, expression: str) -> None:
    expression = expression.replace("$__rate_interval", "10m")

    async def shown() -> bool:
        found = await asyncio.to_thread(prometheus.query, expression)
        return any(not math.isnan(float(series["value"][1])) for series in found)

    await until(shown, lambda: f"a value of {title}: {expression}")


@pytest.mark.asyncio(loop_scope="module")
async def test_every_metric_of_the_list_is_scraped(prometheus: Prometheus) -> None:
    """What the list promises exists, with the labels it names; what needs a mishap to exist may be missing."""
    shown = set(await asyncio.to_thread(prometheus.get, "label/__name__/values"))
    names = {m.name if m.kind != "histogram" else f"{m.name}_bucket" for m in METRICS}
    assert names <= shown
    for metric in METRICS:
        name = metric.name if metric.kind != "histogram" else f"{metric.name}_count"
        series = await asyncio.to_thread(prometheus.query, name)
        assert set(series[0]["metric"]) - {"__name__", "job", "instance"} == set(metric.labels), metric.name


@pytest.mark.asyncio(loop_scope="module")
async def test_every_rule_can_be_evaluated_and_nothing_critical_fires(prometheus: Prometheus) -> None:
    async def evaluated() -> bool:
        groups = (await asyncio.to_thread(prometheus.get, "rules"))["groups"]
        return all(rule["health"] == "ok" for group in groups for rule in group["rules"])

    await until(evaluated, lambda: "the evaluation of every rule")
    rules = [rule for group in (await asyncio.to_thread(prometheus.get, "rules"))["groups"] for rule in group["rules"]]
    critical = {rule["name"]: rule["state"] for rule in rules if rule["labels"]["severity"] == "critical"}
    assert len(critical) >= 4
    assert "firing" not in critical.values(), critical


@pytest.mark.asyncio(loop_scope="module")
async def test_lag_has_a_series_for_every_partition(prometheus: Prometheus) -> None:
    lag = 'hub_stage_lag_records{stage="project",topic="hub.changes.crm.contacts"}'
    series = await asyncio.to_thread(prometheus.query, lag)
    assert {one["metric"]["partition"] for one in series} == {"0", "1", "2", "3"}


def test_the_dashboard_is_provisioned_and_stable() -> None:
    """Grafana finds the file where compose mounts it, by identifiers that do not change."""
    provider = load("deploy/grafana/provisioning/dashboards/hub.yml")["providers"][0]
    source = load("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"][0]
    mounts = load("docker-compose.yml")["services"]["grafana"]["volumes"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in mounts
    assert DASHBOARD["uid"] == "hub-overview"
    assert {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]} == {source["uid"]}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_lag_and_errors_come_first() -> None:
    rows = sorted((p for p in DASHBOARD["panels"] if p["type"] == "row"), key=lambda row: row["gridPos"]["y"])
    assert [row["title"] for row in rows][:2] == ["Lag", "Errors"]
    assert all(panel["description"] for panel in PANELS)
