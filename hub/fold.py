"""Fold: claims + event -> claims. A join, so neither order nor repetition matters.

The claims of one record map a field to the value the record's own system last said, with the clock of that saying.
Joining two claims keeps the greater clock; so folding is commutative, associative and idempotent.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from hub.event import Clock
from hub.values import Value, micros

DELETED = "_deleted"
IN, OUT = "#in", "#out"


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What a record says of one field. `at` is the source's time in microseconds, comparable between systems."""

    value: Value
    at: int
    clock: Clock


Claims = Mapping[str, Claim]


def join(left: Claim | None, right: Claim) -> Claim:
    """The greater of two claims on one field of one record."""
    if left is None or right.clock > left.clock or (right.clock == left.clock and right.at > left.at):
        return right
    return left


def fold(claims: Claims, said: Iterable[tuple[str, Claim]]) -> dict[str, Claim]:
    """Claims, with what an event said joined in."""
    joined = dict(claims)
    for name, claim in said:
        joined[name] = join(joined[name], claim) if name in joined else claim
    return joined


def claims_of(values: Mapping[str, Value], at: int, clock: Clock) -> list[tuple[str, Claim]]:
    """What an event says, as claims. Consent is claimed under two names, so that a resync cannot erase an opt-out."""
    return [
        _consented(name, value, at, clock)
        if isinstance(value, dict) and "status" in value
        else (name, Claim(value, at, clock))
        for name, value in values.items()
    ]


def field_of(name: str) -> str:
    """The field behind a claim's name."""
    return name.removesuffix(IN).removesuffix(OUT) if "#" in name else name


def _consented(name: str, value: Value, at: int, clock: Clock) -> tuple[str, Claim]:
    said_at = min(micros(value["at"]), clock.observed)  # nobody has said anything in the future
    if value["status"] == "out":
        return name + OUT, Claim(value, max(said_at or at, 1), _consent_clock(said_at or at, clock))
    # An opt-in that does not say when it was given can start a consent but never lift an opt-out: it is as old as can be.
    return name + IN, Claim(value, said_at, _consent_clock(said_at, clock))


def _consent_clock(said_at: int, clock: Clock) -> Clock:
    """A consent claim is ordered by when the person said it, not by when the record was last touched."""
    return Clock(said_at, clock.observed, clock.event_id)


def dump(claims: Claims) -> dict[str, list[Any]]:
    """Claims as JSON values, for storage."""
    return {name: [c.value, c.at, (k := c.clock).order, k.observed, k.event_id] for name, c in claims.items()}


def load(stored: Mapping[str, list[Any]]) -> dict[str, Claim]:
    """The inverse of `dump`. Claims of one event share its clock, of which a batch would hold tens of thousands."""
    clocks: dict[tuple[int, int, str], Clock] = {}
    claims = {}
    for name, (value, at, order, observed, event_id) in stored.items():
        key = (order, observed, event_id)
        claims[name] = Claim(value, at, clocks.get(key) or clocks.setdefault(key, Clock(*key)))
    return claims
