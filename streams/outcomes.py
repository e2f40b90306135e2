"""Outcomes: the ledger's rows. For every captured change and every target there is exactly one outcome.

null            on its way: the golden version it led to is still to be written to the target
applied         written; unchanged: the target held it already; echo: it was our own write coming back
superseded      a newer version was written instead; conflict: its claim lost
filtered        the target does not take this record; held, held-for-consent: waiting; parked: needs a person
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from hub.event import Event
from hub.model import Model
from streams import metrics
from streams.conflicts import Conflict
from streams.log_postgres import Connection
from streams.reading import Reading
from streams.records import Record
from streams.workspace import GoldenState

OUTCOMES = (
    "applied", "unchanged", "echo", "superseded", "filtered", "held", "held-for-consent", "conflict", "parked",
)  # fmt: skip
NOWHERE = "-"
EVENT_COLUMNS = (
    "event_id", "topic", "partition", "offset", "system", "object", "external_id", "observed_at", "golden_id",
    "also", "processed_at",
)  # fmt: skip


async def record_events(conn: Connection, events: Sequence[tuple[Record, Event]], golden_of: Mapping[str, str]) -> None:
    """Note that these events were processed, and where their payloads stand. An event of an object that is not
    configured has no targets, and is filtered as a whole."""
    if not events:
        return
    for of, amount in Counter(e.record[:2] for _, e in events).items():
        metrics.count(metrics.PROJECTED, *of, by=amount)
    moment = await conn.fetchval("select hub.moment()")
    rows = [
        (e.event_id, r.topic, r.partition, r.offset, *e.record, e.observed_at, golden_of.get(e.event_id),
         list(e.merged) or None, moment)
        for r, e in events
    ]  # fmt: skip
    await conn.copy_records_to_table("event", schema_name="hub", columns=EVENT_COLUMNS, records=rows)
    nowhere = [e.event_id for _, e in events if e.event_id not in golden_of]
    if nowhere:
        await conn.execute(
            "insert into hub.ledger (event_id, target, outcome, reason)"
            " select unnest($1::text[]), $2, 'filtered', 'not configured, or a delete of a record never seen'",
            nowhere, NOWHERE,
        )  # fmt: skip


async def open_rows(
    model: Model,
    conn: Connection,
    by_golden: Mapping[str, Sequence[Reading]],
    goldens: Mapping[str, GoldenState],
    bumped: set[str],
    conflicts: Sequence[Conflict],
) -> None:
    """One row per event and target: settled where nothing follows from the event, else waiting for its version."""
    lost = {c.event_id for c in conflicts}
    rows: dict[tuple[str, str], tuple[str, str, str, int, str | None]] = {}
    for golden_id, readings in by_golden.items():
        version, targets = goldens[golden_id].version, model.targets(readings[0].mapping.entity.name) or (NOWHERE,)
        for reading in readings:
            event_id, outcome = reading.event.event_id, _settled(reading, golden_id in bumped, lost)
            for target in targets:
                settled = outcome or ("filtered" if target == NOWHERE else None)
                rows[event_id, target] = (event_id, target, golden_id, version, settled)
    if rows:
        columns = ("event_id", "target", "golden_id", "version", "outcome")
        await conn.copy_records_to_table("ledger", schema_name="hub", columns=columns, records=rows.values())


def _settled(reading: Reading, bumped: bool, lost: set[str]) -> str | None:
    decision = reading.decision
    if decision is not None and not decision.said and not reading.linked_now:
        return "echo" if decision.intents or decision.echoed or reading.event.intent else "unchanged"
    if bumped:
        return None
    return "conflict" if reading.event.event_id in lost else "unchanged"


async def settle(conn: Connection, target: str, became: Sequence[tuple[str, int, str, str]]) -> None:
    """What became of golden versions at a target: (golden id, version, outcome, reason), each for all events that led to
    it, or to an older version still waiting."""
    for _, _, outcome, _ in became:
        metrics.count(metrics.OUTCOMES, target, outcome)
    await conn.execute(
        "update hub.ledger l set reason = left(s.reason, 500),"
        " outcome = case when l.version < s.version and s.outcome = 'applied' then 'superseded' else s.outcome end"
        " from unnest($2::text[], $3::bigint[], $4::text[], $5::text[]) as s (golden_id, version, outcome, reason)"
        " where l.target = $1 and l.golden_id = s.golden_id and l.version <= s.version"
        " and (l.outcome is null or l.outcome like 'held%' or l.outcome = 'parked')",
        target,
        *([row[i] for row in became] for i in range(4)),
    )
