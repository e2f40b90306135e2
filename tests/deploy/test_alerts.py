"""The alert rules, by Prometheus's own tool: each fires when it should, says what to do, and is quiet when it should be."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from streams.metrics import METRICS
from tests.deploy.hubs import ROOT
from tests.deploy.prometheus_server import tool

DIRECTORY = ROOT / "deploy/prometheus"


def load(name: str) -> Any:
    return YAML(typ="safe").load(DIRECTORY / name)


RULES = [rule for group in load("alerts.yml")["groups"] for rule in group["rules"]]


def promtool(*arguments: str) -> None:
    done = subprocess.run([tool("promtool"), *arguments], cwd=DIRECTORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_behave_as_their_tests_say() -> None:
    promtool("test", "rules", "alerts_test.yml")


def test_the_configuration_and_the_rules_are_valid() -> None:
    promtool("check", "config", "prometheus.yml")


def test_a_wrong_expectation_is_noticed(tmp_path: Path) -> None:
    """The tests of the rules test something: with another expectation they fail."""
    (tmp_path / "alerts.yml").write_text((DIRECTORY / "alerts.yml").read_text())
    wrong = (DIRECTORY / "alerts_test.yml").read_text().replace('target: "hubspot"', 'target: "hubspit"')
    (tmp_path / "alerts_test.yml").write_text(wrong)
    command = [tool("promtool"), "test", "rules", "alerts_test.yml"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120).returncode != 0


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_every_rule_is_tested_both_ways_and_says_what_to_do(rule: dict[str, Any]) -> None:
    checks = [
        c
        for test in load("alerts_test.yml")["tests"]
        for c in test["alert_rule_test"]
        if c["alertname"] == rule["alert"]
    ]
    assert any(check["exp_alerts"] for check in checks), "never fires in a test"
    assert any(not check["exp_alerts"] for check in checks), "never keeps quiet in a test"
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert len(rule["annotations"]["summary"]) > 20
    assert len(rule["annotations"]["description"]) > 40
    assert f"### {rule['alert']}" in (ROOT / "docs/operations.md").read_text()


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_every_rule_is_about_a_metric_that_exists(rule: dict[str, Any]) -> None:
    assert any(metric.name in rule["expr"] for metric in METRICS) or "up{" in rule["expr"]
