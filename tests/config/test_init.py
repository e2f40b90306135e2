"""`hub init` on real databases: what it writes is right as it stands, explains itself, and holds no secret."""

import os
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from rich.console import Console

from connectors.registry import CONNECTORS
from hub.config import Config, load
from hub.config.source import read
from hub.edge.embedded import Embedded
from hub.edge.initial.columns import singular, spell
from hub.edge.initial.init import Written, init, show
from hub.edge.initial.render import flow
from hub.errors import AuthError, ConfigError
from hub.mapping import decode, encode
from tests.config.databases import ODD, chinook, content, fill, put, there
from tests.config.samples import MANIFESTS

GOLDEN = Path(__file__).parent / "golden"


async def proposed(url: str, sql: str, path: Path, *to: str, **more: Any) -> Written:
    await fill(url, sql)
    return await init(url, path, manifests=MANIFESTS, to=to, **more)


def expect(text: str, name: str, database: str) -> None:
    """Compare with a golden file; HUB_GOLDEN=write writes it anew."""
    path = GOLDEN / name
    text = text.replace(database, "the_database")
    if os.environ.get("HUB_GOLDEN") == "write":
        put(path, text)
    assert text == content(path)


async def row(url: str, query: str) -> dict[str, Any]:
    """The first row of a query."""
    conn = await asyncpg.connect(url)
    try:
        return dict((await conn.fetch(query))[0])
    finally:
        await conn.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hub.yaml"


async def test_chinooks_customers_and_invoices_are_right_without_editing(database: str, path: Path) -> None:
    written = await proposed(database, chinook(), path, "hubspot")
    expect(content(path), "chinook.yaml", _name(database))
    config = load(path, MANIFESTS, {})
    assert config.warnings == ()
    crm, hubspot = (config.systems[name].objects for name in ("crm", "hubspot"))
    customer = await row(database, "SELECT * FROM customer WHERE customer_id = 1")
    columns = "invoice_id, customer_id, invoice_date::text, total::text"
    invoice = await row(database, f"SELECT {columns} FROM invoice WHERE invoice_id = 98")
    contact = decode(crm["customer"], customer)
    assert contact.invalid == {}
    assert encode(hubspot["contacts"], contact.values) == {
        "email": "luisg@embraer.com.br",
        "firstname": "Luís",
        "lastname": "Gonçalves",
        "phone": "+551239235555",
    }
    deal = decode(crm["invoice"], invoice)
    assert deal.invalid == {}
    assert deal.values["contact"] == {"system": "crm", "object": "customer", "id": "1"}
    assert encode(hubspot["deals"], deal.values) == {
        "dealname": "Invoice 98",
        "amount": "3.98",
        "closedate": "2022-03-11",
        "dealstage": "closedwon",
        "associations.contacts": "1",
    }
    assert not crm["customer"].create
    assert not [field for field in crm["invoice"].fields if field.direction != "in"]
    assert written.variables == ("CRM_URL", "HUBSPOT_TOKEN")


async def test_without_a_target_an_invoice_is_an_invoice(database: str, path: Path) -> None:
    await proposed(database, chinook(), path)
    invoice = load(path, MANIFESTS, {}).systems["crm"].objects["invoice"]
    assert invoice.entity.name == "invoice"
    assert [field.name for field in invoice.fields] == ["amount", "issued_on", "customer"]


async def test_a_database_with_everything_that_is_odd(database: str, path: Path) -> None:
    written = await proposed(database, ODD, path, "hubspot", "mailchimp")
    expect(content(path), "odd.yaml", _name(database))
    objects = load(path, MANIFESTS, {}).systems["crm"].objects
    assert {name: mapping.entity.name for name, mapping in objects.items()} == {
        "tbl_accounts": "company",
        "customer": "contact",
        "leads": "contact",
        "weird": "contact",
        "opportunities": "deal",
        "invoices": "invoice",
        "activities": "engagement",
    }
    assert objects["invoices"].settings["key"] == ["year", "no"]
    assert written.proposal.left["public.people_nokey"].startswith("no primary key")
    assert written.proposal.left["public.contacts_view"] == "a view reports no changes"


async def test_an_opt_out_column_never_counts_as_an_opt_in(database: str, path: Path) -> None:
    await proposed(database, ODD, path, "mailchimp")
    customer = load(path, MANIFESTS, {}).systems["crm"].objects["customer"]
    assert decode(customer, {"DoNotEmail": False}).values == {"consent": None}
    assert decode(customer, {"DoNotEmail": True}).values == {"consent": {"status": "out", "at": None}}


async def test_what_is_written_holds_for_the_real_connectors(database: str, path: Path) -> None:
    await fill(database, ODD)
    manifests = {name: manifest for name, (manifest, _) in CONNECTORS.items()}
    await init(database, path, manifests=manifests, to=["hubspot", "mailchimp"])
    config: Config = load(path, manifests, {})
    assert list(config.systems["hubspot"].objects) == [
        "contacts", "companies", "deals", "notes", "calls", "emails", "meetings", "tasks",
    ]  # fmt: skip
    assert content(path.with_name("hub.schema.json")).startswith("{")


async def test_an_empty_table_and_a_role_that_may_read_nothing(postgres: Embedded, database: str, path: Path) -> None:
    role = f"reader_{_name(database)}"
    script = f"""
      CREATE TABLE clients (id serial PRIMARY KEY, surname text, telephone text);
      CREATE ROLE {role} LOGIN PASSWORD 'hunter2';
    """
    await fill(database, script)
    url = database.replace("postgres@", f"{role}:hunter2@")
    try:
        written = await init(url, path, manifests=MANIFESTS)
        assert list(written.to_json()["objects"][0]["fields"]) == ["last_name", "phone"]
        assert "hunter2" not in content(path) + content(path.with_name("hub.schema.json"))
    finally:
        await fill(database, f"DROP ROLE {role}")


async def test_accounts_of_persons_and_of_businesses_are_told_apart_by_their_names(database: str, path: Path) -> None:
    script = """
      CREATE TABLE clients (id serial PRIMARY KEY, name text, phone text, city text);
      INSERT INTO clients (name) VALUES ('Acme Inc.'), ('Globex GmbH'), ('Initech');
    """
    assert (await proposed(database, script, path)).proposal.objects[0].entity == "company"
    script = "TRUNCATE clients; INSERT INTO clients (name) VALUES ('Ann Miller'), ('Bob de Vries');"
    assert (await proposed(database, script, path, force=True)).proposal.objects[0].entity == "contact"


async def test_keys_without_foreign_keys_are_references_by_their_names(database: str, path: Path) -> None:
    script = """
      CREATE TABLE companies (id serial PRIMARY KEY, name text, domain text);
      CREATE TABLE contacts (id serial PRIMARY KEY, email text, company_id integer);
    """
    await proposed(database, script, path)
    contacts = load(path, MANIFESTS, {}).systems["crm"].objects["contacts"]
    assert next(field.object for field in contacts.fields if field.name == "company") == "companies"


async def test_tables_of_one_name_in_two_schemas(database: str, path: Path) -> None:
    script = "".join(
        f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.contacts (id serial PRIMARY KEY, email text);"
        for schema in ("a", "b")
    )
    written = await proposed(database, script, path)
    assert [(p.object, p.create) for p in written.proposal.objects] == [("a_contacts", True), ("b_contacts", False)]


async def test_a_consent_whose_words_are_not_understood_is_left_out(database: str, path: Path) -> None:
    script = """
      CREATE TABLE contacts (id serial PRIMARY KEY, email text, consent text);
      INSERT INTO contacts (email, consent) VALUES ('a@example.com', 'perhaps');
    """
    written = await proposed(database, script, path, "mailchimp")
    assert written.proposal.objects[0].left == ("consent",)
    assert "mailchimp gets nobody" in content(path)


async def test_a_stage_whose_words_are_not_understood_is_left_out(database: str, path: Path) -> None:
    script = """
      CREATE TABLE deals (id serial PRIMARY KEY, name text, amount numeric, stage text);
      INSERT INTO deals (name, stage) VALUES ('a', 'won'), ('b', 'in limbo');
    """
    assert (await proposed(database, script, path)).proposal.objects[0].left == ("stage",)


async def test_nothing_is_overwritten_unless_told(database: str, path: Path) -> None:
    put(path, "mine")
    with pytest.raises(ConfigError, match="exists already"):
        await init(database, path, manifests=MANIFESTS)
    assert content(path) == "mine"


async def test_what_cannot_be_proposed_is_explained(database: str, path: Path) -> None:
    with pytest.raises(ConfigError, match="no table was recognised"):
        await proposed(database, "CREATE TABLE readings (id serial PRIMARY KEY, celsius numeric)", path)
    with pytest.raises(ConfigError, match="did you mean hubspot"):
        await init(database, path, manifests=MANIFESTS, to=["hubspt"])
    with pytest.raises(ConfigError, match="where the records come from"):
        await init(database, path, manifests=MANIFESTS, to=["postgresql"])
    assert not there(path)


async def test_an_address_that_is_none_is_not_repeated(path: Path) -> None:
    with pytest.raises((ConfigError, AuthError)) as raised:
        await init("mysql://me:hunter2@db/x", path, manifests=MANIFESTS)
    assert "hunter2" not in str(raised.value)


async def test_it_is_shown_for_people(database: str, path: Path) -> None:
    written = await proposed(database, ODD, path, "hubspot")
    console = Console(record=True, width=200)
    show(written, console)
    text = console.export_text()
    assert "Sales.Customer" in text
    assert "export CRM_URL, HUBSPOT_TOKEN and run: hub check" in text


def test_names_are_spelt_alike() -> None:
    names = ("CustomerEMail", "customer e-mail", "CUSTOMER_E_MAIL", "customerE-Mail", "customer__e_mail")
    assert {spell(name) for name in names} == {"customer_e_mail"}
    words = ("companies", "addresses", "cases", "status", "boss", "bus", "orders", "news")
    assert [singular(word) for word in words] == ["company", "address", "case", "status", "boss", "bus", "order", "new"]


@pytest.mark.parametrize(
    "value",
    ["no", "Yes", "null", "a: b", "a #b", "${X}", "-", "", " x", "12", "1e3", "é", 'a"b', "a\nb", "*x", "[", True, None, 7,
     ["a", "no"], {"a b": ["x: y", {"no": "on"}]}],
)  # fmt: skip
def test_whatever_is_written_is_read_as_it_was(value: Any) -> None:
    assert read(f"key: {flow(value)}\n", "x").data == {"key": value}


def _name(url: str) -> str:
    return url.split("/")[-1].split("?")[0] if "@/" not in url else url.split("@/")[1].split("?")[0]
