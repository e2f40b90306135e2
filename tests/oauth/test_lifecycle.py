"""`hub auth` and a running hub: authorized by a command, paused with one alert when that is withdrawn, and on its way
again by the same command."""

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from connectors.hubspot.sandbox import Options, create_app
from connectors.kit.sandbox import serve
from connectors.kit.tokens import Token
from connectors.registry import CONNECTORS
from hub.edge import commands_auth, running, sandboxes, tokens
from hub.edge.check import check
from hub.edge.commands_auth import Options as How
from hub.edge.embedded import Embedded
from hub.edge.wiring import Hub, open_hub, read_config, stored_tokens
from hub.errors import ConfigError, Reject
from streams import capture, receipts
from streams.topics import ALERTS
from tests import children
from tests.children import PIPE
from tests.e2e.process import COMMAND, command
from tests.e2e.systems import Systems, eventually, hub_on, settled, show, systems_on
from tests.oauth.support import KEY, browser, stored
from tests.promises.mutations import broken, mutation

APP = """client_id: sandbox-client
    authorize_url: ${HUBSPOT_URL}/oauth/authorize
    redirect_uri: http://localhost:0/callback"""


@pytest.fixture
async def systems(postgres: Embedded, tmp_path: Path) -> AsyncIterator[Systems]:
    """Three systems, HubSpot with an app instead of a token, and refresh tokens for one use."""
    async with systems_on(postgres, tmp_path, scale=0.01, rules={"access_token: ${HUBSPOT_TOKEN}": APP}) as made:
        await sandboxes.control(made.hubspot, "seed", {"oauth": {"rotate": True, "pkce": "required"}})
        made.env["HUB_TOKEN_KEY"] = KEY
        yield made


async def auth(systems: Systems, *more: str, visit: bool = True) -> tuple[int, Any, str]:
    """`hub auth hubspot`, and a person who opens the URL that it prints: exit code, its JSON, what else it said."""
    arguments = ("auth", "hubspot", "--no-browser", "--json", "--config", str(systems.config), *more)
    child = await children.start(*COMMAND, *arguments, env=systems.env, stdout=PIPE, stderr=PIPE)
    assert child.stderr is not None
    told = ""
    while visit and "http" not in told and (line := await asyncio.wait_for(child.stderr.readline(), 60)):
        told = line.decode().strip()
    if visit:
        async with httpx.AsyncClient(timeout=30, trust_env=False, follow_redirects=True) as http:
            assert (await http.get(told)).status_code == 200, told
    out, left = await asyncio.wait_for(child.communicate(), 60)
    return int(child.returncode or 0), json.loads(out or b"{}"), told + left.decode()


async def alerts(hub: Hub, subject: str) -> list[tuple[str, str]]:
    """State and message of every alert of a subject, or of a part of it, in order."""
    (end,) = (await hub.context.log.ends([ALERTS.name])).values()
    records = await hub.context.log.read(ALERTS.name, 0, 0, end)
    data = [hub.context.codec.decode(record.value)[1] for record in records]
    return [(d["state"], d["message"]) for d in data if d["subject"].split("/")[0] == subject]


async def withdrawn(systems: Systems, hub: Hub) -> None:
    """The app is removed at the vendor while there is something to write and to read; both notice."""
    await sandboxes.control(systems.hubspot, "seed", {"oauth": {"revoke": True}})
    await systems.crm_edit("contacts", systems.friends[0].crm, first_name="Patient")
    await eventually(lambda: hub.context.pool.fetchval("select true from hub.pause where target = 'hubspot'"))
    refused = "select count(*) >= 3 from hub.checkpoint where system = 'hubspot' and error like 'Unauthorized%'"
    await eventually(lambda: hub.context.pool.fetchval(refused))


async def check_one_alert(systems: Systems, hub: Hub) -> None:
    """One alert, that names the command, however many parts of the hub meet the refusal."""
    await withdrawn(systems, hub)
    told = await alerts(hub, "hubspot")
    assert len(told) == 1, f"{len(told)} alerts: {told}"
    assert "run `hub auth hubspot`" in told[0][1]


async def check_resumes(systems: Systems, hub: Hub) -> None:
    """The command is all it takes: no `hub resume`, no restart."""
    code, said, other = await auth(systems)
    assert (code, said.get("resumed")) == (0, True), (said, other)
    try:
        await settled(hub, systems, 60)
    except TimeoutError:
        raise AssertionError("the hub did not go on after it was authorized") from None
    assert (problems := await systems.problems()) == [], show(problems)
    assert [state for state, _ in await alerts(hub, "hubspot")] == ["raised", "cleared"]


async def test_a_hub_is_authorized_paused_and_on_its_way_again(
    systems: Systems, capfd: pytest.CaptureFixture[str]
) -> None:
    code, said = await command(systems, "check", "--json")
    told = {system["name"]: system["findings"] for system in said["systems"]}
    assert (code, [f["what"] for f in told["hubspot"]]) == (
        1, ["hubspot: it has not been authorized yet: run `hub auth hubspot`"],
    )  # fmt: skip
    code, done, url = await auth(systems)
    assert (code, done["grant"], done["renews_itself"], done["resumed"]) == (0, "authorization_code", True, False), url
    _, checked = await command(systems, "check", "--json")
    assert next(s["findings"][0]["ok"] for s in checked["systems"] if s["name"] == "hubspot"), checked
    secrets = [await held(systems)]
    async with hub_on(systems) as (hub, _):
        await systems.read_once()
        await sandboxes.control(systems.hubspot, "clock", {"advance_seconds": 1_801})
        await settled(hub, systems)
        secrets.append(await held(systems))
        assert secrets[1].generation > secrets[0].generation
        await check_one_alert(systems, hub)
        await check_resumes(systems, hub)
        secrets.append(await held(systems))
        texts = [*capfd.readouterr(), json.dumps([done, said]), *(m for _, m in await alerts(hub, "hubspot"))]
        texts += [str(row[0]) for row in await hub.context.pool.fetch("select row(c.*)::text from hub.checkpoint c")]
    for token in secrets:
        for secret in (token.access, token.refresh, KEY, systems.env["HUBSPOT_SECRET"]):
            assert secret
            assert all(secret not in text for text in texts)


async def held(systems: Systems) -> Token:
    """The token that is stored now."""
    async with asyncpg.create_pool(systems.state_url, min_size=1) as pool:
        return await stored(pool).read("hubspot") or Token()


async def always_raised(context: Any, conn: Any, target: str, reason: str, generation: int | None = None) -> None:
    """Pauses, and tells of it every time."""
    await conn.execute("insert into hub.pause (target, reason) values ($1, $2) on conflict do nothing", target, reason)
    await receipts.alerts.raised(context, "target_paused", target, reason)


@asynccontextmanager
async def small(postgres: Embedded, directory: Path) -> AsyncIterator[tuple[str, Path, dict[str, str]]]:
    """One HubSpot with three objects: the sandbox's URL, a configuration, and its environment."""
    name = f"hub_{uuid.uuid4().hex[:10]}"
    state = await postgres.create(name)
    config = directory / "hub.yaml"
    text = f"version: 1\nstate: ${{STATE}}\nsystems:\n  hubspot:\n    connector: hubspot\n    {APP}\n"
    text += "    client_secret: ${SECRET}\n    base_url: ${HUBSPOT_URL}\n    poll_seconds: 0.2\n"
    text += "    objects: [contacts, companies, deals]\n"
    await asyncio.to_thread(config.write_text, text)
    async with serve(create_app()) as box:
        yield box.url, config, {
            **os.environ, "STATE": state, "HUBSPOT_URL": box.url, "SECRET": Options().client_secret, "HUB_TOKEN_KEY": KEY,
        }  # fmt: skip
    conn = await asyncpg.connect(postgres.url())
    await conn.execute(f"drop database {name} with (force)")
    await conn.close()


async def check_one_alert_of_three_streams(url: str, config: Path, env: dict[str, str]) -> None:
    """Three streams of one system meet the refusal."""
    async with open_hub(read_config(config, env), env=env) as hub, running.started(hub, ["capture"]):
        refused = "select count(*) = 3 from hub.checkpoint where error like 'Unauthorized%'"
        await eventually(lambda: hub.context.pool.fetchval(refused))
        told = await alerts(hub, "hubspot")
        assert len(told) == 1, f"{len(told)} alerts: {told}"
        assert "run `hub auth hubspot`" in told[0][1]


async def test_a_source_without_authorization_raises_one_alert(postgres: Embedded, tmp_path: Path) -> None:
    async with small(postgres, tmp_path) as (url, config, env):
        await check_one_alert_of_three_streams(url, config, env)


async def test_one_alert_fails_where_each_tells(postgres: Embedded, tmp_path: Path) -> None:
    async with small(postgres, tmp_path) as (url, config, env):
        with mutation(capture, "pause", always_raised), broken("every time"):
            await check_one_alert_of_three_streams(url, config, env)


async def check_goes_on(url: str, config: Path, env: dict[str, str]) -> None:
    """Authorizing ends the pause and the alert; a refusal of before that comes late does not bring them back."""
    async with open_hub(read_config(config, env), env=env) as hub, running.started(hub, ["capture"]):
        pool = hub.context.pool
        await eventually(lambda: pool.fetchval("select true from hub.pause"))
        done = await commands_auth.authorized(hub, "hubspot", How(config, 20, browser(), env))
        assert done["resumed"], "the system stays paused"
        await eventually(
            lambda: pool.fetchval("select count(*) = 3 from hub.checkpoint where complete and error is null")
        )
        async with pool.acquire() as conn:
            await receipts.pause(hub.context, conn, "hubspot", "late: run `hub auth hubspot`", 0)
        assert not await pool.fetchval("select true from hub.pause"), "a late refusal paused the system again"
        assert [state for state, _ in await alerts(hub, "hubspot")] == ["raised", "cleared"]


async def test_authorizing_ends_the_pause(postgres: Embedded, tmp_path: Path) -> None:
    async with small(postgres, tmp_path) as (url, config, env):
        await check_goes_on(url, config, env)


async def never_resumed(context: Any, conn: Any, target: str) -> bool:
    """Leaves the pause."""
    return False


async def test_ending_the_pause_fails_where_the_command_leaves_it(postgres: Embedded, tmp_path: Path) -> None:
    async with small(postgres, tmp_path) as (url, config, env):
        with mutation(commands_auth, "resume", never_resumed), broken("left paused"):
            await check_goes_on(url, config, env)


async def test_what_the_command_refuses_and_check_says(postgres: Embedded, tmp_path: Path) -> None:
    async with small(postgres, tmp_path) as (_, config, env):
        read = read_config(config, env)
        options = How(tmp_path, 0.2, lambda url: None, env)
        async with open_hub(read, env=env, connect=False) as hub:
            with pytest.raises(Reject, match="no system 'nowhere'"):
                await commands_auth.authorized(hub, "nowhere", options)
            with pytest.raises(TimeoutError, match="nobody came back"):
                await commands_auth.authorized(hub, "hubspot", options)
        keyless = {name: value for name, value in env.items() if name != "HUB_TOKEN_KEY"}
        with pytest.raises(ConfigError, match="HUB_TOKEN_KEY"):
            async with open_hub(read, env=keyless):
                pass
        checked = await check(config, CONNECTORS, env=keyless, tokens=lambda c: stored_tokens(c, tmp_path, keyless))
        assert (checked.exit_code, "HUB_TOKEN_KEY" in checked.places[0].suggestion) == (1, True), checked.places
        fixed = {**env, "T": "pat-1"}
        text = await asyncio.to_thread(config.read_text)
        await asyncio.to_thread(config.write_text, text.replace("client_id: sandbox-client", "access_token: ${T}"))
        async with open_hub(read_config(config, fixed), env=fixed, connect=False) as hub:
            with pytest.raises(Reject, match="nothing to authorize"):
                await commands_auth.authorized(hub, "hubspot", How(tmp_path, 0.2, print, fixed))


def test_the_embedded_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    first = tokens._own_key(tmp_path / "pg")
    path = tmp_path / "pg.key"
    assert (path.stat().st_mode & 0o777, len(first) >= 32) == (0o600, True)
    assert tokens._own_key(tmp_path / "pg") == first == path.read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["pg.key"]
