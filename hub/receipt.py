"""Receipt: what became of a write. A closed sum; every answer of every target is one of these five."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.change import Change
from hub.failure import Failure


@dataclass(frozen=True, slots=True)
class Applied:
    """The target took it.

    external_id   the record there (for a create: the new one)
    natives       what the target answered that it holds now, by native field, as far as it told
    order         the target's version or clock of the write, in the unit of its changes' clock; 0 if it told none
    """

    external_id: str
    natives: Mapping[str, Any] = field(default_factory=dict)
    order: int = 0


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The target already held it, since `order` by its version or clock; 0 if it told none."""

    external_id: str
    order: int = 0


@dataclass(frozen=True, slots=True)
class Deferred:
    """Try again in `seconds` (None: the deliverer's backoff decides).

    `found` are records that the target turned out to hold otherwise than believed, to be captured first: the record
    that a create would have doubled, or one that was edited meanwhile. `created` is the id of the record that an earlier try
    of this create has made, of which no answer came: it belongs to the golden record, but holds other content than this
    try would have given it, as `found` tells. `failure` says which class of hub.failure it is where it is not that, nor a
    trouble of this write alone.
    """

    reason: str
    seconds: float | None = None
    found: tuple[Change, ...] = ()
    created: str = ""
    failure: Failure = Failure.transient


@dataclass(frozen=True, slots=True)
class Held:
    """Waits for another record to exist in the target: (object, golden id) or a description in `waits_for`."""

    waits_for: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The target will never take it as it is. `code` groups refusals of one cause: "gone" means the record is no more."""

    reason: str
    code: str = "invalid"


Receipt = Applied | Unchanged | Deferred | Held | Refused


def failure_of(receipt: Receipt) -> Failure | None:
    """The class of a receipt that is no success."""
    if isinstance(receipt, Deferred):
        return Failure.conflict if receipt.found else receipt.failure
    if isinstance(receipt, Held):
        return Failure.dependency
    if isinstance(receipt, Refused):
        return CODES.get(receipt.code, Failure.invalid)
    return None


CODES = {"gone": Failure.gone, "connector": Failure.defect}
"""Codes of refusals that mean another class than invalid data."""
