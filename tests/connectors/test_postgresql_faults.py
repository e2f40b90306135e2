"""Faults while writing to a real server: lost connections, refusals, locks, missing rights. Nothing twice, nothing half."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from connectors.postgresql.outbox_sql import grants
from hub.errors import AuthError, Fatal, Retry
from hub.mapping import ObjectMap
from hub.receipt import Applied, Deferred, Held, Receipt, Refused
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
    one,
    poll,
    rows,
    update,
    waiting,
)

__all__ = ["crm"]


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
ALTER TABLE contacts DROP CONSTRAINT contacts_company_id_fkey;
ALTER TABLE contacts ADD UNIQUE (first_name), ADD CHECK (amount >= 0), ADD kind text, ADD born date,
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


async def test_deadlock_hits_one_write_only(crm: Crm) -> None:
    """Of two sessions that wait for each other one gives way; where it is ours, that write is tried later."""
    await crm.run(CONTACTS, "INSERT INTO contacts (id) VALUES (1), (2), (3)")
    connector = await crm.open(contacts())
    other = await crm.connect()
    await other.execute("SET deadlock_timeout = '1h'; BEGIN; UPDATE contacts SET notes = 'o' WHERE id = 2")
    call = asyncio.create_task(connector.deliver([update(contacts(), n, {}, amount="1") for n in ("1", "2", "3")]))
    await waiting(crm)
    crossing = asyncio.create_task(other.execute("UPDATE contacts SET notes = 'o' WHERE id = 1"))
    first, second, third = await call
    await crossing
    await other.execute("COMMIT")
    await other.close()
    assert (type(first), type(second), type(third)) == (Applied, Deferred, Applied)
    assert "deadlock" in str(second)
    assert [r["notes"] for r in await rows(crm)] == ["o", "o", None]
