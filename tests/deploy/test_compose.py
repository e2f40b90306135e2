"""docker-compose.yml and the Dockerfile: accepted by Docker where there is one, and safe by their structure anywhere."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from connectors.kit.serving import free_port
from hub.edge.assembly import STAGES
from hub.edge.embedded import Embedded
from hub.edge.wiring import read_config
from tests.deploy.hubs import ROOT, hub, two_systems, until

COMPOSE: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
HUB = [name for name, service in SERVICES.items() if service["image"].startswith("integration-hub")]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
each_service = pytest.mark.parametrize("name", SERVICES)
each_hub = pytest.mark.parametrize("name", HUB)


def compose() -> list[str]:
    """The command of Docker Compose; skips the test where there is none."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if (
            shutil.which(command[0])
            and not subprocess.run([*command, "version"], capture_output=True, timeout=60).returncode
        ):
            return command
    pytest.skip("Docker Compose is not installed here")


def test_docker_compose_accepts_the_file() -> None:
    """Also in a fresh clone, where nobody has filled in deploy/hub.env yet."""
    done = subprocess.run(
        [*compose(), "-f", str(ROOT / "docker-compose.yml"), "config", "--quiet"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_every_stage_has_a_worker_and_the_api_has_none() -> None:
    hosted = {name: SERVICES[name]["command"] for name in HUB}
    assert hosted.pop("api") == ["worker"]
    assert hosted == {stage: ["worker", "--stage", stage] for stage in STAGES}


def test_prometheus_scrapes_every_worker() -> None:
    config = YAML(typ="safe").load(ROOT / "deploy/prometheus/prometheus.yml")
    (job,) = config["scrape_configs"]
    (resolved,) = job["dns_sd_configs"]
    assert sorted(resolved["names"]) == sorted(HUB)


@each_service
def test_a_service_is_checked_restarted_and_bounded(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert service["logging"]["options"]["max-size"]


@each_service
def test_an_image_names_its_version(name: str) -> None:
    image = SERVICES[name]["image"]
    tag = image.rpartition(":")[2]
    assert re.match(r"v?\d+\.\d+", tag), image
    assert "." not in image.partition("/")[0] or "/" not in image, "an image of Docker Hub needs no host"


@each_service
def test_a_port_is_open_to_this_machine_only(name: str) -> None:
    published = SERVICES[name].get("ports", [])
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert not published or name in ("api", "prometheus", "grafana")


@each_service
def test_a_service_waits_until_what_it_needs_is_healthy(name: str) -> None:
    for needed, condition in SERVICES[name].get("depends_on", {}).items():
        assert condition == {"condition": "service_healthy"}
        assert needed in SERVICES


@each_service
def test_no_secret_is_written_down(name: str) -> None:
    """Secrets come from a file that git does not know."""
    for key, value in SERVICES[name].get("environment", {}).items():
        assert not re.search(r"PASSWORD|SECRET|TOKEN|KEY", key) or value in ("true", "false")
    example = dict(
        line.split("=", 1)
        for line in (ROOT / "deploy/hub.env.example").read_text().splitlines()
        if re.match(r"\w+=", line)
    )
    assert not example["POSTGRES_PASSWORD"]
    assert not example["HUBSPOT_TOKEN"]
    assert "hub.env" in (ROOT / "deploy/.gitignore").read_text().split()


@each_hub
def test_a_worker_may_do_nothing_but_work(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert {"kafka", "postgres"} <= service["depends_on"].keys()


def test_every_named_volume_is_used_and_data_is_kept() -> None:
    used = {v.partition(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if isinstance(v, str)}
    assert {name for name in used if not name.startswith(".")} == COMPOSE["volumes"].keys()
    assert "postgres-data:/var/lib/postgresql" in SERVICES["postgres"]["volumes"]
    assert "wal_level=logical" in SERVICES["postgres"]["command"]


def test_what_is_mounted_exists() -> None:
    mounts = [v.partition(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if isinstance(v, str)]
    assert all((ROOT / path).exists() for path in mounts if path.startswith("."))
    assert {SERVICES[name]["volumes"][0]["source"] for name in HUB} == {"${HUB_CONFIG_FILE:-./deploy/hub.yaml}"}


def test_the_mounted_configuration_is_valid_and_finds_its_services() -> None:
    lines = (ROOT / "deploy/hub.env.example").read_text().splitlines()
    names = [line.partition("=")[0] for line in lines if re.match(r"\w+=", line)]
    env = {name: "x" for name in names} | {"HUB_STATE": "postgresql://hub@postgres:5432/hub"}
    config = read_config(ROOT / "deploy/hub.yaml", env)
    assert config.log == "kafka://kafka:9092"
    assert config.state == env["HUB_STATE"]
    assert config.model.targets("contact").keys() == {"crm", "hubspot"}
    assert SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://kafka:9092"


def test_the_image_is_built_from_hashes_in_two_stages_and_runs_as_nobody_special() -> None:
    builder, runtime = DOCKERFILE.split("AS runtime")
    assert "--require-hashes -r requirements/run.txt" in builder
    assert not re.search(r"apt-get|pip .*install|curl|COPY \. ", runtime)
    assert re.findall(r"^USER (.*)$", runtime, re.M) == ["10001:10001"]
    assert "/healthz" in runtime
    assert re.search(r'^ENTRYPOINT \["hub"\]$', runtime, re.M)
    assert all(f'image.{label}="' in runtime for label in ("title", "licenses", "version", "revision"))
    assert not re.search(r":latest|https?://(?!127\.0\.0\.1)", DOCKERFILE)


def test_what_the_image_copies_is_in_the_build_context() -> None:
    """.dockerignore lets in only what it names."""
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        line.split()[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ") and "--from" not in line
    ]
    assert {source for sources in copied for source in sources} <= let_in
    missing = [name for name in let_in if not (ROOT / name).exists()]
    assert not missing or not os.environ.get("CI"), missing


async def test_the_health_check_tells_a_hub_that_answers_from_one_that_does_not(
    postgres: Embedded, tmp_path: Path
) -> None:
    """The very command of the image, which compose repeats."""
    found = re.search(r"HEALTHCHECK .*\\\n\s+CMD (\[.*\])$", DOCKERFILE, re.M)
    assert found is not None
    command = json.loads(found[1])
    assert all(SERVICES[name]["healthcheck"]["test"] == ["CMD", *command] for name in HUB)
    port = free_port()

    async def healthy() -> bool:
        env = {**os.environ, "HUB_PORT": str(port)}
        child = await asyncio.create_subprocess_exec(
            sys.executable, *command[1:], env=env, stderr=asyncio.subprocess.DEVNULL
        )
        return await child.wait() == 0

    assert not await healthy()
    async with (
        two_systems(postgres, tmp_path) as systems,
        hub(["worker", "-c", str(systems.config)], systems.env, port, tmp_path),
    ):
        await until(healthy, lambda: "the health check to pass")
