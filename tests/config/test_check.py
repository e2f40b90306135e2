"""`hub check` on a real database and a sandbox on a real socket: what is right, what is missing, who owns what."""

from pathlib import Path

import orjson
import pytest
from rich.console import Console

from connectors.hubspot.sandbox import Options, create_app
from connectors.kit.sandbox import serve
from connectors.registry import CONNECTORS
from hub.edge.check import SOUND, UNUSABLE, WRONG, Checked, check, show
from hub.edge.initial.init import init
from tests.config.databases import chinook, content, fill, put

TOKEN = "pat-hunter2"


@pytest.fixture
async def path(database: str, tmp_path: Path) -> Path:
    """What `hub init` writes for Chinook, with the sandbox's address."""
    await fill(database, chinook())
    path = tmp_path / "hub.yaml"
    await init(database, path, manifests={name: manifest for name, (manifest, _) in CONNECTORS.items()}, to=["hubspot"])
    text = content(path).replace(
        "    objects: [contacts, deals]", "    base_url: ${HUBSPOT_URL}\n    objects: [contacts, deals]"
    )
    put(path, text)
    return path


def shown(checked: Checked) -> str:
    console = Console(record=True, width=250)
    show(checked, console)
    return console.export_text()


async def test_what_init_writes_passes_check(database: str, path: Path) -> None:
    async with serve(create_app(Options(token=TOKEN))) as sandbox:
        env = {"CRM_URL": database, "HUBSPOT_ACCESS_TOKEN": TOKEN, "HUBSPOT_URL": sandbox.url}
        checked = await check(path, CONNECTORS, env=env)
    told = [(name, f.what) for name, found in (checked.findings or {}).items() for f in found if not f.ok]
    assert told == []
    assert checked.exit_code == SOUND
    document = orjson.loads(orjson.dumps(checked.to_json()))
    assert document["ok"]
    crm, hubspot = document["systems"]
    assert crm["owns"]["contact"][:3] == ["email", "first_name", "last_name"]
    assert {"job_title", "lifecycle"} <= set(hubspot["owns"]["contact"])
    assert hubspot["owns"]["deal"] == ["currency"]
    assert [(o["object"], o["reads"], o["writes"], o["creates"]) for o in crm["objects"] + hubspot["objects"]] == [
        ("customer", True, True, False),
        ("invoice", True, False, False),
        ("contacts", True, True, True),
        ("deals", True, True, True),
    ]
    assert document["rules"]["contact"]["consent"] == "strictest"
    assert TOKEN not in shown(checked) + orjson.dumps(document).decode()


async def test_a_system_that_cannot_be_reached_is_named_and_the_others_go_on(database: str, path: Path) -> None:
    env = {"CRM_URL": database, "HUBSPOT_ACCESS_TOKEN": TOKEN, "HUBSPOT_URL": "http://127.0.0.1:9"}
    checked = await check(path, CONNECTORS, env=env)
    assert checked.exit_code == UNUSABLE
    findings = checked.findings or {}
    assert all(finding.ok for finding in findings["crm"])
    assert [finding.ok for finding in findings["hubspot"]] == [False]
    assert TOKEN not in shown(checked)


async def test_a_wrong_password_is_told_without_it(database: str, path: Path) -> None:
    env = {
        "CRM_URL": "postgresql://me:hunter2@127.0.0.1:9/crm",
        "HUBSPOT_ACCESS_TOKEN": TOKEN,
        "HUBSPOT_URL": "http://127.0.0.1:9",
    }
    checked = await check(path, CONNECTORS, env=env)
    assert checked.exit_code == UNUSABLE
    assert not (checked.findings or {})["crm"][0].ok
    assert "hunter2" not in shown(checked)


async def test_variables_that_are_not_set_are_named(database: str, path: Path) -> None:
    checked = await check(path, CONNECTORS, env={"CRM_URL": database})
    assert checked.exit_code == UNUSABLE
    told = [finding.what for finding in (checked.findings or {})["hubspot"]]
    assert ["HUBSPOT_ACCESS_TOKEN is not set" in told[0], "HUBSPOT_URL is not set" in told[1]] == [True, True]
    assert all(f"{path}:" in what for what in told)


async def test_offline_nothing_is_connected_to(path: Path) -> None:
    checked = await check(path, CONNECTORS, offline=True, env={})
    assert checked.exit_code == SOUND
    assert checked.findings is None
    assert "CRM_URL is not set" in " ".join(problem.what for problem in checked.warnings)
    assert "invoice" in shown(checked)


async def test_a_wrong_configuration_is_all_that_is_told(path: Path) -> None:
    put(path, content(path).replace("entity: contact", "entity: contcat").replace("email: email", "emial: email"))
    checked = await check(path, CONNECTORS, env={})
    assert checked.exit_code == WRONG
    assert [problem.suggestion for problem in checked.problems][:1] == ["did you mean contact?"]
    assert checked.to_json()["systems"] == []
    assert "contcat" in shown(checked)


async def test_the_state_and_the_log_are_looked_at(database: str, path: Path) -> None:
    text = content(path)
    env = {"CRM_URL": database, "STATE": "postgresql://me:hunter2@127.0.0.1:9/hub"}
    put(path, text.replace("state: embedded", "state: ${STATE}").replace("log: embedded", "log: kafka://127.0.0.1:9"))
    checked = await check(path, CONNECTORS, env=env)
    assert [finding.ok for finding in checked.places] == [False, False]
    assert "hub kafka up" in checked.places[1].suggestion
    assert "hunter2" not in shown(checked)
    put(path, text.replace("state: embedded", "state: ${CRM_URL}"))
    checked = await check(path, CONNECTORS, env=env)
    assert [finding.ok for finding in checked.places] == [True]


@pytest.mark.parametrize(
    ("systems", "what"),
    [
        ("", "only crm has contact"),
        (
            "  hubspot: {connector: hubspot, access_token: '${K}',"
            " objects: {contacts: {fields: {email: null, hub_id: null}}}}\n",
            "each counts as a new one",
        ),
        ("  mailchimp: {connector: mailchimp, api_key: '${K}', list_id: x, objects: [members]}\n", "gets nobody new"),
    ],
)
async def test_what_will_surprise_is_a_warning(tmp_path: Path, systems: str, what: str) -> None:
    path = tmp_path / "hub.yaml"
    crm = "  crm: {connector: postgresql, url: '${CRM_URL}', objects: {contacts: {entity: contact, fields: {email: email}}}}\n"
    put(path, f"version: 1\nsystems:\n{crm}{systems}")
    checked = await check(path, CONNECTORS, offline=True, env={"CRM_URL": "x", "K": "x"})
    assert [what in problem.what for problem in checked.warnings] == [True], checked.warnings
