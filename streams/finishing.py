"""Finishing: what becomes of the queue's rows and of the ledger after their receipts; a few statements for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from hub.diff import NoWrite
from hub.receipt import Applied, Deferred, Held, Receipt, Refused, Unchanged
from streams import outcomes
from streams.backoff import backoff
from streams.log_postgres import Connection
from streams.preparing import Prepared

log = structlog.get_logger(__name__)

# The gravest receipt of a row decides; what may still succeed is graver than what is refused for good.
GRAVITY = (Unchanged, Applied, Held, Refused, Deferred)


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one row: `outcome` for the ledger ("" leaves it as it is), and its state in the queue ("" ends it)."""

    golden_id: str
    version: int
    outcome: str = ""
    reason: str = ""
    state: str = ""
    seconds: float = 0.0
    code: str = ""
    waits_for: str | None = None


def fate(prepared: Prepared, receipts: Sequence[Receipt], may_give_up: int | None) -> Fate:
    """Decide by the gravest receipt, or by the verdict where nothing was called; a row that still waits for something
    is held although the rest of it was written. After `may_give_up` attempts (None: never) a row that keeps being
    deferred is parked."""
    golden, version, verdict = prepared.due.golden_id, prepared.version, prepared.verdict
    waits = [verdict] if isinstance(verdict, Held) else []
    gravest = max((*receipts, *waits), key=lambda r: GRAVITY.index(type(r)), default=verdict)
    if isinstance(gravest, Refused) and gravest.code == "gone":
        gravest = Deferred(gravest.reason)
    if isinstance(gravest, Deferred):
        if may_give_up is not None and prepared.due.attempts >= may_give_up:
            return Fate(golden, version, "parked", f"gave up: {gravest.reason}", "parked", code="attempts")
        seconds = backoff(prepared.due.attempts) if gravest.seconds is None else gravest.seconds
        return Fate(golden, version, reason=gravest.reason, state="due", seconds=float(seconds))
    if isinstance(gravest, Refused):
        return Fate(golden, version, "parked", gravest.reason, "parked", code=gravest.code)
    if isinstance(gravest, Held):
        why = f"waits for {gravest.waits_for}"
        return Fate(golden, version, "held", why, "held", waits_for=gravest.waits_for)
    if any(isinstance(r, Applied) for r in receipts):
        return Fate(golden, version, "applied")
    return Fate(
        golden, version, *((verdict.outcome, verdict.reason) if isinstance(verdict, NoWrite) else ("unchanged",))
    )


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
        "update hub.write set state = 'due', due_at = now(), waits_for = null, attempts = 0"
        " where target = $1 and state = 'held' and waits_for = any($2)",
        target, [f.golden_id for f in ended],
    )  # fmt: skip


async def _requeue(conn: Connection, target: str, lease: str, fates: Sequence[Fate]) -> None:
    """Rows that go on; where a newer version came while an older one was being written, that is due at once."""
    await conn.execute(
        "update hub.write w set lease = null, reason = left(f.reason, 2000), code = f.code,"
        " state = case when w.version > f.version then 'due' else f.state end,"
        " waits_for = case when w.version > f.version then null else f.waits_for end,"
        " due_at = now() + make_interval(secs => case when w.version > f.version then 0 else f.seconds end)"
        " from unnest($3::text[], $4::bigint[], $5::text[], $6::float8[], $7::text[], $8::text[], $9::text[])"
        " as f (golden_id, version, state, seconds, reason, code, waits_for)"
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
    )
