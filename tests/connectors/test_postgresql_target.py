"""Writing to a real server: once, only what was asked, never over an edit, and every kind of refusal told apart."""

import asyncio
from typing import Any

import pytest

from hub.change import Notice
from hub.errors import Reject
from hub.receipt import Applied, Deferred, Refused, Unchanged
from tests.connectors.pg_fixtures import (
    CONTACTS,
    Crm,
    companies,
    contacts,
    create,
    crm,
    delete,
    object_map,
    one,
    poll,
    rows,
    update,
    waiting,
)

__all__ = ["crm"]
CAPTURES = pytest.mark.parametrize("capture", ["logical", "outbox", "none"])


@CAPTURES
async def test_create_update_delete(crm: Crm, capture: str) -> None:
    """The receipt tells what the row holds now, and an order that the change which comes back does not undercut."""
    await crm.run(CONTACTS)
    connector = await crm.open(contacts(), capture=capture)
    changes, checkpoint = await poll(connector)
    made = await one(connector, create(contacts(), "g1", email="a@example.com", amount="12.5"))
    assert isinstance(made, Applied)
    assert (made.natives["id"], made.natives["email"], made.natives["amount"]) == (1, "a@example.com", "12.50")
    changed = await one(connector, update(contacts(), "1", {"first_name": None}, first_name="Ann"))
    assert isinstance(changed, Applied)
    assert changed.natives["first_name"] == "Ann"
    gone = await one(connector, delete(contacts(), "1"))
    assert isinstance(gone, Applied)
    assert await rows(crm) == []
    assert 0 < made.order < changed.order < gone.order
    changes, _ = await poll(connector, checkpoint)
    receipts = [] if capture == "none" else [made, changed, gone]
    assert [(c.external_id, c.op) for c in changes] == [("1", "upsert"), ("1", "upsert"), ("1", "delete")][
        : len(receipts)
    ]
    orders = [order for c, r in zip(changes, receipts, strict=True) for order in (r.order, c.version or 0)]
    assert orders == sorted(orders)
    for change, receipt in zip(changes[:2], receipts[:2], strict=True):
        assert change.fields == receipt.natives


@pytest.mark.parametrize("capture", ["logical", "outbox"])
async def test_own_writes_are_marked(crm: Crm, capture: str) -> None:
    """Exactly the records written carry the key; what a trigger does to others, and what was undone, does not."""
    await crm.run(
        CONTACTS,
        "CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " UPDATE companies SET domain = 'touched.example' WHERE id = 1; RETURN NULL; END $$",
        "CREATE TRIGGER audit AFTER INSERT OR UPDATE ON contacts EXECUTE FUNCTION audit()",
        "INSERT INTO companies (id, name) VALUES (1, 'c')",
        "INSERT INTO contacts (id, email) VALUES (10, 'x@example.com'), (11, 'y@example.com')",
    )
    connector = await crm.open(contacts(), companies(), capture=capture)
    _, checkpoint = await poll(connector)
    writes = [
        create(contacts(), "g1", email="a@example.com"),
        update(contacts(), "10", {}, amount="1"),
        update(contacts(), "11", {}, amount="99999999999"),
        create(contacts(), "g2", first_name="b"),
    ]
    receipts = await connector.deliver(writes)
    assert [type(r) for r in receipts] == [Applied, Applied, Refused, Applied]
    await crm.run("UPDATE contacts SET amount = 5 WHERE id = 10")
    changes, _ = await poll(connector, checkpoint)
    marked = {c.external_id: c.intent for c in changes if c.intent}
    done = {r.external_id: w.key for w, r in zip(writes, receipts, strict=True) if isinstance(r, Applied)}
    assert marked == done
    assert {c.object for c in changes if not c.intent} == {"companies", "contacts"}
    assert [c.fields["amount"] for c in changes if c.external_id == "10"] == ["1.00", "5.00"]


async def test_only_given_columns_are_written(crm: Crm) -> None:
    """What is not in the write stays, also what another session changed meanwhile."""
    await crm.run(CONTACTS, "INSERT INTO contacts (id, email, notes) VALUES (1, 'a@example.com', 'kept')")
    connector = await crm.open(contacts())
    await crm.run("UPDATE contacts SET notes = 'edited'")
    assert isinstance(await one(connector, update(contacts(), "1", {"amount": None}, amount="3")), Applied)
    (row,) = await rows(crm)
    assert (row["notes"], row["email"], str(row["amount"])) == ("edited", "a@example.com", "3.00")


@CAPTURES
async def test_an_edit_meanwhile_is_not_overwritten(crm: Crm, capture: str) -> None:
    """The write waits and hands over what it found; others of the batch go on; once it is known, it is written."""
    await crm.run(CONTACTS, "INSERT INTO contacts (id, first_name, amount) VALUES (1, 'a', 1), (2, 'b', 2)")
    connector = await crm.open(contacts(), capture=capture)
    before, checkpoint = await poll(connector)
    await crm.run("UPDATE contacts SET first_name = 'edited' WHERE id = 1")
    waits, goes = await connector.deliver(
        [
            update(contacts(), "1", {"first_name": "a", "amount": "1"}, first_name="new", amount="7"),
            update(contacts(), "2", {"first_name": "b"}, first_name="new"),
        ]
    )
    assert isinstance(waits, Deferred)
    assert isinstance(goes, Applied)
    (found,) = waits.found
    assert (found.external_id, found.fields["first_name"], found.channel) == ("1", "edited", "read")
    assert [(r["first_name"], str(r["amount"])) for r in await rows(crm)] == [("edited", "1.00"), ("new", "2.00")]
    later, _ = await poll(connector, checkpoint)
    assert all((c.version or 0) < (found.version or 0) for c in [*before, *later] if c.external_id == "1")
    known = update(contacts(), "1", {"first_name": "edited", "amount": "1"}, first_name="new", amount="7")
    assert isinstance(await one(connector, known), Applied)


async def test_already_there_is_unchanged(crm: Crm) -> None:
    """Nothing is written where the row holds it by now; so a write may be tried again after its answer was lost."""
    await crm.run(CONTACTS, "INSERT INTO contacts (id, email, amount) VALUES (1, 'A@Example.com', 5)")
    connector = await crm.open(contacts())
    _, checkpoint = await poll(connector)
    write = update(contacts(), "1", {"amount": "4", "email": None}, amount="5", email="a@example.com")
    unchanged = await one(connector, write)
    assert isinstance(unchanged, Unchanged)
    assert (unchanged.external_id, unchanged.order > 0) == ("1", True)
    assert await one(connector, delete(contacts(), "2")) == Unchanged("2")
    assert (await poll(connector, checkpoint))[0] == []


async def test_half_written_by_an_edit_is_completed(crm: Crm) -> None:
    """A field that somebody set to the very value is no edit to wait for."""
    await crm.run(CONTACTS, "INSERT INTO contacts (id, first_name, amount) VALUES (1, 'new', 1)")
    connector = await crm.open(contacts())
    write = update(contacts(), "1", {"first_name": "old", "amount": "1"}, first_name="new", amount="2")
    assert isinstance(await one(connector, write), Applied)


async def test_gone_and_soft_deleted(crm: Crm) -> None:
    """An update of a row that is not there, or is marked as deleted, is refused as gone; a delete marks."""
    await crm.run(CONTACTS, "ALTER TABLE contacts ADD deleted_at timestamptz", "INSERT INTO contacts (id) VALUES (1)")
    soft = contacts(soft_delete={"deleted_at": "now"})
    connector = await crm.open(soft)
    missing = await one(connector, update(soft, "5", {}, first_name="x"))
    assert isinstance(missing, Refused)
    assert missing.code == "gone"
    assert isinstance(await one(connector, delete(soft, "1")), Applied)
    (row,) = await rows(crm)
    assert row["deleted_at"] is not None
    again = await one(connector, update(soft, "1", {}, first_name="x"))
    assert isinstance(again, Refused)
    assert again.code == "gone"
    assert await one(connector, delete(soft, "1")) == Unchanged("1")


@CAPTURES
async def test_find_before_create(crm: Crm, capture: str) -> None:
    """A record with the same match value that nobody told of is handed over, in whatever spelling it stands there."""
    await crm.run(CONTACTS, "INSERT INTO contacts (id, email) VALUES (300, 'Ann@EXAMPLE.com')")
    await crm.run("INSERT INTO companies (id, name, domain) VALUES (400, 'c', 'https://www.Example.com/')")
    connector = await crm.open(contacts(), companies(), capture=capture)
    found, made = await connector.deliver(
        [create(contacts(), "g1", email="ann@example.com"), create(contacts(), "g2", email="other@example.com")]
    )
    assert isinstance(found, Deferred)
    assert [(c.external_id, c.fields["email"], c.op) for c in found.found] == [("300", "Ann@EXAMPLE.com", "upsert")]
    assert isinstance(made, Applied)
    company = await one(connector, create(companies(), "g3", name="C", domain="example.com"))
    assert isinstance(company, Deferred)
    assert [c.external_id for c in company.found] == ["400"]
    role = [create(contacts(), f"g{n}", email="info@example.com") for n in (5, 6)]
    assert [type(r) for r in await connector.deliver(role)] == [Applied, Applied]


async def test_two_creates_of_one_person(crm: Crm) -> None:
    """In one call, only the first is made; the other waits until it is known."""
    await crm.run(CONTACTS)
    connector = await crm.open(contacts())
    twins = [create(contacts(), f"g{n}", email="ann@example.com") for n in (1, 2)]
    made, waits = await connector.deliver(twins)
    assert isinstance(made, Applied)
    assert isinstance(waits, Deferred)
    assert len(await rows(crm)) == 1


async def test_created_by_somebody_else_meanwhile(crm: Crm) -> None:
    """A unique index tells of a record that was not there yet when it was looked for: it is handed over."""
    await crm.run(CONTACTS, "CREATE UNIQUE INDEX ON contacts (lower(email))")
    connector = await crm.open(contacts())
    other = await crm.connect()
    await other.execute("BEGIN; INSERT INTO contacts (id, email) VALUES (77, 'Ann@example.com')")
    call = asyncio.create_task(one(connector, create(contacts(), "g1", email="ann@example.com")))
    await waiting(crm)
    await other.execute("COMMIT")
    await other.close()
    receipt = await call
    assert isinstance(receipt, Deferred)
    assert [c.external_id for c in receipt.found] == ["77"]
    assert await crm.conn.fetchval("SELECT count(*) FROM hub_sync.created") == 0


async def test_a_create_happens_once(crm: Crm) -> None:
    """However often and from wherever it is tried; and anew only when what it made is gone."""
    await crm.run(CONTACTS)
    connectors = [await crm.open(contacts()) for _ in range(4)]
    write = create(contacts(), "g1", email="ann@example.com", first_name="Ann")
    receipts = [r for rs in await asyncio.gather(*(c.deliver([write]) for c in connectors)) for r in rs]
    assert len(await rows(crm)) == 1
    assert {r.external_id for r in receipts if isinstance(r, Applied)} == {"1"}
    first = next(r for r in receipts if isinstance(r, Applied))
    assert await one(connectors[0], write) == Applied("1", {}, first.order)
    await crm.run("UPDATE contacts SET first_name = 'edited'")
    again = await one(connectors[0], write)
    assert isinstance(again, Deferred)
    assert (again.created, [(c.external_id, c.fields["first_name"]) for c in again.found]) == ("1", [("1", "edited")])
    assert (await rows(crm))[0]["first_name"] == "edited"
    await crm.run("DELETE FROM contacts")
    anew = await one(connectors[0], write)
    assert isinstance(anew, Applied)
    assert anew.external_id == "2"
    assert await one(connectors[1], write) == Applied("2", {}, anew.order)


async def test_values_find_their_column_type(crm: Crm) -> None:
    """Lists, consents, references, bytes and times are written as each column takes them, and come back the same."""
    await crm.run(
        "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TABLE things (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        " tags text[], flat text, yes boolean, word text, doc jsonb, raw bytea, tz timestamptz, ts timestamp, d date,"
        " c char(5), m mood, ref int, numbers int[], big numeric)"
    )
    consent = {"status": "out", "at": "2024-01-01T00:00:00Z"}
    natives: dict[str, Any] = {
        "tags": ["a b", 'q"\\', "", "NULL", "{x}"], "flat": ["a", "b"], "yes": consent, "word": consent, "doc": {"a": [1]},
        "raw": "3q2+7w==", "tz": "2024-02-29T23:00:00Z", "ts": "2024-02-29T23:00:00Z", "d": "2024-02-29", "c": "ab",
        "m": "glad", "ref": "7", "numbers": [1, 2], "big": "0.10000000000000000000000000001",
    }  # fmt: skip
    mapping = object_map("things", dict.fromkeys(natives, "json"))
    connector = await crm.open(mapping)
    made = await one(connector, create(mapping, "g1", **natives))
    assert isinstance(made, Applied)
    assert made.natives == natives | {
        "id": 1, "flat": "a;b", "yes": False, "word": "out", "ts": "2024-02-29T23:00:00", "c": "ab   ", "ref": 7,
    }  # fmt: skip
    long = await one(connector, update(mapping, "1", {}, c="abcdefgh"))
    assert isinstance(long, Refused)


async def test_fetch_reads_records_as_they_are(crm: Crm) -> None:
    """In the order asked for; a missing one is a delete."""
    await crm.run(CONTACTS, "INSERT INTO contacts (id, first_name) VALUES (1, 'a'), (2, 'b')")
    connector = await crm.open(contacts(clock="updated_at"))
    await crm.run("UPDATE contacts SET updated_at = '2024-01-01 00:00:01+00' WHERE id = 1")
    found = await connector.fetch([Notice("crm", "contacts", i, "changed") for i in ("2", "7", "1")])
    assert [(c.external_id, c.op, c.fields.get("first_name")) for c in found] == [
        ("2", "upsert", "b"), ("7", "delete", None), ("1", "upsert", "a")]  # fmt: skip
    assert [c.at for c in found] == [None, None, 1_704_067_201_000_000]
    with pytest.raises(Reject):
        await connector.receive(None)  # type: ignore[arg-type]
