"""The JSON Schema that editors complete and check hub.yaml by."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from hub.config.schema import json_schema
from hub.config.source import read
from tests.config.samples import FULL, MANIFESTS
from tests.config.test_problems import CRM, HUBSPOT

PUBLISHED = Path(__file__).parents[2] / "schemas" / "hub.schema.json"


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json_schema(MANIFESTS)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def errors(validator: Draft202012Validator, text: str) -> list[Any]:
    return [list(error.absolute_path) for error in validator.iter_errors(read(text, "hub.yaml").data)]


@pytest.mark.parametrize(
    "text", [FULL, CRM, HUBSPOT, CRM + "entities: {contact: null, boat: {fields: {hull: {type: text}}}}"]
)
def test_what_the_hub_reads_is_valid(validator: Draft202012Validator, text: str) -> None:
    assert errors(validator, text) == []


@pytest.mark.parametrize(
    ("old", "new", "at"),
    [
        ("version: 1", "version: 2", ["version"]),
        ("version: 1\n", "version: 1\nlgo: embedded\n", []),
        ("connector: postgresql", "connector: postgres", ["systems", "crm", "connector"]),
        ("  crm:", "  Our CRM:", ["systems"]),
        ("url: ${CRM_URL}", "url: postgresql://me:pw@db/crm", ["systems", "crm", "url"]),
        ("    url: ${CRM_URL}\n", "", ["systems", "crm"]),
        ("url: ${CRM_URL}", "url: ${CRM_URL}\n    captur: outbox", ["systems", "crm"]),
        ("objects: [contacts]", "objects: [contact]", ["systems", "hubspot", "objects"]),
        ("objects: [contacts]", "objects: {contacts: {direction: inn}}", ["systems", "hubspot", "objects"]),
        ("email: email", "email: 7", ["systems", "crm", "objects"]),
        ("email: email", "email: {native: e, codec: {a: 1, b: 2}}", ["systems", "crm", "objects"]),
        ("email: email", "email: {direction: in}", ["systems", "crm", "objects"]),
    ],
)
def test_what_the_hub_refuses_is_not(validator: Draft202012Validator, old: str, new: str, at: list[str]) -> None:
    assert old in HUBSPOT
    found = errors(validator, HUBSPOT.replace(old, new))
    assert found
    assert any(path[: len(at)] == at for path in found), found


@pytest.mark.parametrize(
    "field", ["newest", "{truth: crm}", "{type: txt}", "{truht: [crm]}", "{rule: newest}", "{review: maybe}", "[crm]"]
)
def test_a_wrong_rule_is_not(validator: Draft202012Validator, field: str) -> None:
    assert errors(validator, f"{HUBSPOT}entities: {{contact: {{fields: {{email: {field}}}}}}}\n")


def test_an_editor_is_told_what_each_key_is_for(validator: Draft202012Validator) -> None:
    systems = validator.schema["$defs"]["System"]["allOf"]  # type: ignore[index]
    hubspot = next(s["then"]["properties"] for s in systems if s["if"]["properties"]["connector"]["const"] == "hubspot")
    assert hubspot["token"]["description"] == "private app token (as ${NAME})"
    assert hubspot["search_lag"] == {
        "description": "seconds",
        "default": 5.0,
        "anyOf": [{"type": "number"}, {"type": "string", "pattern": r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}"}],
    }
    contacts = hubspot["objects"]["anyOf"][1]["properties"]["contacts"]
    assert "email, first_name" in contacts["description"]


def test_the_published_schema_is_current() -> None:
    from connectors.registry import CONNECTORS

    current = json_schema({name: manifest for name, (manifest, _) in CONNECTORS.items()})
    assert json.loads(PUBLISHED.read_text()) == current, "write it anew: hub schema > schemas/hub.schema.json"
