"""Snapshots that fit the feed, and resuming: nothing is missed and nothing older wins, whatever is interrupted."""

import asyncio
import random
from contextlib import aclosing
from typing import Any

import asyncpg
import pytest

from connectors.kit.connector import Checkpoint
from connectors.postgresql import transactions
from connectors.postgresql.connector import PostgreSQL
from hub.change import Change
from hub.errors import Fatal, Retry
from hub.event import record
from tests.connectors.pg_fixtures import (
    CONTACTS,
    Crm,
    all_changes,
    companies,
    contacts,
    crm,
    folded,
    pages,
    poll,
    table,
    texts,
)

__all__ = ["crm"]

COLUMNS = ["email", "first_name", "amount"]
SEED = "INSERT INTO contacts (first_name, amount) SELECT 'seed' || n, n FROM generate_series(1, {}) n"


async def the_truth(crm: Crm) -> dict[str, list[Any]]:
    return await table(crm.conn, "contacts", COLUMNS)


@pytest.mark.parametrize("capture", ["logical", "outbox"])
async def test_resume_while_acknowledging(crm: Crm, capture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new process for every page, which crashes before or after the acknowledgement: each change comes at least once."""
    monkeypatch.setattr(transactions, "STEP", 4)
    await crm.run(CONTACTS, SEED.format(6))
    checkpoint: Checkpoint | None = None
    kept: list[Change] = []
    for n in range(60):
        await crm.run(f"UPDATE contacts SET amount = {n}", f"INSERT INTO contacts (first_name) VALUES ('{n}')")
        connector = await crm.open(contacts(), capture=capture, page=3)
        async with aclosing(connector.poll(connector.streams()[0].name, checkpoint)) as polled:
            async for page in polled:
                kept += page.changes
                checkpoint = page.checkpoint
                if n % 3:
                    await page.acknowledge()
                if n < 50:
                    break
        await connector.close()
    assert texts(folded(kept), "contacts", COLUMNS) == await the_truth(crm)


async def test_same_event_however_often_it_is_read(crm: Crm, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of the log read again has the same event id, from whatever checkpoint it was reached; no two share one."""
    monkeypatch.setattr(transactions, "STEP", 3)
    await crm.run(CONTACTS, SEED.format(7))
    connector = await crm.open(contacts())
    _, checkpoint = await poll(connector)
    await crm.run(
        "UPDATE contacts SET amount = 1", "UPDATE contacts SET amount = 2", "DELETE FROM contacts WHERE id < 3"
    )
    found = await pages(await crm.open(contacts(), page=2), checkpoint, acknowledge=False)
    ids = [record(change, 1).event_id for change in all_changes(found)]
    assert len(set(ids)) == len(ids) == 16
    seen = 0
    for page in found:
        seen += len(page.changes)
        again = await pages(await crm.open(contacts(), page=100), page.checkpoint, acknowledge=False)
        assert [record(change, 2).event_id for change in all_changes(again)] == ids[seen:]


async def test_large_transaction_in_bounded_pages(crm: Crm) -> None:
    """A transaction of 50,000 rows comes in steps, and its versions grow with them."""
    await crm.run(CONTACTS)
    connector = await crm.open(contacts())
    _, checkpoint = await poll(connector)
    await crm.run(f"BEGIN; {SEED.format(30000)}; UPDATE contacts SET first_name = 'done' WHERE id <= 20000; COMMIT")
    found = await pages(connector, checkpoint)
    assert max(len(page.changes) for page in found) <= transactions.STEP + 1000
    assert len(found) == 7
    versions = [max(c.version or 0 for c in page.changes) for page in found]
    assert versions == sorted(set(versions))
    assert texts(folded(all_changes(found)), "contacts", COLUMNS) == await the_truth(crm)


class Writers:
    """Several sessions that change contacts at random, in transactions of which some are rolled back."""

    def __init__(self, crm: Crm, seed: int) -> None:
        self._crm = crm
        self._random = random.Random(seed)
        self._going = True
        self.committed = 0

    async def write(self) -> None:
        """Until stopped."""
        conn = await self._crm.connect()
        while self._going:
            try:
                async with conn.transaction():
                    for _ in range(self._random.randint(1, 4)):
                        await conn.execute(self._statement())
                    await asyncio.sleep(self._random.random() / 200)
                    if self._random.random() < 0.2:
                        raise asyncio.InvalidStateError
                self.committed += 1
            except (asyncpg.PostgresError, asyncio.InvalidStateError):
                continue
        await conn.close()

    def stop(self) -> None:
        self._going = False

    def _statement(self) -> str:
        one, two = self._random.randint(1, 60), self._random.randint(1, 60)
        text = f"'{self._random.random()}'"
        return self._random.choice(
            [
                f"UPDATE contacts SET first_name = {text}, amount = {one} WHERE id = {one}",
                f"UPDATE contacts SET email = {text} WHERE id BETWEEN {one} AND {one + 5}",
                f"INSERT INTO contacts (id, first_name) VALUES ({one}, {text}) ON CONFLICT (id) DO NOTHING",
                f"DELETE FROM contacts WHERE id = {one}",
                f"UPDATE contacts SET id = {two} WHERE id = {one}",
            ]
        )


@pytest.mark.parametrize("capture", ["logical", "outbox"])
@pytest.mark.parametrize("seed", range(3))
async def test_snapshot_during_writes(crm: Crm, capture: str, seed: int) -> None:
    """Rows are written, moved and deleted while the snapshot is read, and the reader crashes: it ends as the table is."""
    await crm.run(CONTACTS, SEED.format(60))
    writers = Writers(crm, seed)
    chance = random.Random(seed)
    tasks = [asyncio.create_task(writers.write()) for _ in range(4)]
    kept: list[Change] = []
    checkpoint: Checkpoint | None = None
    while writers.committed < 300:
        connector = await crm.open(contacts(), capture=capture, page=chance.randint(1, 9))
        async with aclosing(connector.poll(connector.streams()[0].name, checkpoint)) as polled:
            async for page in polled:
                kept += page.changes  # durable, and then a crash may come before the checkpoint is
                if chance.random() < 0.1:
                    break
                checkpoint = page.checkpoint
                if chance.random() < 0.8:
                    await page.acknowledge()
        await connector.close()
    writers.stop()
    await asyncio.gather(*tasks)
    last = await crm.open(contacts(), capture=capture)
    while True:
        changes, checkpoint = await poll(last, checkpoint)
        kept += changes
        # A transaction of the server's own, such as an automatic ANALYZE, may hold back the outbox for a while.
        if capture == "logical" or not await crm.conn.fetchval("SELECT count(*) FROM hub_outbox.change"):
            break
    assert sum(c.channel == "snapshot" for c in kept) >= 20
    assert sum(c.channel != "snapshot" for c in kept) >= 50
    chance.shuffle(kept)
    assert texts(folded(kept), "contacts", COLUMNS) == await the_truth(crm)


async def test_snapshot_in_the_order_of_the_key(crm: Crm) -> None:
    """Pages follow the column's own order, not that of its text: each row comes once."""
    await crm.run(CONTACTS, SEED.format(25))
    found = await pages(await crm.open(contacts(), page=2))
    assert [c.external_id for c in all_changes(found)] == [str(n) for n in range(1, 26)]
    assert max(len(page.changes) for page in found) == 2


@pytest.mark.parametrize("capture", ["logical", "outbox"])
async def test_table_added_later_is_read_then(crm: Crm, capture: str) -> None:
    """The new table gets its snapshot; the others go on."""
    await crm.run(CONTACTS, "INSERT INTO companies (name) VALUES ('a'), ('b')", SEED.format(3))
    _, checkpoint = await poll(await crm.open(contacts(), capture=capture))
    await crm.run("UPDATE contacts SET amount = 9 WHERE id = 1", "UPDATE companies SET name = 'c' WHERE id = 1")
    both = await crm.open(contacts(), companies(), capture=capture)
    found, checkpoint = await poll(both, checkpoint)
    assert sorted((c.object, c.external_id, c.channel) for c in found) == [
        ("companies", "1", "snapshot"), ("companies", "2", "snapshot"), ("contacts", "1", found[-1].channel)]  # fmt: skip
    await crm.run("UPDATE companies SET name = 'd' WHERE id = 2")
    assert [(c.external_id, c.fields["name"]) for c in (await poll(both, checkpoint))[0]] == [("2", "d")]


async def test_snapshot_waits_for_older_transactions(crm: Crm) -> None:
    """A transaction that changed a table before it was published, and commits after: the snapshot waits for it."""
    await crm.run(CONTACTS)
    _, checkpoint = await poll(await crm.open(contacts()))
    older = await crm.connect()
    await older.execute("BEGIN; INSERT INTO companies (name) VALUES ('older')")
    both = await crm.open(contacts(), companies())
    await crm.run("INSERT INTO companies (name) VALUES ('younger')", "INSERT INTO contacts (first_name) VALUES ('x')")
    first: list[Change] = []

    async def read() -> None:
        nonlocal checkpoint
        async for page in both.poll("wal", checkpoint):
            first.extend(page.changes)
            checkpoint = page.checkpoint

    with pytest.raises(Retry, match=r"the first reading of public\.companies waits for transactions"):
        await read()
    assert [c.object for c in first if c.channel == "snapshot"] == []
    assert {c.object for c in first} == {"companies", "contacts"}
    await older.execute("COMMIT")
    await older.close()
    second, _ = await poll(both, checkpoint)
    assert {f.get("name") for (o, _), f in folded([*first, *second]).items() if o == "companies"} == {
        "older",
        "younger",
    }


async def test_table_taken_out_and_back_is_read_again(crm: Crm) -> None:
    """What happened in between was not captured, so the table is read anew, and the newer content wins."""
    await crm.run(CONTACTS, "INSERT INTO companies (name) VALUES ('a')")
    both = await crm.open(contacts(), companies())
    first, checkpoint = await poll(both)
    one = await crm.open(contacts())
    await crm.run("UPDATE companies SET name = 'b'")
    nothing, checkpoint = await poll(one, checkpoint)
    again, _ = await poll(await crm.open(contacts(), companies()), checkpoint)
    assert nothing == []
    assert {k: f["name"] for k, f in folded([*again, *first]).items()} == {("companies", "1"): "b"}


async def test_lost_slot_is_said(crm: Crm) -> None:
    """Without its slot the hub stops and says what to do; from the beginning it makes a new one and newer content wins."""
    await crm.run(CONTACTS, SEED.format(2))
    connector = await crm.open(contacts())
    first, checkpoint = await poll(connector)
    await crm.run(f"SELECT pg_drop_replication_slot('{crm.slot}')", "UPDATE contacts SET amount = 7")
    with pytest.raises(Fatal, match=r"is gone.*reset this stream's checkpoint"):
        await poll(connector, checkpoint)
    again, _ = await poll(connector)
    assert {f["amount"] for f in folded([*again, *first]).values()} == {"7.00"}


async def test_slot_made_anew_by_somebody_is_said(crm: Crm) -> None:
    """A slot that is ahead of the checkpoint has let changes go."""
    await crm.run(CONTACTS)
    connector = await crm.open(contacts())
    _, checkpoint = await poll(connector)
    await crm.run("INSERT INTO contacts (first_name) VALUES ('lost')")
    await crm.run(f"SELECT pg_replication_slot_advance('{crm.slot}', pg_current_wal_lsn())")
    with pytest.raises(Fatal, match="ahead of what the hub has"):
        await poll(connector, checkpoint)


async def test_slot_given_up_by_the_server_is_said(crm: Crm) -> None:
    """The server gave the slot up because it kept too much log; `check` shows it, too, and from the beginning it mends."""
    await crm.run(CONTACTS)
    connector = await crm.open(contacts())
    _, checkpoint = await poll(connector)
    await crm.run("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()")
    try:
        for _ in range(3):
            await crm.run("CREATE TABLE IF NOT EXISTS filler (v text)", "SELECT pg_switch_wal()")
            await crm.run("INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 20000)", "CHECKPOINT")
    finally:
        await crm.run("ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")
    with pytest.raises(Fatal, match="given up"):
        await poll(connector, checkpoint)
    assert [f.suggestion for f in await connector.check() if not f.ok and "given up" in f.what] != []
    await poll(connector)
    assert all(f.ok for f in await connector.check())


async def test_other_cluster_is_said(crm: Crm) -> None:
    """Positions of one cluster mean nothing in another."""
    await crm.run(CONTACTS)
    connector = await crm.open(contacts())
    _, checkpoint = await poll(connector)
    with pytest.raises(Fatal, match="another database cluster"):
        await poll(connector, {**checkpoint, "database": "1"})


async def test_slot_in_use_is_tried_again(crm: Crm) -> None:
    """Another reader of the same slot is waited for."""
    await crm.run(CONTACTS)
    connector = await crm.open(contacts())
    _, checkpoint = await poll(connector)
    await crm.run(SEED.format(60000))
    readers = [pages(connector, checkpoint, acknowledge=False) for _ in range(4)]
    ends = await asyncio.gather(*readers, return_exceptions=True)
    failed = [e for e in ends if isinstance(e, BaseException)]
    assert failed
    assert all(isinstance(e, Retry) for e in failed)
    assert len((await poll(connector, checkpoint))[0]) == 60000


async def test_outbox_with_transactions_that_commit_out_of_order(crm: Crm) -> None:
    """A number taken early and committed late is not skipped; nothing is read before it is certain."""
    await crm.run(CONTACTS, SEED.format(4))
    connector: PostgreSQL = await crm.open(contacts(), capture="outbox", page=1)
    before, checkpoint = await poll(connector)
    early, late = await crm.connect(), await crm.connect()
    await late.execute("BEGIN; SELECT pg_current_xact_id()")  # lower transaction id, higher number
    await early.execute("BEGIN; UPDATE contacts SET first_name = 'early' WHERE id = 1")
    await late.execute("UPDATE contacts SET first_name = 'late' WHERE id = 2; COMMIT")
    some, checkpoint = await poll(connector, checkpoint)
    await crm.run("UPDATE contacts SET first_name = 'third' WHERE id = 3")
    waiting, checkpoint = await poll(connector, checkpoint)
    await early.execute("COMMIT")
    rest, _ = await poll(connector, checkpoint)
    assert [c.fields["first_name"] for c in some] == ["late"]
    assert waiting == []
    assert [c.fields["first_name"] for c in rest] == ["early", "third"]
    assert texts(folded([*before, *some, *rest]), "contacts", COLUMNS) == await the_truth(crm)
    assert await crm.conn.fetchval("SELECT count(*) FROM hub_outbox.change") == 0
    await early.close()
    await late.close()


async def test_outbox_is_read_in_the_order_of_numbers_not_of_digits(crm: Crm) -> None:
    """Transaction 100 comes after 99, and a page that ends between them misses nothing."""
    await crm.run(CONTACTS, SEED.format(2))
    connector = await crm.open(contacts(), capture="outbox", page=1)
    _, checkpoint = await poll(connector)
    await crm.run("UPDATE contacts SET first_name = 'early' WHERE id = 1", "UPDATE contacts SET first_name = 'late'")
    await crm.run("UPDATE hub_outbox.change SET txid = CASE WHEN content LIKE '%early%' THEN '99' ELSE '100' END::xid8")
    found, _ = await poll(connector, checkpoint)
    assert [c.fields["first_name"] for c in found] == ["early", "late", "late"]


async def test_outbox_knows_what_was_truncated(crm: Crm) -> None:
    """The trigger sees the rows before they are gone: each is reported as deleted."""
    await crm.run(CONTACTS, SEED.format(3))
    connector = await crm.open(contacts(), capture="outbox")
    first, checkpoint = await poll(connector)
    await crm.run("TRUNCATE contacts", "INSERT INTO contacts (id) VALUES (9)")
    later, _ = await poll(connector, checkpoint)
    assert [c.op for c in later] == ["delete"] * 3 + ["upsert"]
    assert list(folded([*first, *later])) == [("contacts", "9")]


async def test_outbox_released_beyond_the_checkpoint_is_said(crm: Crm) -> None:
    """A hub restored from a backup must not go on silently behind what was released."""
    await crm.run(CONTACTS)
    connector = await crm.open(contacts(), capture="outbox")
    await crm.run(SEED.format(1))
    _, old = await poll(connector)
    await crm.run("UPDATE contacts SET amount = 1")
    _, middle = await poll(connector, old)
    await crm.run("UPDATE contacts SET amount = 2")
    await poll(connector, middle)
    with pytest.raises(Fatal, match="restored from a backup"):
        await poll(connector, middle)


async def test_changing_the_way_of_capture_never_goes_back(crm: Crm) -> None:
    """Versions of log and outbox are in one unit: whoever is later is greater, in both directions."""
    await crm.run(CONTACTS, "INSERT INTO contacts (id, first_name) VALUES (1, '0')")
    kept: list[Change] = []
    for n, capture in enumerate(["logical", "outbox", "logical", "outbox"], 1):
        connector = await crm.open(contacts(), capture=capture)
        begun, checkpoint = await poll(connector)
        await crm.run(*[f"UPDATE contacts SET first_name = '{n}.{i}' WHERE id = 1" for i in range(50)])
        kept += begun + (await poll(connector, checkpoint))[0]
        state = folded(reversed(kept))
        assert state[("contacts", "1")]["first_name"] == f"{n}.49"
