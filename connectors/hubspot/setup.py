"""Setting up: the properties that the hub itself needs are made, and a mapping is held against those that exist."""

from collections.abc import Mapping
from difflib import get_close_matches

from connectors.hubspot.api import Api, Json
from connectors.hubspot.objects import ASSOCIATIONS, CONSENT, CONSENT_AT, HUB_ID
from connectors.kit.connector import Finding
from connectors.kit.http import Refusal
from hub.errors import ConfigError, HubError, Problem
from hub.mapping import ObjectMap

TEXT = {"type": "string", "fieldType": "text"}
CONSENT_OPTIONS = [
    {"label": "Opted in", "value": "in", "displayOrder": 0, "hidden": False},
    {"label": "Opted out", "value": "out", "displayOrder": 1, "hidden": False},
]
OWN: dict[str, Json] = {
    HUB_ID: {"label": "Hub ID", "hasUniqueValue": True, **TEXT},
    CONSENT: {"label": "Hub consent", "type": "enumeration", "fieldType": "select", "options": CONSENT_OPTIONS},
    CONSENT_AT: {"label": "Hub consent given or withdrawn at", "type": "datetime", "fieldType": "date"},
}


async def provision(api: Api, mappings: Mapping[str, ObjectMap]) -> None:
    """Make the missing properties of the hub's own that mappings use. Raises ConfigError where one is unfit."""
    for object_, mapping in mappings.items():
        known = await api.properties(object_)
        for name, definition in _own(mapping).items():
            if name not in known:
                await _create(api, object_, name, definition, known)
        if HUB_ID in known and not known[HUB_ID].get("hasUniqueValue"):
            what = f"HubSpot's property {object_}.{HUB_ID} exists, but its values are not unique"
            raise ConfigError([Problem("hubspot", what, "delete it; the hub makes it anew")])


def _own(mapping: ObjectMap) -> dict[str, Json]:
    """The hub's own properties that a mapping uses, and those that hold ids of other systems."""
    used = {native for entry in mapping.fields for native in entry.natives} | {HUB_ID}
    foreign = {entry.natives[0]: entry.identifies for entry in mapping.fields if entry.identifies}
    held = {name: {"label": f"ID in {whose}", **TEXT} for name, whose in foreign.items()}
    return held | {name: definition for name, definition in OWN.items() if name in used}


async def _create(api: Api, object_: str, name: str, definition: Json, known: Mapping[str, Json]) -> None:
    # A property must belong to a group; the object's own groups are named after it in no regular way.
    group = next((p["groupName"] for n, p in sorted(known.items()) if not n.startswith("hs_")), None)
    group = group or next(iter(known.values()), {}).get("groupName", f"{object_}information")
    try:
        await api.create_property(object_, {"name": name, "groupName": group, **definition})
    except Refusal as refusal:
        if refusal.answer.status != 409:  # 409: another worker was quicker
            raise


async def judge(api: Api, mappings: Mapping[str, ObjectMap]) -> list[Finding]:
    """Whether each mapped object can be read and has the mapped properties. Raises nothing of hub.errors."""
    findings: list[Finding] = []
    for object_, mapping in mappings.items():
        try:
            known = await api.properties(object_)
            await api.page(object_, [], "")
        except HubError as error:
            findings.append(
                Finding(False, f"{object_}: {error}", f"give the app the scopes to read and write {object_}")
            )
            continue
        findings += _compare(mapping, known) or [Finding(True, f"{object_}: {len(known)} properties")]
    return findings


def _compare(mapping: ObjectMap, known: Mapping[str, Json]) -> list[Finding]:
    """What is wrong between a mapping and the properties that exist."""
    own = _own(mapping)
    findings: list[Finding] = []
    for entry in mapping.fields:
        for native in entry.natives:
            if native.startswith(ASSOCIATIONS) or native in own:
                continue
            if native not in known:
                close = get_close_matches(native, known, 1)
                hint = f"did you mean {close[0]}?" if close else "create it in HubSpot, or leave it out of the mapping"
                findings.append(Finding(False, f"{mapping.object} has no property {native}", hint))
            elif _readonly(known[native]) and entry.direction != "in" and len(entry.natives) == 1:
                what = f"{mapping.object}.{native} cannot be written"
                findings.append(Finding(False, what, f"set the direction of {entry.name} to in"))
    return findings


def _readonly(definition: Json) -> bool:
    metadata = definition.get("modificationMetadata") or {}
    return bool(metadata.get("readOnlyValue") or definition.get("calculated"))
