"""Event: the immutable envelope around a change, with a deterministic id."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from hub.change import Change, Op


class Clock(msgspec.Struct, frozen=True, order=True, gc=False):
    """The order of events of one record: source version or time, then when we saw it, then the event's id.

    Two edits inside one tick of the source's clock are ordered by observation; the id only settles what is left.
    """

    order: int
    observed: int
    event_id: str


class Event(msgspec.Struct, frozen=True, gc=False):
    """A change as the log keeps it. Times are microseconds since 1970 UTC; `payload` is the native fields as bytes."""

    event_id: str
    system: str
    object: str
    external_id: str
    op: Op
    version: int | None
    at: int
    observed_at: int
    channel: str
    payload: bytes
    content_type: str = "application/json"
    key_id: str | None = None
    intent: str | None = None
    merged: tuple[str, ...] = ()
    trace: str | None = None

    @property
    def clock(self) -> Clock:
        """The position of this event among those of its record."""
        return Clock(self.order, self.observed_at, self.event_id)

    @property
    def order(self) -> int:
        """The source's version or clock, by which its events of one record are ordered."""
        return self.at if self.version is None else self.version

    @property
    def record(self) -> tuple[str, str, str]:
        """(system, object, external id)."""
        return (self.system, self.object, self.external_id)

    def fields(self) -> dict[str, Any]:
        """The native fields; an absent one is unknown."""
        fields: dict[str, Any] = orjson.loads(self.payload)
        return fields

    def to_avro(self) -> dict[str, Any]:
        """The datum of schemas/event.avsc."""
        return {name: getattr(self, name) for name in NAMES} | {"merged": list(self.merged)}


NAMES = Event.__struct_fields__


def from_avro(datum: Mapping[str, Any]) -> Event:
    """The event of a datum of schemas/event.avsc."""
    return Event(**{**datum, "merged": tuple(datum["merged"])})


def record(change: Change, observed_at: int, previous: str = "", trace: str | None = None) -> Event:
    """Envelope a change seen at `observed_at` (microseconds). `previous` is the id of the record's last event, and
    counts only where the source has neither version nor clock. A clock, also one that is the version, is never ahead of
    `observed_at`: one record from the future would win until then."""
    payload = canonical(change.fields)
    at = observed_at if change.at is None else min(change.at, observed_at)
    version = at if change.version is not None and change.version == change.at else change.version
    return Event(
        event_id=event_id(change, payload, previous),
        system=change.system,
        object=change.object,
        external_id=change.external_id,
        op=change.op,
        version=version,
        at=at,
        observed_at=observed_at,
        channel=change.channel,
        payload=payload,
        intent=change.intent,
        merged=change.merged,
        trace=trace,
    )


def canonical(value: Any) -> bytes:
    """A value as JSON, the same bytes for the same content; what JSON cannot carry is replaced (see `plain`)."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=str)
    except TypeError:
        return orjson.dumps(plain(value), option=orjson.OPT_SORT_KEYS, default=str)


def plain(value: Any) -> Any:
    """A value without what JSON cannot carry, so that one odd field does not stop its whole page: half surrogates are
    replaced, whole numbers beyond 64 bits become text."""
    if isinstance(value, Mapping):
        return {plain(str(name)): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return str(value) if isinstance(value, int) and value.bit_length() > 63 else value


def event_id(change: Change, payload: bytes, previous: str = "") -> str:
    """The same change, however often and by whatever channel it is captured, has one id (32 hex digits).

    An exact version identifies the content. A version that is really a clock may be shared by two edits of one
    tick, so there the content counts too. Without any clock the record's previous event stands in for it, so that
    A -> B -> A is three events.
    """
    what = (change.system, change.object, change.external_id, change.op, *change.merged)
    when = change.version if change.version is not None else change.at
    stamp = str(previous if when is None else when)
    content = b"" if change.exact and change.version is not None else payload
    digest = hashlib.blake2b(digest_size=16)
    for part in (*(p.encode() for p in what), stamp.encode(), content):
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.hexdigest()
