"""What HubSpot's answers to a batch mean for each record in it: partial results, whole refusals, conflicts.

A batch may be answered 200, 207 with some errors, or refused as a whole because of one record; which one is then found
by halving. Errors name their record in `context.objectWriteTraceId` or `context.ids`.
Source: developers.hubspot.com/docs/api-reference/latest/error-handling (multi-status errors).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from connectors.hubspot.api import BATCH, Json, words
from connectors.kit.http import Refusal
from hub.receipt import Deferred, Receipt, Refused

Send = Callable[[Sequence[Json]], Awaitable[Json]]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why one record was not taken: HubSpot's words and its code or category."""

    message: str
    code: str

    @property
    def conflict(self) -> bool:
        """Whether another record has the unique value that was to be written."""
        return self.code in CONFLICTS or "already has that value" in self.message

    @property
    def gone(self) -> bool:
        """Whether the record does not exist."""
        return self.code in ("OBJECT_NOT_FOUND", "404")


CONFLICTS = frozenset({"CONFLICT", "409", "CONTACT_EXISTS", "CONFLICTING_UNIQUE_VALUE"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """Per trace id: the record as answered, or the fault. A trace id in neither was not answered at all."""

    records: Mapping[str, Json] = field(default_factory=dict)
    faults: Mapping[str, Fault] = field(default_factory=dict)

    def __or__(self, other: "Outcome") -> "Outcome":
        return Outcome({**self.records, **other.records}, {**self.faults, **other.faults})


async def attempt(inputs: Sequence[Json], send: Send, key: Callable[[Json], str]) -> Outcome:
    """Send inputs by the hundred; a batch refused as a whole in halves, down to the records that are to blame.

    Every input has an `objectWriteTraceId`; `key` tells the same of an answered record that lacks it.
    """
    if not inputs:
        return Outcome()
    try:
        if len(inputs) <= BATCH:
            return _sorted(inputs, await send(inputs), key)
    except Refusal as refusal:
        if len(inputs) == 1:
            return Outcome(faults={inputs[0]["objectWriteTraceId"]: Fault(refusal.reason, refusal.code)})
    middle = BATCH if len(inputs) > BATCH else len(inputs) // 2
    return await attempt(inputs[:middle], send, key) | await attempt(inputs[middle:], send, key)


def receipt_of(fault: Fault | None) -> Receipt:
    """The receipt of a record that was not taken."""
    if fault is None:
        return Deferred("HubSpot did not answer for this record")
    if fault.conflict:
        return Refused(fault.message, "duplicate")
    return Refused(fault.message, "gone" if fault.gone else fault.code or "invalid")


def _sorted(inputs: Sequence[Json], body: Json, key: Callable[[Json], str]) -> Outcome:
    records = {str(r.get("objectWriteTraceId") or key(r)): r for r in body.get("results", [])}
    faults: dict[str, Fault] = {}
    for error in body.get("errors") or []:
        for trace in _named(inputs, error):
            faults[trace] = fault_of(error)
    return Outcome(records, faults)


def fault_of(error: Json) -> Fault:
    """One error of a partial answer."""
    said, code = words(error)
    return Fault(said[:500], code)


def _named(inputs: Sequence[Json], error: Json) -> list[str]:
    """The trace ids of the records that an error speaks of."""
    context = error.get("context") or {}
    traces = [str(t) for t in _listed(context.get("objectWriteTraceId"))]
    ids = {str(i) for i in [*_listed(context.get("ids")), *_listed(context.get("id")), *_listed(error.get("id"))]}
    return traces or [i["objectWriteTraceId"] for i in inputs if str(i.get("id")) in ids]


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [] if value is None else [value]
