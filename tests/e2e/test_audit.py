"""Audits as a user runs them, on a running hub with three systems: no drift after everybody edited, and what repair mends."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hub.edge.embedded import Embedded
from tests.e2e.process import command
from tests.e2e.systems import Systems, hub_on, settled, show, systems_on
from tests.e2e.test_oracle import edit_everywhere


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
    assert got == code, (args, got, said)
    return {report["object"]: report for report in said}


async def test_audits_on_a_running_hub(scanned: Systems) -> None:
    systems = scanned
    async with hub_on(systems) as (hub, _):
        await settled(hub, systems)
        await edit_everywhere(systems)
        await settled(hub, systems)
        for system in ("crm", "hubspot", "mailchimp"):
            found = await audited(systems, system, "--full", code=0)
            assert sum(report["read"] for report in found.values()) > 20

        friend = systems.friends[0]
        done = await hub.context.pool.execute(
            """update hub.record set view = jsonb_set(view, '{job_title,0}', '"Pirate"') where external_id = $1""",
            str(friend.crm),
        )
        assert done.endswith(" 1")
        found = await audited(systems, "crm", "--full", "--object", "contacts", code=1)
        assert [(d["external_id"], d["kind"], d["fields"]) for d in found["contacts"]["drift"]] == [
            (str(friend.crm), "stale", ["job_title"])
        ]
        assert found["contacts"]["remedy"].endswith("hub audit crm --object contacts --full --repair")
        await audited(systems, "crm", "--full", "--object", "contacts", "--repair", code=0)
        await settled(hub, systems)
        await audited(systems, "crm", "--sample", "500", "--object", "contacts", code=0)
        code, said = await command(systems, "status", "--json")
        assert (code, {a["object"]: a["state"] for a in said["audits"] if a["system"] == "crm"}["contacts"]) == (
            0,
            "clean",
        )
        assert (await command(systems, "scans", "list", "--json")) == (0, [])
        assert (await command(systems, "audit", "nobody"))[0] == 2
        assert (problems := await systems.problems()) == [], show(problems)
