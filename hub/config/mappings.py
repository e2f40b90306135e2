"""Mappings, out of what a connector knows of its objects and what hub.yaml says of them.

First a draft of every object (its entity and fields), from which the entities learn who says something of which field;
then, with the entities, the mapping itself.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from hub import codecs
from hub.config.expressions import check
from hub.config.manifest import ManifestLike, ObjectLike
from hub.config.models import NativeField, Object, System
from hub.config.source import Path, Source, closest, shown
from hub.entity import Entity
from hub.mapping import Codec, FieldMap, ObjectMap
from hub.values import InvalidValue, parse

SLIP = 0.82  # from this likeness on, a key is a misspelt one of the mapping, and not one for the connector


@dataclass(frozen=True, slots=True)
class Draft:
    """One object as configured, before its entity is known. `own` are the fields that hub.yaml itself maps."""

    system: str
    object: str
    entity: str
    fields: Mapping[str, FieldMap]
    own: frozenset[str]
    usual: ObjectLike | None
    model: Object
    manifest: ManifestLike
    at: Path


def drafts(source: Source, name: str, model: System, manifest: ManifestLike, entities: Sequence[str]) -> list[Draft]:
    """The objects of one system whose entity is known; what is wrong with them is noted in the source."""
    usual = {spec.name: spec for spec in manifest.objects}
    found = []
    for object_, said in model.objects.items():
        at: Path = ("systems", name, "objects", object_)
        if usual and object_ not in usual:
            source.problem(at, f"{manifest.name} has no object {object_}", closest(object_, usual), key=True)
            continue
        if entity := _entity(source, at, said, usual.get(object_), entities):
            spec = usual.get(object_)
            spec = spec if spec and spec.entity == entity else None
            fields, own = _fields(source, at, said, spec, manifest)
            found.append(Draft(name, object_, entity, fields, own, spec, said, manifest, at))
    return [_without_strays(draft, {other.object for other in found}) for draft in found]


def _without_strays(draft: Draft, here: Collection[str]) -> Draft:
    """Without the usual references to objects that are not configured."""
    fields = {n: f for n, f in draft.fields.items() if not f.object or f.object in here or n in draft.own}
    return replace(draft, fields=fields)


def _entity(source: Source, at: Path, said: Object, usual: ObjectLike | None, entities: Sequence[str]) -> str:
    entity = said.entity or (usual.entity if usual else "")
    if entity in entities:
        return entity
    if entity:
        source.problem((*at, "entity"), f"the entity {shown(entity)} is not known", closest(entity, entities))
    else:
        source.problem(at, f"{at[-1]} has no entity", f"entity: one of {', '.join(entities)}", key=True)
    return ""


def _fields(
    source: Source, at: Path, said: Object, usual: ObjectLike | None, manifest: ManifestLike
) -> tuple[dict[str, FieldMap], frozenset[str]]:
    """The connector's usual fields with those of hub.yaml laid over them, and the names of the latter."""
    fields = {field.name: field for field in usual.fields} if usual else {}
    _check_keys(source, at, said)
    for name, native in said.fields.items():
        if native is None:
            _check_left_out(source, (*at, "fields", name), name, fields)
            fields.pop(name, None)
        else:
            fields[name] = _field(source, (*at, "fields", name), name, native, manifest)
    if said.direction != "both":
        fields = {name: replace(field, direction=said.direction) for name, field in fields.items()}
    return fields, frozenset(name for name, native in said.fields.items() if native is not None)


def _check_left_out(source: Source, at: Path, name: str, fields: Mapping[str, FieldMap]) -> None:
    if name not in fields:
        source.problem(
            at, f"{name} is not a usual field here, so it cannot be left out", closest(name, fields), key=True
        )


def _check_keys(source: Source, at: Path, said: Object) -> None:
    """Keys that are not the mapping's go to the connector, unless they look like a slip."""
    for key in said.model_extra or {}:
        near = closest(key, Object.model_fields, SLIP)
        if near.startswith("did you mean"):
            source.problem((*at, key), f"unknown key {shown(key)}", near, key=True)


def _field(source: Source, at: Path, name: str, said: NativeField, manifest: ManifestLike) -> FieldMap:
    natives = tuple(said.native)
    codec, read_only = _codec(source, at, said, manifest)
    if len(natives) > 1 and codec is None and not said.codec:
        source.problem((*at, "native"), "several native fields need a codec", _codec_names(manifest))
    if read_only and said.direction in ("both", "out"):
        source.problem((*at, "direction"), f"this codec can only read {', '.join(natives)}", "direction: in")
    if said.codec and said.options:
        source.problem((*at, "options"), "options and a codec exclude each other", "keep one", key=True)
    direction = "in" if read_only else said.direction or "both"
    options = {native: str(canonical) for native, canonical in said.options.items()}
    return FieldMap(name, natives, direction, codec, said.object, said.identifies, options, said.unique)


def _codec(source: Source, at: Path, said: NativeField, manifest: ManifestLike) -> tuple[Codec | None, bool]:
    """The codec a field names, and whether it can only read."""
    if not said.codec:
        return None, False
    (name, argument), natives = next(iter(said.codec.items())), tuple(said.native)
    if argument is None and (own := _connectors_codec(manifest, name, natives)):
        return own, False
    if name not in codecs.STANDARD:
        known = [*manifest.codecs, *codecs.STANDARD]
        source.problem((*at, "codec"), f"the codec {shown(name)} is not known", closest(name, known))
        return None, False
    try:
        return codecs.make(name, natives, argument), codecs.read_only(name, natives)
    except codecs.CodecError as error:
        source.problem((*at, "codec"), f"{name}: {error}")
        return None, False


def _connectors_codec(manifest: ManifestLike, name: str, natives: tuple[str, ...]) -> Codec | None:
    """A connector's codec knows its native fields by name, so it serves no others."""
    codec = manifest.codecs.get(name)
    made_for = [field.natives for spec in manifest.objects for field in spec.fields if field.codec is codec]
    return codec if not made_for or natives in made_for else None


def _codec_names(manifest: ManifestLike) -> str:
    return f"codec: one of {', '.join(dict.fromkeys((*manifest.codecs, *codecs.STANDARD)))}"


def complete(source: Source, draft: Draft, entity: Entity, all_drafts: Sequence[Draft], region: str) -> ObjectMap:
    """The mapping of a draft, checked against its entity and the other objects."""
    said, usual = draft.model, draft.usual
    here = {other.object: other.entity for other in all_drafts if other.system == draft.system}
    records = [f"{other.system}.{other.object}" for other in all_drafts]
    fields = [field for field in draft.fields.values() if _fits(source, draft, field, entity, here, records)]
    _check_writes(source, draft, fields)
    reads_only = said.direction == "in"
    if reads_only and said.create:
        source.problem((*draft.at, "create"), "an object that is only read gets no new records", "create: false")
    return ObjectMap(
        system=draft.system,
        object=draft.object,
        entity=entity,
        fields=tuple(fields),
        constants=_constants(source, draft, entity, region),
        create=not reads_only and (said.create if said.create is not None else usual.create if usual else True),
        on_delete=said.on_delete or ("ignore" if reads_only else "delete"),
        deletes=said.deletes,
        marketing=_marketing(source, draft),
        requires=_requires(source, draft, entity),
        when=_when(source, draft, entity),
        dialect=draft.manifest.dialect,
        region=region,
        settings=dict(said.model_extra or {}),
    )


def _fits(
    source: Source, draft: Draft, field: FieldMap, entity: Entity, here: Mapping[str, str], records: Sequence[str]
) -> bool:
    """Whether the entity has the field. A usual field that does not fit is dropped, one of hub.yaml itself refused."""
    own, at = field.name in draft.own, (*draft.at, "fields", field.name)
    if field.identifies:
        if own and field.identifies != "golden" and field.identifies not in records:
            what = f"{shown(field.identifies)} is not a configured object"
            source.problem((*at, "identifies"), what, closest(field.identifies, [*records, "golden"]))
        return True
    if field.name not in entity.fields:
        if own:
            new = f"or declare it: entities.{entity.name}.fields.{field.name}: {{type: text}}"
            what = f"{field.name} is not a field of {entity.name}"
            source.problem(at, what, f"{closest(field.name, entity.fields)} {new}".strip(), key=True)
        return False
    if entity.fields[field.name].kind == "ref":
        return _refers(source, draft, field, entity, here)
    if own and field.object:
        what = f"{field.name} is {entity.fields[field.name].kind}, not a reference"
        source.problem((*at, "object"), what, "leave object out", key=True)
    return not own or _options_fit(source, at, field, entity)


def _refers(source: Source, draft: Draft, field: FieldMap, entity: Entity, here: Mapping[str, str]) -> bool:
    """Whether a reference leads to a configured object of the entity that it should."""
    wanted = entity.fields[field.name].entity
    if here.get(field.object) == wanted:
        return True
    if field.name in draft.own:
        at = (*draft.at, "fields", field.name)
        fitting = [name for name, of in here.items() if of == wanted]
        if not field.object:
            what = f"{field.name} refers to a {wanted}: it needs the object that {field.natives[0]} names"
        elif field.object not in here:
            what = f"{draft.system} has no object {shown(field.object)} configured"
        else:
            what = f"{field.object} holds {here[field.object]}, but {field.name} refers to a {wanted}"
        mend = f"object: {' or '.join(fitting)}" if fitting else f"configure an object with entity: {wanted} first"
        source.problem((*at, "object"), what, mend)
    return False


def _options_fit(source: Source, at: Path, field: FieldMap, entity: Entity) -> bool:
    kind = entity.fields[field.name].kind
    if field.options and kind == "boolean":
        source.problem((*at, "options"), "a boolean takes no options", "codec: {flag: [Y, N]}", key=True)
    for native, canonical in field.options.items():
        try:
            parse(kind, canonical)
        except InvalidValue as error:
            source.problem((*at, "options", native), f"{shown(canonical)} is not {kind}: {error}")
    return True


def _check_writes(source: Source, draft: Draft, fields: Sequence[FieldMap]) -> None:
    """Two fields must not write one native field: which of them would win?"""
    writers: dict[str, FieldMap] = {}
    for field in fields:
        for native in field.natives if field.direction != "in" else ():
            other = writers.setdefault(native, field)
            if other is not field and {field.name, other.name} & draft.own:
                at = (*draft.at, "fields", field.name if field.name in draft.own else other.name)
                what = f"{other.name} and {field.name} both write {native}"
                source.problem(at, what, f"direction: in on one, or {other.name}: null", key=True)


def _constants(source: Source, draft: Draft, entity: Entity, region: str) -> dict[str, object]:
    usual = draft.usual.constants if draft.usual else {}
    constants: dict[str, object] = dict(usual)
    for name, value in draft.model.constants.items():
        at = (*draft.at, "constants", name)
        if name not in entity.fields:
            source.problem(at, f"{name} is not a field of {entity.name}", closest(name, entity.fields), key=True)
            continue
        if name in draft.own:
            source.problem(at, f"{name} is a constant and a field here", "keep one", key=True)
        try:
            constants[name] = parse(entity.fields[name].kind, value, region)
        except InvalidValue as error:
            source.problem(at, f"{shown(value)} is not {entity.fields[name].kind}: {error}")
    return constants


def _marketing(source: Source, draft: Draft) -> bool:
    usual = bool(draft.usual and draft.usual.marketing)
    if usual and draft.model.marketing is False:
        source.problem((*draft.at, "marketing"), f"{draft.object} is for marketing: it needs consent", "leave it out")
    return usual or bool(draft.model.marketing)


def _requires(source: Source, draft: Draft, entity: Entity) -> tuple[str, ...]:
    if draft.model.requires is None:
        return draft.usual.requires if draft.usual else ()
    for place, name in enumerate(draft.model.requires):
        if name not in entity.fields:
            what = f"{name} is not a field of {entity.name}"
            source.problem((*draft.at, "requires", place), what, closest(name, entity.fields))
    return tuple(draft.model.requires)


def _when(source: Source, draft: Draft, entity: Entity) -> str:
    if draft.model.when:
        check(source, (*draft.at, "when"), draft.model.when, list(entity.fields))
    return draft.model.when


def check_distinct(source: Source, mappings: Sequence[ObjectMap]) -> None:
    """Warn where one system would get two records of one thing, for nothing tells its objects apart."""
    for place, right in enumerate(mappings):
        for left in mappings[:place]:
            same = (left.system, left.entity.name) == (right.system, right.entity.name)
            if same and left.create and right.create and not (_apart(left, right) or left.when or right.when):
                what = f"every {right.entity.name} will be created as {left.object} and as {right.object}"
                path = ("systems", right.system, "objects", right.object)
                source.warn(path, what, "give them different constants, a when, or one of them create: false")


def _apart(left: ObjectMap, right: ObjectMap) -> bool:
    return any(left.constants[name] != right.constants[name] for name in left.constants.keys() & right.constants.keys())
