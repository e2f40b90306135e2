"""Two hubs, one in a process of its own, on the same accounts at HubSpot's limits: nobody is refused."""

from pathlib import Path

from hub.edge import sandboxes
from hub.edge.embedded import Embedded
from streams import budgets
from tests.e2e.process import running
from tests.e2e.systems import hub_on, settled, systems_on

LIMITS = {"calls_per_10_seconds: 0": "calls_per_10_seconds: 190", "searches_per_second: 0": "searches_per_second: 5"}


async def test_workers_share_the_accounts_budgets(postgres: Embedded, tmp_path: Path) -> None:
    async with systems_on(postgres, tmp_path, scale=0.02, rules=LIMITS) as systems:
        await sandboxes.control(systems.hubspot, "seed", {"limits": {"perTenSeconds": 190, "searchPerSecond": 5}})
        async with running(systems), hub_on(systems, web=False) as (hub, _):
            await settled(hub, systems)
            accounts = await budgets.uses(hub.context)
        for vendor in ("hubspot", "mailchimp"):
            calls = (await systems.calls(vendor))[1]
            assert len(calls) > 20
            assert not [call for call in calls if call["status"] == 429], vendor
    kinds = sorted(name.split("/")[0] for name in accounts)
    assert kinds == ["hubspot", "hubspot", "mailchimp"], "a budget that is not kept in the state database is not shared"
