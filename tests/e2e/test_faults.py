"""Vendors that limit, fail, lose answers and webhooks: in the end everything is as if they had not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hub.edge import sandboxes
from hub.edge.embedded import Embedded
from hub.edge.wiring import Hub
from streams.topics import ALERTS
from tests.e2e.process import command
from tests.e2e.systems import Systems, eventually, hub_on, settled, show, systems_on
from tests.e2e.test_oracle import edit_everywhere

Fault = dict[str, Any]
LAG_SECONDS = 2.0

LIMITED: list[Fault] = [
    {"kind": "rate_limit", "retry_after": 1, "times": 4},
    {"kind": "status", "status": 500, "times": 4},
    {"kind": "status", "status": 503, "times": 3},
    {"kind": "drop_connection", "times": 4},
    {"kind": "slow", "seconds": 0.7, "times": 6},
]
# The vendor commits, and the answer is lost: of creates, of updates, of a member added and of one changed.
LOST_HUBSPOT: list[Fault] = [
    {
        "kind": "timeout_after_commit",
        "seconds": 0.2,
        "times": 2,
        "match": f"POST /crm/v3/objects/{object_}/batch/{verb}",
    }
    for object_ in ("contacts", "companies", "deals", "notes")
    for verb in ("upsert", "update")
]
LOST_MAILCHIMP: list[Fault] = [
    {"kind": "timeout_after_commit", "seconds": 0.2, "times": 3, "match": f"{method} /3.0/lists"}
    for method in ("POST", "PATCH")
]


async def test_limits_errors_and_lost_answers(systems: Systems) -> None:
    await systems.faults("hubspot", *LIMITED, *LOST_HUBSPOT)
    await systems.faults("mailchimp", *LIMITED, *LOST_MAILCHIMP)
    async with hub_on(systems) as (hub, _):
        await settled(hub, systems)
        await systems.faults("hubspot", *LIMITED, *LOST_HUBSPOT)
        await systems.faults("mailchimp", *LIMITED, *LOST_MAILCHIMP)
        await edit_everywhere(systems)
        await settled(hub, systems)
        assert (problems := await systems.problems()) == [], show(problems)
    struck = [call["fault"] for vendor in ("hubspot", "mailchimp") for call in (await systems.calls(vendor))[1]]
    assert struck.count("timeout_after_commit") >= 6
    assert {"rate_limit", "status", "drop_connection", "slow"} <= set(struck)


async def test_webhooks_that_come_twice_late_in_disorder_or_not_at_all(postgres: Embedded, tmp_path: Path) -> None:
    settings = {"hubspot": {"deletes_seconds": 1, "poll_seconds": 1}}
    async with systems_on(postgres, tmp_path, scale=0.02, settings=settings) as systems:
        mode = {"duplicate": 0.4, "drop": 0.3, "delay_seconds": 0.5, "reorder": True, "seed": 3}
        await systems.webhooks(**mode)
        await sandboxes.control(systems.hubspot, "seed", {"app": {"indexLagSeconds": LAG_SECONDS}})
        async with hub_on(systems) as (hub, _):
            await settled(hub, systems)
            await sandboxes.control(systems.mailchimp, "webhooks", {"mode": mode})
            await edit_everywhere(systems)
            await told_all(systems)
            await settled(hub, systems)
            assert (problems := await systems.problems()) == [], show(problems)


async def told_all(systems: Systems) -> None:
    """Return when no webhook waits any more, and a search shows what was edited."""

    async def told() -> bool:
        return not await systems.untold()

    await eventually(told)
    await asyncio.sleep(LAG_SECONDS)


@asynccontextmanager
async def refusing(systems: Systems) -> AsyncIterator[None]:
    """HubSpot refuses the hub's token meanwhile."""
    await sandboxes.control(systems.hubspot, "seed", {"token": "another"})
    try:
        yield
    finally:
        await sandboxes.control(systems.hubspot, "seed", {"token": systems.env["HUBSPOT_TOKEN"]})


async def test_a_refused_token_pauses_one_target_with_one_alert_and_the_others_go_on(systems: Systems) -> None:
    friends = systems.friends[:3]
    async with hub_on(systems) as (hub, _):
        await settled(hub, systems)
        async with refusing(systems):
            for number, friend in enumerate(friends):
                await systems.crm_edit("contacts", friend.crm, first_name=f"Patient{number}")
            await eventually(lambda: hub.context.pool.fetchval("select true from hub.pause where target = 'hubspot'"))
            for number in range(3):
                await eventually(lambda name=f"Patient{number}": called_in_mailchimp(systems, name))  # type: ignore[misc]
            code, said = await command(systems, "status", "--json")
            assert [p["target"] for p in said["paused"]] == ["hubspot"], (code, said)
        assert (await command(systems, "resume", "hubspot"))[0] == 0
        assert (await command(systems, "resume", "hubspot"))[0] == 1
        await settled(hub, systems)
        assert (problems := await systems.problems()) == [], show(problems)
        assert await alerts(hub, "target_paused") == ["raised", "cleared"]


async def called_in_mailchimp(systems: Systems, name: str) -> bool:
    """Whether a member has this first name."""
    members = (await systems.now_held()).mailchimp["lists"][0]["members"]
    return any(member["merge_fields"]["FNAME"] == name for member in members)


async def alerts(hub: Hub, name: str) -> list[str]:
    """The states of all alerts of one kind, in order."""
    (end,) = (await hub.context.log.ends([ALERTS.name])).values()
    records = await hub.context.log.read(ALERTS.name, 0, 0, end)
    data = [hub.context.codec.decode(record.value)[1] for record in records]
    return [datum["state"] for datum in data if datum["name"] == name]
