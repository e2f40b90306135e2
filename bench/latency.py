"""How long an edit takes from the CRM's commit to the request at its target, at 1, 2 and 4 times a load.

    python -m bench.latency [--rate 500] [--times 1 2 4] [--seconds 20] [--people 5000] [--full]

A hub as people run it (`hub run`, all stages in one process, the embedded log) between a CRM in PostgreSQL and HubSpot's
sandbox, each in a process of its own, the CRM on the embedded server too. People who are in both are edited one row and one
commit at a time, at an even rate. Counted is from when the commit was answered until the request that carries the edit, or
a later one of the same person, arrived at the sandbox. An edit that was overtaken by the next one of its person before it
was sent counts as carried by that. `reached`: edits a second that the CRM took. Beside it the CPU of hub and PostgreSQL (the
CRM's own included): seconds a second while edits were made, and milliseconds an edit until all had arrived.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random
from statistics import quantiles
from typing import Any

import asyncpg
import httpx
import psutil
from rich.console import Console
from rich.table import Table

from bench.machine import cpu_of, described, server_of
from connectors.kit.serving import free_port
from hub.edge import embedded, sandboxes
from hub.edge.demo.run import environment

RESULTS = Path(__file__).parent / "results" / "latency.json"
WRITERS = 8
SETTLE_SECONDS = 60.0
CONFIG = """
version: 1
log: embedded
state: "{state}"
systems:
  crm:
    connector: postgresql
    url: ${{CRM_URL}}
    objects:
      contacts:
        entity: contact
        table: public.contacts
        key: id
        fields: {{email: email, first_name: first_name, last_name: last_name, phone: phone, job_title: job_title}}
  hubspot:
    connector: hubspot
    access_token: ${{HUBSPOT_TOKEN}}
    base_url: ${{HUBSPOT_URL}}
    calls_per_10_seconds: 0
    searches_per_second: 0
    index_lag_seconds: 1
    objects:
      contacts: {{}}
entities:
  contact:
    match: [email]
    merge: auto
    fields:
      email: {{truth: [crm, hubspot]}}
      first_name: {{truth: [crm, hubspot]}}
      last_name: {{truth: [crm, hubspot]}}
      phone: {{truth: [crm, hubspot]}}
      job_title: {{truth: [crm, hubspot]}}
"""
TABLE = (
    "create table contacts (id bigint primary key, email text, first_name text, last_name text, phone text,"
    " job_title text); alter table contacts replica identity full;"
)


@dataclass
class Scene:
    """The systems at work."""

    crm_url: str
    hubspot: str
    state_url: str
    hub: psutil.Process
    server: psutil.Process


@dataclass
class Load:
    """Edits under way: of each person, in order, (number, time of the commit in seconds since 1970)."""

    made: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many edits were made."""
        return sum(map(len, self.made.values()))


def person(number: int) -> dict[str, str]:
    """What both systems hold of a person at the beginning."""
    return {
        "email": f"person{number}@example.com", "first_name": f"First{number}", "last_name": f"Last{number}",
        "phone": f"+1415{2_000_000 + number}", "job_title": "edit 0",
    }  # fmt: skip


def seed(people: int, token: str) -> dict[str, Any]:
    """The sandbox's first contents."""
    names = {"first_name": "firstname", "last_name": "lastname", "job_title": "jobtitle"}
    at = "2026-01-01T00:00:00.000Z"
    contacts = [
        {"id": str(number), "properties": {names.get(k, k): v for k, v in person(number).items()},
         "createdAt": at, "updatedAt": at}
        for number in range(1, people + 1)
    ]  # fmt: skip
    return {"token": token, "contacts": contacts}


async def fill(crm_url: str, people: int) -> None:
    """The CRM's first contents."""
    conn = await asyncpg.connect(crm_url)
    await conn.execute(TABLE)
    rows = [(number, *person(number).values()) for number in range(1, people + 1)]
    await conn.copy_records_to_table("contacts", records=rows)
    await conn.close()


@asynccontextmanager
async def scene(server: embedded.Embedded, directory: Path, people: int) -> AsyncIterator[Scene]:
    """CRM, sandbox and a hub that has read both; all of it ends with the block."""
    crm_url, state_url = await server.create("crm"), await server.create("hub")
    await fill(crm_url, people)
    async with sandboxes.process("hubspot") as hubspot:
        env = environment(crm_url, hubspot, hubspot, port=free_port())
        await sandboxes.control(hubspot, "seed", seed(people, env["HUBSPOT_TOKEN"]))
        config = directory / "hub.yaml"
        config.write_text(CONFIG.format(state=state_url))
        command = ("-m", "hub.edge", "run", "--config", str(config), "--port", env["HUB_PORT"])
        child = await asyncio.create_subprocess_exec(sys.executable, *command, env=env)
        try:
            await primed(state_url, child)
            yield Scene(crm_url, hubspot, state_url, psutil.Process(child.pid), server_of(server))
        finally:
            if child.returncode is None:
                child.terminate()
            await child.wait()


async def primed(state_url: str, child: asyncio.subprocess.Process) -> None:
    """Return when the hub has read both systems and nothing is left to write. Raises SystemExit when it ends."""
    conn = await asyncpg.connect(state_url)
    while True:
        if child.returncode is not None:
            raise SystemExit("the hub ended; what it said stands above")
        known = await conn.fetchval("select to_regclass('hub.counter') is not null")
        if known and await conn.fetchval("select count(*) from hub.counter where name = 'primed'") == 2:
            break
        await asyncio.sleep(0.2)
    while await conn.fetchval("select exists (select from hub.write)"):  # noqa: ASYNC110 - another process works
        await asyncio.sleep(0.2)
    await conn.close()
    await asyncio.sleep(3.0)


async def edit(found: Scene, load: Load, rate: float, seconds: float, people: int, first: int) -> None:
    """Make edits at an even rate for a while, the first of number `first`."""
    numbers = iter(range(first, first + round(rate * seconds)))
    random, began = Random(first), time.perf_counter()
    async with asyncpg.create_pool(found.crm_url, min_size=WRITERS, max_size=WRITERS) as pool:
        await asyncio.gather(
            *(
                _writer(pool, load, numbers, first, rate, began, random, range(n, people + 1, WRITERS))
                for n in range(1, WRITERS + 1)
            )
        )


async def _writer(
    pool: asyncpg.Pool, load: Load, numbers: Iterator[int], first: int, rate: float, began: float, random: Random, people: range
) -> None:  # fmt: skip
    """People of its own, so that the last number of each is what the CRM holds in the end."""
    async with pool.acquire() as conn:
        for number in numbers:
            wait = began + (number - first) / rate - time.perf_counter()
            await asyncio.sleep(max(0.0, wait))
            who = random.choice(people)
            await conn.execute("update contacts set job_title = $2 where id = $1", who, f"edit {number}")
            load.made.setdefault(str(who), []).append((number, time.time()))


async def requests(hubspot: str, since: int) -> tuple[int, list[dict[str, Any]]]:
    """The sandbox's journal behind a call."""
    async with httpx.AsyncClient(timeout=120) as http:
        answer = await http.get(f"{hubspot}/_sandbox/requests", params={"since": since})
    body = answer.raise_for_status().json()
    return body["last"], body["requests"]


def arrivals(calls: Sequence[dict[str, Any]]) -> Iterator[tuple[str, int, float]]:
    """(person, number of the edit, time) of every edit that a request carried, in order of arrival."""
    for call in sorted(calls, key=lambda call: call["at"]):
        if call["path"].endswith(("/batch/update", "/batch/upsert")):
            at = datetime.fromisoformat(call["at"]).timestamp()
            for one in (call["body"] or {}).get("inputs", ()):
                if said := one["properties"].get("jobtitle"):
                    yield one["id"], int(said.split()[1]), at


def waits(load: Load, calls: Sequence[dict[str, Any]]) -> list[tuple[float, float]]:
    """(time of the commit, seconds until it arrived) of every edit that has arrived."""
    found = []
    left = {who: sorted(made) for who, made in load.made.items()}
    for who, number, at in arrivals(calls):
        mine = left.get(who, [])
        while mine and mine[0][0] <= number:
            found.append((mine[0][1], at - mine[0][1]))
            mine.pop(0)
    return sorted(found)


async def settled(found: Scene, load: Load, since: int) -> list[tuple[float, float]]:
    """Every edit's wait, once all have arrived or a minute is over."""
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        _, calls = await requests(found.hubspot, since)
        took = waits(load, calls)
        if len(took) >= load.count or time.monotonic() > end:
            return took
        await asyncio.sleep(1.0)


async def measured(found: Scene, rate: float, options: argparse.Namespace, first: int) -> dict[str, Any]:
    """One load: what it took."""
    since, _ = await requests(found.hubspot, 0)
    load, began, before = Load(), time.time(), (cpu_of(found.hub), cpu_of(found.server))
    await edit(found, load, rate, options.seconds, options.people, first)
    ended, after = time.time(), (cpu_of(found.hub), cpu_of(found.server))
    took = await settled(found, load, since)
    part, over = max(1, len(took) // 4), (cpu_of(found.hub), cpu_of(found.server))
    cuts = cut(took)
    return {
        "rate": rate, "reached": round(load.count / (ended - began)), "edits": load.count, "arrived": len(took), **cuts,
        "p50_first_quarter": cut(took[:part])["p50"], "p50_last_quarter": cut(took[-part:])["p50"],
        "cpu_hub": round((after[0] - before[0]) / (ended - began), 2),
        "cpu_postgresql": round((after[1] - before[1]) / (ended - began), 2),
        "cpu_hub_an_edit": round((over[0] - before[0]) * 1_000 / load.count, 2),
        "cpu_postgresql_an_edit": round((over[1] - before[1]) * 1_000 / load.count, 2),
    }  # fmt: skip


def cut(took: Sequence[tuple[float, float]]) -> dict[str, int]:
    """Milliseconds."""
    cuts = quantiles([seconds * 1_000 for _, seconds in took], n=100) if len(took) > 1 else [0.0] * 99
    return {"p50": round(cuts[49]), "p95": round(cuts[94]), "p99": round(cuts[98])}


def print_table(results: Sequence[dict[str, Any]]) -> None:
    """Milliseconds, by load."""
    table = Table(*results[0], title="From the CRM's commit to the request at HubSpot, milliseconds")
    for one in results:
        table.add_row(*map(str, one.values()))
    Console(width=160).print(table)


async def main(options: argparse.Namespace) -> None:
    """Start everything, measure load after load, print and keep the figures."""
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="hub-bench-", ignore_cleanup_errors=True) as directory:
        server = await embedded.start_async(Path(directory) / "pg")
        try:
            async with scene(server, Path(directory), options.people) as found:
                first = 1
                await edit(found, Load(), options.rate / 2, 3.0, options.people, first)  # warm up
                for times in options.times:
                    first += 1_000_000
                    await asyncio.sleep(3.0)
                    results.append(await measured(found, options.rate * times, options, first))
                    print_table(results)
                    options.json.parent.mkdir(parents=True, exist_ok=True)
                    options.json.write_text(json.dumps(described() | {"results": results}, indent=2) + "\n")
        finally:
            server.leave()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=500.0, help="edits a second at one time the load")
    parser.add_argument("--times", type=float, nargs="+", default=[1, 2, 4], help="times of that load")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each load lasts")
    parser.add_argument("--people", type=int, default=5_000, help="records in each system")
    parser.add_argument("--full", action="store_true", help="a minute for each load, 20,000 people")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results are written")
    given = parser.parse_args()
    if given.full:
        given.seconds, given.people = 60.0, 20_000
    asyncio.run(main(given))
