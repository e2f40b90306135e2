"""Audits as a user runs them, on a running hub with three systems: no drift after everybody edited, and what repair mends."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hub.edge.embedded import Embedded
from hub.edge.wiring import Hub
from streams.audit import Order, audit
from tests.e2e.process import command
from tests.e2e.systems import LONG, Systems, hub_on, settled, show, systems_on
from tests.e2e.test_oracle import edit_everywhere

ACTIVITIES = ("notes", "calls", "emails", "meetings", "tasks")


@pytest.fixture
async def scanned(postgres: Embedded, tmp_path: Path) -> AsyncIterator[Systems]:
    """Three systems, of which Mailchimp's deletes are found by scans."""
    rules = {"      members:\n": "      members:\n        deletes: scan\n"}
    settings = {"hubspot": {"deletes_seconds": 1, "poll_seconds": 1}}
    async with systems_on(postgres, tmp_path, scale=0.02, rules=rules, settings=settings) as systems:
        yield systems


async def audited(systems: Systems, *args: str, code: int) -> dict[str, Any]:
    """By object what an audit says, whose exit code must be this one."""
    got, said = await command(systems, "audit", *args, "--json", "--wait", "60")
    assert got == code, (args, got, [(r["object"], r["state"], r["reason"], r["drift"][:5]) for r in said])
    return {report["object"]: report for report in said}


async def test_audits_on_a_running_hub(scanned: Systems) -> None:
    systems = scanned
    async with hub_on(systems) as (hub, _):
        await settled(hub, systems)
        await check_no_drift(hub)
        await check_commands(systems, hub)
        await settled(hub, systems)
        assert (problems := await systems.problems()) == [], show(problems)


@pytest.mark.skipif(not LONG, reason="everybody edits: make soak runs it")
async def test_audits_after_everybody_edited(scanned: Systems) -> None:
    systems = scanned
    async with hub_on(systems) as (hub, _):
        await settled(hub, systems)
        await edit_everywhere(systems)
        await settled(hub, systems)
        await check_no_drift(hub, *ACTIVITIES)
        # HubSpot takes a deleted person off his activities, and does not tell those who poll: only an audit finds out.
        found = await audited(systems, "hubspot", "--full", "--repair", code=0)
        untold = [(one, d["kind"], d["fields"]) for one, report in found.items() for d in report["drift"]]
        assert {(kind, *fields) for _, kind, fields in untold} <= {("stale", "contact")}, untold
        assert {one for one, _, _ in untold} <= set(ACTIVITIES), untold
        await settled(hub, systems)
        await check_no_drift(hub)
        assert (problems := await systems.problems()) == [], show(problems)


async def check_no_drift(hub: Hub, *without: str) -> None:
    """Nothing in any system is otherwise than the hub believes."""
    for system, object_ in hub.config.model.mappings:
        if object_ not in ("activity", *without):
            report = await audit(hub.context, Order(system, object_, patience=60))
            assert (report.row.state, report.drift) == ("clean", ()), report


async def check_commands(systems: Systems, hub: Hub) -> None:
    """A drift made behind the hub's back is shown, told by status, and repaired."""
    friend = str(systems.friends[0].crm)
    pirate = (
        """update hub.record set view = jsonb_set(view::jsonb, '{job_title,0}', '"Pirate"') where external_id = $1"""
    )
    assert (await hub.context.pool.execute(pirate, friend)).endswith(" 1")
    found = (await audited(systems, "crm", "--full", "--object", "contacts", code=1))["contacts"]
    assert [(d["external_id"], d["kind"], d["fields"]) for d in found["drift"]] == [(friend, "stale", ["job_title"])]
    assert found["remedy"].endswith("hub audit crm --object contacts --full --repair")
    code, said = await command(systems, "status", "--json")
    states = {(a["system"], a["object"]): (a["state"], a["stale"]) for a in said["audits"]}
    assert (code, states["crm", "contacts"]) == (0, ("drift", 1))
    assert await command(systems, "scans", "list", "--json") == (0, [])
    assert (await command(systems, "audit", "nobody"))[0] == 2
    repaired = await audit(hub.context, Order("crm", "contacts", apply="all", patience=60))
    assert (repaired.row.state, repaired.row.repaired) == ("clean", 1)
