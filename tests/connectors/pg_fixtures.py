"""A CRM in a real database, connectors on it, and what the tests ask of them."""

import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest

from connectors.kit.connector import Checkpoint, Page
from connectors.postgresql.connector import PostgreSQL
from hub.change import Change
from hub.entity import Entity, Field
from hub.mapping import FieldMap, ObjectMap
from hub.receipt import Receipt
from hub.rules import Rule
from hub.write import Write

CONTACTS = """
CREATE TABLE companies (id serial PRIMARY KEY, name text NOT NULL, domain text);
CREATE TABLE contacts (
    id serial PRIMARY KEY, email text, first_name text, amount numeric(12, 2), notes text,
    company_id integer REFERENCES companies, updated_at timestamptz
);
"""


def object_map(name: str, natives: Mapping[str, str], match: Sequence[str] = (), **settings: Any) -> ObjectMap:
    """An object whose canonical fields are its columns; `natives`: column -> type."""
    fields = {column: Field(column, kind, Rule()) for column, kind in natives.items()}
    refs = {column: column.removesuffix("_id") for column, kind in natives.items() if kind == "ref"}
    maps = tuple(FieldMap(column, (column,), object=refs.get(column, "")) for column in natives)
    return ObjectMap("crm", name, Entity(name, fields, tuple(match)), maps, settings=settings)


def contacts(**settings: Any) -> ObjectMap:
    """The contacts of CONTACTS."""
    natives = {"email": "email", "first_name": "text", "amount": "decimal", "notes": "text", "company_id": "ref"}
    return object_map("contacts", natives, ["email"], **settings)


def companies() -> ObjectMap:
    """The companies of CONTACTS."""
    return object_map("companies", {"name": "text", "domain": "domain"}, ["domain"])


@dataclass
class Crm:
    """A database, a connection to it as its owner, and the connectors made on it."""

    url: str
    conn: asyncpg.Connection
    slot: str = field(default_factory=lambda: f"s_{uuid.uuid4().hex[:12]}")
    opened: list[PostgreSQL] = field(default_factory=list)

    async def run(self, *statements: str) -> None:
        """Each statement in a transaction of its own."""
        for statement in statements:
            await self.conn.execute(statement)

    async def connect(self) -> asyncpg.Connection:
        """One more connection."""
        return await asyncpg.connect(self.url)

    def make(self, *objects: ObjectMap, **settings: Any) -> PostgreSQL:
        """A connector that is not opened yet."""
        made = PostgreSQL("crm", {"url": self.url, "slot": self.slot, **settings}, {o.object: o for o in objects})
        self.opened.append(made)
        return made

    async def open(self, *objects: ObjectMap, **settings: Any) -> PostgreSQL:
        """An opened connector."""
        made = self.make(*objects, **settings)
        await made.open()
        return made


@pytest.fixture
async def crm(database: str) -> AsyncIterator[Crm]:
    """An empty CRM."""
    conn = await asyncpg.connect(database)
    made = Crm(database, conn)
    yield made
    for connector in made.opened:
        await connector.close()
    await conn.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()"
    )
    await conn.close()


async def pages(connector: PostgreSQL, checkpoint: Checkpoint | None = None, acknowledge: bool = True) -> list[Page]:
    """One poll to its end, as the hub does it."""
    found = []
    for stream in connector.streams():
        async with aclosing(connector.poll(stream.name, checkpoint)) as polled:
            async for page in polled:
                found.append(page)
                if acknowledge:
                    await page.acknowledge()
    return found


async def poll(connector: PostgreSQL, checkpoint: Checkpoint | None = None) -> tuple[list[Change], Checkpoint]:
    """The changes since the checkpoint, acknowledged, and the next checkpoint."""
    found = await pages(connector, checkpoint)
    return all_changes(found), found[-1].checkpoint if found else checkpoint or {}


def all_changes(found: Iterable[Page]) -> list[Change]:
    """The changes of pages in their order."""
    return [change for page in found for change in page.changes]


def folded(changes: Iterable[Change]) -> dict[tuple[str, str], dict[str, Any]]:
    """The state that follows from changes in any order: per record the fields by greatest version; deletes remove."""
    state: dict[tuple[str, str], dict[str, Any] | None] = {}
    for change in sorted(changes, key=lambda c: c.version or 0):
        key = (change.object, change.external_id)
        state[key] = None if change.op == "delete" else {**(state.get(key) or {}), **change.fields}
    return {key: fields for key, fields in state.items() if fields is not None}


async def table(conn: asyncpg.Connection, name: str, columns: Sequence[str], key: str = "id") -> dict[str, list[Any]]:
    """A table as it is: key -> column texts."""
    rows = await conn.fetch(f"SELECT {key}::text AS key, {', '.join(f'{c}::text' for c in columns)} FROM {name}")
    return {row["key"]: list(row)[1:] for row in rows}


def texts(
    state: Mapping[tuple[str, str], Mapping[str, Any]], object_: str, columns: Sequence[str]
) -> dict[str, list[Any]]:
    """A folded state of one object in the shape of `table`, for columns whose JSON value is text or a number."""
    return {
        id_: [None if f.get(c) is None else str(f[c]) for c in columns] for (o, id_), f in state.items() if o == object_
    }


def create(mapping: ObjectMap, golden: str, **values: Any) -> Write:
    """A create as the hub would plan it."""
    return Write("crm", mapping.object, golden, 1, "create", mapping, None, values, values)


def update(mapping: ObjectMap, external_id: str, expected: Mapping[str, Any], **values: Any) -> Write:
    """An update as the hub would plan it."""
    natives = {n: v["id"] if isinstance(v, dict) and "id" in v else v for n, v in values.items()}
    return Write("crm", mapping.object, f"g{external_id}", 1, "update", mapping, external_id, values, natives, expected)


def delete(mapping: ObjectMap, external_id: str) -> Write:
    """A delete as the hub would plan it."""
    return Write("crm", mapping.object, f"g{external_id}", 1, "delete", mapping, external_id)


async def one(connector: PostgreSQL, write: Write) -> Receipt:
    """Deliver one write."""
    (receipt,) = await connector.deliver([write])
    return receipt


async def rows(crm: Crm, query: str = "SELECT * FROM contacts ORDER BY id") -> list[dict[str, Any]]:
    """The contacts as they are."""
    return [dict(row) for row in await crm.conn.fetch(query)]


async def waiting(crm: Crm, then: str = "") -> None:
    """Until a session of the hub waits for a lock; `then` is an SQL expression on its row of pg_stat_activity."""
    query = (
        f"SELECT count({then or 'pid'}) FROM pg_stat_activity WHERE application_name = 'integration-hub'"
        " AND wait_event_type = 'Lock' AND datname = current_database()"
    )
    while not await crm.conn.fetchval(query):
        continue
