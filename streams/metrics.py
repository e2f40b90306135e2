"""Metrics: every number the hub tells of itself, in one list, and how to count.

`METRICS` is the whole of it. Counters and histograms belong to the process and are counted where things happen; gauges
are read from the state database and the log, by one process of a hub at a time (see hub.edge.telemetry), so a query over
several workers takes the maximum of a gauge and the sum of a counter.
"""

from collections import Counter as Tally
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from prometheus_client import Counter, Histogram, disable_created_metrics

from hub.change import Change
from hub.errors import Fatal, Hold, Reject, Retry
from hub.receipt import Deferred, Held, Receipt, Refused
from streams.faults import INFRASTRUCTURE


class Kind(StrEnum):
    """What may be done with a metric: added to, set, or observed."""

    counter = "counter"
    gauge = "gauge"
    histogram = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name as Prometheus shows it, its labels in order, and its unit (also of `buckets`)."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    unit: str
    help: str
    buckets: tuple[float, ...] = ()


CALL_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
JOURNEY_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0)

_C, _G, _H = Kind.counter, Kind.gauge, Kind.histogram

# fmt: off
ATTEMPTS = Metric("hub_attempts_total", _C, ("stage", "system"), "attempts", "Polls, batches, webhooks and writes tried.")
ERRORS = Metric("hub_errors_total", _C, ("stage", "system", "class"), "errors", "What went wrong, by what to do next.")
CAPTURED = Metric("hub_events_captured_total", _C, ("system", "object", "channel"), "events", "Changes appended.")
PROCESSED = Metric("hub_stage_records_total", _C, ("stage", "topic", "result"), "records", "Records a stage went past.")
PROJECTED = Metric("hub_events_projected_total", _C, ("system", "object"), "events", "Events folded into golden records.")
GOLDEN = Metric("hub_golden_versions_total", _C, ("entity",), "versions", "Golden versions written.")
CONFLICTS = Metric("hub_conflicts_total", _C, ("entity", "state"), "conflicts", "Claims that lost against differing ones.")
NEAR_MISSES = Metric("hub_near_misses_total", _C, ("system",), "events", "Own writes that came back with other content.")
RECEIPTS = Metric("hub_receipts_total", _C, ("target", "receipt"), "receipts", "What became of writes.")
OUTCOMES = Metric("hub_outcomes_total", _C, ("target", "outcome"), "rows", "Rows of the write queue that were settled.")
WEBHOOKS = Metric("hub_webhooks_total", _C, ("system", "result"), "webhooks", "Webhooks accepted, refused or put off.")
CALLS = Metric("hub_vendor_calls_total", _C, ("system", "method", "route", "status"), "calls",
               "Calls of vendors' APIs; status 0 is a call without an answer.")
CALL_SECONDS = Metric("hub_vendor_call_seconds", _H, ("system", "method", "route"), "seconds",
                      "How long vendors took to answer.", CALL_BUCKETS)
JOURNEY_SECONDS = Metric("hub_change_to_receipt_seconds", _H, ("target",), "seconds",
                         "From seeing a change to the target's receipt for it.", JOURNEY_BUCKETS)

HEALTHY = Metric("hub_part_healthy", _G, ("kind", "name"), "1 or 0", "Whether a stage, source, target or service fares well.")
LOOP_LAG = Metric("hub_loop_lag_seconds", _G, (), "seconds", "The most by which a process was late in the last minute.")
AGE = Metric("hub_metrics_age_seconds", _G, ("group",), "seconds", "How old the gauges of a group are.")
LAG = Metric("hub_stage_lag_records", _G, ("stage", "topic", "partition"), "records", "Records waiting for a stage.")
LAG_SECONDS = Metric("hub_stage_lag_seconds", _G, ("stage", "topic", "partition"), "seconds",
                     "Age of the oldest record that waits for a stage.")
QUEUE = Metric("hub_write_queue_rows", _G, ("target", "state"), "rows", "The write queue: due, held or parked.")
QUEUE_SECONDS = Metric("hub_write_queue_oldest_seconds", _G, ("target",), "seconds", "Age of the oldest write that is due.")
PAUSED = Metric("hub_target_paused", _G, ("target",), "1 or 0", "Whether a target is paused until somebody acts.")
CIRCUIT = Metric("hub_target_circuit_open", _G, ("target",), "1 or 0", "Whether a target is left alone: it does not answer.")
HELD_SECONDS = Metric("hub_write_queue_held_seconds", _G, ("target",), "seconds",
                      "How long a write has waited for another record, at most.")
PARKED = Metric("hub_parked_records", _G, ("stage",), "records", "Records set aside for a person.")
OPEN_CONFLICTS = Metric("hub_conflicts_open", _G, (), "conflicts", "Conflicts that wait for a review.")
OUTBOX = Metric("hub_outbox_records", _G, (), "records", "Committed records that are not published yet.")
UNACCOUNTED = Metric("hub_ledger_unaccounted", _G, (), "events", "Changes without an outcome: more than 0 is a loss.")
LEDGER = Metric("hub_ledger_outcomes", _G, ("target", "outcome"), "events", "Every change's outcome at every target.")
SOURCE_AGE = Metric("hub_source_age_seconds", _G, ("system", "stream"), "seconds", "Since a source was last read to its end.")
DRIFT = Metric("hub_audit_drift_records", _G, ("system", "object", "kind"), "records",
               "Records in which the last audit found hub and system to differ.")
AUDIT_STATE = Metric("hub_audit_ended", _G, ("system", "object", "state"), "1 or 0", "How the last audit ended.")
BUDGET_CALLS = Metric("hub_budget_window_calls", _G, ("account",), "calls", "Calls that count in an account's window now.")
BUDGET_WAITING = Metric("hub_budget_waiting_callers", _G, ("account",), "callers", "Callers that wait for their turn.")
BUDGET_PAUSED = Metric("hub_budget_paused", _G, ("account",), "1 or 0", "Whether the vendor asked for a pause.")
BUDGET_DAY = Metric("hub_budget_day_left_ratio", _G, ("account",), "share",
                    "What is left of the day's calls; 1 where none are counted.")
HALTED = Metric("hub_source_halted", _G, ("system", "stream"), "1 or 0", "Whether a person paused or stopped a source.")
NEWEST_AGE = Metric("hub_source_newest_seconds", _G, ("system", "stream"), "seconds", "Age of the newest clock a source told.")
DISK_FREE = Metric("hub_disk_free_bytes", _G, ("where",), "bytes", "Free on the disks that can be seen from the hub.")
FAULT = Metric("hub_fault", _G, ("fault", "subject"), "1 or 0", "Trouble that the watch has found (streams/watch.py).")
SLOT_LAG = Metric("hub_replication_slot_lag_bytes", _G, ("system",), "bytes", "Log that a database keeps for the hub.")
# fmt: on

METRICS: tuple[Metric, ...] = tuple(value for value in globals().values() if isinstance(value, Metric))

# When a series began is of no use here, and doubles what is scraped.
disable_created_metrics()  # type: ignore[no-untyped-call]
LIVE: dict[str, Counter | Histogram] = {
    m.name: Counter(m.name, m.help, m.labels, registry=None)
    if m.kind is Kind.counter
    else Histogram(m.name, m.help, m.labels, buckets=m.buckets, registry=None)
    for m in METRICS
    if m.kind is not Kind.gauge
}
"""This process's counters and histograms, by name."""

CLASSES = ("retry", "hold", "reject", "fatal", "infrastructure", "unexpected")
_NOT_TAKEN = ((Deferred, "retry"), (Held, "hold"), (Refused, "reject"))
HUB = "hub"
"""Stands for the hub itself where a metric names a system."""

_pending: ContextVar[Tally[tuple[Metric, tuple[str, ...]]] | None] = ContextVar("pending", default=None)


def count(metric: Metric, *labels: str, by: int = 1) -> None:
    """Add to a counter; inside `tally`, when its block ends well."""
    pending = _pending.get()
    if pending is None:
        LIVE[metric.name].labels(*labels).inc(by)  # type: ignore[union-attr]
    else:
        pending[metric, labels] += by


def expect(metric: Metric, *labels: str) -> None:
    """Show a counter or histogram from now on, at 0: the rate of one that just appeared has no beginning."""
    LIVE[metric.name].labels(*labels)


def observe(metric: Metric, value: float, *labels: str) -> None:
    """Add an observation to a histogram."""
    LIVE[metric.name].labels(*labels).observe(value)  # type: ignore[union-attr]


@asynccontextmanager
async def tally() -> AsyncIterator[None]:
    """Put around a transaction: what is counted in it counts when it is committed. One that is undone and done again
    counts once."""
    pending: Tally[tuple[Metric, tuple[str, ...]]] = Tally()
    token = _pending.set(pending)
    try:
        yield
    finally:
        _pending.reset(token)
    for (metric, labels), amount in pending.items():
        count(metric, *labels, by=amount)


def failed(stage: str, system: str, error: BaseException, by: int = 1) -> None:
    """Count an error under what is to be done about it."""
    count(ERRORS, stage, system, class_of(error), by=by)


def answered(target: str, receipts: Iterable[Receipt]) -> None:
    """Count what a target did not take of the writes of one call. A record found there is no error."""
    for receipt in receipts:
        kind = next((name for type_, name in _NOT_TAKEN if isinstance(receipt, type_)), None)
        if kind and not getattr(receipt, "found", ()):
            count(ERRORS, "deliver", target, kind)


def class_of(error: BaseException) -> str:
    """One of CLASSES."""
    kinds: tuple[tuple[str, Any], ...] = (
        ("retry", Retry), ("hold", Hold), ("reject", Reject), ("fatal", Fatal), ("infrastructure", INFRASTRUCTURE),
    )  # fmt: skip
    return next((name for name, kind in kinds if isinstance(error, kind)), "unexpected")


def captured(changes: Iterable[Change]) -> None:
    """Count changes that were appended."""
    for labels, amount in Tally((c.system, c.object, c.channel) for c in changes).items():
        count(CAPTURED, *labels, by=amount)


def called(system: str, method: str, route: str, status: int, seconds: float) -> None:
    """Count one call of a vendor's API (an observer of connectors.kit.http)."""
    count(CALLS, system, method, route, str(status))
    observe(CALL_SECONDS, seconds, system, method, route)
