"""Capture from the log of a real server: what a change looks like, what it leaves out, and how it resumes."""

from typing import Any

import pytest

from hub.errors import ConfigError, Fatal, Retry
from tests.connectors.pg_fixtures import (
    CONTACTS,
    Crm,
    all_changes,
    companies,
    contacts,
    crm,
    folded,
    object_map,
    pages,
    poll,
)

__all__ = ["crm"]

TYPES = """
CREATE TYPE mood AS ENUM ('sad', 'quite "well"');
CREATE DOMAIN cents AS bigint;
CREATE TYPE pair AS (a int, b text);
CREATE TABLE things (
    id bigint PRIMARY KEY, b boolean, i smallint, big bigint, n numeric, f double precision, tz timestamptz, ts timestamp,
    d date, t time, j jsonb, raw bytea, tags text[], grid int[], m mood, cents cents, u uuid, c char(5), p pair, r int4range,
    iv interval, moods mood[], stored int GENERATED ALWAYS AS (i * 2) STORED, virtual int GENERATED ALWAYS AS (i * 3) VIRTUAL
);
"""
ROWS = r"""
INSERT INTO things VALUES (1, true, -32768, 9223372036854775807, 12345678901234567890.123456789012345, 0.1,
    '2024-02-29 23:59:59.5+02', '2024-01-01 00:00', '2024-02-29', '12:34',
    '{"a": 1.10, "b": [1, 18446744073709551617], "c": null}', '\xdeadbeef', '{a,"b c","d\"e",NULL,""}', '{{1,2},{3,4}}',
    'quite "well"', 5, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'ab', '(1,"x y")', '[1,5)', '1 day 2 hours',
    '{sad,"quite \"well\""}');
INSERT INTO things VALUES (2, false, 0, -9223372036854775808, 'NaN', 'Infinity',
    'infinity', '-infinity', 'infinity', '24:00', '1', '', '{}', '[0:1]={7,8}');
INSERT INTO things VALUES (3, NULL, NULL, NULL, '-0.00', '-1e300',
    '12024-01-01 00:00+00', '0044-03-15 00:00 BC', '12024-05-06', NULL, 'null', NULL, '{NULL}');
"""
FIRST: dict[str, Any] = {
    "id": 1, "b": True, "i": -32768, "big": 9223372036854775807, "n": "12345678901234567890.123456789012345", "f": "0.1",
    "tz": "2024-02-29T21:59:59.5Z", "ts": "2024-01-01T00:00:00", "d": "2024-02-29", "t": "12:34:00",
    "j": {"a": "1.10", "b": [1, "18446744073709551617"], "c": None}, "raw": "3q2+7w==",
    "tags": ["a", "b c", 'd"e', None, ""], "grid": [[1, 2], [3, 4]], "m": 'quite "well"', "cents": 5,
    "u": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "c": "ab   ", "p": '(1,"x y")', "r": "[1,5)", "iv": "P1DT2H",
    "moods": ["sad", 'quite "well"'], "stored": -65536,
}  # fmt: skip


@pytest.mark.parametrize("capture", ["logical", "outbox"])
async def test_values_of_every_kind(crm: Crm, capture: str) -> None:
    """A row is the same whether it was read by a snapshot or from the feed; extremes survive, absent is not null."""
    await crm.run(TYPES)
    connector = await crm.open(object_map("things", {"i": "integer"}), capture=capture)
    _, checkpoint = await poll(connector)
    await crm.run(ROWS)
    streamed, _ = await poll(connector, checkpoint)
    again, _ = await poll(connector)  # from the beginning: by snapshot
    assert {c.channel for c in streamed} == {"log" if capture == "logical" else "outbox"}
    first, second, third = (dict(c.fields) for c in sorted(streamed, key=lambda c: c.external_id))
    assert first == FIRST
    assert (second["n"], second["f"], second["tz"], second["ts"], second["d"]) == (
        "NaN", "Infinity", "infinity", "-infinity", "infinity")  # fmt: skip
    assert (second["big"], second["grid"], second["tags"], second["raw"], second["m"]) == (
        -(2**63),
        [7, 8],
        [],
        "",
        None,
    )
    assert (third["n"], third["tz"], third["ts"], third["j"]) == (
        "0.00", "12024-01-01 00:00:00+00", "0044-03-15 00:00:00 BC", None)  # fmt: skip
    assert third["stored"] is None
    snapshot = {c.external_id: dict(c.fields) for c in again if c.channel == "snapshot"}
    assert snapshot == {"1": first, "2": second, "3": third}


async def test_untouched_large_value_is_unknown(crm: Crm) -> None:
    """The log lacks a large value that was not touched: it is absent, not null; a touched one and null are there."""
    await crm.run(CONTACTS, "ALTER TABLE contacts ALTER COLUMN notes SET STORAGE EXTERNAL")
    connector = await crm.open(contacts())
    _, checkpoint = await poll(connector)
    await crm.run(
        "INSERT INTO contacts (first_name, notes) VALUES ('a', repeat('x', 100000))",
        "UPDATE contacts SET first_name = 'b'",
        "UPDATE contacts SET notes = NULL",
    )
    inserted, renamed, cleared = (await poll(connector, checkpoint))[0]
    assert inserted.fields["notes"] == "x" * 100000
    assert "notes" not in renamed.fields
    assert renamed.fields["first_name"] == "b"
    assert cleared.fields["notes"] is None


async def test_untouched_large_value_is_known_with_full_identity(crm: Crm) -> None:
    """With a full replica identity the old row tells it."""
    await crm.run(CONTACTS, "ALTER TABLE contacts ALTER COLUMN notes SET STORAGE EXTERNAL")
    await crm.run("ALTER TABLE contacts REPLICA IDENTITY FULL")
    connector = await crm.open(contacts())
    _, checkpoint = await poll(connector)
    await crm.run("INSERT INTO contacts (notes) VALUES (repeat('x', 100000))", "UPDATE contacts SET first_name = 'b'")
    _, renamed = (await poll(connector, checkpoint))[0]
    assert renamed.fields["notes"] == "x" * 100000


@pytest.mark.parametrize("capture", ["logical", "outbox"])
async def test_changed_key_is_a_delete_and_an_upsert(crm: Crm, capture: str) -> None:
    """The old record goes, the new one comes, in one transaction."""
    await crm.run(CONTACTS)
    connector = await crm.open(contacts(), capture=capture)
    _, checkpoint = await poll(connector)
    await crm.run("INSERT INTO contacts (id, first_name) VALUES (1, 'a')", "UPDATE contacts SET id = 2")
    changes, _ = await poll(connector, checkpoint)
    assert sorted((c.external_id, c.op) for c in changes[1:]) == [("1", "delete"), ("2", "upsert")]
    assert list(folded(changes)) == [("contacts", "2")]


@pytest.mark.parametrize("capture", ["logical", "outbox"])
async def test_composite_key_with_separator(crm: Crm, capture: str) -> None:
    """Several key columns make one id that can be taken apart again."""
    await crm.run("CREATE TABLE lines (a text, b int, v text, PRIMARY KEY (a, b))")
    connector = await crm.open(object_map("lines", {"v": "text"}), capture=capture, page=1)
    await crm.run("INSERT INTO lines VALUES ('x/y%', 1, 'old'), ('x', 2, 'old'), ('', 3, 'old')")
    found, checkpoint = await poll(connector)
    await crm.run("UPDATE lines SET v = 'new' WHERE b = 1", "DELETE FROM lines WHERE b = 2")
    later, _ = await poll(connector, checkpoint)
    assert {c.external_id for c in found} == {"x%2Fy%25/1", "x/2", "/3"}
    assert [(c.external_id, c.op) for c in later] == [("x%2Fy%25/1", "upsert"), ("x/2", "delete")]


@pytest.mark.parametrize("capture", ["logical", "outbox"])
async def test_partitioned_table(crm: Crm, capture: str) -> None:
    """Partitions report as their root; a row that moves between them stays one record."""
    await crm.run(
        "CREATE TABLE orders (id int, region text, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region)",
        "CREATE TABLE orders_eu PARTITION OF orders FOR VALUES IN ('eu')",
        "CREATE TABLE orders_us (v text, region text NOT NULL, id int NOT NULL, PRIMARY KEY (id, region))",
        "ALTER TABLE orders ATTACH PARTITION orders_us FOR VALUES IN ('us')",
    )
    await crm.run("CREATE UNIQUE INDEX ON orders (id, region)")
    connector = await crm.open(object_map("orders", {"v": "text"}), capture=capture)
    await crm.run("INSERT INTO orders VALUES (1, 'eu', 'a'), (2, 'us', 'b')")
    found, checkpoint = await poll(connector)
    await crm.run("UPDATE orders SET v = 'c' WHERE id = 2", "UPDATE orders SET region = 'us' WHERE id = 1")
    later, _ = await poll(connector, checkpoint)
    assert {c.external_id for c in found} == {"1/eu", "2/us"}
    assert {k: f["v"] for k, f in folded([*found, *later]).items()} == {
        ("orders", "2/us"): "c",
        ("orders", "1/us"): "a",
    }


@pytest.mark.parametrize("capture", ["logical", "outbox"])
async def test_rolled_back_is_invisible(crm: Crm, capture: str) -> None:
    """Neither an aborted transaction nor an aborted savepoint leaves a change."""
    await crm.run(CONTACTS)
    connector = await crm.open(contacts(), capture=capture)
    _, checkpoint = await poll(connector)
    await crm.run("BEGIN; INSERT INTO contacts (first_name) VALUES ('no'); ROLLBACK")
    await crm.run(
        "BEGIN; INSERT INTO contacts (id, first_name) VALUES (7, 'yes'); SAVEPOINT s;"
        " INSERT INTO contacts (id, first_name) VALUES (8, 'no'); UPDATE contacts SET first_name = 'no'; ROLLBACK TO s; COMMIT"
    )
    changes, _ = await poll(connector, checkpoint)
    assert [(c.external_id, c.fields["first_name"]) for c in changes] == [("7", "yes")]


async def test_a_transaction_reports_each_record_once(crm: Crm) -> None:
    """As the transaction leaves it: nobody ever saw what was between."""
    await crm.run(CONTACTS)
    connector = await crm.open(contacts(), companies())
    _, checkpoint = await poll(connector)
    await crm.run(
        "BEGIN; INSERT INTO contacts (id, first_name) VALUES (1, 'a'), (2, 'a'); UPDATE contacts SET first_name = 'b';"
        " DELETE FROM contacts WHERE id = 2; INSERT INTO companies (id, name) VALUES (1, 'c'); COMMIT"
    )
    changes, _ = await poll(connector, checkpoint)
    assert [(c.object, c.external_id, c.op) for c in changes] == [
        ("contacts", "1", "upsert"), ("contacts", "2", "delete"), ("companies", "1", "upsert")]  # fmt: skip
    assert changes[0].fields["first_name"] == "b"
    assert len({c.version for c in changes}) == 1
    assert changes[0].exact
    clock = await crm.conn.fetchval("SELECT (extract(epoch FROM now()) * 1000000)::bigint")
    assert clock - 600_000_000 < (changes[0].at or 0) <= clock


async def test_versions_follow_commits_not_log_places(crm: Crm) -> None:
    """A key that is deleted and inserted again with a deferred check: the insert stands first in the log, and is last."""
    await crm.run("CREATE TABLE codes (code text, v text); ALTER TABLE codes REPLICA IDENTITY FULL")
    await crm.run("ALTER TABLE codes ALTER code SET NOT NULL; CREATE UNIQUE INDEX ON codes (code)")
    connector = await crm.open(object_map("codes", {"v": "text"}, key="code"))
    await crm.run("INSERT INTO codes VALUES ('k', 'one')")
    first, checkpoint = await poll(connector)
    other = await crm.connect()
    await crm.run("DROP INDEX codes_code_idx")  # stands for a unique check that comes after the row is in the log
    await other.execute("BEGIN; INSERT INTO codes VALUES ('k', 'two')")
    await crm.run("DELETE FROM codes WHERE v = 'one'")
    await other.execute("COMMIT")
    await other.close()
    later, _ = await poll(connector, checkpoint)
    assert [c.op for c in later] == ["delete", "upsert"]
    assert {k: f["v"] for k, f in folded([*first, *later]).items()} == {("codes", "k"): "two"}


async def test_soft_deleted_rows(crm: Crm) -> None:
    """A row that is marked counts as deleted, and comes back when it is unmarked."""
    await crm.run(CONTACTS, "ALTER TABLE contacts ADD gone boolean NOT NULL DEFAULT false")
    await crm.run("INSERT INTO contacts (id, gone) VALUES (1, true), (2, false)")
    connector = await crm.open(contacts(soft_delete={"gone": True}))
    found, checkpoint = await poll(connector)
    await crm.run("UPDATE contacts SET gone = NOT gone")
    later, _ = await poll(connector, checkpoint)
    assert {(c.external_id, c.op) for c in found} == {("1", "delete"), ("2", "upsert")}
    assert {(c.external_id, c.op) for c in later} == {("2", "delete"), ("1", "upsert")}


async def test_truncate_stops_or_is_ignored(crm: Crm) -> None:
    """The log does not say what a TRUNCATE removed: what came before it is delivered, then a person must decide."""
    await crm.run(CONTACTS)
    connector = await crm.open(contacts())
    _, checkpoint = await poll(connector)
    await crm.run("INSERT INTO contacts (id) VALUES (1)", "TRUNCATE contacts", "INSERT INTO contacts (id) VALUES (2)")
    polled = connector.poll(connector.streams()[0].name, checkpoint)
    before = await anext(polled)
    assert [c.external_id for c in before.changes] == ["1"]
    with pytest.raises(Fatal, match=r"public\.contacts was truncated"):
        await anext(polled)
    with pytest.raises(Fatal, match=r"public\.contacts was truncated"):
        await poll(connector, before.checkpoint)
    ignoring = await crm.open(contacts(), on_truncate="ignore")
    later, _ = await poll(ignoring, before.checkpoint)
    assert [(c.external_id, c.op) for c in later] == [("2", "upsert")]


async def test_columns_and_types_added_later(crm: Crm) -> None:
    """What the table gets while the connector is open is captured, too."""
    await crm.run(CONTACTS)
    connector = await crm.open(contacts())
    _, checkpoint = await poll(connector)
    await crm.run("CREATE TYPE size AS ENUM ('S', 'L')", "ALTER TABLE contacts ADD size size, ADD sizes size[]")
    await crm.run("INSERT INTO contacts (id, size, sizes) VALUES (1, 'L', '{S,L}')")
    (change,), _ = await poll(connector, checkpoint)
    assert (change.fields["size"], change.fields["sizes"]) == ("L", ["S", "L"])


async def test_odd_names_are_quoted(crm: Crm) -> None:
    """Names with quotes, capitals, spaces and percent signs are only names."""
    await crm.run(
        'CREATE SCHEMA "Odd"; CREATE TABLE "Odd"."Ta""ble; DROP" ("I d" int PRIMARY KEY, "va%s\'l" text, "${x}" text)'
    )
    odd = object_map("odd", {"va%s'l": "text"}, table='Odd.Ta"ble; DROP')
    connector = await crm.open(odd)
    await crm.run('INSERT INTO "Odd"."Ta""ble; DROP" VALUES (1, \'a\', \'b\')')
    found, checkpoint = await poll(connector)
    await crm.run('UPDATE "Odd"."Ta""ble; DROP" SET "va%s\'l" = \'c\'')
    later, _ = await poll(connector, checkpoint)
    assert [c.fields for c in found] == [{"I d": 1, "va%s'l": "a", "${x}": "b"}]
    assert [c.fields["va%s'l"] for c in later] == ["c"]


@pytest.mark.parametrize(
    ("ddl", "settings", "message"),
    [
        ("CREATE TABLE contacts (id int)", {}, "has no primary key"),
        ("CREATE TABLE contacts (id int, c text)", {"key": "c"}, "may be NULL"),
        ("CREATE TABLE contacts (id int, c text NOT NULL)", {"key": "c"}, "is not unique"),
        ("CREATE TABLE contacts (id int, c text NOT NULL UNIQUE)", {"key": "c"}, "own updates fail"),
        ("CREATE TABLE contacts (id int PRIMARY KEY, c text NOT NULL UNIQUE)", {"key": "c"}, "does not carry c"),
        ("CREATE TABLE contact (id int PRIMARY KEY)", {}, "there is no table public.contacts"),
        ("CREATE TABLE contacts (id int PRIMARY KEY, c text)", {"key": "d"}, "has no column d"),
        ("CREATE TABLE contacts (id int PRIMARY KEY DEFERRABLE, c text)", {}, "is not unique"),
    ],
)
async def test_what_does_not_fit_is_said(crm: Crm, ddl: str, settings: dict[str, Any], message: str) -> None:
    """A table that cannot be captured rightly is refused, and never published."""
    await crm.run(ddl)
    with pytest.raises(ConfigError, match=message):
        await crm.open(object_map("contacts", {}, **settings))
    assert await crm.conn.fetchval("SELECT count(*) FROM pg_publication") == 0


async def test_missing_column_gets_a_suggestion(crm: Crm) -> None:
    """The nearest name is offered."""
    await crm.run(CONTACTS)
    with pytest.raises(ConfigError, match=r"no column fist_name \(did you mean first_name\?\)"):
        await crm.open(object_map("contacts", {"fist_name": "text"}))


async def test_foreign_notes_in_the_log_are_harmless(crm: Crm) -> None:
    """Others may put messages into the log, even under our prefix."""
    await crm.run(CONTACTS)
    connector = await crm.open(contacts())
    _, checkpoint = await poll(connector)
    await crm.run(
        "SELECT pg_logical_emit_message(false, 'hub', 'not json'), pg_logical_emit_message(true, 'other', '{}')",
        "BEGIN; SELECT pg_logical_emit_message(true, 'hub', '[1'); SELECT pg_logical_emit_message(true, 'hub', '[1]');"
        " INSERT INTO contacts (id) VALUES (1); COMMIT",
    )
    changes, _ = await poll(connector, checkpoint)
    assert [(c.external_id, c.intent) for c in changes] == [("1", None)]


async def test_idle_log_is_let_go(crm: Crm) -> None:
    """What other tables write is released without changes, so that the server need not keep it."""
    await crm.run(CONTACTS, "CREATE TABLE other (v text)")
    connector = await crm.open(contacts())
    _, checkpoint = await poll(connector)
    assert await pages(connector, checkpoint) == []
    await crm.run("INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 3000)")
    before = await connector.slot_state()
    found = await pages(connector, checkpoint)
    assert all_changes(found) == []
    after = await connector.slot_state()
    assert before is not None
    assert after is not None
    assert before.behind > 3_000_000 > after.behind
    assert await pages(connector, found[-1].checkpoint) == []


async def test_schema_changed_while_reading(crm: Crm) -> None:
    """A column dropped in the middle of a snapshot: one poll fails, the next goes on."""
    await crm.run(CONTACTS, "INSERT INTO contacts (id) SELECT n FROM generate_series(1, 4) n")
    connector = await crm.open(contacts(), page=2)
    polled = connector.poll(connector.streams()[0].name, None)
    first = await anext(polled)
    await crm.run("ALTER TABLE contacts DROP updated_at")
    with pytest.raises(Retry, match="the schema changed"):
        await anext(polled)
    rest, _ = await poll(connector, first.checkpoint)
    assert [c.external_id for c in [*first.changes, *rest]] == ["1", "2", "3", "4"]
    assert "updated_at" not in rest[0].fields
