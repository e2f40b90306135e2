"""Real hubs for the tests of observability: processes of their own, on an embedded PostgreSQL."""

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from hub.edge.embedded import Embedded
from tests import children

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 300.0


class Process:
    """`hub <arguments>` with a web server at `url`."""

    def __init__(self, child: children.Child, url: str, log: Path) -> None:
        self.child = child
        self.url = url
        self.log = log
        self.http = httpx.AsyncClient(base_url=url, trust_env=False, timeout=20.0)

    async def ready(self) -> tuple[int, dict[str, Any]]:
        """Status and document of /readyz; status 0 while nobody answers."""
        try:
            answer = await self.http.get("/readyz")
        except httpx.HTTPError:
            return 0, {}
        document: dict[str, Any] = answer.json()
        return answer.status_code, document

    async def until_ready(self, status: int = 200) -> dict[str, Any]:
        """Wait until /readyz answers with this status."""

        last: tuple[int, dict[str, Any]] = (0, {})

        async def answered() -> dict[str, Any] | None:
            nonlocal last
            if self.child.returncode is not None:
                raise AssertionError(f"the hub ended with {self.child.returncode}: {self.log.read_text()[-3_000:]}")
            last = await self.ready()
            return last[1] if last[0] == status else None

        found: dict[str, Any] = await until(
            answered, lambda: f"{status} of /readyz, which says {last}; log: {self.log.read_text()[-2_000:]}"
        )
        return found

    async def metrics(self) -> str:
        """What /metrics says."""
        answer = await self.http.get("/metrics")
        assert answer.status_code == 200
        return answer.text

    async def stop(self) -> int:
        """Ask it to end in order; its exit code."""
        with suppress(ProcessLookupError):
            self.child.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.child.wait(), 60.0)


@asynccontextmanager
async def hub(arguments: list[str], env: Mapping[str, str], port: int, directory: Path) -> AsyncIterator[Process]:
    """Start `hub`, in this checkout, and end it with the block."""
    log = directory / f"hub-{port}.log"
    environment = {**os.environ, **env, "PYTHONPATH": str(ROOT), "HUB_PORT": str(port)}
    with log.open("w") as file:
        child = await children.start(
            sys.executable, "-m", "hub.edge", *arguments, env=environment, cwd=directory, stdout=file, stderr=file
        )
    process = Process(child, f"http://127.0.0.1:{port}", log)
    try:
        yield process
    finally:
        await process.http.aclose()
        if child.returncode is None:
            try:
                await process.stop()
            except TimeoutError:
                child.kill()
                await child.wait()


async def until(condition: Callable[[], Any], what: Callable[[], str]) -> Any:
    """Wait for something true, and return it; a test that waits in vain fails here and says for what."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                if found := await condition():
                    return found
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what()}") from None


CONFIG = """
version: 1
log: {log}
state: {state}
systems:
  crm:
    connector: postgresql
    url: ${{CRM_URL}}
    slot: crm_{suffix}
    objects:
      contacts:
        entity: contact
        table: public.contacts
        key: id
        clock: updated_at
        fields: {{email: email, first_name: first_name, phone: phone}}
  shop:
    connector: postgresql
    url: ${{SHOP_URL}}
    slot: shop_{suffix}
    objects:
      customers:
        entity: contact
        table: public.customers
        key: id
        clock: updated_at
        fields: {{email: mail, first_name: given_name, phone: phone}}
entities:
  contact:
    match: [email]
    fields:
      email: {{truth: [crm, shop]}}
      first_name: {{truth: [crm, shop]}}
      phone: latest
"""

TABLES = {
    "crm": "create table contacts (id bigint generated always as identity primary key, email text, first_name text,"
    " phone text, updated_at timestamptz not null default now())",
    "shop": "create table customers (id bigint generated always as identity primary key, mail text, given_name text,"
    " phone text, updated_at timestamptz not null default now())",
}


@dataclass(frozen=True, slots=True)
class TwoSystems:
    """Two databases that share their customers, and the configuration of a hub that keeps them in line."""

    config: Path
    env: Mapping[str, str]
    urls: Mapping[str, str]

    async def execute(self, system: str, statement: str, *values: Any) -> Any:
        """Run a statement in a system's database; the first value of the first row, if any."""
        conn = await asyncpg.connect(self.urls[system])
        try:
            return await conn.fetchval(statement, *values)
        finally:
            await conn.close()


@asynccontextmanager
async def two_systems(server: Embedded, directory: Path, log: str = "embedded") -> AsyncIterator[TwoSystems]:
    """Make both databases, empty but for their tables, and write the configuration; drop them at the end."""
    suffix = uuid.uuid4().hex[:8]
    urls = {name: await server.create(f"{name}_{suffix}") for name in TABLES}
    config = directory / "hub.yaml"
    config.write_text(CONFIG.format(log=log, state="${STATE_URL}", suffix=suffix))
    env = {"CRM_URL": urls["crm"], "SHOP_URL": urls["shop"], "STATE_URL": await server.create(f"hub_{suffix}")}
    made = TwoSystems(config, env, urls)
    for name, table in TABLES.items():
        await made.execute(name, table)
    try:
        yield made
    finally:
        with suppress(OSError):  # a test may have stopped the server for good
            await _drop(server, suffix)


async def _drop(server: Embedded, suffix: str) -> None:
    """Slots first: a database that has one cannot be dropped, and the server has few."""
    conn = await asyncpg.connect(server.url())
    try:
        await conn.execute(
            "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name like '%' || $1", suffix
        )
        await conn.execute(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name like '%' || $1",
            suffix,
        )
        for name in (*TABLES, "hub"):
            await conn.execute(f"drop database {name}_{suffix} with (force)")
    finally:
        await conn.close()
