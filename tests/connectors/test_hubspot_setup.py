"""Setting up and checking: what is missing is made or named, and credentials are refreshed."""

from dataclasses import replace
from typing import Any

import pytest

from connectors.hubspot.connector import MANIFEST, HubSpot
from hub.errors import AuthError, ConfigError
from hub.mapping import FieldMap, decode, encode
from tests.connectors.hubspot_support import (
    PORTAL,
    TOKEN,
    changes_of,
    contact,
    create,
    entities,
    extended,
    mappings,
    pages,
    rig,
)

CONTACTS = mappings()["contacts"]


async def test_opening_makes_what_the_hub_needs_once_and_only_what_mappings_use() -> None:
    async with rig() as hub:
        await hub.connector.open()
        names: dict[str, dict[str, Any]] = {}
        for object_ in ("contacts", "companies", "calls", "tasks"):
            answer = (await hub.api.get(f"/crm/v3/properties/{object_}")).raise_for_status().json()
            names[object_] = {p["name"]: p for p in answer["results"]}
        assert names["contacts"]["hub_id"]["hasUniqueValue"] is True
        assert [o["value"] for o in names["contacts"]["hub_consent"]["options"]] == ["in", "out"]
        assert names["contacts"]["hub_consent_at"]["type"] == "datetime"
        assert names["companies"]["hub_id"]["hasUniqueValue"] is True
        assert "hub_consent" not in names["companies"]
        assert "hub_id" in names["calls"]
        assert "hub_id" not in names["tasks"]  # no mapping uses tasks


async def test_a_hub_id_that_is_not_unique_is_a_configuration_error() -> None:
    async with rig() as hub:
        definition = {"name": "hub_id", "label": "Hub", "type": "string", "fieldType": "text", "groupName": "task"}
        groups = (await hub.api.get("/crm/v3/properties/tasks")).json()["results"]
        definition["groupName"] = groups[0]["groupName"]
        (await hub.api.post("/crm/v3/properties/tasks", json=definition)).raise_for_status()
        with pytest.raises(ConfigError, match="not unique"):
            await hub.connect(mappings(["tasks"])).open()


async def test_checking_proves_the_account_and_each_object() -> None:
    async with rig() as hub:
        findings = await hub.connector.check()
        assert all(f.ok for f in findings)
        assert findings[0].what == f"HubSpot account {PORTAL}"
        assert {f.what.split(":")[0] for f in findings[2:]} == set(mappings())


async def test_checking_names_a_misspelt_property_and_its_nearest_and_one_that_cannot_be_written() -> None:
    async with rig() as hub:
        wrong = extended(CONTACTS, FieldMap("tags", ("fistname",)), FieldMap("owner_email", ("createdate",)))
        findings = [f for f in await hub.connect({"contacts": wrong}).check() if not f.ok]
        assert [(f.what, f.suggestion) for f in findings] == [
            ("contacts has no property fistname", "did you mean firstname?"),
            ("contacts.createdate cannot be written", "set the direction of owner_email to in"),
        ]


async def test_checking_tells_of_a_bad_token_another_account_and_a_missing_scope() -> None:
    async with rig() as hub:
        bad = await hub.connect(access_token="pat-wrong").check()
        assert [f.ok for f in bad] == [False]
        assert "pat-wrong" not in str(bad)
        (account, *_) = await hub.connect(portal_id="1").check()
        assert (account.ok, account.suggestion) == (False, "portal_id says 1")
        await hub.seed(tokens={"pat-narrow": {"scopes": ["oauth", "crm.objects.contacts.read"]}})
        narrow = await hub.connect(mappings(["contacts", "deals"]), access_token="pat-narrow").check()
        refused = [f for f in narrow if not f.ok]
        assert refused
        assert any(f.what.startswith("deals:") for f in refused)


async def test_no_credentials_is_a_configuration_error_that_says_what_to_set() -> None:
    async with rig() as hub:
        with pytest.raises(ConfigError, match="set access_token"):
            await hub.connect(access_token=None).open()
        (finding,) = await hub.connect(access_token=None).check()
        assert not finding.ok


async def test_a_wrong_token_is_an_auth_error_without_the_token() -> None:
    async with rig() as hub:
        with pytest.raises(AuthError) as refused:
            await pages(hub.connect(access_token="pat-wrong"), "contacts")
        assert "pat-wrong" not in str(refused.value)


async def test_an_expired_oauth_token_is_refreshed_and_the_call_repeated() -> None:
    async with rig() as hub:
        await hub.seed(contacts=[contact(1)], refreshTokens=["refresh-1"], app={"clientId": "app-1"})
        connector = hub.connect(access_token=None, client_id="app-1", refresh_token="refresh-1")
        assert len(changes_of(await pages(connector, "contacts"))) == 1
        await hub.fault({"kind": "expired_token", "times": 1, "match": "GET /crm/v3/objects/contacts"})
        assert len(changes_of(await pages(connector, "contacts"))) == 1
        tokens = [c for c in await hub.calls() if c["path"].startswith("/oauth/")]
        assert len(tokens) == 2
        await connector.close()
        refused = hub.connect(access_token=None, client_id="app-1", refresh_token="refresh-wrong")
        with pytest.raises(AuthError) as raised:
            await pages(refused, "contacts")
        assert "refresh-wrong" not in str(raised.value)
        await refused.close()


def test_the_manifests_fields_are_fields_of_their_entities() -> None:
    known = entities()
    for spec in MANIFEST.objects:
        names = {f.name for f in spec.fields if not f.identifies} | set(spec.constants) | set(spec.requires)
        assert names <= known[spec.entity].fields.keys(), spec.name
        mapping = replace(CONTACTS, object=spec.name, entity=known[spec.entity], fields=spec.fields)
        assert decode(mapping, {}).values == dict(mapping.constants)


def test_every_type_survives_the_way_there_and_back() -> None:
    calls, deals, companies = (mappings()[name] for name in ("calls", "deals", "companies"))
    for mapping, values in (
        (calls, {"duration_seconds": 90, "occurred_at": "2026-09-01T10:00:00.123000Z", "status": "no_answer"}),
        (deals, {"amount": "1200.5", "close_date": "2026-12-24"}),
        (companies, {"employees": 12, "annual_revenue": "0.1"}),
        (CONTACTS, {"consent": {"status": "out", "at": "2026-09-01T10:00:00Z"}, "email": "a@example.com"}),
    ):
        natives = encode(mapping, values)
        assert all(isinstance(native, str) for native in natives.values())
        back = decode(mapping, natives).values
        assert {name: back[name] for name in values} == values
    empty = encode(calls, {"duration_seconds": None}) | encode(CONTACTS, {"consent": None})
    assert set(empty.values()) == {None}


async def test_the_usual_mapping_is_taken_whole_by_the_vendor() -> None:
    async with rig() as hub:
        connector = hub.connect(mappings(["notes", "calls", "emails", "meetings", "tasks"]))
        await connector.open()
        for name, mapping in mappings(["notes", "calls", "emails", "meetings", "tasks"]).items():
            values = {"subject": "S", "body": "B", "occurred_at": "2026-09-01T10:00:00Z", "status": "completed"}
            taken = {f.name for f in mapping.fields}
            status = {"emails": "sent"}.get(name, "completed")
            sent = {n: v for n, v in (values | {"status": status}).items() if n in taken}
            (receipt,) = await connector.deliver([create(mapping, f"engagement_{name}", **sent)])
            (change,) = changes_of(await pages(connector, name))
            held = decode(mapping, change.fields).values
            assert {n: held[n] for n in sent} == sent, receipt
        await connector.close()
        assert TOKEN not in repr(vars(connector)["_wires"])


def test_a_time_zone_that_is_none_is_told_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"systems\.hubspot\.time_zone.*Mars/Phobos.*Europe/Berlin"):
        HubSpot("hubspot", {"access_token": TOKEN, "time_zone": "Mars/Phobos"}, {})
