"""P4 on processes: snapshots of three systems under edits and kills, and sources halted and taken up by commands."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import pytest

from hub.edge.embedded import Embedded
from hub.edge.kafka_local import Broker
from tests.e2e.process import Process, command, finish
from tests.e2e.systems import LONG, Systems, eventually, show, systems_on

Figures = Callable[..., None]
KILLS, EDITS, SCALE = (8, 600, 0.2) if LONG else (2, 40, 0.03)
SLOW = "5"  # rows a second: so no snapshot is over before the last kill
SYSTEMS = ("crm", "hubspot", "mailchimp")


async def edit(systems: Systems, random: Random) -> None:
    """Edits in all three systems, of fields that nobody else edits there meanwhile."""
    titled = [r["id"] for r in systems.world.hubspot["contacts"] if r["properties"].get("jobtitle")]
    contacts = [row["id"] for row in systems.world.crm["contacts"]]
    listed = systems.world.mailchimp["lists"][0]["members"]
    leaving = random.sample([m["email_address"] for m in listed if m["status"] == "subscribed"], 6)
    for number in range(EDITS):
        for _ in range(3):
            await systems.crm_edit("contacts", random.choice(contacts), first_name=f"Name {number}")
        await systems.hubspot_edit("contacts", random.choice(titled), jobtitle=f"Title {number}")
        if leaving and number % 5 == 0:
            await systems.mailchimp_edit(leaving.pop(), "unsubscribe", {"status": "unsubscribed"})
        await asyncio.sleep(0.1)


async def snapshots(systems: Systems) -> list[dict[str, Any]]:
    """Every snapshot's row."""
    conn = await asyncpg.connect(systems.state_url)
    try:
        return [dict(row) for row in await conn.fetch("select * from hub.snapshot order by system, object")]
    finally:
        await conn.close()


async def moved(systems: Systems, since: int = 0) -> int:
    """How many rows more than `since` were read by all snapshots, as long as one is running; -1 when none is."""
    rows = await snapshots(systems)
    return sum(r["rows"] for r in rows) - since if any(r["state"] == "running" for r in rows) else -1


async def killed_while_snapshots_run(systems: Systems, hub: Process) -> tuple[Process, int]:
    """Kill and start anew, each time after the snapshots came some way, and at last let them go as fast as they can; how
    many kills hit a running one."""
    kills = 0
    for _ in range(KILLS):
        now = sum(r["rows"] for r in await snapshots(systems))
        await eventually(lambda now=now: moved(systems, now))
        if await moved(systems) < 0:
            break
        await hub.kill()
        kills += 1
        if kills == KILLS:
            await _state(systems, "update hub.snapshot set rate = 1e9")
        hub = Process(systems)
        await hub.start()
    return hub, kills


@pytest.mark.timeout(1_800 if LONG else 240)
async def test_snapshots_under_edits_and_kills(postgres: Embedded, tmp_path: Path, figures: Figures) -> None:
    await check_snapshots_under_edits_and_kills(postgres, tmp_path, "embedded", figures)


@pytest.mark.kafka
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    not LONG, reason="a broker of its own, and waiting for it to miss killed workers: make soak runs it"
)
async def test_snapshots_under_edits_and_kills_on_kafka(
    postgres: Embedded, own_broker: Broker, tmp_path: Path, figures: Figures
) -> None:
    await check_snapshots_under_edits_and_kills(postgres, tmp_path, own_broker.url, figures)


async def check_snapshots_under_edits_and_kills(
    postgres: Embedded, directory: Path, log: str, figures: Figures
) -> None:
    """Each record of each system is read again; no older row wins over a newer edit, by the oracle of the inputs."""
    async with systems_on(postgres, directory, SCALE, log, settings={"postgresql": {"page": 10}}) as systems:
        hub = Process(systems)
        await hub.start()
        await systems.read_once()
        editing = asyncio.create_task(edit(systems, Random(5)))
        for system in SYSTEMS:
            code, said = await command(systems, "source", "snapshot", system, "--rate", SLOW, "--detach")
            assert code == 0, said
        begun = {(r["system"], r["object"]): r["started_at"] for r in await snapshots(systems)}
        hub, kills = await killed_while_snapshots_run(systems, hub)
        assert kills == KILLS, "some kills hit no running snapshot"
        await editing
        await hub.stop()
        ledger = await finish(systems)
        rows = await snapshots(systems)
        assert {r["state"] for r in rows} == {"done"}, rows
        assert {(r["system"], r["object"]): r["started_at"] for r in rows} == begun, "one was begun anew"
        short = [(r["system"], r["object"], r["rows"], r["total"]) for r in rows if r["rows"] < r["total"]]
        assert short == [], "fewer rows were read than there are records"
        assert (problems := await systems.problems()) == [], show(problems)
        counted = {name: sum(r[name] for r in rows) for name in ("rows", "dropped")}
        counted |= {"kills": kills, "edits": len(systems.edits), "captured": ledger["captured"]}
        figures("P4", log=log.partition(":")[0], snapshots=len(rows), **counted)


async def test_a_halted_source_is_read_no_more_until_it_is_taken_up(postgres: Embedded, tmp_path: Path) -> None:
    """By commands of other processes, across a restart; it is named by /readyz and is no trouble; then an alert."""
    async with systems_on(postgres, tmp_path, 0.01, friends=1) as systems:
        hub = Process(systems)
        await hub.start()
        await systems.read_once()
        code, said = await command(systems, "source", "pause", "crm", "--reason", "moving", "--alert-after", "1")
        assert (code, said.strip()) == (0, "crm/wal paused")
        await eventually(lambda: _standing_still(systems))
        await hub.kill()
        hub = Process(systems)
        await hub.start()
        await eventually(lambda: _ready_and_halted(hub))
        await systems.crm_edit("contacts", systems.friends[0].crm, first_name="Unseen")
        code, (status,) = await command(systems, "source", "status", "crm", "--json")
        assert (code, status["state"], status["reason"], status["error"]) == (0, "paused", "moving", None)
        assert status["lag_bytes"] > 0, "the database keeps the edit for the hub"
        await eventually(lambda: _alerted(systems))
        assert "Unseen" not in await _first_names(systems)
        assert (await command(systems, "source", "snapshot", "crm", "contacts", "--detach"))[0] == 0
        assert (await command(systems, "source", "stop", "crm", "--snapshot"))[1].strip() == "1 snapshots stopped"
        assert (await command(systems, "source", "pause", "crm", "contacts"))[0] == 2
        assert (await command(systems, "source", "resume", "crm"))[0] == 0
        assert (await command(systems, "source", "resume", "crm"))[0] == 1
        code, said = await command(systems, "source", "snapshot", "crm", "contacts", "--json", seconds=60)
        lines = said.strip().splitlines() if isinstance(said, str) else [said]
        assert code == 0, said
        assert lines
        await hub.stop()
        await finish(systems)
        assert "Unseen" in await _first_names(systems)


async def _standing_still(systems: Systems) -> bool:
    """Whether the CRM's stream is polled no more: a poll begins every 50 ms."""
    first = await _state(systems, "select polled_at from hub.checkpoint where system = 'crm'")
    await asyncio.sleep(1.5)
    return bool(first == await _state(systems, "select polled_at from hub.checkpoint where system = 'crm'"))


async def _ready_and_halted(hub: Process) -> bool:
    status, said = await hub.ready()
    halted = [(h["system"], h["stream"], h["state"], h["reason"]) for h in said.get("halted", [])]
    return status == 200 and halted == [("crm", "wal", "paused", "moving")]


async def _alerted(systems: Systems) -> bool:
    return bool(await _state(systems, "select alerted from hub.source where system = 'crm'"))


async def _first_names(systems: Systems) -> set[str]:
    return {c["properties"]["firstname"] for c in (await systems.now_held()).hubspot["contacts"]}


async def _state(systems: Systems, sql: str) -> Any:
    conn = await asyncpg.connect(systems.state_url)
    try:
        return await conn.fetchval(sql)
    finally:
        await conn.close()
