"""Demo: the hub's main job for real, on a seeded CRM, a HubSpot and a Mailchimp, until nothing is left to do; then live
edits in each of the three, and how long each took to arrive in the other two."""

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from connectors.kit.serving import free_port
from hub.edge import embedded, inquiry, kafka_local, running, sandboxes
from hub.edge.demo.data import World, load_crm, world
from hub.edge.wiring import Hub, open_hub, read_config
from streams.ledger import Idle, balance

DIRECTORY = Path(".hub/demo")
ARRIVAL_SECONDS = 60.0
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How to run: which log ("embedded", "kafka" for a local broker, or an address), how large a world, where."""

    log: str = "embedded"
    seed: int = 7
    scale: float = 1.0
    directory: Path = DIRECTORY


@dataclass(slots=True)
class Edit:
    """A live edit, and after how many seconds it was seen in each of the other systems (None: it did not arrive)."""

    system: str
    what: str
    arrived: dict[str, float | None] = field(default_factory=dict)


@dataclass(slots=True)
class Report:
    """What the demo did; times in seconds."""

    log: str
    seconds_to_idle: float = 0.0
    captured: dict[str, int] = field(default_factory=dict)
    golden: dict[str, int] = field(default_factory=dict)
    links: int = 0
    merged: int = 0
    conflicts: int = 0
    writes: dict[str, dict[str, int]] = field(default_factory=dict)
    ledger: dict[str, Any] = field(default_factory=dict)
    edits: list[Edit] = field(default_factory=list)
    why: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the ledger balances and every edit arrived everywhere."""
        arrived = all(seconds is not None for edit in self.edits for seconds in edit.arrived.values())
        return self.ledger.get("unaccounted") == 0 and arrived

    def to_json(self) -> dict[str, Any]:
        """The report as JSON data."""
        return {"ok": self.ok, **asdict(self)}


@dataclass(slots=True)
class Stage:
    """The three systems of the demo, running, and the environment that a hub finds them by."""

    world: World
    crm_url: str
    hubspot_url: str
    mailchimp_url: str
    env: dict[str, str]


@asynccontextmanager
async def stage(options: Options, server: embedded.Embedded) -> AsyncIterator[Stage]:
    """Fill a CRM, start and seed the sandboxes; all of it ends with the block."""
    made = world(options.seed, options.scale, datetime.now(UTC))
    crm_url = await server.create("crm")
    conn = await asyncpg.connect(crm_url)
    try:
        await load_crm(conn, made)
    finally:
        await conn.close()
    async with sandboxes.process("hubspot") as hubspot, sandboxes.process("mailchimp") as mailchimp:
        env = environment(crm_url, hubspot, mailchimp, port=free_port())
        app = {"clientSecret": env["HUBSPOT_SECRET"]}
        await sandboxes.control(hubspot, "seed", {**made.hubspot, "token": env["HUBSPOT_TOKEN"], "app": app})
        await sandboxes.control(mailchimp, "seed", {**made.mailchimp, "api_key": env["MAILCHIMP_KEY"]})
        yield Stage(made, crm_url, hubspot, mailchimp, env)


def environment(crm_url: str, hubspot: str, mailchimp: str, port: int) -> dict[str, str]:
    """The variables that hub.yaml names, with fresh secrets; the hub listens on `port`."""
    return {
        **os.environ,
        "CRM_URL": crm_url,
        "HUBSPOT_URL": hubspot,
        "HUBSPOT_TOKEN": secrets.token_hex(16),
        "HUBSPOT_SECRET": secrets.token_hex(16),
        "MAILCHIMP_URL": mailchimp,
        "MAILCHIMP_KEY": f"{secrets.token_hex(16)}-us1",
        "MAILCHIMP_WEBHOOK_SECRET": secrets.token_hex(16),
        "MAILCHIMP_WEBHOOK_URL": f"http://127.0.0.1:{port}/webhooks/mailchimp",
        "HUB_PORT": str(port),
    }


@asynccontextmanager
async def _log(options: Options) -> AsyncIterator[str]:
    """The log's address; a local broker for "kafka"."""
    if options.log != "kafka":
        yield options.log
        return
    directory = options.directory / "kafka"
    broker = await asyncio.to_thread(kafka_local.up, directory, 0)
    try:
        yield broker.url
    finally:
        await asyncio.to_thread(kafka_local.down, directory)


async def run(
    options: Options,
    tell: Tell = lambda _: None,
    left: Callable[[Idle], None] = lambda _: None,
    then: Callable[[Hub, Stage, str], Awaitable[None]] | None = None,
) -> Report:
    """Run the demo; `tell` hears what happens, `left` what is still to do, `then` may stay for exploring."""
    await asyncio.to_thread(_wipe, options.directory)
    report = Report(log=options.log)
    server = await embedded.start_async(options.directory / "pg")
    try:
        tell("a CRM on PostgreSQL, a HubSpot and a Mailchimp sandbox, each with its own version of the customers")
        async with stage(options, server) as systems, _log(options) as log, _hub(systems, log, options) as hub:
            await _main_job(hub, systems, report, tell, left, then)
    finally:
        server.leave()
    return report


def _wipe(directory: Path) -> None:
    """Begin anew, also after a demo that was killed and left its server behind."""
    if (directory / "pg" / "postmaster.pid").exists():
        with suppress(RuntimeError):
            embedded.start(directory / "pg").stop()
    shutil.rmtree(directory, ignore_errors=True)


@asynccontextmanager
async def _hub(systems: Stage, log: str, options: Options) -> AsyncIterator[Hub]:
    with as_file(files("hub.edge.demo").joinpath("hub.yaml")) as path:
        config = read_config(path, systems.env)
    config = replace(config, log=log)
    async with open_hub(config, data_dir=options.directory / "pg", env=systems.env) as hub:
        yield hub


async def _main_job(
    hub: Hub,
    systems: Stage,
    report: Report,
    tell: Tell,
    left: Callable[[Idle], None],
    then: Callable[[Hub, Stage, str], Awaitable[None]] | None,
) -> None:
    began = time.monotonic()
    async with running.started(hub, port=int(systems.env["HUB_PORT"])) as started:
        await _webhooks(systems, started.url)
        tell("the hub captures, resolves, folds, projects and writes until nothing is left to do")
        await running.until_idle(hub, tell=left)
        report.seconds_to_idle = time.monotonic() - began
        tell("live edits, one in each system")
        report.edits = await edits(hub, systems)
        await running.until_idle(hub, tell=left)
        await _count(hub, report)
        if then is not None:
            await then(hub, systems, started.url)


async def _webhooks(systems: Stage, url: str) -> None:
    """HubSpot's webhooks are set up in its app; Mailchimp's are registered by the connector."""
    hubspot = {"url": f"{url}/webhooks/hubspot", "secret": systems.env["HUBSPOT_SECRET"]}
    await sandboxes.control(systems.hubspot_url, "webhooks", hubspot)


@dataclass(frozen=True, slots=True)
class Person:
    """Someone whom all three systems know: her id in each."""

    golden_id: str
    crm: int
    hubspot: str
    email: str


async def edits(hub: Hub, systems: Stage) -> list[Edit]:
    """Edit a person in each system in turn, and watch the other two."""
    people = await _known_everywhere(hub)
    async with httpx.AsyncClient(timeout=10.0) as client:
        watch = Watch(systems, client)
        return [
            await _crm_edit(watch, people[0]),
            await _hubspot_edit(watch, people[1]),
            await _unsubscribe(watch, people[2]),
        ]


async def _known_everywhere(hub: Hub) -> list[Person]:
    """Opted-in people with exactly one record in each system."""
    rows = await hub.context.pool.fetch(
        "select golden_id, max(external_id) filter (where system = 'crm')::int as crm,"
        " max(external_id) filter (where system = 'hubspot') as hubspot, g.fields -> 'email' ->> 0 as email"
        " from hub.record r join hub.golden g using (golden_id) where g.entity = 'contact' and not r.gone"
        " and not exists (select from hub.write w where w.golden_id = g.golden_id)"
        " and not g.deleted and g.fields -> 'consent' -> 0 ->> 'status' = 'in' and system <> 'hub'"
        " group by golden_id, g.fields having count(*) = 3 and count(distinct system) = 3 order by golden_id limit 3"
    )
    if len(rows) < 3:
        raise RuntimeError("fewer than three people are in all three systems")
    return [Person(*row.values()) for row in rows]


async def _crm_edit(watch: "Watch", person: Person) -> Edit:
    name = "Wilhelmina"
    await watch.crm("update contacts set first_name = $2 where id = $1", person.crm, name)
    return Edit(
        "crm",
        f"first name of contact {person.crm} becomes {name}, by SQL",
        await watch.arrival(
            hubspot=lambda: watch.hubspot(person, "firstname", name),
            mailchimp=lambda: watch.member(person, lambda m: m["merge_fields"]["FNAME"] == name),
        ),
    )


async def _hubspot_edit(watch: "Watch", person: Person) -> Edit:
    phone = "+14155550142"
    edit = {"object": "contacts", "id": person.hubspot, "properties": {"phone": "(415) 555-0142"}}
    await sandboxes.control(watch.systems.hubspot_url, "edit", edit)
    return Edit(
        "hubspot",
        f"phone of contact {person.hubspot} becomes (415) 555-0142, told by a signed webhook",
        await watch.arrival(
            crm=lambda: watch.row(person, "phone", phone),
            mailchimp=lambda: watch.member(person, lambda m: _digits(m["merge_fields"]["PHONE"]).endswith(_digits(phone)[1:])),
        ),
    )  # fmt: skip


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


async def _unsubscribe(watch: "Watch", person: Person) -> Edit:
    list_id = watch.systems.world.mailchimp["lists"][0]["id"]
    edit = {"list": list_id, "email": person.email, "action": "unsubscribe"}
    await sandboxes.control(watch.systems.mailchimp_url, "edit", edit)
    return Edit(
        "mailchimp",
        f"{person.email} unsubscribes",
        await watch.arrival(
            crm=lambda: watch.row(person, "email_consent", "out"),
            hubspot=lambda: watch.hubspot(person, "hub_consent", "out"),
        ),
    )


@dataclass(slots=True)
class Watch:
    """Looks into the systems directly, not by way of the hub."""

    systems: Stage
    client: httpx.AsyncClient

    async def crm(self, sql: str, *args: Any) -> Any:
        """One statement on the CRM; the first value of its first row."""
        conn = await asyncpg.connect(self.systems.crm_url)
        try:
            return await conn.fetchval(sql, *args)
        finally:
            await conn.close()

    async def row(self, person: Person, column: str, value: str) -> bool:
        """Whether the CRM's contact has this value."""
        return bool(await self.crm(f'select "{column}" from contacts where id = $1', person.crm) == value)  # noqa: S608

    async def hubspot(self, person: Person, name: str, value: str) -> bool:
        """Whether HubSpot's contact has this value."""
        answer = await self.client.get(
            f"{self.systems.hubspot_url}/crm/v3/objects/contacts/{person.hubspot}",
            params={"properties": name},
            headers={"Authorization": f"Bearer {self.systems.env['HUBSPOT_TOKEN']}"},
        )
        return bool(answer.json()["properties"].get(name) == value)

    async def member(self, person: Person, holds: Callable[[dict[str, Any]], bool]) -> bool:
        """Whether Mailchimp's member is as expected."""
        list_id = self.systems.world.mailchimp["lists"][0]["id"]
        answer = await self.client.get(
            f"{self.systems.mailchimp_url}/3.0/lists/{list_id}/members/{person.email}",
            auth=("any", self.systems.env["MAILCHIMP_KEY"]),
        )
        return answer.status_code == 200 and holds(answer.json())

    async def arrival(self, **looks: Callable[[], Awaitable[bool]]) -> dict[str, float | None]:
        """Seconds until each look succeeds, from now on; None for one that does not in time."""
        began = time.monotonic()

        async def until(look: Callable[[], Awaitable[bool]]) -> float | None:
            while not await look():
                if time.monotonic() - began > ARRIVAL_SECONDS:
                    return None
                await asyncio.sleep(0.02)
            return round(time.monotonic() - began, 3)

        return dict(zip(looks, await asyncio.gather(*map(until, looks.values())), strict=True))


async def _count(hub: Hub, report: Report) -> None:
    """Fill the report from the hub's own state."""
    pool = hub.context.pool
    rows = await pool.fetch("select system, count(*) as n from hub.event group by 1 order by 1")
    report.captured = {r["system"]: r["n"] for r in rows}
    rows = await pool.fetch(
        "select entity, count(*) as n from hub.golden where merged_into is null group by 1 order by 1"
    )
    report.golden = {r["entity"]: r["n"] for r in rows}
    report.links = await pool.fetchval("select count(*) from hub.record")
    report.merged = await pool.fetchval("select count(*) from hub.golden where merged_into is not null")
    report.conflicts = await pool.fetchval("select count(*) from hub.conflict")
    ledger = await balance(hub.context)
    report.writes = ledger.targets
    names = ("captured", "events", "duplicates", "parked", "waiting", "unaccounted")
    report.ledger = {name: getattr(ledger, name) for name in names}
    report.why = await _contested(hub)


async def _contested(hub: Hub) -> dict[str, Any]:
    """*Why* for the most contested contact field; a telephone number or a title where there is one."""
    row = await hub.context.pool.fetchrow(
        "select golden_id, field from hub.conflict where entity = 'contact' and golden_id in (select golden_id from hub.golden)"
        " group by 1, 2 order by field in ('phone', 'job_title') desc, count(*) desc, 1, 2 limit 1"
    )
    return await inquiry.why(hub.context, "contact", row["golden_id"], row["field"]) if row else {}
