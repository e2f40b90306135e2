"""The demo's world: as many as promised, the same for a seed, overlapping, dirty, and accepted by all three systems."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from connectors.hubspot.sandbox import create_app as hubspot_app
from connectors.kit.sandbox import serve
from connectors.mailchimp.sandbox import create_app as mailchimp_app
from hub.edge.demo.data import NOW, World, counts, load_crm, world
from hub.edge.demo.draw import SECOND, Draw
from hub.identity import ROLES
from hub.values import InvalidValue, parse

WORLD = world()
CONTACTS = WORLD.crm["contacts"]


def _members(of: World = WORLD) -> list[dict[str, Any]]:
    members: list[dict[str, Any]] = of.mailchimp["lists"][0]["members"]
    return members


def _valid(kind: str, value: Any) -> Any:
    try:
        return parse(kind, value)
    except InvalidValue:
        return None


def _emails(rows: list[dict[str, Any]]) -> set[str]:
    return {email for row in rows if (email := _valid("email", row["email"]))}


def _hubspot(object_: str) -> list[dict[str, Any]]:
    return [record["properties"] for record in WORLD.hubspot[object_]]


def test_there_are_as_many_as_promised() -> None:
    least = {
        "crm.companies": 200, "crm.contacts": 1000, "crm.deals": 300, "crm.engagements": 1000, "hubspot.contacts": 600,
        "hubspot.companies": 120, "hubspot.deals": 80, "hubspot.notes": 40, "hubspot.calls": 30, "mailchimp.members": 500,
    }  # fmt: skip
    there = counts(WORLD)
    assert there.keys() == least.keys()
    assert {name: count for name, count in there.items() if count < least[name]} == {}
    assert {row["kind"] for row in WORLD.crm["engagements"]} == {"note", "call", "email", "meeting", "task"}


def test_scale_multiplies_everything() -> None:
    small, large = counts(world(scale=0.1)), counts(world(scale=3))
    for name, count in counts(WORLD).items():
        assert small[name] == pytest.approx(count * 0.1, rel=0.2)
        assert large[name] == pytest.approx(count * 3, rel=0.05)


@pytest.mark.parametrize("scale", [0.001, 0.01, 0.05])
def test_even_a_tiny_world_is_whole(scale: float) -> None:
    assert all(count > 0 for count in counts(world(scale=scale)).values())


def test_a_seed_gives_the_same_world_again_and_another_seed_another() -> None:
    assert world(seed=3, scale=0.2) == world(seed=3, scale=0.2)
    assert world(seed=3, scale=0.2) != world(seed=4, scale=0.2)


def test_another_now_only_moves_the_clocks() -> None:
    later = world(now=NOW + timedelta(days=10))
    assert [row["email"] for row in later.crm["contacts"]] == [row["email"] for row in CONTACTS]
    moved = {
        after["updated_at"] - before["updated_at"]
        for before, after in zip(CONTACTS, later.crm["contacts"], strict=True)
    }
    assert moved == {timedelta(days=10)}


def _clocks(of: World) -> list[datetime]:
    rows = [row["updated_at"] for table in of.crm.values() for row in table]
    records = [
        r["updatedAt"] for name in ("contacts", "companies", "deals", "notes", "calls") for r in of.hubspot[name]
    ]
    return rows + [datetime.fromisoformat(at) for at in [*records, *(m["last_changed"] for m in _members(of))]]


def test_clocks_lie_in_the_two_years_before_now_and_no_two_are_equal() -> None:
    clocks = _clocks(WORLD)
    assert NOW - timedelta(days=731) < min(clocks)
    assert max(clocks) < NOW
    assert max(clocks) - min(clocks) > timedelta(days=500)
    assert [at for at, times in Counter(clocks).items() if times > 1] == []
    for row in [row for table in WORLD.crm.values() for row in table]:
        assert row["created_at"] <= row["updated_at"]
        assert (row.get("consent_at") or row["created_at"]) <= row["updated_at"]


def test_no_instant_is_given_twice_however_narrow_the_window() -> None:
    draw = Draw(1, NOW)
    given = [draw.instant(NOW - timedelta(seconds=3), NOW, SECOND) for _ in range(50)]
    assert len(set(given)) == 50
    assert max(given) <= NOW


def test_every_address_is_nobodys() -> None:
    addresses = (
        _emails(CONTACTS) | _emails(_hubspot("contacts")) | {member["email_address"].lower() for member in _members()}
    )
    assert {address.rsplit(".", 1)[1] for address in addresses} == {"example"}


def test_rows_and_records_refer_to_what_is_there() -> None:
    ids = {table: {row["id"] for row in rows} for table, rows in WORLD.crm.items()}
    tables = {"company_id": "companies", "contact_id": "contacts", "deal_id": "deals"}
    for row in [row for rows in WORLD.crm.values() for row in rows]:
        assert all(row[name] in ids[table] for name, table in tables.items() if row.get(name) is not None)
    held = {
        (name, record["id"])
        for name in ("contacts", "companies", "deals", "notes", "calls")
        for record in WORLD.hubspot[name]
    }
    ends = {
        tuple(end) for association in WORLD.hubspot["associations"] for end in (association["from"], association["to"])
    }
    assert ends <= held
    foreign = {record["external_id"] for record in _hubspot("contacts") if "external_id" in record}
    assert foreign
    assert foreign <= {str(id_) for id_ in ids["contacts"]}
    assert {record["external_id"] for record in _hubspot("deals") if "external_id" in record} <= {
        str(id_) for id_ in ids["deals"]
    }
    campaign = WORLD.mailchimp["campaigns"][0]
    assert {act["email"] for act in campaign["activity"]} <= {member["email_address"] for member in _members()}
    assert {act["action"] for act in campaign["activity"]} == {"open", "click"}


def test_hubspot_overlaps_with_the_crm_by_address_and_some_only_by_the_crms_id() -> None:
    known = _emails(CONTACTS)
    by_email = [p for p in _hubspot("contacts") if p["email"] in known]
    by_id_only = [p for p in _hubspot("contacts") if p["email"] not in known and "external_id" in p]
    assert 0.6 < (len(by_email) + len(by_id_only)) / len(_hubspot("contacts")) < 0.8
    assert len(by_id_only) > 30
    domains = {_valid("domain", row["domain"]) for row in WORLD.crm["companies"]}
    assert sum("domain" in p and p["domain"] in domains for p in _hubspot("companies")) == 90


def test_systems_contradict_each_other_and_either_may_be_newer() -> None:
    rows = {email: row for row in reversed(CONTACTS) if (email := _valid("email", row["email"]))}
    newer, differing = Counter[bool](), Counter[str]()
    for record in WORLD.hubspot["contacts"]:
        row, properties = rows.get(record["properties"]["email"]), record["properties"]
        if row:
            newer[datetime.fromisoformat(record["updatedAt"]) > row["updated_at"]] += 1
            differing["phone"] += _valid("phone", row["phone"]) != _valid("phone", properties.get("phone"))
            differing["job_title"] += row["job_title"] != properties["jobtitle"]
            differing["city"] += row["city"] != properties["city"]
            differing["first_name"] += row["first_name"] != properties["firstname"]
    assert min(newer.values()) > 100
    assert min(differing[name] for name in ("phone", "job_title", "city", "first_name")) > 20


@pytest.mark.parametrize("of", [WORLD, world(scale=0.1)], ids=["whole", "tenth"])
def test_consent_is_contested_in_all_four_ways(of: World) -> None:
    rows = {email: row for row in reversed(of.crm["contacts"]) if (email := _valid("email", row["email"]))}
    ways = Counter[tuple[str, str, bool]]()
    for member in _members(of):
        row = rows.get(member["email_address"].lower())
        if row and row["consent_at"] and member["status"] != "cleaned":
            clock = member["timestamp_opt" if member["status"] == "subscribed" else "last_changed"]
            ways[row["email_consent"], member["status"], row["consent_at"] > datetime.fromisoformat(clock)] += 1
    contested = [
        ("in", "unsubscribed", True),
        ("in", "unsubscribed", False),
        ("out", "subscribed", True),
        ("out", "subscribed", False),
    ]
    assert min(ways[way] for way in contested) >= 5
    assert {member["status"] for member in _members(of)} == {"subscribed", "unsubscribed", "cleaned"}
    assert any(member["tags"] for member in _members(of))


def _some(column: str, dirty: Callable[[Any], Any], table: str = "contacts") -> bool:
    return any(dirty(row[column]) for row in WORLD.crm[table] if row[column] is not None)


DIRT: dict[str, Callable[[], Any]] = {
    "no e-mail": lambda: sum(row["email"] is None for row in CONTACTS) > 0.05 * len(CONTACTS),
    "e-mail with a space in it": lambda: _some("email", lambda text: " " in text.strip() and _valid("email", text) is None),
    "e-mail with blanks around it": lambda: _some("email", lambda text: text != text.strip() and _valid("email", text)),
    "e-mail in upper case": lambda: _some("email", str.isupper),
    "a role's e-mail, shared": lambda: any(
        count > 1 and email.split("@")[0] in ROLES for email, count in Counter(r["email"] or "" for r in CONTACTS).items()
    ),
    "a telephone number that is none": lambda: _some("phone", lambda text: _valid("phone", text) is None),
    "no telephone number": lambda: any(row["phone"] is None for row in CONTACTS),
    "one country spelled in several ways": lambda: {"United States", "USA", "U.S."} <= {row["country"] for row in CONTACTS},
    "a name in upper case": lambda: _some("last_name", lambda text: len(text) > 3 and text.isupper()),
    "trailing blanks": lambda: _some("first_name", lambda text: text.endswith("  ")),
    "names that are not ASCII": lambda: _some("last_name", lambda text: not text.isascii()),
    "a company's name of 60 characters": lambda: _some("name", lambda text: len(text) == 60, "companies"),
    "a company's name in another script": lambda: _some("name", lambda text: text.startswith("株式会社"), "companies"),
    "companies without domain": lambda: any(row["domain"] is None for row in WORLD.crm["companies"]),
    "domains with www.": lambda: _some("domain", lambda text: text.startswith("www."), "companies"),
    "domains with https://": lambda: _some("domain", lambda text: text.startswith("https://"), "companies"),
    "two companies of one domain": lambda: max(
        Counter(_valid("domain", r["domain"]) for r in WORLD.crm["companies"] if r["domain"]).values()
    ) > 1,
    "consent without a date": lambda: any(row["email_consent"] == "in" and not row["consent_at"] for row in CONTACTS),
    "an amount with cents": lambda: _some("amount", lambda amount: amount % 1 != 0, "deals"),
    "a deal without amount": lambda: any(row["amount"] is None for row in WORLD.crm["deals"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", DIRT)
def test_every_kind_of_dirt_occurs(kind: str) -> None:
    assert DIRT[kind]()


def test_about_four_in_a_hundred_contacts_are_duplicates() -> None:
    emails = Counter(
        email for row in CONTACTS if (email := _valid("email", row["email"])) and email.split("@")[0] not in ROLES
    )
    same_address = sum(count - 1 for count in emails.values())
    assert 0.02 < same_address / len(CONTACTS) < 0.045
    first_names = Counter((row["first_name"], row["company_id"], row["phone"]) for row in CONTACTS if row["phone"])
    assert sum(count - 1 for count in first_names.values()) > same_address * 0.8


async def test_it_loads_into_postgresql_and_the_clocks_move_on_update(database: str) -> None:
    conn = await asyncpg.connect(database)
    try:
        await load_crm(conn, WORLD)
        for table, rows in WORLD.crm.items():
            assert await conn.fetchval(f"select count(*) from {table}") == len(rows)
        row = CONTACTS[5]
        assert dict(await conn.fetchrow("select * from contacts where id = $1", row["id"])) == row  # type: ignore[arg-type]
        assert await conn.fetchval("select sum(amount) from deals") == sum(r["amount"] or 0 for r in WORLD.crm["deals"])
        before = datetime.now(UTC) - timedelta(minutes=5)
        touched = await conn.fetchval("update contacts set city = 'Oslo' where id = $1 returning updated_at", row["id"])
        assert touched > before
        new = await conn.fetchval("insert into contacts (email) values ('new@postbox.example') returning id")
        assert new > max(row["id"] for row in CONTACTS)
        with pytest.raises(asyncpg.CheckViolationError):
            await conn.execute("update contacts set email_consent = 'maybe'")
        with pytest.raises(asyncpg.NotNullViolationError):
            await conn.execute("insert into deals (stage) values ('new')")
    finally:
        await conn.close()


async def test_the_sandboxes_take_their_seeds_as_they_are() -> None:
    async with (
        serve(hubspot_app()) as hubspot,
        serve(mailchimp_app()) as mailchimp,
        httpx.AsyncClient(timeout=60) as http,
    ):
        loaded = (await http.post(f"{hubspot.url}/_sandbox/seed", json=WORLD.hubspot)).json()
        objects = {
            name: len(WORLD.hubspot[name])
            for name in ("contacts", "companies", "deals", "notes", "calls", "associations")
        }
        assert loaded.items() >= objects.items()
        answer = (await http.post(f"{mailchimp.url}/_sandbox/seed", json=WORLD.mailchimp)).json()
        assert answer == {"lists": 1, "members": len(_members()), "campaigns": 1}
        state = (await http.get(f"{hubspot.url}/_sandbox/state")).json()
        stored = {record["id"]: record for record in state["objects"]["contacts"]}
        for record in WORLD.hubspot["contacts"]:
            assert stored[record["id"]]["properties"].items() >= record["properties"].items()
            assert stored[record["id"]]["updatedAt"] == record["updatedAt"].replace(".000Z", "Z")
