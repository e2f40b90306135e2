"""Entities, out of the canonical ones and what hub.yaml says of them."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path as File
from typing import Any

from hub.config.expressions import ordered
from hub.config.models import Entities, EntityField
from hub.config.models import Entity as EntityModel
from hub.config.rules import Known, Place, Uses, rule, ways
from hub.config.shape import shape
from hub.config.source import Path, Source, closest, read, shown
from hub.entity import Entity, Field
from hub.values import PARSERS

KINDS = tuple(sorted(PARSERS))
TEXTUAL = ("text", "email", "phone", "domain")
RESERVED = frozenset({"claims"})

CANONICAL = File(__file__).parent.parent.parent / "schemas" / "entities.yaml"


@cache
def canonical() -> Mapping[str, EntityModel]:
    """The canonical entities of schemas/entities.yaml."""
    return shape(read(CANONICAL.read_text(encoding="utf-8"), CANONICAL.name), Entities).entities


def merged(name: str, own: EntityModel | None) -> EntityModel:
    """The canonical entity with hub.yaml laid over it; a field that is given a rule there loses its usual one."""
    base = canonical().get(name, EntityModel())
    own = own or EntityModel()
    fields = base.fields | {field: _overlay(base.fields.get(field), said) for field, said in own.fields.items()}
    return own.model_copy(update={"fields": fields, "match": base.match if own.match is None else own.match})


def _overlay(base: EntityField | None, own: EntityField) -> EntityField:
    if base is None:
        return own
    update: dict[str, Any] = {"type": own.type or base.type, "entity": own.entity or base.entity}
    for flag in ("required", "personal"):
        update[flag] = getattr(base, flag) if getattr(own, flag) is None else getattr(own, flag)
    if not ways(own):
        update["rule"] = base.rule
    return own.model_copy(update=update)


def build(source: Source, name: str, model: EntityModel, known: Known, version: str) -> Entity:
    """The entity of a merged model, its fields ordered so that each follows those it looks at.

    What is wrong with it is noted in the source.
    """
    at: Path = ("entities", name)
    _check_match(source, at, model)
    for system in model.delete:
        if system not in known.systems:
            what = f"the system {shown(system)} is not configured"
            source.problem((*at, "delete", system), what, closest(system, known.systems), key=True)
    uses: dict[str, Uses] = {}
    fields: dict[str, Field] = {}
    for field, said in model.fields.items():
        fields[field], uses[field] = _field(source, (*at, "fields", field), field, said, model, known)
    order, circle = ordered(uses)
    if circle:
        way = " -> ".join(circle)
        source.problem((*at, "fields", circle[0]), f"{way} is a circle", "give one of them another rule")
    return Entity(
        name=name,
        fields={field: fields[field] for field in order},
        match=tuple(model.match or ()),
        merge=model.merge,
        deletes=dict(model.delete),
        version=version,
    )


def _check_match(source: Source, at: Path, model: EntityModel) -> None:
    for place, field in enumerate(model.match or ()):
        path = (*at, "match", place)
        if field not in model.fields:
            source.problem(path, f"{field} is not a field of {at[-1]}", closest(field, model.fields))
        elif model.fields[field].type not in TEXTUAL:
            what = f"{field} is {model.fields[field].type}; only {', '.join(TEXTUAL)} can match records"
            source.problem(path, what, "an id of another system goes into a mapping, with identifies")


def _field(
    source: Source, at: Path, name: str, said: EntityField, model: EntityModel, known: Known
) -> tuple[Field, Uses]:
    if name in RESERVED:
        source.problem(at, f"{name} has a meaning of its own in expressions", "give the field another name", key=True)
    kind = _kind(source, at, name, said)
    if said.required and kind != "ref":
        source.problem((*at, "required"), "required is for references", "an object's requires names other fields")
    _check_target(source, at, said, kind, known)
    chosen, uses = rule(Place(source, at, name, said, kind, model, known))
    return Field(name, kind, chosen, said.entity, bool(said.required), bool(said.personal)), uses


def _kind(source: Source, at: Path, name: str, said: EntityField) -> str:
    usual = canonical().get(str(at[1]), EntityModel()).fields
    if name in usual and said.type != usual[name].type:
        what = f"{name} is {usual[name].type} in the canonical {at[1]}, it cannot be {said.type}"
        source.problem((*at, "type"), what, "give the field another name")
        return usual[name].type
    if not said.type:
        near = closest(name, usual) if len(usual) > 15 or closest(name, usual).startswith("did") else ""
        types = f"a new field needs a type: {', '.join(KINDS)}"
        source.problem(at, f"{name} has no type", f"{near} {types}".strip(), key=True)
    elif said.type not in KINDS:
        source.problem((*at, "type"), f"the type {shown(said.type)} is not known", closest(said.type, KINDS))
    else:
        return said.type
    return "text"


def _check_target(source: Source, at: Path, said: EntityField, kind: str, known: Known) -> None:
    if kind == "ref" and said.entity not in known.entities:
        what = f"the entity {shown(said.entity)} is not known" if said.entity else "a reference needs its entity"
        source.problem((*at, "entity"), what, closest(said.entity, known.entities))
    elif kind != "ref" and said.entity:
        source.problem((*at, "entity"), f"entity is for references, this is {kind}", "type: ref")
