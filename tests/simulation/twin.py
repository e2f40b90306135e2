"""The hub's stages with their state in memory: the twin of what `streams` keeps in PostgreSQL.

What is decided is decided by the real code: reading, linking, deciding, folding, projecting, comparing, preparing and
acknowledging. Only what the stages do in SQL is done here with dictionaries; `test_twin.py` holds both against each
other.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from random import Random
from typing import Any

from hub.change import Change
from hub.errors import Retry
from hub.event import Event, record
from hub.identity import Key, RecordId, golden_id
from hub.model import Model
from hub.projection import load
from hub.receipt import Deferred, Held, Receipt, Refused
from hub.write import Intent, Write
from streams import conflicts, linking, preparing, project, projecting, receipts
from streams.preparing import Due, Prepared, Stored
from streams.reading import Reading, read
from streams.records import Batch, Record
from streams.topics import changes_topic
from streams.workspace import GoldenState, RecordState
from tests.simulation.parts import Partition, Queued, Said, append, by_key
from tests.simulation.vendor import Clock, Crash, Vendor
from tests.stages.support import split


def lives(goldens: Mapping[str, GoldenState], golden_id: str) -> str:
    """The golden id under which a golden record lives."""
    while into := goldens[golden_id].merged_into:
        golden_id = into
    return golden_id


@dataclass
class Twin:
    """One hub in memory."""

    model: Model
    vendors: dict[str, Vendor]
    clock: Clock
    log: dict[Partition, list[Record]] = field(default_factory=lambda: defaultdict(list))
    golden_log: dict[Partition, list[Record]] = field(default_factory=lambda: defaultdict(list))
    fetched: dict[tuple[str, str, int], int] = field(default_factory=lambda: defaultdict(int))
    positions: dict[tuple[str, str, int], int] = field(default_factory=lambda: defaultdict(int))
    checkpoints: dict[str, Any] = field(default_factory=dict)
    events: set[str] = field(default_factory=set)
    records: dict[RecordId, RecordState] = field(default_factory=dict)
    goldens: dict[str, GoldenState] = field(default_factory=dict)
    keys: dict[tuple[str, str, str], str] = field(default_factory=dict)
    intents: dict[tuple[str, str], Intent] = field(default_factory=dict)
    tries: dict[tuple[str, str], int] = field(default_factory=dict)
    queue: dict[tuple[str, str], Queued] = field(default_factory=dict)
    reviews: dict[tuple[str, str], tuple[Any, ...]] = field(default_factory=dict)
    said: list[Said] = field(default_factory=list)
    duplicates: int = 0

    # Capture: systems -> the log.

    async def capture(self, system: str, full: bool = False, lose: bool = False) -> None:
        """Poll to the end; `full` from the beginning, `lose` the new checkpoint."""
        changes, onward = self.vendors[system].read(None if full else self.checkpoints.get(system))
        self.append(changes)
        if not lose:
            self.checkpoints[system] = onward

    async def notified(self, system: str, ids: Sequence[str]) -> None:
        """Webhooks came: the records are fetched."""
        self.append(self.vendors[system].fetched(ids))

    def append(self, changes: Iterable[Change]) -> None:
        """Append events, the way capture does."""
        for change in changes:
            event = record(change, self.clock.now)
            topic = changes_topic(change.system, change.object).name
            append(self.log, topic, change.external_id.encode(), event)

    # Project: changes -> golden records.

    async def project(self, random: Random | None = None) -> None:
        """Process what was not read; with `random` in random portions."""
        for batches in split(self._unread("project", self.log), random):
            self._project([r for b in sorted(batches, key=lambda b: (b.topic, b.partition)) for r in self._fresh(b)])

    def _unread(self, stage: str, log: dict[Partition, list[Record]]) -> list[list[Record]]:
        found = []
        for (topic, partition), records in sorted(log.items()):
            start = self.fetched[stage, topic, partition]
            if start < len(records):
                found.append(records[start:])
                self.fetched[stage, topic, partition] = len(records)
        return found

    async def redeliver(self, random: Random) -> None:
        """The log delivers again what was handled already."""
        self.fetched.update({key: random.randint(0, upto) for key, upto in sorted(self.fetched.items())})

    def _fresh(self, batch: Batch, stage: str = "project") -> list[Record]:
        done = self.positions[stage, batch.topic, batch.partition]
        self.positions[stage, batch.topic, batch.partition] = max(done, batch.records[-1].offset + 1)
        return [r for r in batch.records if r.offset >= done]

    def _new(self, events: Sequence[Event]) -> list[Event]:
        """The events that were not processed before."""
        new = list({e.event_id: e for e in reversed(events) if e.event_id not in self.events}.values())[::-1]
        self.duplicates += len(events) - len(new)
        self.events |= {e.event_id for e in new}
        return new

    def _project(self, records: Sequence[Record]) -> None:
        readings = self._read(self._new([r.value for r in records]))  # type: ignore[misc]
        if not readings:
            return
        decisions, same = linking.resolved(
            readings, self._known(readings), self._minted(readings), self._made(readings)
        )
        into = linking.united(same, *self._parts(same))
        for reading in readings:
            reading.state.golden_id = into.get(reading.state.golden_id, reading.state.golden_id)
        for link in (d for d in decisions if d.golden_id in into):
            self.goldens.setdefault(link.golden_id, GoldenState(link.golden_id, link.entity))
        linking.merged(into, self.goldens, "")
        self._absorb(readings)
        self._repoint(into)
        self._choose(readings, set(into.values()), set(into))

    def _read(self, events: Sequence[Event]) -> list[Reading]:
        readings = []
        for event in (one for e in events for one in project.expand(e)):
            reading = read(self.model, event, self.records.get(event.record))
            if reading is None:
                continue
            self.records[event.record] = reading.state
            if event.op == "delete" and not reading.state.golden_id:
                project._end(reading)
            else:
                reading.state.keys = reading.keys
                readings.append(reading)
        return readings

    def _known(self, readings: Sequence[Reading]) -> dict[tuple[str, Key], str]:
        known = {}
        for entity, key in {(r.mapping.entity.name, key) for r in readings for key in r.keys}:
            if (entity, *key) in self.keys:
                known[entity, key] = self.keys[entity, *key]
            if key[0] == "golden" and key[1] in self.goldens:
                known[entity, key] = lives(self.goldens, key[1])
        return known

    def _minted(self, readings: Sequence[Reading]) -> dict[RecordId, str]:
        minted = {}
        for state in (r.state for r in readings if not r.state.golden_id):
            generation = 0
            while (id_ := golden_id(state.entity, state.id, generation)) in self.goldens:
                generation += 1
            minted[state.id] = id_
        return minted

    def _made(self, readings: Sequence[Reading]) -> dict[str | None, str]:
        marks = {r.event.intent for r in readings if r.event.intent and not r.state.golden_id}
        return {key: i.golden_id for (key, _), i in self.intents.items() if key in marks}

    def _parts(self, same: Iterable[frozenset[str]]) -> tuple[dict[str, frozenset[str]], list[tuple[str, str]]]:
        made_of = {id_: {id_} for group in same for id_ in group}
        for state in self.records.values():
            if state.golden_id in made_of:
                made_of[state.golden_id].add(state.home)
        return {id_: frozenset(parts) for id_, parts in made_of.items()}, []

    def _absorb(self, readings: Sequence[Reading]) -> None:
        intents: dict[tuple[str, str], list[Intent]] = {}
        for i in self.intents.values():
            where = i.golden_id if i.external_id is None else f"{i.object}/{i.external_id}"
            intents.setdefault((i.target, where), []).append(i)
        used: set[str] = set()
        for reading in readings:
            used.update(project._absorb(reading, intents, used))
            decision = reading.decision
            self.said.append(Said(reading.event, dict(reading.said), bool(decision and decision.near_miss)))
        self.intents = {place: i for place, i in self.intents.items() if i.key not in used}

    def _repoint(self, into: dict[str, str]) -> None:
        for state in self.records.values():
            state.golden_id = into.get(state.golden_id, state.golden_id)
        self.reviews = {place: (into.get(r[0], r[0]), *r[1:]) for place, r in self.reviews.items()}
        self.keys = {key: golden for key, golden in self.keys.items() if golden not in into}

    def _of(self, golden: str) -> list[RecordState]:
        return sorted((s for s in self.records.values() if s.golden_id == golden), key=lambda s: s.id)

    def _choose(self, readings: Sequence[Reading], forced: set[str], ended: set[str]) -> None:
        by_golden: dict[str, list[Reading]] = {}
        for reading in readings:
            by_golden.setdefault(reading.state.golden_id, []).append(reading)
        sources = {golden: self._of(golden) for golden in by_golden.keys() | forced}
        self._claim_keys({g: s for g, s in sources.items() if g in forced or projecting._rekeyed(by_golden.get(g, []))})
        projected = {g: projecting._project(self.model, g, sources[g], self.goldens) for g in sorted(sources)}
        joined = {g: sources[g] for g in projected if g in forced or any(r.linked_now for r in by_golden.get(g, []))}
        self._review(conflicts.find(by_golden, projected, joined, self.model.entities), projected)
        changed = list(ended)
        for golden in ended:
            self.goldens[golden].version += 1
        for golden, made in projected.items():
            mine = by_golden.get(golden, [])
            if projecting._bump(self.model, made, self.goldens[golden], sources[golden], mine, golden in forced):
                changed.append(golden)
        for golden in sorted(changed):
            append(self.golden_log, "golden", golden.encode(), replace(self.goldens[golden]))

    def _claim_keys(self, sources: dict[str, list[RecordState]]) -> None:
        self.keys = {key: golden for key, golden in self.keys.items() if golden not in sources}
        wanted = {(s.entity, *key): golden for golden, states in sources.items() for s in states for key in s.keys}
        for key, golden in wanted.items():
            self.keys.setdefault(key, golden)

    def _review(self, found: Sequence[conflicts.Conflict], projected: Any) -> None:
        """Open conflicts: those that stand, and new ones that a person must look at."""
        for place, (golden, *_, rule) in list(self.reviews.items()):
            row = {"event_id": place[0], "field": place[1], "rule": rule}
            if golden in projected and not conflicts.stands(row, projected[golden]):
                del self.reviews[place]
        for one in found:
            if one.open:
                c = one.candidate
                where = (one.golden_id, c.system, c.object, c.external_id, one.field, one.rule)
                self.reviews.setdefault((one.event_id, one.field), where)

    # Plan: golden records -> the write queue.

    async def plan(self, random: Random | None = None) -> None:
        """Queue the newest version of every golden record."""
        for batches in split(self._unread("plan", self.golden_log), random):
            for batch in sorted(batches, key=lambda b: (b.topic, b.partition)):
                for r in self._fresh(batch, "plan"):
                    self._queue(r.value)  # type: ignore[arg-type]

    def _queue(self, golden: GoldenState) -> None:
        if golden.merged_into:
            self.queue = {place: row for place, row in self.queue.items() if place[1] != golden.golden_id}
            return
        for target in self.model.targets(golden.entity):
            row = self.queue.setdefault((target, golden.golden_id), Queued(golden.entity, 0))
            if row.version < golden.version:
                row.version, row.state = golden.version, "due"

    # Deliver: the write queue -> the targets.

    async def deliver(self, target: str, between: Callable[[], Awaitable[None]] | None = None) -> None:
        """Deliver what is due; `between` happens between the writes and their answers. Raises Crash."""
        vendor = self.vendors[target]
        leased = {g: row for (t, g), row in self.queue.items() if t == target and row.state == "due" and not row.leased}
        prepared = self.prepare(target, leased)
        for row in leased.values():
            row.leased = True
        try:
            writes = [w for p in prepared for w in p.writes]
            self._leave(writes)
            answers, failed, crash = self._call(vendor, writes)
            vendor.between = between if writes and not crash else None
            await vendor.meanwhile()
            for some, error in failed:
                answers |= self._again(vendor, some, error)
            for one in prepared:
                if all(w.key in answers for w in one.writes):
                    self._record(one, [(w, answers[w.key]) for w in one.writes], leased)
        finally:
            for row in leased.values():
                row.leased = False
        if crash:
            raise crash

    def prepare(self, target: str, leased: dict[str, Queued]) -> list[Prepared]:
        """What is to be written for these rows of the queue."""
        goldens = {
            g: (load(g, s.entity, s.fields, s.deleted), s.version) for g, s in self.goldens.items() if g in leased
        }
        records = {g: self._of(g) for g in leased}
        reviews = {(r[1], r[2], r[3], r[4]) for r in self.reviews.values()}
        stored = Stored(goldens, records, {}, reviews)
        dues = [Due(target, g, row.entity, row.version, 1, None) for g, row in leased.items()]
        return [preparing.prepare_one(self.model, stored, due) for due in dues]

    def _leave(self, writes: Sequence[Write]) -> None:
        for w in writes:
            intent = Intent(w.key, w.target, w.object, w.golden_id, w.external_id, w.values)
            place = (w.key, repr(sorted(w.values.items())))
            self.tries[place] = self.tries[place] + 1 if place in self.intents else 1
            self.intents[place] = intent

    def _tries(self, key: str) -> int:
        return sum(self.tries[place] for place in self.intents if place[0] == key)

    def _call(
        self, vendor: Vendor, writes: Sequence[Write]
    ) -> tuple[dict[str, Receipt], list[tuple[list[Write], Retry]], Crash | None]:
        """A call for each operation, all made at the same time: the answers, what failed as a whole, and a crash."""
        answers: dict[str, Receipt] = {}
        failed, crash = [], None
        for _, group in groupby(sorted(writes, key=lambda w: w.op), key=lambda w: w.op):
            some = list(group)
            try:
                answers |= by_key(some, vendor.put(some))
            except Retry as error:
                failed.append((some, error))
            except Crash as error:
                crash = error
        return answers, failed, crash

    def _again(self, vendor: Vendor, some: Sequence[Write], error: Retry) -> dict[str, Receipt]:
        """A call of several writes that failed as a whole: one of them alone, then the others by halves."""
        if len(some) == 1:
            return {some[0].key: Deferred(str(error), error.after)}
        self._leave(some)
        middle = 1 + len(some) // 2
        parts = [part for part in (some[:1], some[1:middle], some[middle:]) if part]
        return {key: answer for part in parts for key, answer in by_key(part, vendor.put(part)).items()}

    def _record(self, one: Prepared, pairs: Sequence[tuple[Write, Receipt]], leased: dict[str, Queued]) -> None:
        for write, receipt in pairs:
            if there := receipts._there(receipt):
                self._acknowledge(write, receipt, (write.target, write.object, there))
            self.append(self._found(write, receipt))
            if not receipts._may_echo(receipt) and not (isinstance(receipt, Deferred) and self._tries(write.key) > 1):
                self.intents = {place: i for place, i in self.intents.items() if i.key != write.key}
        self._finish(one, [receipt for _, receipt in pairs], leased)

    def _acknowledge(self, write: Write, receipt: Receipt, id_: RecordId) -> None:
        state = self.records.get(id_)
        if state is None or not state.golden_id:
            state = self.records[id_] = receipts._created(
                write, id_, lives(self.goldens, write.golden_id), stored=False
            )
            self.keys.setdefault((state.entity, "record", "/".join(id_)), write.golden_id)
        if not isinstance(receipt, Deferred):
            receipts._acknowledge(state, write, receipt, self.clock.now)

    def _found(self, write: Write, receipt: Receipt) -> list[Change]:
        if isinstance(receipt, Deferred):
            return list(receipt.found)
        if isinstance(receipt, Refused) and receipt.code == "gone" and write.external_id and write.op == "update":
            version = receipts._last_order(self.records[write.target, write.object, write.external_id])
            now = self.clock.now
            return [
                Change(write.target, write.object, write.external_id, {}, "delete", version, at=now, channel="read")
            ]
        return []

    def _finish(self, one: Prepared, answers: Sequence[Receipt], leased: dict[str, Queued]) -> None:
        place = (one.due.target, one.due.golden_id)
        row = self.queue.get(place)
        if row is None or row is not leased[one.due.golden_id]:
            return
        due = any(isinstance(r, Deferred) or (isinstance(r, Refused) and r.code == "gone") for r in answers)
        parked = not due and any(isinstance(r, Refused) for r in answers)
        held = not parked and isinstance(one.verdict, Held)
        if row.version > one.version:
            return
        if due or parked or held:
            row.state = "due" if due else "parked" if parked else "held"
        else:
            del self.queue[place]

    # For comparison.

    async def state(self) -> dict[str, Any]:
        """What the stages know."""
        live = {g: s for g, s in self.goldens.items() if s.version}
        return {
            "golden": {g: (s.version, dict(s.fields), s.deleted, s.merged_into) for g, s in live.items()},
            "record": {s.id: (s.golden_id, s.home, s.claims, s.view, s.keys, s.gone) for s in self.records.values()},
            "queue": {place: (row.version, row.state) for place, row in self.queue.items()},
            "intents": sorted((i.target, i.golden_id, i.external_id or "") for i in self.intents.values()),
            "key": dict(self.keys),
        }
