"""Project: changes -> golden records. One transaction per batch holds position, claims, golden rows, links and ledger."""

from collections import Counter
from collections.abc import Sequence

from hub.decide import decide
from hub.event import Event, from_avro
from hub.fold import DELETED, claims_of, fold
from hub.identity import IdentityEvent, RecordId
from hub.view import INVALID, Held, observed
from hub.write import Intent
from streams import linking, metrics, outcomes, projecting, steward, tally, tracing
from streams.batches import process
from streams.context import Context
from streams.log_postgres import Connection
from streams.reading import Reading, read
from streams.records import Batch, NewRecord, Record
from streams.topics import DECISIONS, IDENTITY
from streams.workspace import GoldenState, RecordState, intents_of, lock_golden, lock_records, save_records

STAGE = "project"


class Project:
    """The handler of the project stage."""

    def __init__(self, context: Context) -> None:
        self.context = context

    async def __call__(self, batches: list[Batch]) -> None:
        """Fold batches of change events into claims and golden records."""
        await process(self.context, STAGE, batches, self.work)

    async def work(self, conn: Connection, records: Sequence[Record]) -> tuple[list[NewRecord], int]:
        """The batch's whole effect within the caller's transaction: what to emit, and how many events were known."""
        events = await self._new_events(conn, records)
        duplicates = len(records) - len(events)
        orders = [(r, e) for r, e in events if e.system == steward.SYSTEM]
        reports = [(r, e) for r, e in events if e.system != steward.SYSTEM]
        with tracing.working(STAGE, (event.trace for _, event in events)):
            emitted = await self._report(conn, reports) if reports else []
            return emitted + (await steward.apply(self.context, conn, orders) if orders else []), duplicates

    async def _report(self, conn: Connection, events: Sequence[tuple[Record, Event]]) -> list[NewRecord]:
        """What systems reported: read it, link it, fold it, and account for it."""
        readings, ended = await self._read(conn, [event for _, event in events])
        decisions, same = await linking.link(conn, readings)
        await save_records(conn, [state for state in ended.values() if not state.golden_id])
        into = await linking.merge(conn, same, readings)
        emitted = await self._fold(conn, readings, decisions, into)
        await outcomes.record_events(conn, events, {r.event.event_id: r.state.golden_id for r in readings})
        return emitted

    async def _new_events(self, conn: Connection, records: Sequence[Record]) -> list[tuple[Record, Event]]:
        events: dict[str, tuple[Record, Event]] = {}
        await self.context.codec.learn(record.value for record in records)
        for record in records:
            event = from_avro(self.context.codec.decode(record.value or b"")[1])
            events.setdefault(event.event_id, (record, event))
        rows = await conn.fetch("select event_id from hub.event where event_id = any($1)", list(events))
        for row in rows:
            del events[row["event_id"]]
        return list(events.values())

    async def _read(
        self, conn: Connection, events: Sequence[Event]
    ) -> tuple[list[Reading], dict[RecordId, RecordState]]:
        """The events interpreted; and records that ended before they were seen, kept so that an older report of them,
        should one come late, does not bring them to life."""
        mentioned = [e.record for e in events] + [(e.system, e.object, old) for e in events for old in e.merged]
        states = await lock_records(conn, mentioned)
        readings: list[Reading] = []
        ended: dict[RecordId, RecordState] = {}
        for event in events:
            for one in expand(event):
                reading = read(self.context.model, one, states.get(one.record))
                if reading is None:
                    continue
                states[one.record] = reading.state
                if event.op == "delete" and not reading.state.golden_id:
                    ended[one.record] = _end(reading)
                else:
                    reading.state.keys = reading.keys
                    readings.append(reading)
        return readings, ended

    async def _fold(
        self, conn: Connection, readings: list[Reading], decisions: list[IdentityEvent], into: dict[str, str]
    ) -> list[NewRecord]:
        touched = {r.state.golden_id for r in readings} | set(into) | set(into.values())
        goldens = await lock_golden(conn, touched)
        for link in (d for d in decisions if d.golden_id in into):  # found and merged in this very batch
            goldens.setdefault(link.golden_id, GoldenState(link.golden_id, link.entity))
        cause = readings[-1].event.event_id if readings else ""
        decisions = decisions + linking.merged(into, goldens, cause)
        intents = await intents_of(conn, [r.state.id for r in readings], sorted(touched))
        used: set[str] = set()
        for reading in readings:
            used.update(_absorb(reading, intents, used))
        await save_records(conn, list({r.state.id: r.state for r in readings}.values()))
        await repoint(conn, into)
        if used:
            await conn.execute("delete from hub.intent where key = any($1)", sorted(used))
        for system, missed in _near_misses(readings).items():
            metrics.count(metrics.NEAR_MISSES, system, by=missed)
            if missed:
                await tally.add(self.context, conn, tally.NEAR_MISS, system, missed)
        emitted = await projecting.project_all(self.context, conn, readings, goldens, set(into.values()), set(into))
        return emitted + self._identity(decisions) + self._decisions(readings)

    def _identity(self, decisions: Sequence[IdentityEvent]) -> list[NewRecord]:
        encode = self.context.codec.encode
        return [NewRecord(IDENTITY.name, d.golden_id.encode(), encode("identity", d.to_avro())) for d in decisions]

    def _decisions(self, readings: Sequence[Reading]) -> list[NewRecord]:
        return [
            NewRecord(DECISIONS.name, "/".join(r.state.id).encode(), self.context.codec.encode("decision", datum))
            for r in readings
            if (datum := _unsaid(r))
        ]


def _near_misses(readings: Sequence[Reading]) -> Counter[str]:
    """System -> how many, also where there are none."""
    missed: Counter[str] = Counter()
    for reading in readings:
        missed[reading.event.system] += reading.near_miss
    return missed


def _end(reading: Reading) -> RecordState:
    state, event = reading.state, reading.event
    state.claims = fold(state.claims, claims_of(reading.values, event.at, event.clock))
    state.view[DELETED] = observed(None, True, event.clock.order)
    state.gone, state.last_event = True, event.event_id
    return state


def expand(event: Event) -> list[Event]:
    """A merge at the vendor is the living record's change and the others' end."""
    if event.op != "merge":
        return [event]
    ends = [
        Event(
            event.event_id, event.system, event.object, old, "delete", event.version, event.at, event.observed_at,
            event.channel, b"{}", merged=(event.external_id,),
        )
        for old in event.merged
    ]  # fmt: skip
    return [event, *ends]


def _absorb(reading: Reading, intents: dict[tuple[str, str], list[Intent]], used: set[str]) -> tuple[str, ...]:
    """Decide what an event says and fold it into its record's claims; returns the intents it used up."""
    event, state = reading.event, reading.state
    open_ = [i for i in _aimed_at(reading, intents) if i.key not in used] if intents else []
    if event.op != "delete" and (state.gone or DELETED in state.claims):
        reading.values[DELETED] = False  # it is back; known only now, for its end may stand in this very batch
    reading.decision = decision = decide(event, reading.values, state.view, open_, reading.unheard)
    state.view = decision.view | unadmitted(reading) if reading.invalid else decision.view
    state.claims = fold(state.claims, claims_of(reading.said, event.at, event.clock))
    state.gone = gone_now(event, state)
    state.last_event = event.event_id
    return decision.intents


def _aimed_at(reading: Reading, intents: dict[tuple[str, str], list[Intent]]) -> list[Intent]:
    """Open intents at the record, and creates that may have made it."""
    event = reading.event
    at_record = intents.get((event.system, f"{event.object}/{event.external_id}"), [])
    at_golden = intents.get((event.system, reading.state.golden_id), [])
    return at_record + [i for i in at_golden if i.object == event.object]


def gone_now(event: Event, state: RecordState) -> bool:
    """Whether the record is gone; a report of it is remembered, so that a delete from before is known to be over."""
    held = state.view.get(DELETED, Held(False))
    if event.op != "delete" and not held.value:
        state.view[DELETED] = Held(False, order=max(held.order, event.clock.order))
    return bool(held.value)


def unadmitted(reading: Reading) -> dict[str, Held]:
    """What a record holds that its field's type does not admit: known to be there, claimed by nobody."""
    order = reading.event.clock.order
    return {name: Held({INVALID: str(raw)[:500]}, order=order) for name, (raw, _) in reading.invalid.items()}


def _unsaid(reading: Reading) -> dict[str, object] | None:
    if reading.decision is None or reading.values.keys() == reading.decision.said.keys():
        return None
    unsaid = sorted(reading.values.keys() - reading.decision.said.keys())
    system, object_, external_id = reading.event.record
    echo = bool(reading.decision.echoed or reading.decision.intents or reading.event.intent)
    return {
        "event_id": reading.event.event_id, "system": system, "object": object_, "external_id": external_id,
        "unsaid": unsaid, "echo": echo,
    }  # fmt: skip


async def repoint(conn: Connection, into: dict[str, str]) -> None:
    """Everything of a golden record that became part of another now belongs to that other."""
    for loser, lives in sorted(into.items()):
        await conn.execute("update hub.record set golden_id = $2 where golden_id = $1", loser, lives)
        await conn.execute(
            "update hub.ledger set golden_id = $2, version = 0 where golden_id = $1"
            " and (outcome is null or outcome like 'held%' or outcome = 'parked')",
            loser, lives,
        )  # fmt: skip
        await conn.execute(
            "update hub.conflict set golden_id = $2 where golden_id = $1 and state = 'open'", loser, lives
        )
        await conn.execute("delete from hub.match_key where golden_id = $1", loser)
