"""Rings of systems that hold the same people, drawn from a seed."""

from collections.abc import Sequence
from random import Random

from hub.model import Model
from tests.simulation.twin import Twin
from tests.simulation.vendor import SECOND, Clock, Rewrite, Traits, Vendor, pads, plain, shouts, wires
from tests.simulation.world import World, ring

BENIGN: tuple[Rewrite, ...] = (plain, shouts, pads)
RINGS = (2, 3, 4, 5, 6)
MODELS = {count: ring(count) for count in RINGS}


def traits(random: Random, rewrites: Sequence[Rewrite] = BENIGN, later: Sequence[Rewrite | None] = (None,)) -> Traits:
    """How one vendor behaves."""
    chance = random.random
    logs = chance() < 0.4
    return Traits(
        rewrite=random.choice(rewrites), later=random.choice(later), tells=chance() < 0.5, dates=chance() < 0.7,
        marks=logs and chance() < 0.6, logs=logs, hooks=chance() < 0.7, lag=random.choice((0, SECOND)),
        tick=random.choice((1, 1_000, SECOND)), keeps_id=chance() < 0.7,
    )  # fmt: skip


def drawn(
    seed: int, rewrites: Sequence[Rewrite] = BENIGN, later: Sequence[Rewrite | None] = (None,)
) -> tuple[Model, dict[str, Vendor], Clock]:
    """The systems of a seed."""
    random, model, clock = Random(f"ring {seed}"), MODELS[RINGS[seed % len(RINGS)]], Clock()
    each = {system: traits(random, rewrites, later) for system, _ in model.mappings}
    return model, wires(dict(model.mappings), clock, each), clock


def in_memory(
    seed: int, rewrites: Sequence[Rewrite] = BENIGN, later: Sequence[Rewrite | None] = (None,)
) -> World:
    """A world on the twin."""
    model, vendors, clock = drawn(seed, rewrites, later)
    return World(vendors, Twin(model, vendors, clock), clock)
