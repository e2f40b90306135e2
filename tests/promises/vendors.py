"""HubSpot, Mailchimp and a CRM in PostgreSQL, each with a connector on it, alike for tests of audits and deletes."""

import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx

from connectors.hubspot.connector import HubSpot
from connectors.hubspot.sandbox import create_app as hubspot_app
from connectors.kit.connector import Connector
from connectors.kit.sandbox import serve
from connectors.mailchimp.connector import Mailchimp
from connectors.mailchimp.sandbox import create_app as mailchimp_app
from connectors.postgresql.connector import PostgreSQL
from hub.edge.embedded import Embedded
from hub.entity import DeletePolicy
from hub.mapping import ObjectMap
from tests.connectors import hubspot_support, mailchimp_support, pg_fixtures

THEN = "2026-09-01T10:00:00Z"


class Vendor(ABC):
    """One system with one object of contacts, whose ids follow from their numbers."""

    object: str

    def __init__(self, mapping: ObjectMap, connector: Connector) -> None:
        self.mapping, self.connector = mapping, connector
        self.system = mapping.system

    @abstractmethod
    async def create(self, numbers: Sequence[int], old: bool = False) -> None:
        """New records, made by people there; old ones are dated long ago, so that a poll that goes on does not see them."""

    @abstractmethod
    async def edit(self, number: int, name: str) -> None:
        """Give a record another first name."""

    @abstractmethod
    async def erase(self, number: int) -> None:
        """Delete a record so that nobody is told."""

    @abstractmethod
    async def remove(self, number: int) -> None:
        """Delete a record so that those who poll are told."""

    @abstractmethod
    async def id(self, number: int) -> str:
        """The external id of a record."""


class Sandbox(Vendor):
    """A vendor that is a sandbox; `lists` matches the calls that list its records, `counts` those that count them."""

    lists: str
    counts: str

    def __init__(self, mapping: ObjectMap, connector: Connector, control: httpx.AsyncClient) -> None:
        super().__init__(mapping, connector)
        self._control = control

    async def post(self, what: str, body: Any) -> Any:
        """A call of the control API."""
        answer = await self._control.post(f"/_sandbox/{what}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def spoil(self, kind: str, match: str = "", **more: Any) -> None:
        """Spoil all lists from now on (miscounted: all counts), or all calls that `match`."""
        match = match or (self.counts if kind == "miscounted" else self.lists)
        await self.post("faults", {"kind": kind, "times": 100_000, "match": match, **more})

    async def heal(self) -> None:
        """Disarm everything."""
        (await self._control.delete("/_sandbox/faults")).raise_for_status()


class HubSpotVendor(Sandbox):
    """Contacts in HubSpot; erased by a privacy deletion, of which the list of archived records does not tell."""

    lists = "GET /crm/v3/objects/contacts"
    counts = "POST /crm/v3/objects/contacts/search"

    async def create(self, numbers: Sequence[int], old: bool = False) -> None:
        await self.post("seed", {"contacts": [hubspot_support.contact(n, at=_at(old)) for n in numbers]})

    async def edit(self, number: int, name: str) -> None:
        edit = {"object": "contacts", "id": str(number), "properties": {"firstname": name}}
        await self.post("edit", edit)

    async def erase(self, number: int) -> None:
        await self.post("edit", {"object": "contacts", "id": str(number), "action": "erase"})

    async def remove(self, number: int) -> None:
        await self.post("edit", {"object": "contacts", "id": str(number), "action": "archive"})

    async def id(self, number: int) -> str:
        return str(number)


class MailchimpVendor(Sandbox):
    """Members of an audience; erased for good, of which no list tells."""

    lists = counts = f"GET /3.0/lists/{mailchimp_support.LIST}/members"

    async def create(self, numbers: Sequence[int], old: bool = False) -> None:
        members = [
            {"email_address": _email(n), "status": "subscribed", "merge_fields": {"FNAME": f"First{n}", "LNAME": "Last"},
             "last_changed": _at(old), "timestamp_opt": THEN, "tags": ["one"]}
            for n in numbers
        ]  # fmt: skip
        await self.post("seed", {"lists": [{"id": mailchimp_support.LIST, "members": members}]})

    async def edit(self, number: int, name: str) -> None:
        await self._edit(number, "profile", merge_fields={"FNAME": name})

    async def erase(self, number: int) -> None:
        await self._edit(number, "delete")

    async def remove(self, number: int) -> None:
        await self._edit(number, "archive")

    async def _edit(self, number: int, action: str, **more: Any) -> None:
        await self.post("edit", {"list": mailchimp_support.LIST, "email": _email(number), "action": action, **more})

    async def id(self, number: int) -> str:
        connector = self.connector
        assert isinstance(connector, Mailchimp)
        found = await connector._parts.audience.find(mailchimp_support.md5(_email(number)))
        assert found is not None, number
        return found.external_id


class PostgresVendor(Vendor):
    """Rows of a table that is captured by triggers; erased with the triggers switched off, as in a bulk load."""

    def __init__(self, mapping: ObjectMap, connector: Connector, conn: asyncpg.Connection, url: str) -> None:
        super().__init__(mapping, connector)
        self.conn, self.url = conn, url

    async def create(self, numbers: Sequence[int], old: bool = False) -> None:
        await self.conn.executemany(
            "insert into contacts (id, email, first_name) values ($1, $2, $3)",
            [(n, _email(n), f"First{n}") for n in numbers],
        )

    async def edit(self, number: int, name: str) -> None:
        await self.conn.execute("update contacts set first_name = $2 where id = $1", number, name)

    async def erase(self, number: int) -> None:
        async with self.conn.transaction():
            await self.conn.execute("alter table contacts disable trigger hub_outbox_change")
            await self.conn.execute("delete from contacts where id = $1", number)
            await self.conn.execute("alter table contacts enable always trigger hub_outbox_change")

    async def remove(self, number: int) -> None:
        await self.conn.execute("delete from contacts where id = $1", number)

    async def id(self, number: int) -> str:
        return str(number)


def _email(number: int) -> str:
    return f"c{number}@example.com"


def _at(old: bool) -> str:
    return THEN if old else datetime.now(UTC).isoformat(timespec="seconds")


def deleting(mapping: ObjectMap, policy: DeletePolicy) -> ObjectMap:
    """The mapping with what a delete means, found by scans."""
    entity = replace(mapping.entity, deletes={mapping.system: policy}, match=("email",))
    return replace(mapping, entity=entity, deletes="scan")


@asynccontextmanager
async def hubspot(policy: DeletePolicy = "propagate") -> AsyncIterator[HubSpotVendor]:
    """An account with a connector on it."""
    mapping = deleting(hubspot_support.mappings(["contacts"])["contacts"], policy)
    mapping = replace(mapping, fields=tuple(f for f in mapping.fields if f.name != "company"))
    async with serve(hubspot_app()) as running, _client(running.url) as control:
        settings = {
            "access_token": hubspot_support.TOKEN, "base_url": running.url, "calls_per_10_seconds": 0,
            "searches_per_second": 0, "index_lag_seconds": 0, "deletes_seconds": 0,
        }  # fmt: skip
        made = HubSpotVendor(mapping, HubSpot("hubspot", settings, {"contacts": mapping}), control)
        await made.post("seed", {"token": hubspot_support.TOKEN})
        try:
            yield made
        finally:
            await made.connector.close()


@asynccontextmanager
async def mailchimp(policy: DeletePolicy = "propagate") -> AsyncIterator[MailchimpVendor]:
    """An audience with a connector on it."""
    mapping = deleting(mailchimp_support.mappings()["members"], policy)
    async with serve(mailchimp_app(api_key=mailchimp_support.KEY)) as running, _client(running.url) as control:
        settings = {
            "api_key": mailchimp_support.KEY, "base_url": f"{running.url}/3.0", "list_id": mailchimp_support.LIST,
            "provision": False,
        }  # fmt: skip
        made = MailchimpVendor(mapping, Mailchimp("mailchimp", settings, {"members": mapping}), control)
        audience = {"id": mailchimp_support.LIST, "merge_fields": mailchimp_support.FIELDS}
        await made.post("seed", {"lists": [audience]})
        try:
            yield made
        finally:
            await made.connector.close()


@asynccontextmanager
async def crm(server: Embedded, policy: DeletePolicy = "propagate") -> AsyncIterator[PostgresVendor]:
    """A database of its own with a connector on it."""
    url = await server.create(f"crm_{uuid.uuid4().hex[:10]}")
    conn = await asyncpg.connect(url)
    await conn.execute(pg_fixtures.CONTACTS)
    natives = {"email": "email", "first_name": "text", "notes": "text"}
    mapping = deleting(pg_fixtures.object_map("contacts", natives, ["email"]), policy)
    connector = PostgreSQL("crm", {"url": url, "capture": "outbox"}, {"contacts": mapping})
    try:
        yield PostgresVendor(mapping, connector, conn, url)
    finally:
        await connector.close()
        await conn.close()


@asynccontextmanager
async def reader(vendor: PostgresVendor) -> AsyncIterator[PostgreSQL]:
    """A connector of a role that a policy lets see only every other row."""
    role = f"reader_{uuid.uuid4().hex[:8]}"
    schemas = "public, hub_outbox, hub_sync"
    await vendor.conn.execute(
        f"create role {role} login password 'only-for-tests'; grant pg_monitor to {role};"
        f" grant usage on schema {schemas} to {role}; grant all on all tables in schema {schemas} to {role};"
        f" grant all on all sequences in schema {schemas} to {role};"
        f" grant execute on function pg_control_system() to {role};"
        "alter table contacts enable row level security; create policy half on contacts using (id % 2 = 0)"
    )
    parts = urlsplit(vendor.url)
    url = urlunsplit(parts._replace(netloc=f"{role}:only-for-tests@{parts.netloc.rpartition('@')[2]}"))
    made = PostgreSQL("crm", {"url": url, "capture": "outbox"}, {"contacts": vendor.mapping})
    try:
        await made.open()
        yield made
    finally:
        await made.close()
        await vendor.conn.execute(f"drop owned by {role}; drop role {role}")


def _client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=30, trust_env=False)
