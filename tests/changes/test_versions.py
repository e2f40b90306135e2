"""Versions: what counts as one, that nobody works by another than the one in effect, and what is kept of each."""

import asyncio
from contextlib import suppress
from importlib.resources import files

import orjson
import pytest

from hub.config.loading import loads
from hub.edge.wiring import MANIFESTS
from hub.errors import ConfigError, Reject, Retry
from streams import applying, deliver, replay, versions
from streams.faults import Replaced
from streams.topics import CONFIGURATION
from tests.changes.support import BASE, VARIANTS, Deployed
from tests.promises.mutations import broken, mutation
from tests.stages.conftest import hub
from tests.stages.support import Stages

__all__ = ["hub"]

DEMO = files("hub.edge.demo").joinpath("hub.yaml").read_text()


def version(text: str) -> str:
    """What identifies a configuration."""
    return loads(text, MANIFESTS).deployment


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("phone: latest", "phone: oldest"),
        ("match: [email]", "match: [email, phone]"),
        ("          job_title: job_title\n", ""),
        ("options: {mql:", "options: {lead: other, mql:"),
        ("      members:\n", "      members:\n        when: \"city == 'Bonn'\"\n"),
        ("      tasks: {}", "      tasks: {create: false}"),
        ("delete: {crm: propagate, hubspot: detach, mailchimp: ignore}", "delete: {crm: propagate}"),
        ("phone_region: US", "phone_region: DE"),
    ],
)
def test_what_matters_makes_a_version(old: str, new: str) -> None:
    assert old in DEMO
    assert version(DEMO.replace(old, new)) != version(DEMO)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# The configuration", "# Another comment"),
        ("calls_per_10_seconds: 0", "calls_per_10_seconds: 100"),
        ("url: ${CRM_URL}", "url: ${OTHER_CRM_URL}"),
        ("log: embedded", "log: kafka://127.0.0.1:9092\npatience: {attempts: 3}"),
    ],
)
def test_what_does_not_matter_makes_none(old: str, new: str) -> None:
    assert old in DEMO
    assert version(DEMO.replace(old, new)) == version(DEMO)


def test_a_stored_document_is_the_same_configuration() -> None:
    config = loads(DEMO, MANIFESTS)
    stored = orjson.dumps(config.document).decode()
    assert loads(stored, MANIFESTS).deployment == config.deployment
    assert "${HUBSPOT_TOKEN}" in stored
    assert "the stand-in has no limits" not in stored, "comments are nobody's business"


def test_a_document_never_holds_a_secret() -> None:
    with pytest.raises(ConfigError, match="must not be written here"):
        loads(DEMO.replace("${HUBSPOT_TOKEN}", "pat-na1-secret"), MANIFESTS)


async def check_nobody_works_by_another(hub: Stages) -> None:
    """A worker with the old configuration goes no further once another one is in effect."""
    deployed = Deployed(hub)
    hub.context.model = BASE
    await deployed.adopt()
    await hub.append(hub.change("crm", "contacts", "1", email="ann@example.com"))
    await deployed.apply(VARIANTS["rules"])
    hub.context.model, hub.context.configuration = BASE, "1"
    with suppress(Replaced):
        await hub.project()
    assert await hub.context.pool.fetchval("select count(*) from hub.event") == 0, "it went on"


async def test_a_worker_with_the_old_configuration_waits(hub: Stages) -> None:
    await check_nobody_works_by_another(hub)
    deliverer = deliver.Deliverer(hub.context, "shop")
    async with hub.context.pool.acquire() as conn:
        with pytest.raises(Replaced, match="restart it"):
            await deliverer._leased(conn, deliver.Lane.any, deliver.Circuit.closed)
    with pytest.raises(Replaced):
        await replay.replay(hub.context, swap=True)


async def anybody(*_: object) -> None:
    """No fence."""


async def test_the_check_fails_without_the_fence(hub: Stages) -> None:
    with mutation(versions, "in_effect", anybody), broken("no fence"):
        await check_nobody_works_by_another(hub)


async def test_a_deployment_waits_for_a_batch_and_a_batch_for_a_deployment(hub: Stages) -> None:
    deployed = Deployed(hub)
    hub.context.model = BASE
    await deployed.adopt()
    async with hub.context.pool.acquire() as conn, conn.transaction():
        await versions.in_effect(hub.context, conn)
        applying_ = asyncio.create_task(deployed.apply(VARIANTS["rules"]))
        while not await hub.context.pool.fetchval(  # noqa: ASYNC110 - what is waited for is a lock in PostgreSQL
            "select exists (select from pg_locks where not granted)"
        ):
            await asyncio.sleep(0.02)
        assert not applying_.done()
    await applying_
    assert hub.context.configuration == "2"


async def test_writes_under_way_are_waited_for(hub: Stages) -> None:
    deployed = Deployed(hub)
    hub.context.model = BASE
    await deployed.adopt()
    await hub.crm("1", email="ann@example.com")
    await hub.context.pool.execute("insert into hub.lease values ('busy', now() + interval '1 hour')")
    await hub.context.pool.execute("update hub.write set lease = 'busy'")
    with mutation(applying, "DRAIN_SECONDS", 0.1), pytest.raises(Retry, match="do not end"):
        await deployed.apply(VARIANTS["rules"])
    hub.context.configuration, deployed.version = "1", 1
    await hub.context.pool.execute("update hub.write set lease = null")
    await deployed.apply(VARIANTS["rules"])


async def test_versions_are_events_with_author_and_reason(hub: Stages) -> None:
    deployed = Deployed(hub)
    hub.context.model = BASE
    await deployed.adopt()
    await deployed.apply(VARIANTS["rules"])
    records = await hub.context.log.read(CONFIGURATION.name, 0, 0, 10)
    told = [hub.context.codec.decode(r.value)[1] for r in records]
    assert [(d["version"], d["former"], d["author"], d["reason"]) for d in told] == [
        ("1", "", "ann", "first start"), ("2", "1", "ann", "because"),
    ]  # fmt: skip
    assert orjson.loads(told[1]["document"]) == {"version": 2}
    async with hub.context.pool.acquire() as conn:
        assert [v.version for v in await versions.deployed(conn)] == ["1", "2"]
    hub.context.configuration = "3"
    with pytest.raises(Reject, match="hub whatif"):
        await versions.adopt(hub.context, {}, "eve")


async def test_who_looked_at_another_version_does_not_deploy(hub: Stages) -> None:
    deployed = Deployed(hub)
    hub.context.model = BASE
    await deployed.adopt()
    await deployed.apply(VARIANTS["rules"])
    deployed.version = 1
    with pytest.raises(Reject, match="meanwhile"):
        await deployed.apply(BASE)
