"""The connectors as they are, and the configuration that ships with the hub, against this format."""

import re
from pathlib import Path

import pytest

from connectors.kit.connector import Manifest
from connectors.registry import CONNECTORS
from hub.codecs import STANDARD
from hub.config import load, loads
from hub.config.entities import canonical
from hub.config.models import SIMPLE_RULES, Entity, EntityField, NativeField, Object, Root
from hub.config.source import closest
from hub.rules import FUNCTIONS
from hub.values import PARSERS

MANIFESTS = {name: manifest for name, (manifest, _) in CONNECTORS.items()}
DEMO = Path(__file__).parents[2] / "hub" / "edge" / "demo" / "hub.yaml"


@pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=MANIFESTS)
def test_usual_fields_are_those_of_the_canonical_entities(manifest: Manifest) -> None:
    strange = [
        f"{spec.name}.{name}"
        for spec in manifest.objects
        for name in (*(f.name for f in spec.fields if not f.identifies), *spec.constants, *spec.requires)
        if name not in canonical()[spec.entity].fields
    ]
    assert strange == []


@pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=MANIFESTS)
def test_all_objects_of_a_connector_can_be_configured_as_they_are(manifest: Manifest) -> None:
    given = "".join(
        f"    {s.name}: {'${X}' if s.secret else 'x'}\n" for s in manifest.settings if s.required and s.default is None
    )
    names = [spec.name for spec in manifest.objects]
    objects = f"[{', '.join(names)}]" if names else "{x: {entity: contact}}"
    config = loads(
        f"version: 1\nsystems:\n  one:\n    connector: {manifest.name}\n{given}    objects: {objects}\n", MANIFESTS, {}
    )
    for spec in manifest.objects:
        assert [f.name for f in config.systems["one"].objects[spec.name].fields] == [f.name for f in spec.fields]


@pytest.mark.parametrize("key", ["table", "key", "clock", "soft_delete", "where", "list"])
def test_a_connectors_own_keys_are_not_taken_for_slips(key: str) -> None:
    assert not closest(key, Object.model_fields, 0.82).startswith("did you mean")


def test_the_demos_configuration_is_right() -> None:
    config = load(DEMO, MANIFESTS, {})
    assert list(config.systems) == ["crm", "hubspot", "mailchimp"]
    assert config.warnings == ()


def _examples() -> list[str]:
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    return [block.split("```")[0] for block in text.split("```yaml\n")[1:]]


@pytest.mark.parametrize("example", _examples())
def test_the_documentations_examples_are_right(example: str) -> None:
    assert loads(example, MANIFESTS, {}).warnings == ()


def test_the_documentation_names_every_codec_key_and_rule() -> None:
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    names = [*STANDARD, *PARSERS, *FUNCTIONS, *Object.model_fields, *NativeField.model_fields, *Entity.model_fields]
    names += [*EntityField.model_fields, *Root.model_fields, *SIMPLE_RULES]
    assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []
