"""Drift: what a system holds and the hub does not know of. Pure; streams.audit finds out what is only on its way."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hub.decide import nearest
from hub.mapping import ObjectMap, decode
from hub.values import Value
from hub.view import INVALID, Held, View, echoes, unchanged

Kind = Literal["missing", "stale", "extra"]


@dataclass(frozen=True, slots=True)
class Drift:
    """One record in which hub and system differ.

    missing   the system has it, the hub does not;  fields: those that it holds
    stale     values differ;                        fields: those that do
    extra     the hub believes that it exists, and the system says that it does not;  fields: none
    """

    external_id: str
    kind: Kind
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Threshold:
    """From how many deletes on a person is asked: at least so many, and more than so great a share of what is known."""

    records: int = 10
    share: float = 0.1

    def exceeded(self, gone: int, known: int) -> bool:
        """Whether so many deletes of so many records wait for a person."""
        return gone >= self.records and gone > known * self.share


def told(mapping: ObjectMap, natives: Mapping[str, Any]) -> set[str]:
    """The canonical fields that a record tells, also those whose values no type admits."""
    decoded = decode(mapping, natives)
    return {*decoded.values, *decoded.invalid}


def differing(mapping: ObjectMap, view: View, natives: Mapping[str, Any]) -> tuple[str, ...]:
    """The canonical fields in which a record is not what the system is known to hold."""
    decoded = decode(mapping, natives)
    odd = [n for n, (raw, _) in decoded.invalid.items() if _value(view.get(n)) != {INVALID: str(raw)[:500]}]
    return tuple(sorted([n for n, value in decoded.values.items() if _differs(view.get(n), value)] + odd))


def _differs(held: Held | None, reported: Value) -> bool:
    value = nearest(held, reported)
    if held is None:
        return value is not None
    # A vendor may keep what we wrote in words of its own, and not have told yet.
    return not unchanged(held, value) and not (held.ours and echoes(held.written, value))


def _value(held: Held | None) -> Value:
    return held.value if held is not None else None
