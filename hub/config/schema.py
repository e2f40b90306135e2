"""hub.yaml as JSON Schema (draft 2020-12), for completion and checking in editors: the models, and every connector's keys."""

from collections.abc import Mapping, Sequence
from typing import Any

from hub import codecs
from hub.config.entities import KINDS, canonical
from hub.config.manifest import ManifestLike, Manifests, ObjectLike, SettingLike
from hub.config.models import SIMPLE_RULES, Root
from hub.config.secrets import REFERENCE
from hub.config.settings import needed

Json = dict[str, Any]

REFERENCE_ONLY = rf"^file:|{REFERENCE.pattern}|^[a-z]+://([^:@/]*@)?(localhost|127\.0\.0\.1|\[::1\])?([:/?]|$)"
JSON_TYPES: Mapping[type, str] = {bool: "boolean", int: "number", float: "number", list: "array", dict: "object"}


def json_schema(manifests: Manifests) -> Json:
    """The schema of hub.yaml for these connectors. What needs more than one place to judge is left to `hub check`."""
    schema: Json = _tidy(Root.model_json_schema())
    definitions = schema["$defs"]
    _short_forms(definitions)
    _names(definitions)
    _systems(definitions["System"], manifests)
    reference = {"type": "string", "pattern": REFERENCE_ONLY}
    described = {"description": schema["properties"]["token_key"]["description"]}
    schema["properties"]["token_key"] = described | {"anyOf": [reference, {"type": "array", "items": reference}]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "hub.yaml"} | schema


def _tidy(part: Any) -> Any:
    """Without the titles and null defaults that say nothing; names that fit no pattern are refused."""
    if isinstance(part, list):
        return [_tidy(item) for item in part]
    if not isinstance(part, dict):
        return part
    noise = {"title"} if isinstance(part.get("title"), str) else set()
    noise |= {"default"} if part.get("default", "") in (None, "") else set()
    tidy = {key: _tidy(value) for key, value in part.items() if key not in noise}
    return tidy | ({"additionalProperties": False} if "patternProperties" in tidy else {})


def _systems(system: Json, manifests: Manifests) -> None:
    """Each connector's own keys and objects, chosen by the key `connector`."""
    objects = system["properties"]["objects"]
    system["properties"]["objects"] = {"description": objects["description"]}
    system["properties"]["connector"]["enum"] = sorted(manifests)
    system["allOf"] = [_connector(manifest, objects["patternProperties"]) for _, manifest in sorted(manifests.items())]
    system["unevaluatedProperties"] = False
    del system["additionalProperties"]


def _short_forms(definitions: Json) -> None:
    """What a before-validator lets a person write, which the models themselves do not show."""
    native = definitions["NativeField"]["properties"]["native"]
    names = {"anyOf": [{"type": "string", "minLength": 1}, {k: v for k, v in native.items() if k != "title"}]}
    definitions["NativeField"]["properties"]["native"] = names
    codec = {"anyOf": [{"enum": list(codecs.STANDARD)}, {"type": "string"}, _one_key(), {"type": "null"}]}
    definitions["NativeField"]["properties"]["codec"] = codec | {"description": _codecs()}
    _or(definitions, "NativeField", names["anyOf"])
    _or(definitions, "EntityField", [{"enum": list(SIMPLE_RULES)}, {"type": "null"}])
    _or(definitions, "Entity", [{"type": "null"}])


def _or(definitions: Json, name: str, others: list[Json]) -> None:
    """Let the definition be written in other ways too."""
    definitions[f"{name}Long"] = definitions[name]
    definitions[name] = {"anyOf": [*others, {"$ref": f"#/$defs/{name}Long"}]}


def _one_key() -> Json:
    return {"type": "object", "minProperties": 1, "maxProperties": 1}


def _codecs() -> str:
    lines = [f"{name}: {standard.what}" for name, standard in codecs.STANDARD.items()]
    return "How to read and write where the type alone does not tell. " + "; ".join(lines)


def _names(definitions: Json) -> None:
    """The types that there are, and the canonical entities' names as suggestions."""
    definitions["EntityFieldLong"]["properties"]["type"]["enum"] = list(KINDS)
    suggestions = [{"enum": list(canonical())}, {"type": "string"}]
    described = definitions["Object"]["properties"]["entity"]
    definitions["Object"]["properties"]["entity"] = {"anyOf": suggestions, "description": described["description"]}


def _connector(manifest: ManifestLike, patterns: Json) -> Json:
    """What holds for systems of one connector: its settings and its objects."""
    settings = {setting.name: _setting(setting) for setting in manifest.settings}
    must = [s for s in manifest.settings if needed(s)]
    objects = _objects(manifest.objects, next(iter(patterns)))
    then: Json = {"properties": settings | {"objects": objects}, "required": [s.name for s in must if not s.unless]}
    either = [{"anyOf": [{"required": [s.name]}, {"required": [s.unless]}]} for s in must if s.unless]
    then |= {"allOf": either} if either else {}
    return {"if": {"properties": {"connector": {"const": manifest.name}}, "required": ["connector"]}, "then": then}


def _setting(setting: SettingLike) -> Json:
    said: Json = {"description": setting.what}
    if setting.secret:
        return said | {"type": "string", "pattern": REFERENCE_ONLY, "description": f"{setting.what} (as ${{NAME}})"}
    if setting.default is not None:
        said["default"] = setting.default
    kind = JSON_TYPES.get(type(setting.default))
    return said | ({"anyOf": [{"type": kind}, {"type": "string", "pattern": REFERENCE.pattern}]} if kind else {})


def _objects(specs: Sequence[ObjectLike], pattern: str) -> Json:
    """A list of names or a mapping; of the connector's own objects where it has a fixed set."""
    names: Json = {"enum": [spec.name for spec in specs]} if specs else {"type": "string", "pattern": pattern}
    body = {"anyOf": [{"$ref": "#/$defs/Object"}, {"type": "null"}]}
    mapping: Json = {"type": "object", "propertyNames": names, "additionalProperties": body}
    if specs:
        mapping["properties"] = {spec.name: _object(spec) for spec in specs}
    return {"anyOf": [{"type": "array", "items": names}, mapping]}


def _object(spec: ObjectLike) -> Json:
    fields = ", ".join(field.name for field in spec.fields)
    what = f"Usually the entity {spec.entity}, with the fields {fields}."
    return {"anyOf": [{"$ref": "#/$defs/Object"}, {"type": "null"}], "description": what}
