"""Killed at any moment, the hub loses nothing and does nothing twice."""

import asyncio
from pathlib import Path
from random import Random

import asyncpg
import pytest

from hub.edge.embedded import Embedded
from hub.edge.kafka_local import Broker
from tests import oracle
from tests.e2e.process import Process, finish
from tests.e2e.systems import LONG, Systems, show, systems_on

KILLS, CHANGES, SCALE = (22, 20_000, 0.2) if LONG else (6, 2_000, 0.05)
SEED = 11
SESSION_SECONDS = 6.0  # for so long Kafka takes a worker that was killed for a living one, and gives its work to nobody


async def test_killed_again_and_again_on_the_postgresql_log(postgres: Embedded, tmp_path: Path) -> None:
    await killed_again_and_again(postgres, tmp_path, "embedded")


@pytest.mark.kafka
@pytest.mark.skipif(
    not LONG, reason="over a minute of waiting for the broker to miss killed workers: make soak runs it"
)
async def test_killed_again_and_again_on_kafka(postgres: Embedded, broker: Broker, tmp_path: Path) -> None:
    await killed_again_and_again(postgres, tmp_path, broker.url)


async def killed_again_and_again(postgres: Embedded, directory: Path, log: str) -> None:
    async with systems_on(postgres, directory, SCALE, log) as systems:
        await killed_while_edited(systems, Random(SEED), settle=0.0 if log == "embedded" else SESSION_SECONDS)
        ledger = await finish(systems, 2_400.0 if LONG else 500.0)
        assert ledger["captured"] > CHANGES, ledger
        assert (problems := await systems.problems()) == [], show(problems)
        await assert_created_once(systems)


async def killed_while_edited(systems: Systems, random: Random, settle: float) -> None:
    """Edit, and meanwhile start the hub and kill it at a random moment of its first seconds, when there is most to do;
    many times, and until the edits are over."""
    editing = asyncio.create_task(edit(systems, random))
    kills = 0
    while kills < KILLS or not editing.done():
        hub = Process(systems)
        await hub.start()
        awhile = asyncio.create_task(asyncio.sleep(settle + random.uniform(1.0, 6.0)))
        await asyncio.wait([awhile if kills < KILLS else editing])
        assert hub.running, systems.config.with_suffix(".log").read_text()[-3_000:]
        await hub.kill()
        kills += 1
    await editing


async def edit(systems: Systems, random: Random) -> None:
    """As many edits in all systems as make up half of the changes; the hub's own writes come back as the others.

    They begin when all was read once: of a row edited before that nobody can tell what in it is new.
    """
    await systems.read_once()
    contacts = [str(row["id"]) for row in systems.world.crm["contacts"]]
    companies = [str(row["id"]) for row in systems.world.crm["companies"]]
    # Only fields that the hub does not write to HubSpot meanwhile: HubSpot lets the last writer win, whoever it is.
    titled = [r["id"] for r in systems.world.hubspot["contacts"] if r["properties"].get("jobtitle")]
    members = [
        m["email_address"] for m in systems.world.mailchimp["lists"][0]["members"] if m["status"] == "subscribed"
    ]
    leaving = random.sample(members, len(members) // 4)
    conn = await asyncpg.connect(systems.crm_url)
    try:
        for number in range(CHANGES // 16):
            for place in range(7):
                mark = f"{number}-{place}"
                name = random.choice(("first_name", "city", "job_title"))
                await _crm(systems, conn, "contacts", random.choice(contacts), name, f"Contact {mark}")
            await _crm(systems, conn, "companies", random.choice(companies), "name", f"Company {mark}")
            await systems.hubspot_edit("contacts", random.choice(titled), jobtitle=f"Title {number}")
            if leaving and number % 5 == 0:
                await systems.mailchimp_edit(leaving.pop(), "unsubscribe", {"status": "unsubscribed"})
            await asyncio.sleep(0.05)
    finally:
        await conn.close()


async def _crm(systems: Systems, conn: asyncpg.Connection, table: str, id_: str, column: str, value: str) -> None:
    await conn.execute(f"update {table} set {column} = $2 where id = $1", int(id_), value)
    systems.note("crm", table, id_, {column: value})


async def assert_created_once(systems: Systems) -> None:
    """Of what was not there at first, each system has one record for each golden record, and none that nobody knows."""
    first = {record.key for record in oracle.records(systems.world)}
    conn = await asyncpg.connect(systems.state_url)
    try:
        rows = await conn.fetch("select system, object, external_id, golden_id from hub.record where not gone")
    finally:
        await conn.close()
    made = [
        row for row in rows if tuple(row)[:3] not in first and row["object"] not in ("members", "activity", "golden")
    ]
    assert made
    assert len({(row["system"], row["golden_id"]) for row in made}) == len(made)
    known = {tuple(row)[:3] for row in rows}
    there = [record.key for record in oracle.records(await systems.now_held()) if record.key[0] != "mailchimp"]
    assert [key for key in there if key not in known] == []
