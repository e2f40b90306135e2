"""Change: what a system reported of one of its records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Op = Literal["upsert", "delete", "merge"]


@dataclass(frozen=True, slots=True)
class Change:
    """One report of one record, in the system's own words.

    fields      native fields by name, JSON values; an absent field is unknown, None is known to be empty
    version     the system's own version of the record, growing; None where it has none
    exact       whether two different contents can never share a version (a log position is exact, a clock is not)
    at          the system's clock for the change, microseconds since 1970 UTC; None where it tells none
    channel     how it was learned: log, outbox, snapshot, poll, webhook, read (fetched to answer a write), steward
    intent      the key of the hub's own write that caused it, where the system says so
    merged      for op "merge": external ids that are now this one
    problem     why the record could not be read; then nothing else of it counts, and it is set aside
    """

    system: str
    object: str
    external_id: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    op: Op = "upsert"
    version: int | None = None
    exact: bool = False
    at: int | None = None
    channel: str = "poll"
    intent: str | None = None
    merged: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """What a webhook said: that something happened to a record. The record itself is fetched afterwards.

    Appended to the log before the webhook is answered, so that no notification is lost.
    """

    system: str
    object: str
    external_id: str
    kind: str
    at: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
