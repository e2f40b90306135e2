"""Delivered rate / allowed rate of one HubSpot account at its limit of 190 calls per 10 seconds, by 1, 2 and 4 processes.

make bench
.venv/bin/python bench/budget.py --seconds 40 --processes 1 2 4 8

The sandbox counts and refuses by its own code; what is counted here is read from its journal. The delivered share is
that of all whole windows after the first one, in which a budget may begin with a burst; more than 1 is not possible.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from rich.console import Console
from rich.table import Table

from connectors.hubspot.sandbox import create_app
from connectors.kit.sandbox import serve
from hub.edge import embedded

RESULTS = Path(__file__).parent / "results" / "budget.json"
CALLS, WINDOW = 190, 10.0
TOKEN = "only-for-the-bench"


async def callers(count: int, *arguments: str) -> list[dict[str, Any]]:
    """Run so many calling processes, which begin together; what each of them prints."""
    command = (sys.executable, str(Path(__file__).parent / "caller.py"), "--token", TOKEN, *arguments)
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    children = [await asyncio.create_subprocess_exec(*command, **pipes) for _ in range(count)]
    for child in children:
        assert (await child.stdout.readline()).strip() == b"ready"
    return [json.loads(out) for out, _ in await asyncio.gather(*[child.communicate(b"\n") for child in children])]


async def journal(url: str) -> list[tuple[float, int]]:
    """The sandbox's calls: (when, status), in order."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        told = (await http.get("/_sandbox/requests")).raise_for_status().json()["requests"]
    return sorted((datetime.fromisoformat(call["at"]).timestamp(), call["status"]) for call in told)


def fullest(times: list[float], seconds: float) -> int:
    """The most calls in any window."""
    most = start = 0
    for end, at in enumerate(times):
        while times[start] <= at - seconds:
            start += 1
        most = max(most, end - start + 1)
    return most


async def measure(processes: int, seconds: float, state: str) -> dict[str, Any]:
    """One run on a sandbox of its own."""
    async with serve(create_app()) as running:
        async with httpx.AsyncClient(base_url=running.url) as http:
            seed = {"token": TOKEN, "limits": {"perTenSeconds": CALLS}, "app": {"portalId": 62515}}
            (await http.post("/_sandbox/seed", json=seed)).raise_for_status()
        await callers(processes, "--url", running.url, "--state", state, "--seconds", str(seconds))
        calls = await journal(running.url)
    times = [at for at, status in calls if status == 200]
    windows = int((seconds - WINDOW) / WINDOW)
    delivered = sum(WINDOW <= at - times[0] < WINDOW * (1 + windows) for at in times)
    return {
        "processes": processes, "calls": len(calls), "refused": sum(status == 429 for _, status in calls),
        "fullest_window": fullest([at for at, _ in calls], WINDOW),
        "delivered_share": round(delivered / (windows * CALLS), 4),
    }  # fmt: skip


async def main(options: argparse.Namespace) -> None:
    """Measure, print, and keep."""
    with tempfile.TemporaryDirectory(prefix="hub-bench-", ignore_cleanup_errors=True) as directory:
        server = await embedded.start_async(Path(directory) / "pg")
        try:
            results = [await measure(n, options.seconds, await _state(server, n)) for n in options.processes]
        finally:
            server.leave()
    table = Table(
        "processes", "calls", "429", "fullest window", "delivered / allowed", title="190 calls per 10 s, one account"
    )
    for result in results:
        table.add_row(*(str(result[k]) for k in ("processes", "calls", "refused", "fullest_window", "delivered_share")))
    Console().print(table)
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "architecture": platform.machine(), "system": platform.system()},
        "seconds": options.seconds,
        "results": results,
    }
    options.json.write_text(json.dumps(document, indent=2) + "\n")


async def _state(server: embedded.Embedded, number: int) -> str:
    url = await server.create(f"bench_{number}")
    conn = await asyncpg.connect(url)
    await conn.execute(files("streams").joinpath("state.sql").read_text())
    await conn.close()
    return url


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=51.0, help="length of each run")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results are written")
    asyncio.run(main(parser.parse_args()))
