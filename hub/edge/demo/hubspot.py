"""The demo's HubSpot account as a seed document of its sandbox: what the CRM has too, and more."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from hub.edge.demo import words
from hub.edge.demo.crm import Person, cents, domain_of
from hub.edge.demo.draw import MILLISECOND, Draw, Row, plain, portion

Json = dict[str, Any]

INDUSTRIES = dict(
    zip(
        words.INDUSTRIES,
        (
            "COMPUTER_SOFTWARE", "MACHINERY", "LOGISTICS_AND_SUPPLY_CHAIN", "RETAIL", "HOSPITAL_HEALTH_CARE",
            "CONSTRUCTION", "INSURANCE", "FOOD_PRODUCTION", "EDUCATION_MANAGEMENT", "MANAGEMENT_CONSULTING",
        ),
        strict=True,
    )
)  # fmt: skip
STAGES = (
    "appointmentscheduled", "qualifiedtobuy", "presentationscheduled", "decisionmakerboughtin", "contractsent",
    "closedwon", "closedlost",
)  # fmt: skip
LIFECYCLES = ("subscriber", "lead", "marketingqualifiedlead", "salesqualifiedlead", "opportunity", "customer")

# HubSpot-defined association types: from the first to the second, as primary where there is such a thing.
TYPE_IDS = {
    ("contacts", "companies"): 1,
    ("deals", "contacts"): 3,
    ("deals", "companies"): 5,
    ("notes", "contacts"): 202,
    ("calls", "contacts"): 194,
}

CUSTOM_PROPERTIES: dict[str, list[Json]] = {
    "contacts": [
        {"name": "external_id", "label": "CRM id", "type": "string", "fieldType": "text"},
        {
            "name": "hub_consent",
            "label": "Marketing consent",
            "type": "enumeration",
            "fieldType": "select",
            "options": [{"label": "Opted in", "value": "in"}, {"label": "Opted out", "value": "out"}],
        },
        {"name": "hub_consent_at", "label": "Marketing consent since", "type": "datetime", "fieldType": "date"},
    ],
    "deals": [{"name": "external_id", "label": "CRM id", "type": "string", "fieldType": "text"}],
}
GROUPS = {"contacts": "contactinformation", "deals": "dealinformation"}


class Account:
    """The seed document while it grows. Ids are counted per object, each from its own number."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.records: dict[str, list[Json]] = {name: [] for name in FIRST_ID}
        self.associations: list[Json] = []

    def add(
        self, object_: str, properties: Json, updated: datetime, links: Iterable[tuple[str, str | None]] = ()
    ) -> str:
        """Add a record with the properties that are known, last changed at an instant; returns its id."""
        id_ = str(FIRST_ID[object_] + 7 * len(self.records[object_]))
        created = updated - timedelta(days=self.draw.number(0, 90), milliseconds=self.draw.number(1, 9_999))
        held = {name: value for name, value in properties.items() if value is not None}
        self.records[object_].append(
            {"id": id_, "properties": held, "createdAt": iso(created), "updatedAt": iso(updated)}
        )
        for other, other_id in links:
            if other_id is not None:
                type_id = TYPE_IDS[object_, other]
                self.associations.append({"from": [object_, id_], "to": [other, other_id], "typeId": type_id})
        return id_

    def document(self) -> Json:
        """The body for the sandbox's seed."""
        properties = {
            object_: [{**definition, "groupName": GROUPS[object_]} for definition in definitions]
            for object_, definitions in CUSTOM_PROPERTIES.items()
        }
        return {"properties": properties, **self.records, "associations": self.associations}


FIRST_ID = {"contacts": 3_000_001, "companies": 7_000_001, "deals": 9_000_001, "notes": 11_000_001, "calls": 12_000_001}


def iso(at: datetime) -> str:
    """An instant as HubSpot writes it, to the millisecond."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def company_records(account: Account, count: int, rows: list[Row]) -> dict[int, str]:
    """Three quarters of them are the CRM's by domain; returns the CRM's id -> the id here."""
    draw = account.draw
    by_domain = {domain_of(row): row for row in reversed(rows) if row["domain"]}
    shared = draw.some(sorted(by_domain), count * 3 // 4)
    ids = {by_domain[domain]["id"]: _company(account, by_domain[domain], domain) for domain in shared}
    for number in range(count - len(shared)):
        name = f"{draw.one(words.COMPANY_FIRST)} {draw.one(words.COMPANY_SECOND)} Holding {number + 1}"
        _company(account, {"name": name}, None if number % 6 == 5 else f"{plain(name)}.example")
    return ids


def _company(account: Account, row: Row, domain: str | None) -> str:
    draw = account.draw
    city, country, phone = draw.one(words.PLACES)
    properties = {
        "name": row["name"].strip().removesuffix(" Inc.") if draw.chance(0.7) else row["name"].strip().upper(),
        "domain": domain,
        "phone": draw.pattern(phone) if draw.chance(0.5) else row.get("phone"),
        "industry": INDUSTRIES[draw.one(words.INDUSTRIES)] if draw.chance(0.7) else None,
        "city": city if draw.chance(0.3) else row.get("city"),
        "country": row.get("country", country),
        "numberofemployees": str(draw.number(1, 5000)) if draw.chance(0.6) else None,
        "annualrevenue": str(cents(draw, 5_000_000, 90_000_000_000)) if draw.chance(0.4) else None,
    }
    return account.add("companies", properties, draw.ago(600, 1, MILLISECOND))


def contact_records(
    account: Account, folk: list[Person], own: list[Person], companies: dict[int, str]
) -> dict[int, str]:
    """`folk` are the CRM's people, `own` are not; returns the CRM's contact id -> the id here."""
    ids = {}
    for person in folk:
        assert person.row is not None, "these people were taken from the CRM's"
        company = companies.get(person.row["company_id"])
        ids[person.row["id"]] = account.add("contacts", *_shared(account.draw, person), [("companies", company)])
    for person in own:
        company = companies.get(person.company["id"]) if person.company else None
        account.add(
            "contacts", _contact(account.draw, person), account.draw.ago(700, 1, MILLISECOND), [("companies", company)]
        )
    return ids


def _shared(draw: Draw, person: Person) -> tuple[Json, datetime]:
    """A person of the CRM: by address, or only by the CRM's id, with what was learned since or before."""
    row = person.row
    assert row is not None, "shared with the CRM"
    properties = _contact(draw, person)
    by_id = not person.reachable or draw.chance(0.15)
    if by_id or draw.chance(0.3):
        properties["external_id"] = str(row["id"])
    if by_id and person.reachable:
        properties["email"] = f"{plain(person.first)}.{plain(person.last)}.{row['id']}@private.example"
    phone_newer = row["phone"] is None and not draw.chance(0.15)
    phone_older = properties["phone"] is None
    newer = draw.chance(0.5)
    if phone_newer != phone_older:
        newer = phone_newer  # that a number was deleted later is the exception, not the rule
    if newer:
        return properties, draw.instant(row["updated_at"], draw.now - timedelta(days=1), MILLISECOND)
    return properties, draw.instant(row["created_at"], row["updated_at"], MILLISECOND)


def _contact(draw: Draw, person: Person) -> Json:
    city, _, phone = draw.one(words.PLACES)
    consent = draw.one(["in"] * 3 + ["out"] + [None] * 16)
    return {
        "email": person.email,
        "firstname": words.NICKNAMES.get(person.first, person.first) if draw.chance(0.5) else person.first,
        "lastname": person.last,
        "phone": None if draw.chance(0.08) else draw.pattern(phone) if draw.chance(0.3) else person.phone,
        "jobtitle": draw.one(words.TITLES) if draw.chance(0.35) else person.title,
        "city": city if draw.chance(0.2) else person.city,
        "country": person.country,
        "lifecyclestage": draw.one(LIFECYCLES),
        "hub_consent": consent,
        "hub_consent_at": iso(draw.ago(600, 20, MILLISECOND)) if consent else None,
    }


def deal_records(
    account: Account, count: int, rows: list[Row], contacts: dict[int, str], companies: dict[int, str]
) -> None:
    """Most are the CRM's, and hold its id; stage and amount have moved on here or there."""
    draw = account.draw
    shared = draw.some(rows, count * 5 // 8)
    for row in shared:
        links = [("contacts", contacts.get(row["contact_id"])), ("companies", companies.get(row["company_id"]))]
        account.add("deals", _deal(draw, row["name"]) | {"external_id": str(row["id"])}, _moved(draw, row), links)
    whom: list[str | None] = [*sorted(contacts.values())] or [None]
    for number in range(count - len(shared)):
        name = f"{draw.one(words.DEAL_WORDS).capitalize()} {number + 1} (inbound)"
        whose = draw.one(whom)
        account.add("deals", _deal(draw, name), draw.ago(500, 1, MILLISECOND), [("contacts", whose)])


def _deal(draw: Draw, name: str) -> Json:
    close = draw.now + timedelta(days=draw.number(-300, 90))
    return {
        "dealname": name,
        "amount": str(cents(draw, 50_000, 25_000_000)) if draw.chance(0.9) else None,
        "pipeline": "default",
        "dealstage": draw.one(STAGES),
        "closedate": f"{close:%Y-%m-%d}T00:00:00Z",
    }


def _moved(draw: Draw, row: Row) -> datetime:
    if draw.chance(0.5):
        return draw.instant(row["updated_at"], draw.now - timedelta(days=1), MILLISECOND)
    return draw.instant(row["created_at"], row["updated_at"], MILLISECOND)


def talk_records(account: Account, notes: int, calls: int) -> None:
    """Notes and calls that only HubSpot has."""
    draw = account.draw
    whom = [record["id"] for record in account.records["contacts"]]
    for number in range(notes):
        at = draw.ago(400, 2, MILLISECOND)
        properties = {"hs_timestamp": iso(at), "hs_note_body": f"{draw.one(words.TALKS['note'][1])} ({number + 1})"}
        account.add("notes", properties, at, [("contacts", draw.one(whom))])
    for number in range(calls):
        at = draw.ago(400, 2, MILLISECOND)
        account.add("calls", _call(draw, number, at), at, [("contacts", draw.one(whom))])


def _call(draw: Draw, number: int, at: datetime) -> Json:
    return {
        "hs_timestamp": iso(at),
        "hs_call_title": f"Call back {number + 1}",
        "hs_call_body": draw.one(words.TALKS["call"][1]),
        "hs_call_status": draw.one(("COMPLETED", "COMPLETED", "NO_ANSWER")),
        "hs_call_duration": str(60_000 * draw.number(0, 45)),
    }


def overlap(draw: Draw, folk: list[Person], count: int) -> list[Person]:
    """The CRM's people whom HubSpot has too: nearly all reachable, and some of whom the CRM has no valid address."""
    known = [person for person in folk if not person.role]
    unreachable = [person for person in known if not person.reachable]
    some = draw.some(unreachable, portion(count, 0.04))
    return some + draw.some([person for person in known if person.reachable], count - len(some))
