"""A configuration changed on a hub with a CRM, HubSpot and Mailchimp: shown, deployed, delivered, taken back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from hub.edge import changing
from hub.edge.embedded import Embedded
from hub.edge.wiring import Hub, open_hub, read_config
from hub.errors import Reject
from hub.write import Write
from streams.replay import replay
from streams.topics import RECEIPTS
from streams.whatif import Outlook, Scope
from tests.brokers import emptied
from tests.e2e.process import command
from tests.e2e.systems import LONG, Systems, hub_on, settled, systems_on

IN_LONG = pytest.mark.skipif(not LONG, reason="make soak runs it")
WITHOUT_COUNTRY = {"          country: country\n          lifecycle:": "          lifecycle:"}
CHANGED = {
    "phone: latest ": "phone: {truth: [hubspot, crm]} ",
    "job_title: {truth: [hubspot, crm]}": "job_title: {truth: [crm, hubspot]}",
    "          lifecycle:\n            native: lifecycle\n            options: {mql": (
        "          country: country\n          lifecycle:\n            native: lifecycle\n"
        "            options: {lead: other, mql"
    ),
}


def rewritten(systems: Systems, texts: dict[str, str]) -> None:
    """Change the configuration's file."""
    text = systems.config.read_text()
    for old, new in texts.items():
        assert old in text, old
        text = text.replace(old, new)
    systems.config.write_text(text)


async def receipts(hub: Hub) -> list[dict[str, Any]]:
    """Every receipt, in the order of the log's partitions."""
    found = []
    for (topic, partition), end in sorted((await hub.context.log.ends([RECEIPTS.name])).items()):
        records = await hub.context.log.read(topic, partition, 0, end or 1)
        await hub.context.codec.learn(r.value for r in records)
        found += [hub.context.codec.decode(r.value)[1] for r in records]
    return found


async def calls(systems: Systems) -> int:
    """How many calls the vendors have got."""
    return sum([(await systems.calls(vendor))[0] for vendor in ("hubspot", "mailchimp")])


Seen = tuple[str, str, str, str, str, str]


def of_receipt(one: dict[str, Any]) -> Seen:
    """A write as it was done."""
    id_ = "" if one["op"] == "create" else one["external_id"]
    return (one["target"], one["object"], one["op"], one["golden_id"], id_, _text(orjson.loads(one["written"])))


def of_write(write: Write) -> Seen:
    """A write as it was foretold."""
    return (write.target, write.object, write.op, write.golden_id, write.external_id or "", _text(dict(write.values)))


def _text(values: dict[str, Any]) -> str:
    return orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode()


async def shown(systems: Systems) -> Outlook:
    """What the configuration in the file would change; nobody is called meanwhile."""
    before = await calls(systems)
    async with open_hub(read_config(systems.config, systems.env), env=systems.env, connect=False) as hub:
        _, outlook = await changing.look(hub, Scope(), systems.env)
        assert not hub.context.connectors
    assert await calls(systems) == before, "a what-if calls nobody"
    return outlook


async def deployed(systems: Systems) -> int:
    """Deploy the configuration in the file; how many receipts there were before. Nobody is called."""
    before = await calls(systems)
    async with open_hub(read_config(systems.config, systems.env), env=systems.env, connect=False) as hub:
        known = len(await receipts(hub))
        await changing.deploy(hub, "ann", "because", env=systems.env)
    assert await calls(systems) == before, "to deploy calls nobody"
    return known


async def check_done_as_shown(systems: Systems, outlook: Outlook) -> int:
    """Deploy, run until idle: the writes are those that were shown, each taken once, or refused by the vendor."""
    known = await deployed(systems)
    async with hub_on(systems, web=False) as (hub, _):
        await settled(hub, systems)
        done = sorted(await receipts(hub), key=lambda one: int(one["at"]))[known:]
        taken = [of_receipt(one) for one in done if one["outcome"] in ("applied", "unchanged")]
        refused = {of_receipt(one) for one in done if one["outcome"] == "refused"}
        wanted = {of_write(write) for write in outlook.writes}
        differing = ({*taken} | refused) ^ wanted
        assert not differing, f"done otherwise than shown: {[*differing][:6]}"
        assert len(set(taken)) == len(taken), "something was written twice"
        assert len(refused) < len(taken) / 4, "most of what was shown was taken"
        assert not (await replay(hub.context)).differences
    return len(taken)


@pytest.mark.parametrize("log", ["embedded", pytest.param("kafka", marks=[pytest.mark.kafka, IN_LONG])])
async def test_a_change_is_shown_deployed_and_taken_back(
    postgres: Embedded, tmp_path: Path, log: str, request: pytest.FixtureRequest, figures: Callable[..., None]
) -> None:
    url = log if log == "embedded" else (await emptied(request.getfixturevalue("kafka"))).url
    async with systems_on(postgres, tmp_path, scale=0.02, log=url, rules=WITHOUT_COUNTRY) as systems:
        await systems.crm("update contacts set country = 'Peru' where id = $1", systems.friends[0].crm)
        async with hub_on(systems) as (hub, _):
            await settled(hub, systems)
        original = systems.config.read_text()
        rewritten(systems, CHANGED)
        with pytest.raises(Reject, match="hub whatif"):
            async with hub_on(systems):
                pass

        outlook = await shown(systems)
        fields = {(c.entity, c.field) for c in outlook.fields}
        assert {("contact", "country"), ("contact", "phone"), ("contact", "lifecycle")} <= fields, fields
        writes = await check_done_as_shown(systems, outlook)
        figures("P7", deployed_writes=writes)

        page = systems.config.with_suffix(".html")
        systems.config.write_text(original)
        code, back = await command(systems, "whatif", "--json", "--html", str(page))
        assert (code, "Writes" in page.read_text()) == (0, bool(back["writes"]))
        code, told = await command(systems, "rollback", "--author", "eve", "--reason", "a mistake", "--json")
        assert (code, told["fields"], told["writes"]) == (0, back["fields"], back["writes"])
        await check_taken_back(systems)


async def check_taken_back(systems: Systems) -> None:
    """The configuration in the file is in effect, and the log tells of its story; then the other one is deployed at once."""
    async with open_hub(read_config(systems.config, systems.env), env=systems.env, connect=False) as hub:
        assert not (await replay(hub.context)).differences
        assert [v.author for v in await changing.every_version(hub)] == ["ann", "eve"], "a version counts once"
        assert not (await changing.look(hub, Scope(), systems.env))[1].fields
        assert await changing.deploy_if_other(hub, "again", systems.env) is None
        stored = await hub.context.pool.fetchval("select string_agg(document::text, '') from hub.configuration")
        assert not [name for name in ("HUBSPOT_TOKEN", "MAILCHIMP_KEY") if systems.env[name] in stored]
    rewritten(systems, CHANGED)
    async with open_hub(read_config(systems.config, systems.env), env=systems.env, connect=False) as hub:
        assert await changing.deploy_if_other(hub, "again", systems.env) is not None
        assert not (await replay(hub.context)).differences
