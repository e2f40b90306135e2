"""Sources that can be read from any checkpoint: a database or a sandbox, small pages, and changes made by others."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any, Protocol

import asyncpg
import pytest

from connectors.hubspot import api, source
from connectors.kit.connector import Connector
from connectors.mailchimp import activity, audience, scan
from connectors.postgresql import transactions
from connectors.postgresql.snapshot import OVER
from hub.change import Change
from tests.connectors import hubspot_support, mailchimp_support
from tests.connectors.pg_fixtures import CONTACTS, Crm, contacts
from tests.connectors.test_mailchimp_activity import campaign, later, people

Truth = dict[str, Any]


class Source(Protocol):
    """One stream of a real system.

    stream    its name;  object: what it reads
    """

    stream: str
    object: str

    async def fresh(self) -> Connector:
        """A connector as a new process makes it."""

    async def change(self, number: int) -> None:
        """Create a record, update one and delete one (as far as the system does such things); each call others."""

    async def truth(self) -> Truth:
        """What is there now: record -> content."""

    def content(self, change: Change) -> Any:
        """The content of a change, as in `truth`."""


def folded(source: Source, changes: Sequence[Change]) -> Truth:
    """What the changes say is there, by the clock of each record; of two in one tick the one that was read later."""
    held: dict[str, Any] = {}
    for change in sorted(changes, key=lambda c: c.version or 0):
        held.pop(change.external_id, None)
        if change.op == "upsert":
            held[change.external_id] = source.content(change)
    return held


@contextmanager
def constants(*changed: tuple[Any, str, int]) -> Iterator[None]:
    """Sizes of pages, small."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for owner, name, value in changed:
            patch.setattr(owner, name, value)
        yield


class Database:
    """Contacts of a CRM in PostgreSQL."""

    object = "contacts"

    def __init__(self, crm: Crm, capture: str) -> None:
        self.crm, self.capture = crm, capture
        self.stream = {"logical": "wal", "outbox": "outbox"}[capture]

    async def fresh(self) -> Connector:
        return await self.crm.open(contacts(), capture=self.capture, page=3)

    async def change(self, number: int) -> None:
        """In transactions of one and of many rows (which are read in several steps), and with a key that changes."""
        update = f"UPDATE contacts SET first_name = 'u{number}', amount = {number}"
        lowest = "(SELECT min(id) FROM contacts)"
        await self.crm.run(
            f"INSERT INTO contacts (first_name) VALUES ('c{number}')",
            f"{update} WHERE id % 5 = {number % 5}" if number % 8 else update,
            f"UPDATE contacts SET id = id + 1000 WHERE id = {lowest}" if number % 5 == 4 else "SELECT 1",
            f"DELETE FROM contacts WHERE id = {lowest}",
        )
        # The outbox waits for older transactions; the server has some of its own, such as an automatic ANALYZE.
        newest = await self.crm.conn.fetchval("SELECT pg_current_xact_id()::text")
        while not await self.crm.conn.fetchval(OVER, newest):  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.02)

    async def truth(self) -> Truth:
        rows = await self.crm.conn.fetch("SELECT id::text, first_name, amount::text FROM contacts")
        return {row["id"]: (row["first_name"], row["amount"]) for row in rows}

    def content(self, change: Change) -> Any:
        return change.fields["first_name"], change.fields["amount"]


@asynccontextmanager
async def database(url: str, capture: str) -> AsyncIterator[Source]:
    """A CRM of twelve contacts."""
    conn = await asyncpg.connect(url)
    crm = Crm(url, conn, f"s_{uuid.uuid4().hex[:12]}")
    try:
        await crm.run(CONTACTS, "INSERT INTO contacts (first_name) SELECT 's' || n FROM generate_series(1, 12) n")
        with constants((transactions, "STEP", 4)):
            yield Database(crm, capture)
    finally:
        for made in crm.opened:
            await made.close()
        await conn.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()"
        )
        await conn.close()


NAMED = {
    "contacts": "firstname", "companies": "name", "deals": "dealname", "notes": "hs_note_body",
    "calls": "hs_call_title", "emails": "hs_email_subject", "meetings": "hs_meeting_title", "tasks": "hs_task_subject",
}  # fmt: skip
TIMED = {"hs_timestamp": "2026-09-01T10:00:00Z"}


class HubSpotObject:
    """One object of a HubSpot account."""

    def __init__(self, rig: hubspot_support.Rig, object_: str) -> None:
        self.rig = rig
        self.object = self.stream = object_
        self._ids = [str(n) for n in range(1, 8)]

    async def fresh(self) -> Connector:
        return self.rig.connect(hubspot_support.mappings([self.object]), deletes_seconds=0)

    async def change(self, number: int) -> None:
        timed = {} if self.object in ("contacts", "companies", "deals") else TIMED
        properties = {NAMED[self.object]: f"c{number}", **timed}
        made = await self.rig.edit(self.object, "", action="create", properties=properties)
        await self.rig.edit(self.object, self._ids[-1], properties={NAMED[self.object]: f"u{number}"})
        await self.rig.edit(self.object, self._ids.pop(0), action="archive")
        self._ids.append(str(made["id"]))

    async def truth(self) -> Truth:
        params = {"limit": 100, "properties": NAMED[self.object]}
        answer = (await self.rig.api.get(f"/crm/v3/objects/{self.object}", params=params)).raise_for_status().json()
        assert "paging" not in answer
        return {r["id"]: r["properties"][NAMED[self.object]] for r in answer["results"]}

    def content(self, change: Change) -> Any:
        return change.fields[NAMED[self.object]]


@asynccontextmanager
async def hubspot(object_: str) -> AsyncIterator[Source]:
    """Seven records that all have one timestamp."""
    small = ((api, "BATCH", 3), (api, "SEARCH_PAGE", 2), (source, "SEARCH_PAGE", 2))
    async with hubspot_support.rig() as rig:
        at = "2026-09-01T10:00:00Z"
        timed = {} if object_ in ("contacts", "companies", "deals") else TIMED
        seeds = [
            {"id": str(n), "properties": {NAMED[object_]: f"s{n}", **timed}, "createdAt": at, "updatedAt": at}
            for n in range(1, 8)
        ]
        await rig.seed(**{object_: seeds})
        with constants(*small):
            yield HubSpotObject(rig, object_)


class Members:
    """The members of a Mailchimp audience; a delete is the archiving of one."""

    object = stream = "members"

    def __init__(self, rig: mailchimp_support.Rig) -> None:
        self.rig = rig
        self._emails = [f"p{n}@example.com" for n in range(11)]

    async def fresh(self) -> Connector:
        return self.rig.connect()

    async def change(self, number: int) -> None:
        made = f"c{number}@example.com"
        await self.rig.edit("subscribe", made, merge_fields={"FNAME": f"c{number}"})
        await self.rig.edit("profile", self._emails[-1], merge_fields={"FNAME": f"u{number}"})
        await self.rig.edit("archive", self._emails.pop(0))
        self._emails.append(made)

    async def truth(self) -> Truth:
        params = {"count": 1000, "fields": "members.contact_id,members.status,members.merge_fields"}
        answer = (await self.rig.api.get("/lists/a1/members", params=params)).raise_for_status().json()
        live = [m for m in answer["members"] if m["status"] != "archived"]
        return {m["contact_id"]: m["merge_fields"]["FNAME"] for m in live}

    def content(self, change: Change) -> Any:
        return change.fields["FNAME"]


@asynccontextmanager
async def members() -> AsyncIterator[Source]:
    """Eleven members, of whom seven changed in one second, which is more than a page holds."""
    async with mailchimp_support.rigged(judged=False) as rig:
        seconds = [0, 1, 1, 1, 1, 1, 1, 1, 2, 3, 3]
        await rig.seed(*(
            {"email_address": f"p{n}@example.com", "status": "subscribed", "merge_fields": {"FNAME": f"s{n}"},
             "last_changed": f"2026-01-01T10:00:0{second}+00:00"} for n, second in enumerate(seconds)
        ))  # fmt: skip
        with constants((audience, "COUNT", 3), (scan, "COUNT", 3)):
            yield Members(rig)


class CampaignActivity:
    """What members did with two campaigns: it only grows, so a change is an open of somebody who had not opened."""

    object = stream = "activity"

    def __init__(self, rig: mailchimp_support.Rig, count: int) -> None:
        self.rig, self.count = rig, count
        self._opened = [("c1", 0)]
        self._contacts: dict[int, str] = {}

    async def fresh(self) -> Connector:
        return self.rig.connect()

    async def change(self, number: int) -> None:
        place = len(self._opened)
        one = (f"c{1 + place % 2}", (place // 2 + place % 2) % self.count)
        await self.rig.edit("open", f"p{one[1]}@example.com", campaign=one[0])
        self._opened.append(one)

    async def truth(self) -> Truth:
        if not self._contacts:
            found = [await self.rig.member(f"p{n}@example.com") for n in range(self.count)]
            self._contacts = {n: member["contact_id"] for n, member in enumerate(found)}
        sent = [(c, n, "sent") for c in ("c1", "c2") for n in range(self.count)]
        done = [*sent, *((c, n, "open") for c, n in self._opened)]
        return {f"{c}-{self._contacts[n]}-{action}": action for c, n, action in done}

    def content(self, change: Change) -> Any:
        return change.fields["action"]


@asynccontextmanager
async def campaigns(count: int = 20) -> AsyncIterator[Source]:
    """Two campaigns to as many members."""
    first = {"email": "p0@example.com", "action": "open", "at": later(1)}
    async with mailchimp_support.rigged(judged=False) as rig:
        await rig.seed(*people(count), campaigns=[campaign(first), campaign(number=2)])
        with constants((audience, "COUNT", 7), (activity, "COUNT", 7)):
            yield CampaignActivity(rig, count)


SOURCES = ("postgresql/logical", "postgresql/outbox", *(f"hubspot/{name}" for name in NAMED),
           "mailchimp/members", "mailchimp/activity")  # fmt: skip


@asynccontextmanager
async def opened(name: str, url: str) -> AsyncIterator[Source]:
    """The source of a name in SOURCES; `url` is an empty database."""
    system, _, which = name.partition("/")
    made = {"postgresql": lambda: database(url, which), "hubspot": lambda: hubspot(which)}
    made |= {"mailchimp": members if which == "members" else campaigns}
    async with made[system]() as found:
        yield found
