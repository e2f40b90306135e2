"""The demo's world: a small business as three systems know it, overlapping, contradicting each other, partly dirty.

Deterministic for a seed; every clock lies in the two years before `now`, and no two of them are equal. Addresses end in
reserved names, so that nobody real is meant.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import asyncpg

from hub.edge.demo import crm as demo_crm
from hub.edge.demo import hubspot as demo_hubspot
from hub.edge.demo import mailchimp as demo_mailchimp
from hub.edge.demo.crm import Person
from hub.edge.demo.draw import Draw, Row

NOW = datetime(2026, 11, 1, tzinfo=UTC)

# How many there are at scale 1, before duplicates are added.
COMPANIES, CONTACTS, DEALS, ENGAGEMENTS = 220, 1_050, 330, 1_150
HUBSPOT_CONTACTS, HUBSPOT_COMPANIES, HUBSPOT_DEALS, HUBSPOT_NOTES, HUBSPOT_CALLS = 600, 120, 80, 40, 30
MEMBERS = 500


@dataclass(frozen=True, slots=True)
class World:
    """What each system holds before the hub starts.

    crm         table -> rows as column -> value (datetime in UTC, Decimal, list, str, int, None), parents first
    hubspot     a seed document of the HubSpot sandbox, without token and secret
    mailchimp   a seed document of the Mailchimp sandbox, without key
    """

    crm: dict[str, list[Row]]
    hubspot: dict[str, Any]
    mailchimp: dict[str, Any]


def world(seed: int = 7, scale: float = 1.0, now: datetime = NOW) -> World:
    """Draw a world. `scale` multiplies all counts; `now` must know its zone."""
    draw = Draw(seed, now.astimezone(UTC))
    known: set[str] = set()
    companies = demo_crm.company_rows(draw, _times(COMPANIES, scale))
    folk = demo_crm.people(draw, _times(CONTACTS, scale), companies, known)
    contacts = demo_crm.contact_rows(draw, folk)
    deals = demo_crm.deal_rows(draw, _times(DEALS, scale), folk)
    shared = demo_hubspot.overlap(draw, folk, _times(HUBSPOT_CONTACTS, scale * 0.7))
    own = demo_crm.people(draw, _times(HUBSPOT_CONTACTS, scale * 0.3), companies, known)
    strangers = demo_crm.people(draw, _times(MEMBERS, scale * 0.2), companies, known)
    account = demo_hubspot.Account(draw)
    hubspot = _hubspot(account, scale, companies, deals, shared, own + _role_too(folk))
    mailchimp = _mailchimp(draw, scale, folk, shared, account, own, strangers)
    engagements = demo_crm.engagement_rows(draw, _times(ENGAGEMENTS, scale), folk, deals)
    crm = {"companies": companies, "contacts": contacts, "deals": deals, "engagements": engagements}
    return World(crm, hubspot, mailchimp)


def _times(count: int, scale: float) -> int:
    return max(1, round(count * scale))


def _role_too(folk: list[Person]) -> list[Person]:
    """Another colleague who shares a role's address with someone in the CRM, and stands in HubSpot only."""
    roles = [person for person in folk if person.role and person.row]
    return [
        Person("Reception", "Desk", p.row["email"], p.phone, "Receptionist", p.city, p.country)
        for p in roles[:1]
        if p.row
    ]


def _hubspot(
    account: demo_hubspot.Account,
    scale: float,
    companies: list[Row],
    deals: list[Row],
    shared: list[Person],
    own: list[Person],
) -> dict[str, Any]:
    company_ids = demo_hubspot.company_records(account, _times(HUBSPOT_COMPANIES, scale), companies)
    contact_ids = demo_hubspot.contact_records(account, shared, own, company_ids)
    demo_hubspot.deal_records(account, _times(HUBSPOT_DEALS, scale), deals, contact_ids, company_ids)
    demo_hubspot.talk_records(account, _times(HUBSPOT_NOTES, scale), _times(HUBSPOT_CALLS, scale))
    return account.document()


def _mailchimp(
    draw: Draw,
    scale: float,
    folk: list[Person],
    shared: list[Person],
    account: demo_hubspot.Account,
    own: list[Person],
    strangers: list[Person],
) -> dict[str, Any]:
    """Two thirds are the CRM's; a few are known to it only through HubSpot, where they have another address."""
    reachable = [person for person in folk if person.reachable]
    members = draw.some(reachable, _times(MEMBERS, scale * 0.68))
    taken = {person.email for person in members}
    through = [
        (person, record["properties"]["email"])
        for person, record in zip(shared, account.records["contacts"], strict=False)
        if person.email not in taken and record["properties"]["email"] != person.email
    ]
    others = through[: _times(10, scale)] + [(p, p.email) for p in own[: _times(MEMBERS, scale * 0.1)] + strangers]
    return demo_mailchimp.audience(draw, members, others)


async def load_crm(connection: asyncpg.Connection, world: World) -> None:
    """Create the CRM's tables in an empty database and fill them, in one transaction."""
    async with connection.transaction():
        await connection.execute(files("hub.edge.demo").joinpath("crm.sql").read_text())
        for table, rows in world.crm.items():
            await _copy(connection, table, rows)


async def _copy(connection: asyncpg.Connection, table: str, rows: list[Row]) -> None:
    columns = list(rows[0])
    await connection.copy_records_to_table(table, columns=columns, records=[list(row.values()) for row in rows])
    await connection.execute(
        "select setval(pg_get_serial_sequence($1, 'id'), $2)", table, max(row["id"] for row in rows)
    )


def counts(world: World) -> Mapping[str, int]:
    """How many records each system holds, as "system.object" -> count."""
    crm = {f"crm.{table}": len(rows) for table, rows in world.crm.items()}
    objects = ("companies", "contacts", "deals", "notes", "calls")
    hubspot = {f"hubspot.{name}": len(world.hubspot[name]) for name in objects}
    return crm | hubspot | {"mailchimp.members": len(world.mailchimp["lists"][0]["members"])}
