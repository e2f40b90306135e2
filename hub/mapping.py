"""Mapping: how one object of one system reads and writes as one entity. An interpretation: events keep native fields."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from hub.entity import Entity
from hub.values import DEFAULT_REGION, InvalidValue, Value, parse

Direction = Literal["both", "in", "out"]


@dataclass(frozen=True, slots=True)
class Codec:
    """A named conversion of one or several native fields, for where a field's type alone does not tell.

    decode      native fields that are present, by name -> a value for the field's type; raises InvalidValue
    encode      canonical value -> native fields to write
    """

    decode: Callable[[Mapping[str, Any]], Any]
    encode: Callable[[Value], dict[str, Any]]
    name: str = ""


@dataclass(frozen=True, slots=True)
class FieldMap:
    """One canonical field and its native field or fields.

    object       for a reference: the object of the same system that the native id names
    identifies   the value is the external id of this record in another system ("crm.contacts") or its "golden" id
    options      native value -> canonical value, for enumerations
    unique       the system refuses a second record with the same value
    """

    name: str
    natives: tuple[str, ...]
    direction: Direction = "both"
    codec: Codec | None = None
    object: str = ""
    identifies: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    unique: bool = False


@dataclass(frozen=True)
class ObjectMap:
    """One object of one system as one entity.

    constants   canonical values that every record of this object has (and that decide where a golden record goes)
    create      whether golden records that have no record here get one
    on_delete   what to do here when the golden record is deleted
    deletes     whether the system tells of deletes, or they are found by reading it completely
    marketing   whether nothing may be written here without consent
    dialect     canonical type -> how this system takes such a value in a write
    settings    what the connector needs besides (for PostgreSQL: table and key)
    """

    system: str
    object: str
    entity: Entity
    fields: tuple[FieldMap, ...]
    constants: Mapping[str, Value] = field(default_factory=dict)
    create: bool = True
    on_delete: Literal["delete", "ignore"] = "delete"
    deletes: Literal["told", "scan"] = "told"
    marketing: bool = False
    requires: tuple[str, ...] = ()
    when: str = ""
    dialect: Mapping[str, Callable[[Value], Any]] = field(default_factory=dict)
    region: str = DEFAULT_REGION
    settings: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def unheard(self) -> frozenset[str]:
        """Fields that are written to this object and never believed from it."""
        return frozenset(f.name for f in self.fields if f.direction == "out")

    @cached_property
    def writable(self) -> tuple[FieldMap, ...]:
        """The fields that may be written to this object."""
        return tuple(f for f in self.fields if f.direction != "in" and not f.identifies)

    @cached_property
    def readers(self) -> tuple[tuple[FieldMap, str, str], ...]:
        """What is read of a report, in order, each with its native field and its type where these alone say how, else ""."""
        return tuple((f, *self._plain(f)) for f in self.fields if not f.identifies)

    def _plain(self, entry: FieldMap) -> tuple[str, str]:
        kind = self.kind(entry.name)
        odd = entry.codec or entry.options or kind == "ref" or len(entry.natives) > 1
        return ("", "") if odd else (entry.natives[0], kind)

    @cached_property
    def identifying(self) -> tuple[FieldMap, ...]:
        """The fields that hold the record's id in another system, or its golden id."""
        return tuple(f for f in self.fields if f.identifies)

    def kind(self, name: str) -> str:
        """The type of a canonical field."""
        return self.entity.fields[name].kind


@dataclass(frozen=True, slots=True)
class Decoded:
    """Native fields read as canonical ones. `invalid` holds, by field, the raw value and why it is not admitted."""

    values: dict[str, Value]
    invalid: dict[str, tuple[Any, str]]


def decode(mapping: ObjectMap, natives: Mapping[str, Any]) -> Decoded:
    """Read native fields; a field none of whose natives is present stays unknown."""
    values: dict[str, Value] = dict(mapping.constants)
    invalid: dict[str, tuple[Any, str]] = {}
    for entry, native, kind in mapping.readers:
        try:
            if kind:
                if native in natives:
                    values[entry.name] = parse(kind, natives[native], mapping.region)
            elif present := {name: natives[name] for name in entry.natives if name in natives}:
                values[entry.name] = _decode(mapping, entry, present)
        except InvalidValue as error:
            invalid[entry.name] = (next(natives[name] for name in entry.natives if name in natives), str(error))
    return Decoded(values, invalid)


def encode(mapping: ObjectMap, values: Mapping[str, Value]) -> dict[str, Any]:
    """Canonical values as native fields to write; fields that this object does not take are left out."""
    natives: dict[str, Any] = {}
    for entry in mapping.fields:
        if entry.name in values and entry.direction != "in":
            natives.update(_encode(mapping, entry, values[entry.name]))
    return natives


def identifiers(mapping: ObjectMap, natives: Mapping[str, Any]) -> dict[str, str]:
    """Foreign ids that the record holds: "golden" or "<system>.<object>" -> external id there."""
    held = {f.identifies: natives.get(f.natives[0]) for f in mapping.identifying}
    return {whose: str(value).strip() for whose, value in held.items() if value not in (None, "")}


def writable(mapping: ObjectMap) -> tuple[FieldMap, ...]:
    """The fields that may be written to this object."""
    return mapping.writable


def _decode(mapping: ObjectMap, entry: FieldMap, present: Mapping[str, Any]) -> Value:
    kind = mapping.kind(entry.name)
    native = entry.codec.decode(present) if entry.codec else present[next(iter(present))]
    if kind == "ref" and not entry.codec:
        return _reference(mapping, entry, native)
    if entry.options and native is not None:
        native = entry.options.get(str(native), native)
    return parse(kind, native, mapping.region)


def _reference(mapping: ObjectMap, entry: FieldMap, native: Any) -> Value:
    """A reference by native id; where the system holds several, the first, with the others kept beside it."""
    ids = [str(n) for n in (native if isinstance(native, list) else [native]) if n not in (None, "")]
    if not ids:
        return None
    first: dict[str, Any] = {"system": mapping.system, "object": entry.object, "id": ids[0]}
    return first | {"also": ids[1:]} if len(ids) > 1 else first


def _encode(mapping: ObjectMap, entry: FieldMap, value: Value) -> dict[str, Any]:
    if entry.codec:
        return entry.codec.encode(value)
    if value is not None and entry.options:
        value = next((native for native, canonical in entry.options.items() if canonical == value), value)
    if value is not None and mapping.kind(entry.name) == "ref":
        value = value["id"]
    render = mapping.dialect.get(mapping.kind(entry.name))
    return {entry.natives[0]: render(value) if render and value is not None else value}
