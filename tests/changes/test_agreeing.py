"""Merges and splits need somebody's word; of a fleet one worker deploys, and none takes back what was deployed since."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from hub.edge import changing, history
from hub.edge.wiring import Hub, open_hub, read_config
from hub.errors import Reject
from streams import applying, in_force, versions
from tests.changes.support import BASE, VARIANTS, Deployed
from tests.config.samples import HUBSPOT_ALONE
from tests.e2e.process import COMMAND
from tests.promises.mutations import broken, mutation
from tests.stages.conftest import hub
from tests.stages.support import Stages

__all__ = ["hub"]

CONFIG = f"""{HUBSPOT_ALONE}
entities:
  contact:
    match: [email]
"""
OLD, NEW = "match: [email]", "match: [email, phone]"


@dataclass
class Site:
    """A hub's configuration file and its environment."""

    config: Path
    env: dict[str, str]

    @asynccontextmanager
    async def opened(self, old: str = OLD, new: str = OLD) -> AsyncIterator[Hub]:
        """The hub by its file, in which `new` stands for `old`."""
        self.config.write_text(CONFIG.replace(old, new))
        async with open_hub(read_config(self.config, self.env), env=self.env, connect=False) as hub:
            yield hub

    async def command(self, *args: str, typed: str | None = None) -> tuple[int, str]:
        """A command's exit code and all that it says; with `typed` on a terminal, at which that is typed."""
        keyboard, stdin = os.openpty() if typed is not None else (None, asyncio.subprocess.DEVNULL)
        if keyboard is not None:
            os.write(keyboard, (typed or "").encode())
        child = await asyncio.create_subprocess_exec(
            *COMMAND, *args, "--author", "ann", "--reason", "because", "--config", str(self.config), env=self.env,
            stdin=stdin, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await child.communicate()
        if keyboard is not None:
            os.close(keyboard)
            os.close(stdin)
        return child.returncode or 0, said.decode()


@pytest.fixture
async def site(database: str, tmp_path: Path) -> Site:
    """A hub with one configuration in effect, and two contacts that share a telephone number."""
    site = Site(tmp_path / "hub.yaml", {**os.environ, "STATE": database, "TOKEN": "t", "SECRET": "s"})
    async with site.opened() as hub:
        await versions.adopt(hub.context, hub.config.document, "ann")
        stages = Stages(hub.context)
        for number, email in enumerate(("ann@example.com", "otto@example.com")):
            await stages.append(stages.change("hubspot", "contacts", str(number), email=email, phone="+12025550123"))
        await stages.project()
    return site


async def goldens(hub: Hub) -> int:
    """How many golden records live."""
    return int(await hub.context.pool.fetchval("select count(*) from hub.golden where merged_into is null"))


async def test_nothing_is_merged_without_a_word(site: Site) -> None:
    async with site.opened(OLD, NEW) as hub:
        code, said = await site.command("apply")
        assert (code != 0, "--yes" in said, "1 golden" in said, await goldens(hub)) == (True, True, True, 2), said
        code, said = await site.command("apply", typed="n\n")
        assert (code != 0, "Go on?" in said, await goldens(hub)) == (True, True, 2), said
        code, said = await site.command("apply", typed="y\n")
        assert (code, await goldens(hub)) == (0, 1), said
        code, said = await site.command("rollback", "--yes")
        assert (code, await goldens(hub)) == (0, 2), said


async def check_told_by_the_version_of_then(site: Site) -> None:
    """By real files: before a deployment that merges, a record is told by the version of before; after it by the new one."""
    async with site.opened() as hub:
        old = hub.config.deployment
    async with site.opened(OLD, NEW) as hub:
        await changing.deploy(hub, "ann", "one telephone, one person", env=site.env)
        steps = await history.history(hub.context, "contact", "otto@example.com")
        assert [s["kind"] for s in steps] == ["event", "event", "deployment", "merge"]
        assert [steps[2][n] for n in ("version", "former", "author")] == [hub.config.deployment, old, "ann"]
        before = await history.show(hub.context, "contact", "hubspot:1", steps[1]["id"])
        after = await history.show(hub.context, "contact", "hubspot:1", None)
        assert (before["configuration"], len(before["records"])) == (old, 1), "told by the version of now"
        assert (after["configuration"], len(after["records"])) == (hub.config.deployment, 2)


async def test_the_past_is_told_by_the_version_of_then(site: Site) -> None:
    await check_told_by_the_version_of_then(site)


async def test_the_check_fails_where_versions_are_not_looked_at(site: Site) -> None:
    async def none(_: object) -> list[in_force.InForce]:
        return []

    with mutation(in_force, "deployments", none), broken("no versions"):
        await check_told_by_the_version_of_then(site)


async def check_no_more_than_agreed(hub: Stages) -> None:
    """Somebody agrees to what there was to merge; then another pair comes. Nothing is done."""
    hub.context.model = BASE
    deployed = Deployed(hub)
    await deployed.adopt()
    await hub.crm("1", email="ann@example.com", phone="+4930123456")
    await hub.shop("2", email="otto@example.com", phone="+4930123456")
    seen = (await deployed.whatif(VARIANTS["matched more"])).regroups
    await hub.crm("3", email="eva@example.com", phone="+4930654321")
    await hub.shop("4", email="ida@example.com", phone="+4930654321")
    said = versions.Deployment("2", {"version": 2}, "ann", "because")
    with suppress(Reject):
        await applying.apply(hub.context, BASE, VARIANTS["matched more"], said, "1", seen)
    assert len(await hub.goldens()) == 4, "more was merged than was agreed"


async def test_no_more_is_merged_than_was_agreed(hub: Stages) -> None:
    await check_no_more_than_agreed(hub)


async def test_the_check_fails_where_any_number_will_do(hub: Stages) -> None:
    apply = applying.apply
    with mutation(applying, "apply", lambda *args: apply(*args[:5])), broken("nobody compares"):
        await check_no_more_than_agreed(hub)


async def check_a_fleet(site: Site, again: bool) -> None:
    """Two workers with the new file start at once: one deploys, both go on. One with the old file changes nothing."""
    async with site.opened(OLD, NEW) as one, site.opened(OLD, NEW) as other:
        await asyncio.gather(
            *(changing.deploy_if_other(w, "hub worker --apply", site.env, again) for w in (one, other))
        )
        assert len(await changing.every_version(one)) == 2
        assert await one.context.pool.fetchval("select count(*) from hub.configuration") == 2
    async with site.opened() as late:
        with suppress(Reject):
            await changing.deploy_if_other(late, "hub worker --apply", site.env, again)
        found = await changing.every_version(late)
        assert found[-1].version != late.config.deployment, "an old file took back what was deployed"


async def test_of_a_fleet_one_worker_deploys_and_none_takes_it_back(site: Site) -> None:
    await check_a_fleet(site, again=False)


async def test_the_check_fails_where_what_was_replaced_is_deployed_again(site: Site) -> None:
    with broken("the last one to start wins"):
        await check_a_fleet(site, again=True)
