"""Finishing: what becomes of the queue's rows and of the ledger after their receipts; a few statements for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from hub.diff import NoWrite
from hub.failure import TABLE, Failure
from hub.receipt import Applied, Deferred, Held, Receipt, Refused, Unchanged, failure_of
from streams import outcomes
from streams.backoff import backoff
from streams.batches import fingerprint
from streams.log_postgres import Connection
from streams.preparing import Due, Prepared

log = structlog.get_logger(__name__)

# The gravest receipt of a row decides; what may still succeed is graver than what is refused for good.
GRAVITY = (Unchanged, Applied, Held, Refused, Deferred)
# What may be the record's own doing: it is tried again apart from others.
SUSPECT = (Failure.transient, Failure.outage)


@dataclass(frozen=True, slots=True)
class Judge:
    """What is known of the target when receipts are judged: how often a row may fail, and when the target was last well."""

    attempts: int
    good_at: datetime | None = None

    def counts(self, due: Due, failure: Failure) -> bool:
        """Whether a failed try uses up one of the row's attempts."""
        rule = TABLE[failure].counts
        if rule == "well":
            return bool(due.failed_at and self.good_at and self.good_at > due.failed_at)
        return rule == "always"


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one row: `outcome` for the ledger ("" leaves it as it is), and its state in the queue ("" ends it);
    `counts`: whether it used up an attempt."""

    golden_id: str
    version: int
    outcome: str = ""
    reason: str = ""
    state: str = ""
    seconds: float = 0.0
    code: str = ""
    waits_for: str | None = None
    counts: bool = False
    failed: bool = False


def fate(prepared: Prepared, receipts: Sequence[Receipt], judge: Judge) -> Fate:
    """Decide by the gravest receipt, or by the verdict where nothing was called; a row that still waits for something
    is held although the rest of it was written. What a failure means stands in hub.failure."""
    golden, version, verdict = prepared.due.golden_id, prepared.version, prepared.verdict
    waits = [verdict] if isinstance(verdict, Held) else []
    gravest = max((*receipts, *waits), key=lambda r: GRAVITY.index(type(r)), default=verdict)
    failure = None if gravest is None or isinstance(gravest, NoWrite) else failure_of(gravest)
    if failure is not None:
        return FATES[TABLE[failure].row](prepared, gravest, failure, judge)
    if any(isinstance(r, Applied) for r in receipts):
        return Fate(golden, version, "applied")
    return Fate(
        golden, version, *((verdict.outcome, verdict.reason) if isinstance(verdict, NoWrite) else ("unchanged",))
    )


def _due(prepared: Prepared, receipt: Any, failure: Failure, judge: Judge) -> Fate:
    due, counts = prepared.due, judge.counts(prepared.due, failure)
    if counts and due.attempts + 1 >= judge.attempts:
        reason = f"gave up after {due.attempts + 1} attempts: {receipt.reason}"
        code = "attempts" if failure in SUSPECT else str(failure)
        return Fate(due.golden_id, prepared.version, "parked", reason, "parked", code=code, counts=True, failed=True)
    said = getattr(receipt, "seconds", None)
    seconds = backoff(due.attempts + counts) if said is None else float(said)
    if failure is Failure.conflict:  # what was read must be folded first, which takes as long as it takes
        seconds = max(seconds, backoff(due.attempts) if due.attempts else 0.0)
    return Fate(
        due.golden_id, prepared.version, reason=receipt.reason, state="due", seconds=seconds, counts=counts,
        failed=failure in SUSPECT,
    )  # fmt: skip


def _held(prepared: Prepared, receipt: Any, failure: Failure, judge: Judge) -> Fate:
    why = f"waits for {receipt.waits_for}"
    return Fate(prepared.due.golden_id, prepared.version, "held", why, "held", waits_for=receipt.waits_for)


def _parked(prepared: Prepared, receipt: Any, failure: Failure, judge: Judge) -> Fate:
    return Fate(prepared.due.golden_id, prepared.version, "parked", receipt.reason, "parked", code=receipt.code)


FATES = {"due": _due, "held": _held, "parked": _parked}


async def finish(conn: Connection, target: str, lease: str, fates: Sequence[Fate]) -> None:
    """Carry out fates of rows of one target that are held under this lease."""
    for one in fates:
        if one.state == "parked":
            # Not the reason: vendors repeat addresses in it. `hub parked` shows it to those who may see them.
            log.warning("refused", target=target, golden_id=one.golden_id, code=one.code)
    await outcomes.settle(conn, target, [(f.golden_id, f.version, f.outcome, f.reason) for f in fates if f.outcome])
    ended = [f for f in fates if not f.state]
    await conn.execute(
        "delete from hub.write w using unnest($3::text[], $4::bigint[]) as f (golden_id, version)"
        " where w.target = $1 and w.lease = $2 and w.golden_id = f.golden_id and w.version <= f.version",
        target, lease, [f.golden_id for f in ended], [f.version for f in ended],
    )  # fmt: skip
    await _requeue(conn, target, lease, fates)
    await conn.execute(
        "update hub.write set state = 'due', due_at = now(), waits_for = null, held_since = null, attempts = 0"
        " where target = $1 and state = 'held' and waits_for = any($2)",
        target, [f.golden_id for f in ended],
    )  # fmt: skip


async def _requeue(conn: Connection, target: str, lease: str, fates: Sequence[Fate]) -> None:
    """Rows that go on; where a newer version came while an older one was being written, that is due at once."""
    newer = "w.version > f.version"
    await conn.execute(
        "update hub.write w set lease = null, reason = left(f.reason, 2000), code = f.code, fingerprint = f.fingerprint,"  # noqa: S608
        f" state = case when {newer} then 'due' else f.state end,"
        f" waits_for = case when {newer} then null else f.waits_for end,"
        f" held_since = case when not {newer} and f.state = 'held' then coalesce(w.held_since, now()) end,"
        f" attempts = case when {newer} then 0 else w.attempts + f.counts::int end,"
        f" failed_at = case when {newer} then null when f.failed then clock_timestamp() else w.failed_at end,"
        f" due_at = now() + make_interval(secs => case when {newer} then 0 else f.seconds end)"
        " from unnest($3::text[], $4::bigint[], $5::text[], $6::float8[], $7::text[], $8::text[], $9::text[], $10::bool[],"
        " $11::bool[], $12::text[])"
        " as f (golden_id, version, state, seconds, reason, code, waits_for, counts, failed, fingerprint)"
        " where w.target = $1 and w.lease = $2 and w.golden_id = f.golden_id",
        target,
        lease,
        [f.golden_id for f in fates],
        [f.version for f in fates],
        [f.state or "due" for f in fates],
        [f.seconds for f in fates],
        [f.reason for f in fates],
        [f.code for f in fates],
        [f.waits_for for f in fates],
        [f.counts for f in fates],
        [f.failed for f in fates],
        [fingerprint(f.reason) if f.state == "parked" else "" for f in fates],
    )
