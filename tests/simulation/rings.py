"""Rings of systems that hold the same people, drawn from a seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from hub.model import Model
from hub.rules import Rule
from tests.simulation.twin import Twin
from tests.simulation.vendor import SECOND, Clock, Rewrite, Traits, Vendor, pads, plain, shouts, wires
from tests.simulation.world import World, ring

BENIGN: tuple[Rewrite, ...] = (plain, shouts, pads)
RINGS = (2, 3, 4, 5, 6)
MODELS = {
    (count, rule): ring(count, Rule(rule, tuple(f"s{number}" for number in range(count))))  # type: ignore[arg-type]
    for count in RINGS
    for rule in ("latest", "truth")
}


@dataclass(frozen=True)
class Kind:
    """A kind of ring: what its vendors may make of a value at once and later, by which rule values are chosen, and whether
    every answer tells its version, as those of all shipped connectors do."""

    rewrites: Sequence[Rewrite] = BENIGN
    later: Sequence[Rewrite | None] = (None,)
    rule: str = "latest"
    dates: bool = True


def traits(random: Random, kind: Kind) -> Traits:
    """How one vendor behaves."""
    chance = random.random
    logs = chance() < 0.4
    return Traits(
        rewrite=random.choice(kind.rewrites), later=random.choice(kind.later), tells=chance() < 0.5,
        dates=kind.dates or chance() < 0.5,
        marks=logs and chance() < 0.6, logs=logs, hooks=chance() < 0.7, lag=random.choice((0, SECOND)),
        tick=random.choice((1, 1_000, SECOND)), keeps_id=chance() < 0.7, remembers=logs,
    )  # fmt: skip


def drawn(seed: int, kind: Kind = Kind()) -> tuple[Model, dict[str, Vendor], Clock]:
    """The systems of a seed."""
    random, model, clock = Random(f"ring {seed}"), MODELS[RINGS[seed % len(RINGS)], kind.rule], Clock()
    each = {system: traits(random, kind) for system, _ in model.mappings}
    return model, wires(dict(model.mappings), clock, each), clock


def in_memory(seed: int, kind: Kind = Kind()) -> World:
    """A world on the twin."""
    model, vendors, clock = drawn(seed, kind)
    return World(vendors, Twin(model, vendors, clock), clock)
