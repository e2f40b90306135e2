"""A configuration that uses all of the format, read and looked at; versions, resolving, paths."""

from dataclasses import replace
from pathlib import Path

import pytest

from connectors.kit.connector import Manifest
from hub.config import Config, load, loads
from hub.errors import ConfigError
from hub.mapping import decode, encode, identifiers
from hub.model import Model
from hub.rules import Rule
from tests.config.samples import ENV, FULL, MANIFESTS, STATUS, highest

SECRETS = {**ENV, "STATE_PASSWORD": "hunter2"}


@pytest.fixture
def config() -> Config:
    return loads(FULL, MANIFESTS, SECRETS)


def test_systems_and_objects_are_those_of_the_file(config: Config) -> None:
    assert {name: list(system.objects) for name, system in config.systems.items()} == {
        "crm": ["companies", "contacts"],
        "hubspot": ["contacts", "companies", "notes", "calls"],
        "mailchimp": ["members"],
    }
    assert config.systems["crm"].connector == "postgresql"
    assert config.systems["crm"].settings == {"url": "${CRM_URL}"}
    assert config.log == "embedded"
    assert config.state == "postgresql://hub:hunter2@db/hub"
    assert [m.system for m in config.mappings("contact")] == ["crm", "hubspot", "mailchimp"]
    assert config.warnings == ()
    assert isinstance(config.model, Model)
    assert config.model.mapping("crm", "contacts") is config.systems["crm"].objects["contacts"]


def test_an_object_map_says_what_the_file_says(config: Config) -> None:
    contacts = config.systems["crm"].objects["contacts"]
    assert contacts.settings == {"table": "public.contacts", "key": ["region", "id"]}
    assert (contacts.create, contacts.on_delete, contacts.requires, contacts.region) == (
        False,
        "ignore",
        ("email",),
        "GB",
    )
    assert contacts.when == "email is not None and country == 'DE'"
    members = config.systems["mailchimp"].objects["members"]
    assert members.marketing
    assert members.requires == ("email",)
    assert {f.name: f.natives for f in members.fields} == {
        "email": ("email_address",),
        "first_name": ("FNAME",),
        "consent": ("status", "changed"),
        "last_name": ("LNAME",),
    }
    assert members.fields[2].codec is STATUS
    assert config.systems["hubspot"].objects["notes"].constants == {"kind": "note"}
    assert config.systems["hubspot"].objects["contacts"].dialect == {"integer": str}


def test_natives_are_decoded_and_encoded_as_configured(config: Config) -> None:
    contacts = config.systems["crm"].objects["contacts"]
    natives = {
        "email": " Ann@Example.com",
        "full_name": "Ann van Dyk",
        "phone": "020 7946 0018",
        "email_consent": "out",
        "consent_at": "2024-05-01T10:00:00Z",
        "status": 2,
        "company_id": 7,
        "mailchimp_id": "abc",
    }
    decoded = decode(contacts, natives)
    assert decoded.invalid == {}
    assert decoded.values == {
        "email": "ann@example.com",
        "first_name": "Ann van",
        "last_name": "Dyk",
        "phone": "+442079460018",
        "consent": {"status": "out", "at": "2024-05-01T10:00:00Z"},
        "lifecycle": "customer",
        "company": {"system": "crm", "object": "companies", "id": "7"},
    }
    assert identifiers(contacts, natives) == {"mailchimp.members": "abc"}
    # Half of a name cannot be written, and lifecycle is only read.
    assert encode(contacts, {"first_name": "Eve", "lifecycle": "lead", "city": "Bath"}) == {"city": "Bath"}


def test_rules_are_those_of_the_file_and_the_usual_ones(config: Config) -> None:
    contact = config.entities["contact"]
    rules = {name: field.rule for name, field in contact.fields.items()}
    assert rules["email"] == Rule("truth", ("crm", "hubspot", "mailchimp"))
    assert rules["first_name"] == Rule("truth", ("crm", "hubspot", "mailchimp"))
    assert rules["last_name"].systems == ("crm", "hubspot", "mailchimp")
    assert rules["phone"] == Rule("latest")
    assert rules["job_title"] == Rule("truth", ("hubspot",), review=True)
    assert rules["consent"] == Rule("strictest", ("crm", "mailchimp"))
    assert rules["tags"] == Rule("union")
    assert rules["country"] == Rule("follow", field="city")
    assert rules["score"] == Rule("python", function=highest)
    assert rules["owner_email"] == Rule("truth", ())
    assert contact.match == ("email",)
    assert contact.merge == "review"
    assert contact.on_delete("crm") == "propagate"
    assert contact.on_delete("mailchimp") == "detach"
    assert contact.fields["company"].required
    assert contact.fields["company"].entity == "company"
    assert contact.fields["email"].personal
    assert not contact.fields["job_title"].personal
    assert config.entities["company"].match == ("domain",)


def test_fields_come_after_those_they_look_at() -> None:
    text = FULL.replace(
        "      full_name:",
        "      a: {type: text, expression: b}\n      b: {type: text, expression: full_name}\n      full_name:",
    )
    order = list(loads(text, MANIFESTS, SECRETS).entities["contact"].fields)
    assert order.index("full_name") < order.index("greeting")
    assert order.index("full_name") < order.index("b") < order.index("a")
    assert order.index("city") < order.index("country")


def test_a_usual_reference_to_an_object_that_is_not_configured_is_dropped() -> None:
    config = loads(FULL.replace("[contacts, companies, notes, calls]", "[contacts]"), MANIFESTS, SECRETS)
    assert "company" not in {f.name for f in config.systems["hubspot"].objects["contacts"].fields}
    assert config.entities["contact"].fields["company"].rule.systems == ("crm",)


def test_an_object_that_is_only_read_gets_nothing() -> None:
    text = FULL.replace("        create: false\n", "        direction: in\n").replace("        on_delete: ignore\n", "")
    contacts = loads(text, MANIFESTS, SECRETS).systems["crm"].objects["contacts"]
    assert {f.direction for f in contacts.fields} == {"in"}
    assert (contacts.create, contacts.on_delete) == (False, "ignore")


def test_another_entity_has_none_of_the_usual_fields() -> None:
    mapping = "\n      deals: {entity: invoice, fields: {number: dealname, amount: amount}}\n"
    text = FULL.replace(" [contacts, companies, notes, calls]\n", mapping)
    deals = loads(text, MANIFESTS, SECRETS).systems["hubspot"].objects["deals"]
    assert deals.entity.name == "invoice"
    assert [f.name for f in deals.fields] == ["number", "amount"]


def test_an_own_entity_is_wholly_the_files() -> None:
    text = FULL.replace(
        "entities:\n",
        "entities:\n  boat:\n    match: [hull]\n    fields: {hull: {type: text}, owner: {type: ref, entity: contact}}\n",
    )
    boat = loads(text, MANIFESTS, SECRETS).entities["boat"]
    assert (boat.match, boat.fields["owner"].entity, boat.fields["hull"].rule) == (
        ("hull",),
        "contact",
        Rule("truth", ()),
    )


def test_the_version_changes_with_what_influences_the_fold_and_with_nothing_else(config: Config) -> None:
    def version(old: str, new: str, env: dict[str, str] = SECRETS) -> str:
        assert old in FULL
        return loads(FULL.replace(old, new), MANIFESTS, env).version

    assert version("phone: latest", "phone: oldest") != config.version
    assert version("city: city", "city: town") != config.version
    assert version("2: customer", "3: customer") != config.version
    assert version("phone_region: GB", "phone_region: DE") != config.version
    assert version("{split_name: last}", "{split_name: first}") != config.version
    assert version("log: embedded", "log: kafka://localhost:9092") == config.version
    assert version("list_id: a1b2", "list_id: c3d4") == config.version
    assert version("# yaml", "# more\n# yaml") == config.version
    before, after = config.entities, loads(FULL.replace("headcount", "staff"), MANIFESTS, SECRETS).entities
    assert before["contact"].version == after["contact"].version != ""
    assert before["company"].version != after["company"].version


def test_the_version_knows_the_order_in_which_systems_are_believed(config: Config) -> None:
    head, rest = FULL.split("  hubspot:\n")
    hubspot, tail = rest.split("  mailchimp:\n")
    mailchimp, entities = tail.split("entities:\n")
    swapped = f"{head}  mailchimp:\n{mailchimp}  hubspot:\n{hubspot}entities:\n{entities}"
    assert loads(swapped, MANIFESTS, SECRETS).version != config.version


def test_settings_are_resolved_with_defaults(config: Config) -> None:
    assert config.resolve("crm", ENV) == {"url": ENV["CRM_URL"], "capture": "logical", "batch": 1000}
    assert config.resolve("hubspot", ENV)["search_lag"] == 5.0


def test_a_reference_where_a_number_belongs_becomes_a_number() -> None:
    text = FULL.replace("url: ${CRM_URL}", "url: ${CRM_URL}\n    batch: ${BATCH}")
    assert loads(text, MANIFESTS, SECRETS).resolve("crm", {**ENV, "BATCH": "50"})["batch"] == 50
    assert loads(text, MANIFESTS, SECRETS).resolve("crm", {**ENV, "BATCH": "0.5"})["batch"] == 0.5


def test_missing_variables_are_named_all_at_once_and_no_secret_is(config: Config) -> None:
    with pytest.raises(ConfigError, match="CRM_URL"):
        config.resolve("crm", {})
    found = config.unresolved({"MAILCHIMP_KEY": "hunter2"})
    assert [problem.where for problem in found] == ["hub.yaml:9:10", "hub.yaml:38:12"]
    assert "CRM_URL is not set" in found[0].what
    assert "HUBSPOT_TOKEN is not set" in found[1].what
    assert "hunter2" not in repr(config) + "".join(map(str, found))


def test_a_secret_is_read_from_a_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("pat-from-file\n")
    path = tmp_path / "hub.yaml"
    path.write_text(FULL.replace("token: ${HUBSPOT_TOKEN}", "token: file:token"))
    config = load(path, MANIFESTS, SECRETS)
    assert config.resolve("hubspot", {})["token"] == "pat-from-file"
    (tmp_path / "token").unlink()
    with pytest.raises(ConfigError, match="token cannot be read: No such file"):
        config.resolve("hubspot", {})


def test_a_rule_of_a_module_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "house_rules.py").write_text("def first(claims):\n    return claims[0]['value']\n")
    path = tmp_path / "hub.yaml"
    path.write_text(FULL.replace("tests.config.samples:highest", "house_rules:first"))
    rule = load(path, MANIFESTS, SECRETS).entities["contact"].fields["score"].rule
    assert rule.function is not None
    assert rule.function([{"value": 4}, {"value": 9}]) == 4


def test_a_file_that_is_not_there_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"No such file.*hub init"):
        load(tmp_path / "hub.yaml", MANIFESTS, {})


def test_a_connectors_codec_serves_only_the_natives_it_was_made_for() -> None:
    text = FULL.replace("{tags: null, last_name: LNAME}", "{consent: {native: [status, changed], codec: status}}")
    members = loads(text, MANIFESTS, SECRETS).systems["mailchimp"].objects["members"]
    assert next(f.codec for f in members.fields if f.name == "consent") is STATUS
    with pytest.raises(ConfigError, match="the codec 'status' is not known"):
        loads(text.replace("[status, changed]", "[other]"), MANIFESTS, SECRETS)


def test_a_codec_that_no_usual_field_bears_serves_any_native() -> None:
    manifest: Manifest = replace(MANIFESTS["postgresql"], codecs={"odd": STATUS})
    text = FULL.replace("codec: consent", "codec: odd")
    crm = loads(text, {**MANIFESTS, "postgresql": manifest}, SECRETS).systems["crm"]
    assert next(f.codec for f in crm.objects["contacts"].fields if f.name == "consent") is STATUS
