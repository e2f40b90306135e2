"""A vendor of the simulation: records behind an API, with the oddities that vendors have, all of them drawn by name.

It implements the hub's connector protocol, so the same object serves the real stages and their twin in memory.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.kit.connector import Checkpoint, Finding, Limits, Manifest, Page, Request, Stream
from hub.change import Change, Notice
from hub.errors import Retry
from hub.mapping import ObjectMap
from hub.receipt import Applied, Deferred, Receipt, Refused
from hub.values import Value, same
from hub.write import Write, edited

OBJECT = "contacts"
MILLISECOND = 1_000
SECOND = 1_000_000
Rewrite = Callable[[str, Value, int], Value]
"""(field, value as written, how many writes there were) -> what the vendor makes of it."""


class Crash(BaseException):
    """The process ends here; nothing of it runs any more."""


@dataclass
class Clock:
    """The one clock of a simulation, in microseconds since 1970 UTC."""

    now: int = 1_700_000_000 * SECOND

    def pass_(self, micros: int) -> None:
        """Let time go by."""
        self.now += micros


def plain(_: str, value: Value, __: int) -> Value:
    """Stores what it is given."""
    return value


def shouts(name: str, value: Value, _: int) -> Value:
    """Trims and changes case."""
    return value.strip().upper() if name == "name" and value else value


def pads(name: str, value: Value, _: int) -> Value:
    """Writes phone numbers with brackets and lines, and puts white space around names."""
    if name == "phone" and value and len(value) == 12:
        return f"({value[2:5]}) {value[5:8]}-{value[8:]}"
    return f" {value} " if name == "name" and value else value


def titles(name: str, value: Value, _: int) -> Value:
    """Makes other words of a name, the same ones each time."""
    return f"Dr. {value}" if name == "name" and value and not value.startswith("Dr. ") else value


def counts(name: str, value: Value, writes: int) -> Value:
    """Makes other words of a name each time."""
    return f"{value} {writes}" if name == "name" and value else value


@dataclass(frozen=True)
class Traits:
    """How a vendor behaves.

    rewrite     what it makes of what it is given, at once; `later`: by an automation, some time after
    tells       its answers say what it stored; `dates`: and by which version
    marks       the changes that a write caused carry the write's key
    logs        it reports every change in order; else it tells of records as they are when they are read
    hooks       it sends webhooks; `lag`: a poll shows a change this late (microseconds)
    tick        the grain of its clock, microseconds
    keeps_id    it keeps the hub's own id, and never has two records with one
    one_email   it never has two records with one e-mail address
    remembers   it knows which record a create has made, and answers the same create with that
    """

    rewrite: Rewrite = plain
    later: Rewrite | None = None
    tells: bool = True
    dates: bool = True
    marks: bool = False
    logs: bool = False
    hooks: bool = True
    lag: int = 0
    tick: int = MILLISECOND
    keeps_id: bool = True
    one_email: bool = True
    remembers: bool = False


@dataclass
class Row:
    """One record at the vendor; `written` is what the hub wrote last, by field."""

    id: str
    fields: dict[str, Any] = field(default_factory=dict)
    version: int = 0
    at: int = 0
    stored_at: int = 0
    deleted: bool = False
    written: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Own:
    """A change that the vendor or its users made; `genuine` ones by people."""

    system: str
    id: str
    field: str
    value: Value
    version: int
    at: int
    genuine: bool


@dataclass
class Vendor:
    """One system. `faults` are taken one by one by the calls that write; `between` runs before a call is answered."""

    system: str
    clock: Clock
    traits: Traits = field(default_factory=Traits)
    rows: dict[str, Row] = field(default_factory=dict)
    log: list[Change] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    owns: list[Own] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    stored: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    between: Callable[[], Awaitable[None]] | None = None
    answering: asyncio.Lock = field(default_factory=asyncio.Lock)
    watch: Callable[[Write], None] | None = None
    automations: list[tuple[str, str]] = field(default_factory=list)
    created: dict[str, tuple[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.manifest = Manifest(self.system, self.system, (), limits=Limits(batch=50))

    # What people and automations do there.

    def edit(self, id_: str, genuine: bool = True, **fields: Any) -> None:
        """Somebody edits a record, or creates it."""
        row = self.rows.setdefault(id_, Row(id_))
        row.fields |= fields
        row.deleted = False
        self._stamp(row)
        for name, value in fields.items():
            self.owns.append(Own(self.system, id_, name, value, row.version, row.at, genuine))

    def delete(self, id_: str) -> None:
        """Somebody deletes a record."""
        if id_ in self.rows and not self.rows[id_].deleted:
            self.rows[id_].deleted = True
            self._stamp(self.rows[id_])

    def automate(self) -> None:
        """Automations come round to what was written."""
        due, self.automations = self.automations, []
        for id_, name in due:
            row = self.rows[id_]
            if self.traits.later and not row.deleted:
                made = self.traits.later(name, row.fields.get(name), sum(self.stored.values()))
                if made != row.fields.get(name):
                    self.edit(id_, genuine=False, **{name: made})

    # What the hub sees of it.

    def read(self, since: int | None) -> tuple[list[Change], int]:
        """The changes since a checkpoint, and the next checkpoint; since None everything."""
        if self.traits.logs:
            return self.log[since or 0 :], len(self.log)
        seen = [r for r in self.rows.values() if self.clock.now - r.stored_at >= self.traits.lag]
        news = [r for r in seen if since is None or r.stored_at >= since - self.traits.lag]
        return [self.report(r) for r in sorted(news, key=lambda r: (r.version, r.id))], self.clock.now

    def report(self, row: Row, channel: str = "poll", intent: str | None = None) -> Change:
        """A record as it is now."""
        op = "delete" if row.deleted else "upsert"
        content = {} if row.deleted else dict(row.fields)
        version = row.version
        return Change(
            self.system, OBJECT, row.id, content, op, version, exact=self.traits.logs, at=row.at, channel=channel,
            intent=intent,
        )  # fmt: skip

    def put(self, writes: Sequence[Write]) -> list[Receipt]:
        """One call that writes. Raises Retry or Crash, before or after the writes were made, as the next fault says."""
        self.calls += 1
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "crash before":
            raise Crash
        if fault in ("429", "500", "no answer"):
            raise Retry(fault, 1.0 if fault == "429" else None)
        by_key = {write.key: self._one(write) for write in sorted(writes, key=lambda w: (w.golden_id, w.key))}
        if fault == "crash after":
            raise Crash
        if fault == "answer lost":
            raise Retry(fault)
        return [by_key[write.key] for write in writes]

    def _one(self, write: Write) -> Receipt:
        if self.watch:
            self.watch(write)
        if write.op == "create":
            if self.traits.remembers and (made := self._made(write)):
                return made
            there = self.found(write)
            return Deferred("found", 0.5, (self.report(there, "read"),)) if there else self._create(write)
        row = self.rows.get(str(write.external_id))
        if row is None or row.deleted:
            return Refused("no more", "gone")
        if write.op == "delete":
            row.deleted = True
            return self._store(row, write, {})
        if edited(write, row.fields):
            return Deferred("edited meanwhile", 0.5, (self.report(row, "read"),))
        return self._store(row, write, write.natives)

    def found(self, write: Write) -> Row | None:
        """The record that a create would double."""
        mail = write.natives.get("email")
        for row in self.rows.values():
            mine = self.traits.keeps_id and row.fields.get("hub_id") == write.golden_id
            taken = mail and row.fields.get("email") and same(row.fields["email"], mail)
            if not row.deleted and (mine or taken):
                return row
        return None

    def _made(self, write: Write) -> Receipt | None:
        """The answer to a create that has made a record already, of which it may say something else now."""
        id_, version = self.created.get(write.key, ("", 0))
        row = self.rows.get(id_)
        if row is None or row.deleted:
            return None
        if all(row.fields.get(name) == value for name, value in write.natives.items()):
            return Applied(id_, {}, version)
        return Deferred("made otherwise", 0.5, (self.report(row, "read"),), id_)

    def _create(self, write: Write) -> Receipt:
        self.stored["creates"] += 1
        count = sum(id_.startswith(f"{self.system}-{write.golden_id}") for id_ in self.rows)
        row = Row(f"{self.system}-{write.golden_id}" + (f"-{count}" if count else ""))
        if self.traits.keeps_id:
            row.fields["hub_id"] = write.golden_id
        self.rows[row.id] = row
        receipt = self._store(row, write, write.natives)
        self.created[write.key] = (row.id, row.version)
        return receipt

    def _store(self, row: Row, write: Write, natives: Any) -> Receipt:
        number = sum(self.stored.values())
        made = {name: self.traits.rewrite(name, value, number) for name, value in natives.items()}
        row.written |= write.values
        if write.op != "update" or any(row.fields.get(name) != value for name, value in made.items()):
            self.stored[write.op + "s"] += write.op != "create"
            self.changed[row.id] += 1
            row.fields |= made
            self._stamp(row, write.key if self.traits.marks else None)
            self.automations += [(row.id, name) for name in natives if self.traits.later]
        held = {name: row.fields[name] for name in natives} if self.traits.tells else {}
        return Applied(row.id, held, row.version if self.traits.dates else 0)

    def _stamp(self, row: Row, intent: str | None = None) -> None:
        row.at = self.clock.now // self.traits.tick * self.traits.tick
        row.version = row.version + 1 if self.traits.logs else max(row.at, row.version)
        row.stored_at = self.clock.now
        if self.traits.logs:
            self.log.append(self.report(row, "log", intent))
        elif self.traits.hooks:
            self.notices.append(row.id)

    @property
    def writes(self) -> int:
        """How many writes changed something here."""
        return sum(self.stored.values())

    # The connector protocol.

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def check(self) -> list[Finding]:
        """Nothing to prove."""
        return []

    def streams(self) -> Sequence[Stream]:
        """One stream."""
        return (Stream(OBJECT, (OBJECT,)),)

    async def poll(self, stream: str, checkpoint: Checkpoint | None) -> AsyncGenerator[Page, None]:
        """One page."""
        changes, onward = self.read(checkpoint["since"] if checkpoint else None)
        yield Page(changes, {"since": onward})

    async def receive(self, request: Request) -> list[Notice]:
        """Webhooks are handed over without HTTP."""
        return []

    async def fetch(self, notices: Sequence[Notice]) -> list[Change]:
        """The records as they are now."""
        return list(self.fetched([notice.external_id for notice in notices]))

    def fetched(self, ids: Sequence[str]) -> Iterator[Change]:
        """The records as they are now, each once."""
        for id_ in dict.fromkeys(ids):
            yield self.report(self.rows[id_], "webhook")

    async def deliver(self, writes: Sequence[Write]) -> list[Receipt]:
        """See `put`; then whatever happens before the answer arrives, if one does."""
        try:
            return self.put(writes)
        except Crash:
            self.between = None
            raise
        finally:
            await asyncio.sleep(0)  # the calls beside this one are made at the same time, and answered at the same time
            async with self.answering:
                await self.meanwhile()

    async def meanwhile(self) -> None:
        """What happens between a write and its answer; once."""
        between, self.between = self.between, None
        if between:
            await between()


def wires(mappings: dict[tuple[str, str], ObjectMap], clock: Clock, traits: dict[str, Traits]) -> dict[str, Vendor]:
    """A vendor for each system of these mappings."""
    return {system: Vendor(system, clock, traits.get(system, Traits())) for system, _ in mappings}
