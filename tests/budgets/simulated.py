"""Processes that call one account, simulated in virtual time: they wait, are slow, lose calls, fall silent and die."""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from connectors.kit import turns
from connectors.kit.allowance import START_SECONDS, Ask, Limit, Priority, State


@dataclass
class Simulation:
    """One account, its state, and the vendor that counts what arrives. Answers take up to `slowest` seconds; some calls
    set out up to `dawdle` seconds after they were granted."""

    limit: Limit
    seed: int
    slowest: float = 2.0
    dawdle: float = START_SECONDS
    arrived: list[float] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    served: dict[str, int] = field(default_factory=dict)
    longest_wait: float = 0.0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.state, self.now = State(), 1_000_000.0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Do something at a time."""
        self._number += 1
        heapq.heappush(self._agenda, (when, self._number, act))

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        end = self.now + seconds
        while self._agenda and self._agenda[0][0] <= end:
            self.now, _, act = heapq.heappop(self._agenda)
            act()
        self.now = end

    def fullest(self) -> int:
        """The most calls that the vendor counted in any window."""
        times, most, start = sorted(self.arrived), 0, 0
        for end, at in enumerate(times):
            while times[start] <= at - self.limit.per_seconds:
                start += 1
            most = max(most, end - start + 1)
        return most


class Process:
    """Takes turns as connectors.kit.budget does: soon while callers wait, seldom otherwise."""

    def __init__(self, world: Simulation, name: str, priority: Priority, callers: int) -> None:
        self.world, self.name, self.priority = world, name, priority
        self.waiting = [world.now] * callers
        self.busy, self.settled, self.dead = 0, list[float](), False
        world.served[name] = 0
        world.at(world.now + world.random.random(), self.turn)

    def turn(self) -> None:
        """Ask, and let callers begin at once or a little later."""
        if self.dead:
            return
        world, now = self.world, self.world.now
        wants = [0] * len(Priority)
        wants[self.priority] = len(self.waiting)
        ages = [now - answered for answered in self.settled]
        grant = turns.turn(world.state, world.limit, Ask(self.name, self.busy, ages, wants, ahead=3), now)
        self.settled = []
        for _ in range(min(grant.permits, len(self.waiting))):
            world.longest_wait = max(world.longest_wait, now - self.waiting.pop(0))
            world.at(now + world.random.choice((0.0, 0.0, world.dawdle)) * world.random.random(), self.start)
            self.busy += 1
        world.at(now + world.limit.per_seconds * world.random.uniform(0.01, 0.05), self.turn)

    def start(self) -> None:
        """A call sets out, unless its process has died; it arrives even if that dies now."""
        if not self.dead:
            way = self.world.random.random() ** 4 * min(1.0, self.world.slowest)
            self.world.at(self.world.now + way, self.arrive)

    def arrive(self) -> None:
        """The vendor counts it, and answers after a while."""
        world = self.world
        world.arrived.append(world.now)
        world.at_once += 1
        world.most_at_once = max(world.most_at_once, world.at_once)
        world.at(world.now + world.random.random() * world.slowest, self.answer)

    def answer(self) -> None:
        """The caller hears of it, and wants the next."""
        self.world.at_once -= 1
        if not self.dead:
            self.busy -= 1
            self.settled.append(self.world.now)
            self.world.served[self.name] += 1
            self.waiting.append(self.world.now)

    def die(self) -> None:
        """No turn is taken any more, no call sets out."""
        self.dead = True
