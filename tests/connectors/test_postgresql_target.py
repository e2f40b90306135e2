"""Writing to a real server: once, only what was asked, never over an edit, and every kind of refusal told apart."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from connectors.postgresql.connector import PostgreSQL
from connectors.postgresql.outbox_sql import grants
from hub.change import Notice
from hub.errors import AuthError, Fatal, Reject, Retry
from hub.mapping import ObjectMap
from hub.receipt import Applied, Deferred, Held, Receipt, Refused, Unchanged
from tests.connectors.pg_fixtures import (
    CONTACTS,
    Crm,
    companies,
    contacts,
    create,
    crm,
    delete,
    folded,
    object_map,
    poll,
    update,
)

__all__ = ["crm"]
CAPTURES = pytest.mark.parametrize("capture", ["logical", "outbox", "none"])


async def one(connector: PostgreSQL, write: Any) -> Receipt:
    (receipt,) = await connector.deliver([write])
    return receipt


async def rows(crm: Crm, query: str = "SELECT * FROM contacts ORDER BY id") -> list[dict[str, Any]]:
    return [dict(row) for row in await crm.conn.fetch(query)]


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
    assert await one(connector, write) == Unchanged("1")
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


async def waiting(crm: Crm, then: str = "") -> None:
    """Until a session of the hub waits for a lock; `then` is an SQL expression on its row of pg_stat_activity."""
    query = (
        f"SELECT count({then or 'pid'}) FROM pg_stat_activity WHERE application_name = 'integration-hub'"
        " AND wait_event_type = 'Lock' AND datname = current_database()"
    )
    while not await crm.conn.fetchval(query):
        continue


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
    await crm.run("UPDATE contacts SET first_name = 'edited'")
    again = await one(connectors[0], write)
    first = next(r for r in receipts if isinstance(r, Applied))
    assert again == Applied("1", {}, first.order)
    assert (await rows(crm))[0]["first_name"] == "edited"
    await crm.run("DELETE FROM contacts")
    anew = await one(connectors[0], write)
    assert isinstance(anew, Applied)
    assert anew.external_id == "2"
    assert await one(connectors[1], write) == Applied("2", {}, anew.order)


@asynccontextmanager
async def unreliable(url: str, cut: bytes, before: bool) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """The address of a relay to the database that, once armed, breaks the connection when the client says `cut`: before
    the server hears it, or after the server has done it but before the client hears."""
    query = parse_qs(urlsplit(url).query)
    socket = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
    armed, broken = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(socket)
        silent = asyncio.Event()

        async def down() -> None:
            while data := await up_reader.read(65536):
                if silent.is_set():
                    break
                writer.write(data)
            writer.close()

        answers = asyncio.create_task(down())
        while data := await reader.read(65536):
            if cut in data and armed.is_set() and not broken.is_set():
                broken.set()
                silent.set()
                if before:
                    break
            up_writer.write(data)
        up_writer.close()
        await answers

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    parts = urlsplit(url)
    async with server:
        yield f"postgresql://postgres@127.0.0.1:{port}{parts.path}?sslmode=disable", armed
        assert broken.is_set()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("cut", [b"COMMIT", b'INSERT INTO "public"', b"hub_sync.created SET"])
async def test_connection_lost_around_the_commit(crm: Crm, cut: bytes, before: bool) -> None:
    """Whether the server committed or not, trying again leaves one record and tells its id."""
    await crm.run(CONTACTS)
    direct = await crm.open(contacts())
    _, checkpoint = await poll(direct)
    writes = [create(contacts(), f"g{n}", email=f"a{n}@example.com") for n in range(3)]
    async with unreliable(crm.url, cut, before) as (url, armed):
        connector = await crm.open(contacts(), url=url)
        armed.set()
        with pytest.raises(Retry):
            await connector.deliver(writes)
        receipts = await connector.deliver(writes)
        await connector.close()
    assert [type(r) for r in receipts] == [Applied] * 3
    assert {str(r["id"]): r["email"] for r in await rows(crm)} == {
        r.external_id: f"a{n}@example.com" for n, r in enumerate(receipts) if isinstance(r, Applied)
    }
    changes, _ = await poll(direct, checkpoint)
    assert {c.external_id: c.intent for c in changes} == {
        r.external_id: w.key for w, r in zip(writes, receipts, strict=True) if isinstance(r, Applied)
    }


async def test_terminated_in_the_middle(crm: Crm) -> None:
    """An administrator ends the session while it writes: nothing is half done, and the next call connects anew."""
    await crm.run(CONTACTS, "INSERT INTO contacts (id, amount) VALUES (1, 1)")
    connector = await crm.open(contacts())
    holder = await crm.connect()
    await holder.execute("BEGIN; UPDATE contacts SET notes = 'busy' WHERE id = 1")
    writes = [create(contacts(), "g1", first_name="x"), update(contacts(), "1", {}, amount="2")]
    call = asyncio.create_task(connector.deliver(writes))
    await waiting(crm, "pg_terminate_backend(pid)")
    with pytest.raises(Retry):
        await call
    await holder.execute("COMMIT")
    await holder.close()
    assert len(await rows(crm)) == 1
    assert [type(r) for r in await connector.deliver(writes)] == [Applied, Applied]


CONSTRAINTS = """
ALTER TABLE contacts DROP CONSTRAINT contacts_company_id_fkey, ADD UNIQUE (first_name), ADD CHECK (amount >= 0), ADD kind text, ADD born date,
    ADD CONSTRAINT later FOREIGN KEY (company_id) REFERENCES companies DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE contacts ALTER notes TYPE varchar(5);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.kind = 'bad' THEN RAISE EXCEPTION 'we do not want %', NEW.kind; END IF;
    IF NEW.kind = 'dropped' THEN RETURN NULL; END IF;
    IF NEW.kind = 'serial' THEN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END IF;
    RETURN NEW; END $$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON contacts FOR EACH ROW EXECUTE FUNCTION refuse();
INSERT INTO contacts (first_name) VALUES ('taken');
"""


def everything() -> ObjectMap:
    natives = {
        "email": "email", "first_name": "text", "amount": "decimal", "notes": "text", "company_id": "ref",
        "kind": "text", "born": "date",
    }  # fmt: skip
    return object_map("contacts", natives)


@pytest.mark.parametrize(
    ("values", "receipt", "said"),
    [
        ({"first_name": "taken"}, Refused, "duplicate"),
        ({"amount": "-1"}, Refused, "contacts_amount_check"),
        ({"amount": "12345678901234"}, Refused, "numeric field overflow"),
        ({"amount": "much"}, Refused, "invalid input syntax for type numeric"),
        ({"notes": "too long for it"}, Refused, "too long"),
        ({"notes": "nul\x00"}, Refused, "invalid"),
        ({"notes": "\ud800"}, Refused, "invalid"),
        ({"born": "2024-02-30"}, Refused, "out of range"),
        ({"nothing": "x"}, Refused, "no column nothing"),
        ({"company_id": "77"}, Held, "companies (company_id)=(77)"),
        ({"kind": "bad"}, Refused, "we do not want bad"),
        ({"kind": "dropped"}, Refused, "dropped"),
        ({"kind": "serial"}, Deferred, "again"),
    ],
)
@pytest.mark.parametrize("op", ["create", "update"])
async def test_what_the_database_refuses(crm: Crm, op: str, values: dict[str, Any], receipt: type, said: str) -> None:
    """Each cause is told apart, without the row's other contents; the others of the batch are written."""
    await crm.run(CONTACTS, CONSTRAINTS, "INSERT INTO contacts (id, email) VALUES (50, 'secret@example.com')")
    mapping = everything()
    connector = await crm.open(mapping)
    write = create(mapping, "g1", **values) if op == "create" else update(mapping, "50", {}, **values)
    first, bad, last = await connector.deliver(
        [create(mapping, "g2", first_name="one"), write, create(mapping, "g3", first_name="two")]
    )
    assert (type(first), type(bad), type(last)) == (Applied, receipt, Applied)
    assert said in str(bad)
    assert "secret" not in str(bad)
    names = await crm.conn.fetch("SELECT first_name FROM contacts WHERE id <> 50 ORDER BY first_name")
    assert [n[0] for n in names] == ["one", "taken", "two"]


async def test_required_and_referenced(crm: Crm) -> None:
    """A missing required column is named; a record that others refer to is not deleted."""
    await crm.run(
        CONTACTS, "INSERT INTO companies (id, name) VALUES (1, 'c')", "INSERT INTO contacts (company_id) VALUES (1)"
    )
    connector = await crm.open(contacts(), companies())
    missing = await one(connector, create(companies(), "g1", domain="example.com"))
    assert isinstance(missing, Refused)
    assert missing.code == "invalid"
    assert "name" in missing.reason
    referenced = await one(connector, delete(companies(), "1"))
    assert isinstance(referenced, Refused)
    assert referenced.code == "referenced"


async def test_locked_row_waits_and_others_go_on(crm: Crm) -> None:
    """A row that somebody keeps locked is tried later."""
    await crm.run(CONTACTS, "INSERT INTO contacts (id) VALUES (1), (2)")
    connector = await crm.open(contacts())
    holder = await crm.connect()
    await holder.execute("BEGIN; SELECT * FROM contacts WHERE id = 1 FOR UPDATE")
    waits, goes = await connector.deliver([update(contacts(), n, {}, amount="1") for n in ("1", "2")])
    await holder.close()
    assert isinstance(waits, Deferred)
    assert waits.found == ()
    assert isinstance(goes, Applied)


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


async def test_schema_changed_meanwhile(crm: Crm) -> None:
    """A dropped column stops the call once; the catalogue is read again and the next call succeeds."""
    await crm.run(CONTACTS, "INSERT INTO contacts (id) VALUES (1)")
    connector = await crm.open(contacts())
    write = update(contacts(), "1", {}, amount="1")
    assert isinstance(await one(connector, write), Applied)
    await crm.run("ALTER TABLE contacts DROP updated_at, ADD extra text DEFAULT 'e'")
    second = update(contacts(), "1", {}, amount="2")
    with pytest.raises(Retry):
        await one(connector, second)
    done = await one(connector, second)
    assert isinstance(done, Applied)
    assert done.natives["extra"] == "e"


async def test_rights_and_credentials(crm: Crm) -> None:
    """What the role may not do pauses the target; what is missing is said as SQL to run; nothing is half written."""
    role = f"r_{crm.slot}"
    await crm.run(CONTACTS, f"CREATE ROLE {role} LOGIN REPLICATION", f"GRANT SELECT ON contacts TO {role}")
    try:
        url = crm.url.replace("postgres@", f"{role}@")
        connector = crm.make(contacts(), url=url)
        with pytest.raises(Fatal, match=r'CREATE PUBLICATION .* FOR TABLE "public"."contacts"'):
            await connector.open()
        await connector.close()
        writer = await crm.open(contacts(), url=url, capture="none")
        with pytest.raises(Fatal, match="CREATE SCHEMA IF NOT EXISTS hub_sync"):
            await writer.deliver([create(contacts(), "g1", first_name="x")])
        with pytest.raises(AuthError):
            await writer.deliver([update(contacts(), "1", {}, first_name="x")])
        failed = [f for f in await writer.check() if not f.ok]
        assert [f.suggestion for f in failed if "may not" in f.what] == [
            f'GRANT UPDATE, INSERT, DELETE ON "public"."contacts" TO "{role}"'
        ]
        outbox = crm.make(contacts(), url=url, capture="outbox")
        with pytest.raises(Fatal, match="CREATE SCHEMA IF NOT EXISTS hub_outbox"):
            await outbox.open()
        await writer.close()
        await outbox.close()
    finally:
        await crm.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def test_least_privileged_role_can_do_everything(crm: Crm) -> None:
    """With what NOTES.md says is needed, and what the owner ran, a role that owns nothing captures and writes."""
    await crm.run(CONTACTS, "INSERT INTO contacts (id, first_name) VALUES (100, 'x')")
    for capture in ("logical", "outbox"):
        owner = await crm.open(contacts(), capture=capture)
        await owner.close()
    role = f"r_{crm.slot}"
    await crm.run(f"CREATE ROLE {role} LOGIN REPLICATION")
    try:
        await crm.run(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON contacts TO {role}; GRANT USAGE ON SEQUENCE contacts_id_seq TO {role};"
            f" GRANT USAGE ON SCHEMA hub_sync TO {role}; GRANT SELECT, INSERT, UPDATE ON hub_sync.created TO {role};"
            + grants(role)
        )
        for n, capture in enumerate(("logical", "outbox")):
            connector = await crm.open(contacts(), capture=capture, url=crm.url.replace("postgres@", f"{role}@"))
            found, checkpoint = await poll(connector)
            receipts = await connector.deliver([create(contacts(), f"g{n}", first_name="made")])
            await connector.deliver([update(contacts(), "100", {}, first_name=capture)])
            later, _ = await poll(connector, checkpoint)
            assert isinstance(receipts[0], Applied)
            state = folded([*found, *later])
            assert state[("contacts", "100")]["first_name"] == capture
            assert state[("contacts", receipts[0].external_id)]["first_name"] == "made"
            assert all(c.intent for c in later)
            await connector.close()
    finally:
        await crm.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


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


async def test_broken_connections_are_replaced(crm: Crm) -> None:
    """Writes go on with a pool whose connections were all broken from outside."""
    await crm.run(CONTACTS, "INSERT INTO contacts (id) VALUES (1)")
    connector = await crm.open(contacts())
    await crm.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'integration-hub' AND datname = current_database()"
    )
    receipts: list[Receipt] = []
    while not receipts:
        try:
            receipts = await connector.deliver([update(contacts(), "1", {}, amount="1")])
        except Retry:
            continue
    assert isinstance(receipts[0], Applied)
