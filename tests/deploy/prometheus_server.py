"""A real Prometheus for tests: the one on PATH, or Debian's package unpacked into a cache, which needs no rights."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.kit.serving import free_port

START_SECONDS = 120.0


def tool(name: str) -> str:
    """The path of `prometheus` or `promtool`. Skips the test where there is none and none can be had; fails in CI."""
    return shutil.which(name) or str(_unpacked() / "usr" / "bin" / name)


def _unpacked() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "integration-hub"
    there = base / "prometheus-debian"
    if not there.exists():
        if not shutil.which("apt-get") or not shutil.which("dpkg"):
            _impossible("prometheus is not on PATH, and this is no Debian to take its package from")
        base.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=base) as directory:
            _unpack(Path(directory))
            with contextlib.suppress(OSError):  # another test process was faster
                (Path(directory) / "root").rename(there)
    return there


def _unpack(directory: Path) -> None:
    got = subprocess.run(
        ["apt-get", "download", "prometheus"], cwd=directory, capture_output=True, text=True, timeout=300
    )
    packages = list(directory.glob("prometheus_*.deb"))
    if got.returncode or not packages:
        _impossible(f"prometheus is not on PATH, and its Debian package cannot be had: {got.stderr[-300:]}")
    subprocess.run(["dpkg", "-x", packages[0], directory / "root"], check=True, timeout=120)


def _impossible(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class Prometheus:
    """A running server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, trust_env=False, timeout=30.0)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query. Raises AssertionError with Prometheus's words where it is wrong."""
        answer = self._client.post("/api/v1/query", data={"query": expression}).json()
        assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def get(self, path: str) -> Any:
        """The data of another call of its API."""
        return self._client.get(f"/api/v1/{path}").json()["data"]


@contextmanager
def scraping(target: str, directory: Path, rules: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes host:port every second as the job `hub`, with these rules."""
    config = directory / "prometheus.yml"
    config.write_text(
        f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{rules}]\n"
        f"scrape_configs: [{{job_name: hub, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    port = free_port()
    command = [
        tool("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=directory)
    try:
        _ready(f"http://127.0.0.1:{port}", process, directory / "log")
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(timeout=30)


def _ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"Prometheus did not start: {log.read_text()[-2_000:]}")
