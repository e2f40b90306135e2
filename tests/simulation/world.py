"""A world of several vendors and one hub, and the schedule of what happens in it. Everything follows from the seed.

A schedule is a list of steps, each with its own seed; so leaving one out changes nothing about the others, and a
failing schedule can be shortened.
"""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from hub.entity import Entity, Field
from hub.mapping import FieldMap, ObjectMap
from hub.model import Model
from hub.rules import Rule
from tests.simulation.vendor import MILLISECOND, OBJECT, SECOND, Clock, Crash, Traits, Vendor

FAULTS = ("429", "500", "no answer", "answer lost", "crash before", "crash after")
MOST_ROUNDS = 60


class Hub(Protocol):
    """What the schedule moves: the real stages, or their twin."""

    async def capture(self, system: str, full: bool = False, lose: bool = False) -> None: ...
    async def notified(self, system: str, ids: Sequence[str]) -> None: ...
    async def project(self, random: Random | None = None) -> None: ...
    async def plan(self, random: Random | None = None) -> None: ...
    async def deliver(self, target: str, between: Any = None) -> None: ...
    async def redeliver(self, random: Random) -> None: ...
    async def state(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Step:
    """One thing that happens; `seed` draws its particulars."""

    action: str
    seed: int

    def __str__(self) -> str:
        return f"{self.action}({self.seed})"


def mapping(system: str, entity: Entity, **more: Any) -> ObjectMap:
    """The one object of one system."""
    fields = tuple(FieldMap(name, (name,), unique=name == "email") for name in entity.fields)
    return ObjectMap(system, OBJECT, entity, (*fields, FieldMap("hub_id", ("hub_id",), identifies="golden")), **more)


def ring(count: int, rule: Rule | None = None) -> Model:
    """So many systems that all hold the same people; the newest word counts, where no other rule is given."""
    systems = tuple(f"s{number}" for number in range(count))
    rules = {"email": ("email", Rule("truth", systems)), "name": ("text", rule), "phone": ("phone", rule)}
    fields = {name: Field(name, kind, own or Rule("latest")) for name, (kind, own) in rules.items()}
    entity = Entity("contact", fields, match=("email",), version="1")
    return Model({"contact": entity}, {(s, OBJECT): mapping(s, entity) for s in systems}, "1")


@dataclass
class World:
    """Vendors and a hub; `number` makes every edit's content new."""

    vendors: dict[str, Vendor]
    hub: Hub
    clock: Clock
    number: int = 0
    lost: int = 0
    captured: dict[tuple[str, str, str, Any], int] = field(default_factory=dict)

    async def begin(self, people: int = 1) -> None:
        """Each person is in the first system and in the last; the hub has read everything once."""
        systems = list(self.vendors)
        for person in range(people):
            for system in {systems[0], systems[-1]}:
                self.vendors[system].edit(f"{person}", email=f"p{person}@example.com", name=f"Person {person}")
                self.clock.pass_(SECOND)
        await self.rest()

    async def run(self, steps: Sequence[Step]) -> None:
        """The schedule."""
        for step in steps:
            await self.step(step)

    async def step(self, step: Step) -> None:
        """One step."""
        random = Random(step.seed)
        self.clock.pass_(random.choice((MILLISECOND, 7 * MILLISECOND, SECOND, 20 * SECOND)))
        await ACTIONS[step.action](self, random)

    async def rest(self) -> int:
        """Go on without faults until nothing happens any more; how many rounds it took. AssertionError if it never ends."""
        for vendor in self.vendors.values():
            vendor.faults.clear()
        quiet = 0
        for rounds in range(MOST_ROUNDS):
            before = (await self.hub.state(), self.writes)
            await self._round()
            quiet = quiet + 1 if before == (await self.hub.state(), self.writes) else 0
            if quiet == 2:
                return rounds
        raise AssertionError(f"still busy after {MOST_ROUNDS} rounds and {self.writes} writes")

    async def _round(self) -> None:
        for system, vendor in self.vendors.items():
            vendor.automate()
            self.clock.pass_(max(SECOND, vendor.traits.lag))
            await self._notify(vendor, len(vendor.notices))
            await self.hub.capture(system)
        await self.hub.project()
        await self.hub.plan()
        for system in self.vendors:
            self.clock.pass_(SECOND)
            await self.hub.deliver(system)

    @property
    def writes(self) -> int:
        """How many writes changed something, anywhere."""
        return sum(vendor.writes for vendor in self.vendors.values())

    # What may happen.

    async def edit(self, random: Random) -> None:
        """Somebody edits somebody's name or phone number."""
        vendor = self._vendor(random)
        rows = [row for row in vendor.rows.values() if not row.deleted]
        if rows:
            self._edit(random, vendor, random.choice(rows).id)

    async def arrive(self, random: Random) -> None:
        """Somebody new is entered in a system."""
        self.number += 1
        mail = f"n{self.number}@example.com"
        self._vendor(random).edit(f"n{self.number}", email=mail, name=f"New {self.number}")

    def _edit(self, random: Random, vendor: Vendor, id_: str) -> None:
        number = random.randrange(10**6) * 1000 + self.number
        self.number += 1
        name, phone = random.choice(("Name {}", " name {}", "NAME {}")).format(number), f"+1415{number % 10**7:07d}"
        fields = random.choice(({"name": name}, {"phone": phone}, {"name": name, "phone": phone}))
        vendor.edit(id_, **fields)

    async def poll(self, random: Random) -> None:
        """A system is polled; now and then from the beginning, or its checkpoint is lost."""
        system = self._vendor(random).system
        await self.hub.capture(system, full=random.random() < 0.1, lose=random.random() < 0.15)

    async def hooks(self, random: Random) -> None:
        """Some webhooks arrive: late, in disorder, twice, or not at all."""
        vendor = self._vendor(random)
        random.shuffle(vendor.notices)
        if vendor.notices and random.random() < 0.2:
            vendor.notices.append(vendor.notices[0])
        if vendor.notices and random.random() < 0.2:
            vendor.notices.pop()
            self.lost += 1
        await self._notify(vendor, random.randint(0, len(vendor.notices)))

    async def _notify(self, vendor: Vendor, count: int) -> None:
        ids, vendor.notices = vendor.notices[:count], vendor.notices[count:]
        if ids:
            await self.hub.notified(vendor.system, ids)

    async def automations(self, random: Random) -> None:
        """A system's automations run."""
        self._vendor(random).automate()

    async def project(self, random: Random) -> None:
        """Changes are projected, in portions."""
        await self.hub.project(random)

    async def plan(self, random: Random) -> None:
        """Golden records are planned, in portions."""
        await self.hub.plan(random)

    async def redeliver(self, random: Random) -> None:
        """The log delivers again."""
        await self.hub.redeliver(random)

    async def deliver(self, random: Random) -> None:
        """A target is written to. A call may fail, before or after it took effect; much may happen before its answer."""
        vendor = self._vendor(random)
        vendor.faults = [random.choice(FAULTS)] if random.random() < 0.35 else []
        nested = [Step(random.choice(MEANWHILE), random.randrange(2**30)) for _ in range(random.randint(0, 4))]

        async def between() -> None:
            for step in nested:
                await self.step(step)

        try:
            await self.hub.deliver(vendor.system, between if nested else None)
        except Crash:
            pass
        finally:
            vendor.faults, vendor.between = [], None

    async def quick(self, random: Random) -> None:
        """Everything moves on without faults, and somebody edits within ten milliseconds after our write."""
        await self.hub.project()
        await self.hub.plan()
        vendor = self._vendor(random)

        async def between() -> None:
            self.clock.pass_(random.randint(0, 10 * MILLISECOND))
            rows = [row for row in vendor.rows.values() if not row.deleted]
            if rows:
                self._edit(random, vendor, random.choice(rows).id)

        await self.hub.deliver(vendor.system, between)
        vendor.between = None

    def _vendor(self, random: Random) -> Vendor:
        return self.vendors[random.choice(list(self.vendors))]


ACTIONS: dict[str, Callable[[World, Random], Coroutine[Any, Any, None]]] = {
    name: getattr(World, name)
    for name in ("edit", "arrive", "poll", "hooks", "automations", "project", "plan", "redeliver", "deliver", "quick")
}
WEIGHTS = {"edit": 5, "arrive": 1, "poll": 5, "hooks": 4, "automations": 2, "project": 5, "plan": 4, "redeliver": 1,
           "deliver": 6, "quick": 2}  # fmt: skip
MEANWHILE = ("edit", "poll", "hooks", "project", "plan")


def schedule(seed: int, length: int) -> list[Step]:
    """The steps of a seed."""
    random = Random(seed)
    names = random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=length)
    return [Step(name, random.randrange(2**30)) for name in names]


def at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """Run work that never waits for anything: that of a world in memory."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("a world in memory waits for nothing")


def shortened(steps: Sequence[Step], fails: Callable[[Sequence[Step]], bool]) -> list[Step]:
    """A shorter schedule that fails too, from which no further step can be left out."""
    kept, size = list(steps), len(steps) // 2
    while size:
        start = 0
        while start < len(kept):
            without = kept[:start] + kept[start + size :]
            if fails(without):
                kept = without
            else:
                start += size
        size = size // 2
    return kept


__all__ = ["SECOND", "Step", "Traits", "World"]
