"""The shape of hub.yaml. Short forms become the long ones before validation, so that there is one to handle."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from hub.entity import DeletePolicy
from hub.mapping import Direction

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
SimpleRule = Literal["truth", "latest", "oldest", "most_common", "union", "strictest"]
SIMPLE_RULES = ("latest", "oldest", "most_common", "union", "strictest")


class Strict(BaseModel):
    """Unknown keys are errors; values are taken as they are written, never converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _native(value: Any) -> Any:
    if isinstance(value, str | list):
        return {"native": value}
    return value


def _natives(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _rule(value: Any) -> Any:
    """`phone: latest` is short for `phone: {rule: latest}`, `{truth: [...]}` for `{rule: truth, systems: [...]}`."""
    if isinstance(value, str):
        return {"rule": value}
    return {} if value is None else value


def _objects(value: Any) -> Any:
    """`objects: [contacts]` is short for `objects: {contacts: {}}`."""
    if isinstance(value, list):
        return {name if isinstance(name, str) else str(name): {} for name in value}
    if isinstance(value, dict):
        return {name: {} if body is None else body for name, body in value.items()}
    raise PydanticCustomError("objects", "must be a list of object names, or a mapping from object name to its mapping")


def _codec(value: Any) -> Any:
    if isinstance(value, str):
        return {value: None}
    if not isinstance(value, dict) or len(value) != 1:
        raise PydanticCustomError("codec", "a codec is a name, or one name with its argument as {name: argument}")
    return value


class NativeField(Strict):
    """One canonical field of an object and the native field or fields that hold it."""

    native: Annotated[list[Text], BeforeValidator(_natives), Field(min_length=1, max_length=10)]
    codec: Annotated[dict[str, Any], BeforeValidator(_codec)] | None = Field(
        None, description="How to read and write where the type alone does not tell: a name, or {name: argument}."
    )
    object: str = Field("", description="For a reference: the object of the same system that the native id names.")
    options: dict[str, Any] = Field({}, description="Native value: canonical value, for enumerations.")
    direction: Direction | None = Field(None, description="in: only read. out: only written.")
    identifies: str = Field("", description="The value is this record's id elsewhere: <system>.<object>, or golden.")
    unique: bool = Field(False, description="The system refuses a second record with the same value.")


class Object(BaseModel):
    """One object of a system (a table, a kind of record) as one entity. Keys not named here go to the connector."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    entity: str = Field("", description="The entity whose records this object holds.")
    fields: dict[str, Annotated[NativeField, BeforeValidator(_native)] | None] = Field(
        {}, description="Canonical field: native field. null leaves out a usual field of the connector."
    )
    constants: dict[str, Any] = Field({}, description="Canonical values that every record of this object has.")
    create: bool | None = Field(None, description="Whether golden records that have no record here get one.")
    direction: Direction = Field("both", description="in: this object is only read. out: it is only written.")
    on_delete: Literal["delete", "ignore"] | None = Field(
        None, description="What to do here when the golden record is deleted."
    )
    deletes: Literal["told", "scan"] = Field(
        "told", description="scan: the system does not tell of deletes; they are found by reading it completely."
    )
    when: str = Field("", description="An expression over golden values: only what satisfies it is written here.")
    requires: list[str] | None = Field(None, description="Fields without which a record is not written here.")
    marketing: bool | None = Field(None, description="Nothing is written here without consent.")


class Audit(Strict):
    """How often a system is held against what the hub knows of it, and when deletes that are found wait for a person."""

    hours: float = Field(24.0, description="Hours between audits of a sample; 0 for none.", ge=0)
    sample: int = Field(200, description="Records of each object that such an audit reads again.", ge=1, le=100_000)
    scan_hours: float = Field(24.0, description="Hours between complete scans of objects with deletes: scan.", gt=0)
    wait_records: int = Field(10, description="Fewer deletes than this never wait for a person.", ge=1)
    wait_percent: float = Field(
        10.0, description="More deletes than this share of all wait for a person.", ge=0, le=100
    )


class System(BaseModel):
    """One configured system. Keys not named here are the settings of its connector."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    connector: str = Field(description="The kind of system.")
    objects: Annotated[dict[Name, Object], BeforeValidator(_objects)] = Field(
        description="What of it takes part: a list of objects with their usual fields, or a mapping with details."
    )
    audit: Audit | None = Field(None, description="Hold the system against what the hub knows of it, regularly.")


class EntityField(Strict):
    """One canonical field: its type and how its value is chosen."""

    type: str = Field("", description="Needed for fields that the canonical entity does not have.")
    entity: str = Field("", description="For a reference: the entity it refers to.")
    rule: SimpleRule | None = Field(None, description="How the value is chosen among the systems' claims.")
    truth: list[str] | None = Field(None, description="Systems in the order in which they are believed.")
    follow: str = Field("", description="Take the value from the record that won this other field.")
    expression: str = Field("", description="Computed from the record's other golden values.")
    python: str = Field("", description="A function that chooses: package.module:function.")
    opt_in_from: list[str] | None = Field(None, description="For consent: whose opt-in may lift an opt-out.")
    review: bool = Field(False, description="A differing value waits for a person instead of being overwritten.")
    required: bool | None = Field(None, description="For a reference: a record without it is not written.")
    personal: bool | None = Field(None, description="Says something about a person; can be erased with its key.")


class Entity(Strict):
    """One kind of thing: its fields with their rules, and what makes two records one."""

    match: list[str] | None = Field(None, description="Fields whose equal values make two records one thing.")
    merge: Literal["auto", "review"] = Field("auto", description="Whether duplicates merge, or wait for a person.")
    delete: dict[str, DeletePolicy] = Field({}, description="What a delete in a system means for the others.")
    fields: dict[Name, Annotated[EntityField, BeforeValidator(_rule)]] = Field({}, description="Field: rule.")


def _entity(value: Any) -> Any:
    return {} if value is None else value


class Entities(Strict):
    """schemas/entities.yaml: the canonical entities."""

    entities: dict[Name, Entity]


class PatienceModel(Strict):
    """How long, and how often, before the hub does something else."""

    attempts: int = Field(12, description="Failed tries before a write is parked.", ge=1, le=1000)
    call_seconds: float = Field(120.0, description="A call of a connector is cut off after so long.", gt=0, le=3600)
    breaker_calls: int = Field(
        5, description="Calls in a row without a usable answer after which a target is left alone.", ge=1, le=1000
    )
    overdue_seconds: float = Field(
        3600.0, description="A write that waits for another record for longer raises an alert.", gt=0
    )


Above0 = Annotated[float, Field(gt=0)]


class Watch(Strict):
    """From when on something counts as trouble, although nothing failed."""

    seconds: Above0 = Field(10.0, description="Seconds between two looks.")
    period_seconds: Above0 = Field(3600.0, description="What a source yields is counted per so many seconds.")
    cycle: int = Field(24, ge=1, description="Periods after which a source does again what it did: 24 hours a day.")
    learn: int = Field(48, ge=1, description="Periods of history without which nothing is judged to be unusual.")
    source_seconds: Above0 = Field(900.0, description="A source that was not read to its end for so long is stuck.")
    stale_seconds: Above0 = Field(86_400.0, description="A source that yields, but nothing newer than this, is stale.")
    silence: Above0 = Field(2.0, description="A silence of more than so many times the longest one is zero yield.")
    volume: Above0 = Field(5.0, description="A count so many robust standard deviations off the usual is told.")
    near_misses: int = Field(50, ge=0, description="More near misses within two periods are told.")
    slot_bytes: int = Field(2**30, ge=0, description="Log that a database may keep for the hub, in bytes.")
    disk_bytes: int = Field(2**30, ge=0, description="Less free disk than this is trouble, in bytes.")


class Root(Strict):
    """hub.yaml."""

    version: int = Field(description="The version of this format: 1.", ge=1, le=1)
    log: str = Field("embedded", description="Where events are kept: embedded, postgresql://... or kafka://host:port.")
    state: str = Field("embedded", description="Where the hub keeps its state: embedded or postgresql://...")
    token_key: Annotated[list[Text], BeforeValidator(_natives)] = Field(
        [], description="Key that seals stored OAuth tokens, by reference; newest first, while it is being changed."
    )
    phone_region: str = Field("US", description="How to read phone numbers that have no country code (ISO 3166).")
    patience: PatienceModel = Field(PatienceModel(), description="When the hub gives up, waits or alerts.")
    systems: dict[Name, System] = Field(description="The systems; where no rule is given, the first is believed.")
    entities: dict[Name, Annotated[Entity, BeforeValidator(_entity)]] = Field({}, description="Rules and own entities.")
    watch: Watch = Field(Watch(), description="From when on something counts as trouble.")
