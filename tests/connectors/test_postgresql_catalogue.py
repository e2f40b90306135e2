"""Reading a database's catalogue, checking a configuration against a real server, and the decoders' odd ends."""

import asyncio

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.postgresql.arrays import parse_array, parse_record, render_array
from connectors.postgresql.catalogue import ForeignKey, catalogue
from connectors.postgresql.connector import MANIFEST, PostgreSQL
from connectors.postgresql.outbox_sql import uninstall
from connectors.postgresql.pgoutput import Other, decode
from connectors.postgresql.position import STEPS, exact, format_lsn, parse_lsn, version
from hub.change import Notice
from hub.edge.embedded import Embedded
from hub.errors import AuthError, ConfigError, Fatal, Retry
from tests.connectors.pg_fixtures import CONTACTS, Crm, contacts, crm, object_map, poll

__all__ = ["crm"]


async def test_catalogue(crm: Crm) -> None:
    """Columns with types, defaults and comments; keys, also composite; foreign keys; enums; estimates; no partitions."""
    await crm.run(
        CONTACTS,
        "CREATE TYPE stage AS ENUM ('new', 'won')",
        "CREATE TABLE deals (region text, no int GENERATED ALWAYS AS IDENTITY, stage stage DEFAULT 'new', amount numeric(9,2)"
        " NOT NULL, double numeric GENERATED ALWAYS AS (amount * 2) STORED, contact int REFERENCES contacts ON DELETE CASCADE,"
        " email text UNIQUE, PRIMARY KEY (region, no))",
        "CREATE TABLE lines (region text, deal int, n int, FOREIGN KEY (region, deal) REFERENCES deals (region, no))",
        "COMMENT ON TABLE deals IS 'what we sell'; COMMENT ON COLUMN deals.amount IS 'in euro'",
        "CREATE UNIQUE INDEX part ON lines (n) WHERE n > 1; CREATE UNIQUE INDEX expression ON lines ((n + 1))",
        "CREATE TABLE logs (at timestamptz PRIMARY KEY) PARTITION BY RANGE (at)",
        "CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
        "CREATE VIEW seen AS SELECT 1 AS one; CREATE SCHEMA other; CREATE TABLE other.deals (id int)",
        "INSERT INTO companies (name) SELECT 'x' FROM generate_series(1, 500); ANALYZE companies",
    )
    tables = {table.full_name: table for table in await catalogue(crm.url)}
    assert list(tables) == [
        "other.deals", "public.companies", "public.contacts", "public.deals", "public.lines", "public.logs"]  # fmt: skip
    deals, lines = tables["public.deals"], tables["public.lines"]
    assert [(c.name, c.type, c.nullable, c.generated, c.identity, c.labels) for c in deals.columns] == [
        ("region", "text", False, "", False, ()),
        ("no", "integer", False, "", True, ()),
        ("stage", "stage", True, "", False, ("new", "won")),
        ("amount", "numeric(9,2)", False, "", False, ()),
        ("double", "numeric", True, "s", False, ()),
        ("contact", "integer", True, "", False, ()),
        ("email", "text", True, "", False, ()),
    ]
    assert (deals.primary_key, deals.comment, deals.columns[3].comment) == (("region", "no"), "what we sell", "in euro")
    assert set(deals.unique) == {("region", "no"), ("email",)}
    assert deals.foreign_keys == (ForeignKey(("contact",), "public", "contacts", ("id",)),)
    assert lines.foreign_keys == (ForeignKey(("region", "deal"), "public", "deals", ("region", "no")),)
    assert (lines.primary_key, lines.unique, lines.replica) == ((), (), None)
    assert (tables["public.logs"].kind, tables["public.companies"].rows) == ("partitioned table", 500)


async def test_unreachable_and_unreadable_addresses(postgres: Embedded) -> None:
    """Each is told apart, and a password never stands in the message."""
    missing = postgres.url("no_such_database")
    with pytest.raises(AuthError, match="does not exist"):
        await catalogue(missing)
    with pytest.raises(AuthError):
        await catalogue(postgres.url().replace("postgres@", "nobody:hunter2@"))
    with pytest.raises(Retry) as down:
        await catalogue("postgresql://u:hunter2@127.0.0.1:1/x")
    for wrong in ("mysql://u:hunter2@h/x", "hunter2", "postgresql://u:hunter2@h:port/x"):
        with pytest.raises(ConfigError) as unreadable:
            await catalogue(wrong)
        assert "hunter2" not in str(unreadable.value)
    assert "hunter2" not in str(down.value)


async def test_check_changes_nothing_and_says_what_it_found(crm: Crm) -> None:
    """Before the first run everything is still to be made; after it all is proven."""
    await crm.run(CONTACTS)
    connector = crm.make(contacts())
    before = await connector.check()
    assert all(finding.ok for finding in before)
    assert any("will be made by the first run" in finding.what for finding in before)
    assert await crm.conn.fetchval("SELECT count(*) FROM pg_publication") == 0
    await connector.open()
    await poll(connector)
    after = [finding.what for finding in await connector.check()]
    assert any(what.startswith("connected to PostgreSQL 18") for what in after)
    assert "contacts: may select, update, insert, delete in public.contacts" in after
    assert any(what.startswith(f"replication slot {crm.slot} is reserved") for what in after)


async def test_check_reports_what_is_wrong(crm: Crm) -> None:
    """A configuration that does not fit, a server that is not there, an outbox that nobody reads."""
    await crm.run(CONTACTS)
    wrong = crm.make(object_map("contact", {}))
    assert [f.what for f in await wrong.check()] == [
        "crm.contact.table: there is no table public.contact, or the role may not see it"
    ]
    down = crm.make(contacts(), url="postgresql://u@127.0.0.1:1/x")
    assert [f.ok for f in await down.check()] == [False]
    await crm.open(contacts(), capture="outbox")
    logical = await crm.open(contacts())
    assert [f.suggestion for f in await logical.check() if not f.ok] == ["DROP SCHEMA hub_outbox CASCADE"]


async def test_outbox_comes_and_goes(crm: Crm) -> None:
    """Opened again it changes nothing; uninstalled, nothing of it is left."""
    await crm.run(CONTACTS)
    connector = await crm.open(contacts(), capture="outbox")
    triggers = "SELECT oid, xmin::text FROM pg_trigger WHERE tgname LIKE 'hub_outbox%' ORDER BY oid"
    first = await crm.conn.fetch(triggers)
    await connector.open()
    assert await crm.conn.fetch(triggers) == first
    assert len(first) == 3
    await crm.run(uninstall(connector._index.tables))
    assert await crm.conn.fetch(triggers) == []
    assert await crm.conn.fetchval("SELECT to_regnamespace('hub_outbox')") is None


@pytest.mark.parametrize(("setting", "value"), [("capture", "magic"), ("on_truncate", "maybe")])
def test_settings_that_are_none(setting: str, value: str) -> None:
    """Said at once, with what there is."""
    with pytest.raises(ConfigError, match=rf"crm\.{setting}: '{value}' is none of"):
        PostgreSQL("crm", {"url": "postgresql://x", setting: value}, {})
    assert {s.name for s in MANIFEST.settings if s.secret} == {"url"}


async def test_not_open_is_said() -> None:
    """Before `open` nothing works, and it is no mystery."""
    connector = PostgreSQL("crm", {"url": "postgresql://x"}, {})
    with pytest.raises(Fatal, match="not open"):
        await connector.fetch([Notice("crm", "contacts", "1", "updated")])


def test_versions_grow_and_fit() -> None:
    """Adjacent commits and all their steps are in order, up to the largest log position that fits 63 bits."""
    commits = [0, 40, 80, 2**40, 2**40 + 40, 2**55 - 40]
    versions = [version(commit, step) for commit in commits for step in (0, 1, STEPS - 2)]
    assert versions == sorted(set(versions))
    assert versions[-1] < 2**63
    assert version(40, STEPS - 1) == version(40, 10 * STEPS) < version(80)
    assert [exact(STEPS - 2), exact(STEPS - 1)] == [True, False]
    assert [format_lsn(parse_lsn(text)) for text in ("0/0", "16/B374D848", "FFFF/FFFFFFFF")] == [
        "0/0", "16/B374D848", "FFFF/FFFFFFFF"]  # fmt: skip


def test_messages_of_later_protocols_are_passed_over() -> None:
    """An unknown message says nothing about rows."""
    assert decode(b"S\x00\x00\x00\x01\x01") == Other("S")
    assert decode(b"Y\x00\x00\x00\x01public\x00mood\x00") == Other("Y")


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
NESTED = st.lists(st.lists(TEXT | st.none(), min_size=2, max_size=2), min_size=1, max_size=3)


@given(value=st.lists(TEXT | st.none(), max_size=6) | NESTED, cells=st.lists(TEXT | st.none(), min_size=2, max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arrays_and_records_as_the_server_writes_them(
    postgres: Embedded, value: list[object], cells: list[str | None]
) -> None:
    """What the server makes of our array literal is what we read back, and its record literals are taken apart rightly."""

    async def ask() -> tuple[str, str]:
        conn = await asyncpg.connect(postgres.url())
        try:
            literal = render_array(value, lambda item: item)
            array = await conn.fetchval("SELECT format('%s', $1::text::text[])", literal)
            places = ", ".join(f"${n}::text" for n in range(1, len(cells) + 1))
            return array, await conn.fetchval(f"SELECT ROW({places})::text", *cells)
        finally:
            await conn.close()

    array, record = asyncio.run(ask())
    assert parse_array(array, lambda text: text) == value
    assert parse_record(record) == cells
