"""One field of one record in one system, the hub that writes it, and everything that may come in between."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hub.change import Change
from hub.decide import Decision, decide
from hub.event import record
from hub.values import Value
from hub.view import Held, acknowledged, settled
from hub.write import Intent

NOW = 1_700_000_000_000_000
NAME = "name"


@dataclass
class World:
    """The vendor stores what it is given through `rewrite`. It may tell what it stored (`tells`), its clock (`dates`),
    and mark the changes that our writes caused (`marks`). `obeys`: the hub believes what the system says."""

    rewrite: Callable[[str], str]
    tells: bool = True
    dates: bool = True
    marks: bool = False
    obeys: bool = False
    golden: str = "Golden"
    stored: str | None = None
    clock: int = 1
    view: dict[str, Held] = field(default_factory=dict)
    intents: list[Intent] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    answer: tuple[str, str | None, int] | None = None
    writes: int = 0
    said: list[Value] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    def edit(self, value: str) -> None:
        """Somebody edits the field in the system."""
        self._store(value, None)

    def touch(self) -> None:
        """Somebody edits something else; the field is reported along."""
        if self.stored is not None:
            self._store(self.stored, None)

    def write(self) -> bool:
        """Write the golden value, unless nothing differs, an answer is outstanding, or an edit must be captured first."""
        held = self.view.get(NAME)
        unseen = (held.value if held else None) != self.stored
        if self.answer or settled(held, self.golden) or unseen:
            return False
        self.intents = [Intent(f"k{self.writes}", "s", "o", "g", "1", {NAME: self.golden})]
        self._store(self.rewrite(self.golden), self.intents[0].key if self.marks else None)
        self.answer = (self.golden, self.stored if self.tells else None, self.clock if self.dates else 0)
        self.writes += 1
        return True

    def acknowledge(self) -> None:
        """The answer to our write is recorded."""
        if self.answer:
            written, stored, order = self.answer
            self.view = acknowledged(self.view, {NAME: written}, {} if stored is None else {NAME: stored}, order)
            self.intents = [] if self.tells else self.intents
            self.answer = None

    def read(self) -> None:
        """The next change that the system has to report is decided."""
        if self.changes:
            self.decide(self.changes.pop(0))

    def decide(self, change: Change) -> None:
        """Hold a change against what is known."""
        event = record(change, NOW)
        decision = decide(event, dict(event.fields()), self.view, self.intents)
        self.decisions.append(decision)
        self.view = decision.view
        self.intents = [i for i in self.intents if i.key not in decision.intents]
        if NAME in decision.said:
            self.said.append(decision.said[NAME])
            self.golden = decision.said[NAME] if self.obeys else self.golden

    def settle(self, most: int = 30, echo_first: bool = False) -> None:
        """Go on until nothing happens any more; the answer to a write is recorded before or after its echo is read."""
        for _ in range(most):
            if not echo_first:
                self.acknowledge()
            while self.changes:
                self.read()
            self.acknowledge()
            if not self.write():
                return
        raise AssertionError(f"still writing after {self.writes} writes")

    def _store(self, value: str, intent: str | None) -> None:
        self.clock += 1
        self.stored = value
        self.changes.append(Change("s", "o", "1", {NAME: value}, version=self.clock, intent=intent))

    def repeat(self) -> None:
        """The next report comes twice; the second time with another version, as from another channel."""
        if self.changes:
            self.changes.insert(0, replace(self.changes[0], channel="webhook"))
