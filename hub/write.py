"""Write: one intended call to one target, with an idempotency key and a single-use intent."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from hub.mapping import ObjectMap, decode
from hub.values import Value
from hub.view import Held, unchanged


@dataclass(frozen=True, slots=True)
class Write:
    """Bring one record of one target in line with its golden record.

    external_id   the record there; None for a create
    values        the canonical fields to send: for an update only those that differ, references already in the
                  target's own terms ({"system", "object", "id"})
    natives       the same in the target's words, ready to send
    expected      canonical values that the target is believed to hold now in those fields; where it turns out to hold
                  others, somebody edited it meanwhile, and the write must wait until that edit is captured
    key           idempotency key: the same intended effect has the same key, however often it is tried
    """

    target: str
    object: str
    golden_id: str
    version: int
    op: Literal["create", "update", "delete"]
    mapping: ObjectMap
    external_id: str | None = None
    values: Mapping[str, Value] = field(default_factory=dict)
    natives: Mapping[str, Any] = field(default_factory=dict)
    expected: Mapping[str, Value] = field(default_factory=dict)
    trace: str | None = None

    @property
    def key(self) -> str:
        """32 hex digits of target, record, operation and content."""
        what = [self.target, self.object, self.golden_id, self.external_id, self.op, self.values]
        if self.op == "create":
            what = what[:5]  # a create is the same create, whatever it will say: there must be one
        return hashlib.blake2b(orjson.dumps(what, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Intent:
    """Left before a write is tried, so that the change that comes back is known as its echo, once."""

    key: str
    target: str
    object: str
    golden_id: str
    external_id: str | None
    values: Mapping[str, Value]


def edited(write: Write, natives: Mapping[str, Any]) -> list[str]:
    """The fields of an update in which the target, as read just now, holds something else than the hub believed."""
    now = decode(write.mapping, natives).values
    return [
        name
        for name, believed in write.expected.items()
        if name in now and not unchanged(Held(believed), now[name]) and now[name] != write.values.get(name)
    ]
