"""The smallest hub that does everything: one contact of a CRM, created and then changed, written to HubSpot and Mailchimp.

Its stages are real, its state is in PostgreSQL and its log there or on Kafka, its vendors are the sandboxes in this
process. It is moved by hand, and can be killed at any point and started again, like a process.
"""

import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from connectors.hubspot.sandbox import create_app as hubspot
from connectors.kit.connector import Connector
from connectors.mailchimp.sandbox import create_app as mailchimp
from connectors.registry import CONNECTORS
from hub.config import Config
from hub.edge.embedded import Embedded
from hub.edge.wiring import read_config
from streams.capture import Capture
from streams.context import Context
from streams.deliver import Deliverer
from streams.log import open_log
from streams.queue import mark_primed
from tests.promises.points import Points, counted
from tests.stages.support import Stages, empty, make

KEY = "0123456789abcdef0123456789abcdef-us1"
TOKEN = "pat-na1-only-for-tests"
CONFIG = """
version: 1
log: embedded
state: embedded
systems:
  crm:
    connector: postgresql
    url: ${CRM_URL}
    capture: outbox
    objects:
      contacts:
        entity: contact
        table: public.contacts
        key: id
        fields: {email: email, first_name: first_name, consent: {native: [consent, consent_at], codec: consent}}
  hubspot:
    connector: hubspot
    access_token: ${HUBSPOT_TOKEN}
    base_url: http://hubspot.test
    calls_per_10_seconds: 0
    searches_per_second: 0
    index_lag_seconds: 0
    objects:
      contacts: {}
  mailchimp:
    connector: mailchimp
    api_key: ${MAILCHIMP_KEY}
    base_url: http://mailchimp.test/3.0
    list_id: a1
    objects:
      members: {}
entities:
  contact:
    match: [email]
    fields:
      email: {truth: [crm, hubspot, mailchimp]}
      first_name: latest
      last_name: latest
      phone: latest
      consent: {rule: strictest, opt_in_from: [crm, mailchimp]}
"""
TABLE = """create table contacts (id serial primary key, email text, first_name text, consent text,
consent_at timestamptz)"""
FIELDS = [
    {"tag": "FNAME", "name": "First Name", "type": "text"}, {"tag": "LNAME", "name": "Last Name", "type": "text"},
    {"tag": "PHONE", "name": "Phone", "type": "phone", "options": {"phone_format": "US"}},
]  # fmt: skip


@dataclass
class Bench:
    """What outlives a hub: the databases, the configuration, the vendors, and where each stage stands on the log."""

    config: Config
    env: dict[str, str]
    crm: asyncpg.Connection
    state: asyncpg.Pool
    base: Stages
    state_url: str
    log_url: str
    points: Points
    read: dict[tuple[str, str, int], int] = field(default_factory=dict)

    async def reset(self) -> None:
        """Everything as it was in the beginning."""
        self.points.vendors.update({
            "hubspot.test": httpx.ASGITransport(hubspot()), "mailchimp.test": httpx.ASGITransport(mailchimp(api_key=KEY)),
        })  # fmt: skip
        self.read.clear()
        await empty(self.base)
        await self.crm.execute("truncate contacts restart identity")
        if await self.crm.fetchval("select to_regclass('hub_outbox.change') is not null"):
            tables = await self.crm.fetch("select tablename from pg_tables where schemaname = 'hub_outbox'")
            names = ", ".join(f"hub_outbox.{row[0]}" for row in tables)
            await self.crm.execute(f"truncate {names}")
        await self.control("hubspot", "seed", {"token": TOKEN, "app": {"clientSecret": "only-for-tests"}})
        audience = {"id": "a1", "name": "Customers", "merge_fields": FIELDS, "members": []}
        await self.control("mailchimp", "seed", {"lists": [audience], "api_key": KEY})

    async def control(self, vendor: str, what: str, body: Any = None) -> Any:
        """Call a sandbox's control API."""
        transport = self.points.vendors[f"{vendor}.test"]
        async with httpx.AsyncClient(transport=transport, base_url="http://sandbox.test") as http:
            method = "GET" if body is None else "POST"
            return (await http.request(method, f"/_sandbox/{what}", json=body)).raise_for_status().json()


@asynccontextmanager
async def bench(server: Embedded, directory: Path, log_url: str) -> AsyncIterator[Bench]:
    """A bench on fresh databases, and on Kafka where `log_url` says so: on a broker that nobody has used."""
    mark = uuid.uuid4().hex[:10]
    crm_url, state_url = await server.create(f"crm_{mark}"), await server.create(f"hub_{mark}")
    env = {"CRM_URL": crm_url, "HUBSPOT_TOKEN": TOKEN, "MAILCHIMP_KEY": KEY}
    path = directory / "hub.yaml"
    path.write_text(CONFIG)
    crm = await asyncpg.connect(crm_url)
    await crm.execute(TABLE)
    async with asyncpg.create_pool(state_url, min_size=1, max_size=4) as pool:
        config = read_config(path, env)
        base = await make(pool, config.model, log_url)
        yield Bench(config, env, crm, pool, base, state_url, log_url, Points({}))
        await base.context.log.close()
    await crm.close()


def connectors(bench: Bench) -> dict[str, Connector]:
    """A connector for each system, as a new process makes them."""
    config = bench.config
    return {
        name: CONNECTORS[system.connector][1](name, config.resolve(name, bench.env), system.objects)
        for name, system in config.systems.items()
    }


async def _kept(_: asyncpg.Connection) -> None:
    """Nothing outlasts a transaction: what a pool would do at each return would only be more points."""


class Running:
    """A hub on a bench, as long as it lives."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.pool: asyncpg.Pool | None = None
        self.stages: Stages

    async def start(self) -> None:
        """Start; what a dead one had leased is free, for its time is over."""
        bench = self.bench
        self.pool = await asyncpg.create_pool(bench.state_url, min_size=1, max_size=6, reset=_kept)
        log = open_log(bench.log_url, self.pool)
        context = Context(bench.config.model, self.pool, log, bench.base.context.codec, connectors(bench))
        self.stages = Stages(context, read=bench.read)
        await bench.state.execute("update hub.lease set alive_until = '-infinity'")

    async def stop(self) -> None:
        """End, or be buried."""
        if self.bench.points.dead:
            self.bench.points.bury()
        assert self.pool is not None
        self.pool.terminate()
        await self.stages.context.log.close()
        for connector in self.stages.context.connectors.values():
            session = getattr(connector, "_session", None)
            if session is not None and session._pool is not None:
                session._pool.terminate()
                session._pool = None
            await connector.close()

    async def prime(self) -> None:
        """Read every system once, and begin to write."""
        await self.capture()
        async with self.bench.state.acquire() as conn:
            for system in self.bench.config.systems:
                await mark_primed(conn, system)

    async def capture(self, times: int = 1) -> None:
        """Poll every stream; once more from the beginning for each further time."""
        for n in range(times):
            if n:
                await self.stages.context.pool.execute("delete from hub.checkpoint")
            for system, connector in self.stages.context.connectors.items():
                for stream in connector.streams():
                    await Capture(self.stages.context, system, stream).step()

    async def project(self, times: int = 1) -> None:
        """Process the log; all of it again for each further time."""
        for _ in range(times):
            await self.stages.project()
            if times > 1:
                self._forget("project")

    async def plan(self, times: int = 1) -> None:
        """Plan the golden records; all of them again for each further time."""
        for _ in range(times):
            await self.stages.plan()
            if times > 1:
                self._forget("plan")

    def _forget(self, stage: str) -> None:
        for key in [key for key in self.stages.read if key[0] == stage]:
            del self.stages.read[key]

    async def hubspot(self, times: int = 1) -> None:
        """Write to HubSpot what is waiting."""
        await self._deliver("hubspot", times)

    async def mailchimp(self, times: int = 1) -> None:
        """Write to Mailchimp what is waiting."""
        await self._deliver("mailchimp", times)

    async def crm(self, times: int = 1) -> None:
        """Write to the CRM what is waiting."""
        await self._deliver("crm", times)

    async def _deliver(self, target: str, times: int) -> None:
        for _ in range(times):
            await Deliverer(self.stages.context, target).step()


@asynccontextmanager
async def opened(postgres: Embedded, directory: Path, log_url: str = "postgresql://") -> AsyncIterator[Running]:
    """A hub that has read everything, on a bench of its own."""
    async with bench(postgres, directory, log_url) as made:
        with counted(made.points):
            await made.reset()
            hub = Running(made)
            await hub.start()
            await hub.prime()
            try:
                yield hub
            finally:
                await hub.stop()


ROUND = ("capture", "project", "plan", "hubspot", "mailchimp", "crm")
SCRIPT = ("create", *ROUND, "update", *ROUND, *ROUND)
PEOPLE = {
    "create": "insert into contacts (email, first_name, consent, consent_at)"
    " values ($1, 'Ann', 'in', '2024-01-01T00:00:00Z')",
    "update": "update contacts set first_name = 'Anna' where email = $1",
}


@dataclass
class Story:
    """One person, created and changed; the hub is killed once in each action, at call `at` of it or at the first of a
    name, before and after the call took effect, and does the action again. `times`: everything is delivered so often."""

    hub: Running
    email: str
    at: int = 0
    match: str = ""
    times: int = 1
    kills: int = 0
    longest: int = 0

    async def tell(self) -> None:
        """From the beginning to the end, and on until nothing is left to do."""
        if self.at:  # the first action of a new process makes the most calls: it connects
            await self.hub.stop()
            await self.hub.start()
        for action in SCRIPT:
            await self._act(action)
        for action in ROUND * 2:
            await _due(self.hub.bench)
            await getattr(self.hub, action)()

    async def _act(self, action: str) -> None:
        if sql := PEOPLE.get(action):
            await self.hub.bench.crm.execute(sql, self.email)
            return
        for after in (False, True) if self.at or self.match else ():
            await self._killed(action, after)
        await _due(self.hub.bench)
        await getattr(self.hub, action)(self.times)

    async def _killed(self, action: str, after: bool) -> None:
        """Try an action; where the hub is killed in it, start another. What was not finished is delivered again."""
        bench, read = self.hub.bench, dict(self.hub.bench.read)
        await _due(bench)
        bench.points.aim(self.at, self.match, after)
        try:
            await getattr(self.hub, action)(self.times)
        except BaseException:
            if not bench.points.dead:
                raise
        bench.points.on = False
        self.longest = max(self.longest, len(bench.points.names))
        if bench.points.dead:
            self.kills += 1
            await self.hub.stop()
            bench.read.clear()
            bench.read.update(read)
            await self.hub.start()


async def _due(bench: Bench) -> None:
    """The time that rows were put off for is over, and that a circuit stays open."""
    await bench.state.execute("delete from hub.breaker")
    await bench.state.execute("update hub.write set due_at = now() - interval '1 second'")


async def effects(bench: Bench, email: str) -> Counter[str]:
    """The writes about one person that the vendors took, by their own journals."""
    contacts = (await bench.control("hubspot", "state"))["objects"]["contacts"]
    mine = {i for c in contacts if c["properties"]["email"] == email for i in (c["id"], c["properties"]["hub_id"])}
    members = (await bench.control("mailchimp", "state"))["lists"]["a1"]["members"]
    mine |= {i for key, m in members.items() if m["email_address"] == email for i in (key, m["contact_id"], email)}
    found: Counter[str] = Counter()
    for call in (await bench.control("hubspot", "requests"))["requests"]:
        verb = call["path"].rsplit("/", 1)[1]
        if (
            (call["status"] or 500) < 300
            and verb in ("create", "upsert", "update")
            and "/contacts/batch" in call["path"]
        ):
            found[f"hubspot {verb}"] += sum(one["id"] in mine for one in call["body"]["inputs"])
    for call in (await bench.control("mailchimp", "requests"))["requests"]:
        told = (
            call["path"].rsplit("/", 1)[1]
            if call["path"][-7:] != "members"
            else (call["body"] or {}).get("email_address")
        )
        if (call["status"] or 500) < 300 and call["method"] in ("POST", "PUT", "PATCH") and told in mine:
            found[f"mailchimp {call['method']}"] += 1
    return found


async def held(bench: Bench, email: str) -> dict[str, list[Any]]:
    """What each system holds of one person."""
    contacts = (await bench.control("hubspot", "state"))["objects"]["contacts"]
    members = (await bench.control("mailchimp", "state"))["lists"]["a1"]["members"].values()
    rows = await bench.crm.fetch("select first_name, consent from contacts where email = $1", email)
    names = ("firstname", "hub_consent", "hub_consent_at")
    return {
        "crm": [tuple(row) for row in rows],
        "hubspot": [[c["properties"].get(n) for n in names] for c in contacts if c["properties"]["email"] == email],
        "mailchimp": [[m["merge_fields"]["FNAME"], m["status"]] for m in members if m["email_address"] == email],
    }
