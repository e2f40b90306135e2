"""The demo's CRM as rows of crm.sql: people at companies, deals, and what was talked about; a part of it dirty."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from hub.edge.demo import words
from hub.edge.demo.draw import Draw, Row, plain, portion

# Each table counts from its own number, so that an id taken for one of another table is noticed.
FIRST_ID = {"companies": 101, "contacts": 1001, "deals": 5001, "engagements": 20_001}
LIFECYCLES = ("subscriber", "lead", "mql", "sql", "opportunity", "customer")
STAGES = ("new", "qualified", "presented", "decision", "contract", "won", "lost")
FREE_MAIL = ("postbox.example", "quickmail.example")


@dataclass(slots=True)
class Person:
    """Someone whom the systems know. `email` is the true address, which the CRM may lack or have wrong.

    `row` is the CRM's first row of the person, None for one whom only the others know; `reachable` says that a valid
    address stands in it. `role` marks a row that holds the address of a role (info@...), shared or not.
    """

    first: str
    last: str
    email: str
    phone: str
    title: str
    city: str
    country: str
    company: Row | None = None
    row: Row | None = None
    reachable: bool = False
    role: bool = False


def company_rows(draw: Draw, count: int) -> list[Row]:
    """Companies with and without domain, in every way of writing one; one in fifty stands there twice."""
    pairs = [(a, b) for a in words.COMPANY_FIRST for b in words.COMPANY_SECOND]
    rounds = -(-count // len(pairs))
    names = [" ".join(pair) + (f" {n}" if n else "") for n in range(rounds) for pair in draw.some(pairs, len(pairs))]
    rows = [_company(draw, index, names[index]) for index in range(count)]
    for row, odd in zip(rows[3::7], words.ODD_COMPANIES, strict=False):
        row["name"] = odd
    with_domain = [row for row in rows if row["domain"]]
    for original in draw.some(with_domain, portion(count, 0.02)):
        again = _company(draw, len(rows), original["name"].strip().upper())
        rows.append(again | {"domain": "http://www." + domain_of(original) + "/"})
    return rows


def domain_of(company: Row) -> str:
    """The bare domain of a company that has one."""
    host: str = company["domain"].lower().split("://")[-1].strip("/")
    return host.removeprefix("www.")


def _company(draw: Draw, index: int, name: str) -> Row:
    domain = f"{plain(name)}.example"
    written = draw.one(
        [domain] * 5 + [f"www.{domain}"] * 2 + [f"https://{domain}", f"https://www.{domain}/", domain.upper()]
    )
    city, country, phone = draw.one(words.PLACES)
    created = draw.ago(730, 60)
    return {
        "id": FIRST_ID["companies"] + index,
        "name": f"{name} {draw.one(words.LEGAL)}".strip(),
        "domain": written if draw.chance(0.86) else None,
        "phone": draw.pattern(phone) if draw.chance(0.8) else None,
        "industry": draw.one(words.INDUSTRIES) if draw.chance(0.9) else None,
        "city": city,
        "country": country,
        "employees": draw.number(1, 5000) if draw.chance(0.75) else None,
        "annual_revenue": cents(draw, 5_000_000, 90_000_000_000) if draw.chance(0.6) else None,
        "created_at": created,
        "updated_at": draw.instant(created, draw.now - timedelta(days=2)),
    }  # fmt: skip


def cents(draw: Draw, low: int, high: int) -> Decimal:
    """An amount between two numbers of cents."""
    return Decimal(draw.number(low, high)).scaleb(-2)


def people(draw: Draw, count: int, companies: list[Row], known: set[str]) -> list[Person]:
    """So many people, each with an address of its own; `known` holds the addresses that are taken, and grows."""
    return [_person(draw, companies, known) for _ in range(count)]


def _person(draw: Draw, companies: list[Row], known: set[str]) -> Person:
    first, last = draw.one(words.FIRST), draw.one(words.LAST)
    company = draw.one(companies) if draw.chance(0.88) else None
    host = domain_of(company) if company and company["domain"] else draw.one(FREE_MAIL)
    city, country, phone = draw.one(words.PLACES)
    name = f"{plain(first)}.{plain(last)}"
    email, n = f"{name}@{host}", 1
    while email in known:
        n += 1
        email = f"{name}{n}@{host}"
    known.add(email)
    return Person(first, last, email, draw.pattern(phone), draw.one(words.TITLES), city, country, company)


def contact_rows(draw: Draw, folk: list[Person]) -> list[Row]:
    """One row for each person, made dirty in places, and some people twice."""
    rows: list[Row] = []
    for person in folk:
        person.row = _contact(draw, FIRST_ID["contacts"] + len(rows), person)
        person.reachable = True
        rows.append(person.row)
    _soil_emails(draw, folk)
    for share, soil in SOILS:
        for row in draw.some(rows, portion(len(rows), share)):
            soil(draw, row)
    rows.extend(_twice(draw, folk, len(rows)))
    return rows


def _contact(draw: Draw, id_: int, person: Person) -> Row:
    created = draw.ago(730, 45)
    updated = draw.instant(created + timedelta(days=1), draw.now - timedelta(days=10))
    consent, dated = draw.one(
        [("in", True)] * 12 + [("in", False)] + [("out", True)] * 3 + [("out", False)] + [(None, False)] * 7
    )
    return {
        "id": id_,
        "company_id": person.company["id"] if person.company else None,
        "email": person.email,
        "first_name": person.first,
        "last_name": person.last,
        "phone": person.phone if draw.chance(0.88) else None,
        "job_title": person.title if draw.chance(0.85) else None,
        "city": person.city if draw.chance(0.93) else None,
        "country": person.country,
        "lifecycle": draw.one(LIFECYCLES) if draw.chance(0.95) else None,
        "owner_email": draw.one(words.OWNERS),
        "email_consent": consent,
        "consent_at": draw.instant(created, updated) if dated else None,
        "tags": sorted(draw.some(words.CRM_TAGS, draw.number(1, 2))) if draw.chance(0.3) else None,
        "created_at": created,
        "updated_at": updated,
    }  # fmt: skip


def _soil_emails(draw: Draw, folk: list[Person]) -> None:
    """Each row gets at most one of these, so that it is known what it stands for afterwards."""
    rest = draw.some(folk, len(folk))
    for share, soil in EMAIL_SOILS:
        for person in [rest.pop() for _ in range(portion(len(folk), share)) if rest]:
            soil(person)
    _soil_roles(draw, [rest.pop() for _ in range(2 * portion(len(folk), 0.003)) if rest])


def _soil_roles(draw: Draw, chosen: list[Person]) -> None:
    """Pairs of people behind one address of a role; nobody has asked them whether they want mail."""
    for one, other in zip(chosen[::2], chosen[1::2], strict=False):
        address = f"{draw.one(('info', 'sales', 'office'))}@{one.email.split('@')[1]}"
        for person in (one, other):
            assert person.row is not None, "these people were taken from the CRM's"
            person.row |= {"email": address, "email_consent": None, "consent_at": None}
            person.reachable, person.role = False, True


def _email(change: Callable[[str], str | None], valid: bool) -> Callable[[Person], None]:
    def soil(person: Person) -> None:
        assert person.row is not None, "these people were taken from the CRM's"
        person.row["email"] = change(person.email)
        person.reachable = valid

    return soil


EMAIL_SOILS = (
    (0.08, _email(lambda email: None, valid=False)),
    (0.01, _email(lambda email: email.replace(".", " ", 1), valid=False)),
    (0.005, _email(lambda email: email.replace("@", " at "), valid=False)),
    (0.02, _email(lambda email: f" {email}  ", valid=True)),
    (0.03, _email(lambda email: email.upper(), valid=True)),
)


def _change(name: str, change: Callable[[Draw, str], str | None]) -> Callable[[Draw, Row], None]:
    def soil(draw: Draw, row: Row) -> None:
        if row[name]:
            row[name] = change(draw, row[name])

    return soil


SOILS: tuple[tuple[float, Callable[[Draw, Row], None]], ...] = (
    (0.03, _change("last_name", lambda draw, name: name.upper())),
    (0.02, _change("first_name", lambda draw, name: f"{name}   ")),
    (0.02, _change("job_title", lambda draw, title: f" {title.lower()} ")),
    (0.04, lambda draw, row: row.update(phone=draw.one(words.BAD_PHONES))),
    (0.25, _change("country", lambda draw, country: draw.one(words.COUNTRY_SPELLINGS[country]))),
    (0.01, _change("first_name", lambda draw, name: None)),
)


def _twice(draw: Draw, folk: list[Person], start: int) -> list[Row]:
    """Duplicates: most with the same address in other letters, a few with a mistyped name and no address."""
    clean = [person for person in folk if person.reachable]
    chosen = draw.some(clean, portion(len(folk), 0.04))
    rows: list[Row] = []
    for person in chosen:
        row = _contact(draw, FIRST_ID["contacts"] + start + len(rows), person)
        unknown = len(rows) % 4 == 3
        email = None if unknown else draw.one((person.email.upper(), f"{person.email} ", person.email.capitalize()))
        name = _mistype(draw, person.last) if unknown or draw.chance(0.5) else person.last
        kept = {"phone": person.row["phone"]} if person.row else {}
        rows.append(row | kept | {"email": email, "last_name": name})
    return rows


def _mistype(draw: Draw, name: str) -> str:
    at = draw.number(0, len(name) - 2)
    return name[:at] + name[at + 1] + name[at] + name[at + 2 :]


def deal_rows(draw: Draw, count: int, folk: list[Person]) -> list[Row]:
    """Deals with a person, and mostly with the person's company."""
    return [_deal(draw, FIRST_ID["deals"] + index, draw.one(folk)) for index in range(count)]


def _deal(draw: Draw, id_: int, person: Person) -> Row:
    assert person.row is not None, "deals are made with the CRM's people"
    created = draw.ago(700, 20)
    who = person.company["name"].strip() if person.company else f"{person.first} {person.last}"
    return {
        "id": id_,
        "company_id": person.row["company_id"],
        "contact_id": person.row["id"] if draw.chance(0.95) else None,
        "name": f"{who} – {draw.one(words.DEAL_WORDS)}",
        "amount": cents(draw, 50_000, 25_000_000) if draw.chance(0.93) else None,
        "currency": draw.one(("USD", "USD", "USD", "EUR", "GBP")),
        "stage": draw.one(STAGES),
        "close_date": (created + timedelta(days=draw.number(10, 120))).date() if draw.chance(0.9) else None,
        "created_at": created,
        "updated_at": draw.instant(created, draw.now - timedelta(days=5)),
    }


STATUS = {"call": "completed", "email": "sent", "meeting": "completed", "task": "not_started"}


def engagement_rows(draw: Draw, count: int, folk: list[Person], deals: list[Row]) -> list[Row]:
    """Talks of every kind, the newest last; a third of them about a deal."""
    by_contact = {deal["contact_id"]: deal for deal in deals if deal["contact_id"]}
    kinds = [kind for kind in words.TALKS for _ in range(-(-count // len(words.TALKS)))][:count]
    draw.random.shuffle(kinds)
    made = [_engagement(draw, kind, draw.one(folk), by_contact) for kind in kinds]
    made.sort(key=lambda row: row["created_at"])
    return [{"id": FIRST_ID["engagements"] + index, **row} for index, row in enumerate(made)]


def _engagement(draw: Draw, kind: str, person: Person, deals: dict[int, Row]) -> Row:
    assert person.row is not None, "the CRM talks to its own people"
    topic, bodies = words.TALKS[kind]
    deal = deals.get(person.row["id"])
    happened = draw.ago(700, 3, 1_000)
    return {
        "kind": kind,
        "subject": f"{topic}: {draw.one(words.DEAL_WORDS)}" if topic else None,
        "body": draw.one(bodies),
        "occurred_at": happened,
        "status": STATUS.get(kind),
        "duration_seconds": 60 * draw.number(1, 45) if kind == "call" else None,
        "contact_id": person.row["id"],
        "company_id": person.row["company_id"],
        "deal_id": deal["id"] if deal else None,
        "created_at": happened,
        "updated_at": draw.instant(happened, draw.now - timedelta(days=1)),
    }
