"""A CRM, a HubSpot and a Mailchimp for end-to-end tests, a hub on them, and what the oracle says of how they end."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from connectors.kit.serving import free_port
from hub.edge import running, sandboxes
from hub.edge.demo.data import World, load_crm, world
from hub.edge.demo.run import environment
from hub.edge.embedded import Embedded
from hub.edge.running import Running
from hub.edge.wiring import Hub, open_hub, read_config
from streams.ledger import Ledger, balance
from tests import children, oracle, oracle_judge
from tests.oracle import Edit, Thing

LONG = os.environ.get("HUB_LONG") == "1"
IDLE_SECONDS = 600.0


@dataclass
class Systems:
    """The three systems, the environment and configuration of a hub on them, and every edit made since the beginning."""

    world: World
    crm_url: str
    hubspot: str
    mailchimp: str
    env: dict[str, str]
    config: Path
    state_url: str
    friends: list["Friend"]
    edits: list[Edit] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Where the hub's webhooks are expected."""
        return int(self.env["HUB_PORT"])

    @property
    def list_id(self) -> str:
        """Mailchimp's audience."""
        return str(self.world.mailchimp["lists"][0]["id"])

    async def webhooks(self, **mode: Any) -> None:
        """Aim HubSpot's webhooks at the hub; Mailchimp's are registered by the connector, and get the same mode."""
        url = f"http://127.0.0.1:{self.port}/webhooks/hubspot"
        settings = {"url": url, "secret": self.env["HUBSPOT_SECRET"], "mode": mode}
        await sandboxes.control(self.hubspot, "webhooks", settings)

    async def crm(self, sql: str, *args: Any) -> Any:
        """One statement on the CRM; the first value of its first row."""
        conn = await asyncpg.connect(self.crm_url)
        try:
            return await conn.fetchval(sql, *args)
        finally:
            await conn.close()

    async def script(self, sql: str) -> None:
        """Several statements on the CRM."""
        conn = await asyncpg.connect(self.crm_url)
        try:
            await conn.execute(sql)
        finally:
            await conn.close()

    async def now_held(self) -> World:
        """What the systems hold now."""
        conn = await asyncpg.connect(self.crm_url)
        try:
            return await oracle_judge.contents(conn, self.hubspot, self.mailchimp, self.env["MAILCHIMP_KEY"])
        finally:
            await conn.close()

    def expected(self) -> list[Thing]:
        """What the golden records must be, by the oracle."""
        return oracle.expected(self.world, self.edits)

    async def problems(self) -> list[str]:
        """What is wrong with the systems' contents, in words."""
        return oracle_judge.judge(self.expected(), await self.now_held())

    # Edits as people make them, each noted for the oracle.

    def note(
        self,
        system: str,
        object_: str,
        id_: str,
        fields: dict[str, Any] | None,
        of: oracle.Key | None = None,
        at: datetime | None = None,
    ) -> None:
        """Tell the oracle of an edit, made just now or at this moment."""
        self.edits.append(Edit(system, object_, id_, at or datetime.now(UTC), fields, of))

    async def crm_edit(self, table: str, id_: int, **columns: Any) -> None:
        """Update a row of the CRM."""
        sets = ", ".join(f"{name} = ${place}" for place, name in enumerate(columns, start=2))
        await self.crm(f"update {table} set {sets} where id = $1", id_, *columns.values())
        self.note("crm", table, str(id_), columns)

    async def crm_insert(self, table: str, **columns: Any) -> int:
        """Insert a row into the CRM; its id."""
        values = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
        id_ = await self.crm(
            f"insert into {table} ({', '.join(columns)}) values ({values}) returning id", *columns.values()
        )
        empty = dict.fromkeys(oracle.MAPS["crm", table][1].values())
        self.note("crm", table, str(id_), empty | columns)
        return int(id_)

    async def crm_delete(self, table: str, id_: int) -> None:
        """Delete a row of the CRM that none refers to."""
        await self.crm(f"delete from {table} where id = $1", id_)
        self.note("crm", table, str(id_), None)

    async def hubspot_edit(self, object_: str, id_: str, **properties: str) -> None:
        """Edit a record in HubSpot's user interface."""
        await sandboxes.control(self.hubspot, "edit", {"object": object_, "id": id_, "properties": properties})
        self.note("hubspot", object_, id_, {name: value or None for name, value in properties.items()})

    async def hubspot_create(self, object_: str, **properties: str) -> str:
        """Create a record in HubSpot's user interface; its id."""
        edit = {"object": object_, "action": "create", "properties": properties}
        id_ = str((await sandboxes.control(self.hubspot, "edit", edit))["id"])
        empty = dict.fromkeys(n for n in oracle.MAPS["hubspot", object_][1].values() if not n.startswith("@"))
        self.note("hubspot", object_, id_, empty | properties)
        return id_

    async def hubspot_archive(self, object_: str, id_: str) -> None:
        """Delete a record in HubSpot's user interface."""
        await sandboxes.control(self.hubspot, "edit", {"object": object_, "id": id_, "action": "archive"})
        self.note("hubspot", object_, id_, None)

    async def mailchimp_edit(self, email: str, action: str, fields: dict[str, Any] | None, **more: Any) -> None:
        """An edit by a subscriber or in the audience; `fields` is what it means to the oracle."""
        await sandboxes.control(
            self.mailchimp, "edit", {"list": self.list_id, "email": email, "action": action, **more}
        )
        self.note("mailchimp", "members", email.lower(), fields)

    async def faults(self, vendor: str, *faults: dict[str, Any]) -> None:
        """Arm faults in one sandbox ("hubspot" or "mailchimp"); without any, clear them."""
        url = getattr(self, vendor)
        if faults:
            await sandboxes.control(url, "faults", list(faults))
            return
        async with httpx.AsyncClient(timeout=30) as http:
            (await http.delete(f"{url}/_sandbox/faults")).raise_for_status()

    async def read_once(self) -> None:
        """Return when the hub has read every system completely, and begins to write."""

        async def primed() -> bool:
            with suppress(OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError):
                conn = await asyncpg.connect(self.state_url)
                try:
                    there = await conn.fetchval("select to_regclass('hub.counter') is not null")
                    return there and await conn.fetchval("select count(*) from hub.counter where name = 'primed'") == 3
                finally:
                    await conn.close()
            return False

        await eventually(primed, 600.0)

    async def untold(self) -> int:
        """How many webhooks are on their way."""
        async with httpx.AsyncClient(timeout=30) as http:
            answers = [await http.get(f"{url}/_sandbox/webhooks") for url in (self.hubspot, self.mailchimp)]
        return sum(int(answer.raise_for_status().json()["pending"]) for answer in answers)

    async def calls(self, vendor: str, since: int = 0) -> tuple[int, list[dict[str, Any]]]:
        """The vendor calls after number `since`, and the last number."""
        async with httpx.AsyncClient(timeout=60) as http:
            answer = await http.get(f"{getattr(self, vendor)}/_sandbox/requests", params={"since": since})
            body = answer.raise_for_status().json()
        return body["last"], body["requests"]


@dataclass(frozen=True)
class Friend:
    """Someone with one clean record in each of the three systems, opted in, to whom nothing else refers."""

    crm: int
    hubspot: str
    email: str


def befriend(made: World, count: int, now: datetime) -> list[Friend]:
    """Add such people to a world that is not loaded yet."""
    then = now - timedelta(days=30)
    friends = []
    for number in range(count):
        friend = Friend(900_001 + number, str(7_900_001 + number), f"friend{number}@friends.example")
        name, phone = f"Friend{number}", f"+1415555{number + 1000:04d}"
        row = {"email": friend.email, "first_name": name, "last_name": "Amis", "phone": phone, "email_consent": "in"}
        dates = {"consent_at": then, "created_at": then, "updated_at": then}
        made.crm["contacts"].append(dict.fromkeys(made.crm["contacts"][0]) | {"id": friend.crm} | row | dates)
        properties = {"email": friend.email, "firstname": name, "lastname": "Amis", "phone": phone}
        at = {"createdAt": then.isoformat(), "updatedAt": (then + timedelta(minutes=1)).isoformat()}
        made.hubspot["contacts"].append({"id": friend.hubspot, "properties": properties, **at})
        opted = (then - timedelta(days=1)).isoformat(timespec="seconds")
        made.mailchimp["lists"][0]["members"].append(
            {"email_address": friend.email, "status": "subscribed", "merge_fields": {"FNAME": name, "LNAME": "Amis"},
             "tags": [], "timestamp_opt": opted, "last_changed": (then - timedelta(minutes=1)).isoformat(timespec="seconds")}
        )  # fmt: skip
        friends.append(friend)
    return friends


def configuration(state: str, log: str, rules: Mapping[str, str], **settings: Mapping[str, Any]) -> str:
    """The demo's configuration on this state database and log. `rules` take the place of other text; `settings` are added
    to the systems of those names."""
    text = files("hub.edge.demo").joinpath("hub.yaml").read_text()
    text = text.replace("log: embedded", f'log: "{log}"').replace("state: embedded", f'state: "{state}"')
    for old, new in rules.items():
        assert old in text, old
        text = text.replace(old, new)
    for connector, added in settings.items():
        lines = "".join(f"\n    {name}: {value}" for name, value in added.items())
        text = text.replace(f"connector: {connector}\n", f"connector: {connector}{lines}\n")
    return text


SWEEPING = {"mailchimp": {"sweep_hours": 0.000_001}}
"""A tag moves no clock of the vendor's: what is tagged long after its last change is found where everything is read again."""


@asynccontextmanager
async def systems_on(
    server: Embedded,
    directory: Path,
    scale: float = 0.05,
    log: str = "embedded",
    seed: int = 7,
    friends: int = 12,
    now: datetime | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    rules: Mapping[str, str] | None = None,
    sandbox: Any = partial(sandboxes.process, start=children.start),
) -> AsyncIterator[Systems]:
    """Three systems with their first contents, on fresh databases; `sandbox` opens one by its name and yields its URL."""
    mark = uuid.uuid4().hex[:10]
    made = world(seed, scale, now or datetime.now(UTC))
    known = befriend(made, friends, now or datetime.now(UTC))
    crm_url, state_url = await server.create(f"crm_{mark}"), await server.create(f"hub_{mark}")
    conn = await asyncpg.connect(crm_url)
    await load_crm(conn, made)
    await conn.close()
    config = directory / f"hub-{mark}.yaml"
    config.write_text(configuration(state_url, log, rules or {}, **SWEEPING | (settings or {})))
    try:
        async with sandbox("hubspot") as hubspot, sandbox("mailchimp") as mailchimp:
            env = environment(crm_url, hubspot, mailchimp, port=free_port())
            app = {"clientSecret": env["HUBSPOT_SECRET"]}
            await sandboxes.control(hubspot, "seed", {**made.hubspot, "token": env["HUBSPOT_TOKEN"], "app": app})
            await sandboxes.control(mailchimp, "seed", {**made.mailchimp, "api_key": env["MAILCHIMP_KEY"]})
            systems = Systems(made, crm_url, hubspot, mailchimp, env, config, state_url, known)
            await systems.webhooks()
            yield systems
    finally:
        await _drop(server, f"crm_{mark}", f"hub_{mark}")


async def _drop(server: Embedded, *databases: str) -> None:
    """Remove databases with their replication slots, of which a server has few."""
    conn = await asyncpg.connect(server.url())
    try:
        for name in databases:
            await conn.execute(
                "select pg_terminate_backend(active_pid) from pg_replication_slots where database = $1 and active", name
            )
            for _ in range(50):
                with suppress(asyncpg.ObjectInUseError):
                    await conn.execute(f"drop database {name} with (force)")
                    break
                await asyncio.sleep(0.1)
    finally:
        await conn.close()


@asynccontextmanager
async def hub_on(systems: Systems, *, web: bool = True) -> AsyncIterator[tuple[Hub, Running]]:
    """A running hub, all stages in this process."""
    config = read_config(systems.config, systems.env)
    async with (
        open_hub(config, env=systems.env) as hub,
        running.started(hub, port=systems.port if web else None) as started,
    ):
        yield hub, started


async def settled(hub: Hub, systems: Systems, seconds: float = IDLE_SECONDS) -> Ledger:
    """Run until idle, and no vendor has anything left to tell; the ledger, which must balance with nothing on its way."""
    async with asyncio.timeout(seconds):
        while True:
            await running.until_idle(hub, seconds)
            ledger = await balance(hub.context)
            assert (ledger.unaccounted, ledger.parked) == (0, 0), ledger
            if not (ledger.pending or ledger.waiting or await systems.untold()):
                return ledger


async def eventually(holds: Callable[[], Awaitable[Any]], seconds: float = 300.0) -> Any:
    """Return what holds as soon as it does; TimeoutError where it does not in time."""
    async with asyncio.timeout(seconds):
        while not (found := await holds()):  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.1)
    return found


def show(problems: Sequence[str], limit: int = 25) -> str:
    """Problems for an assertion's message."""
    return "\n".join([f"{len(problems)} problems", *problems[:limit]])
