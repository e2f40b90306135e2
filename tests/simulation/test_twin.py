"""The twin does what the real stages do: the same schedule through both ends in the same state, step by step."""

from collections.abc import Callable, Sequence
from typing import Any

import asyncpg

from hub.projection import GoldenField
from tests.simulation.real import open_real, renewed, virtual
from tests.simulation.rings import MODELS, drawn, in_memory
from tests.simulation.vendor import Vendor
from tests.simulation.world import World, schedule

STEPS = 25


def told(state: dict[str, Any], vendors: dict[str, Vendor]) -> dict[str, Any]:
    """A state and what the vendors hold, in a form that both hubs share."""
    goldens = {
        g: (version, None if into else {n: fields[n] if isinstance(fields[n], GoldenField) else GoldenField(*fields[n])
                                        for n in fields}, deleted, into)
        for g, (version, fields, deleted, into) in state["golden"].items()
    }  # fmt: skip
    return {**state, "golden": goldens, "vendors": {s: (v.rows, v.stored) for s, v in vendors.items()}}


def differences(real: dict[str, Any], twin: dict[str, Any]) -> list[str]:
    """What is not the same, in words."""
    return [f"{part}:\n  real {real[part]}\n  twin {twin[part]}" for part in real if real[part] != twin[part]]


async def test_the_twin_does_what_the_stages_do(pool: asyncpg.Pool, seeds: Callable[[int], Sequence[int]]) -> None:
    base = await open_real(pool, MODELS[6, "latest"])
    for seed in seeds(10):
        base.context.model, vendors, clock = drawn(seed)
        twin = in_memory(seed)
        with virtual(clock):
            real = World(vendors, await renewed(base, vendors), clock)
            for world in (real, twin):
                await world.begin()
            for number, step in enumerate(schedule(seed, STEPS)):
                await real.step(step)
                await twin.step(step)
                here = told(await real.hub.state(), real.vendors)
                there = told(await twin.hub.state(), twin.vendors)
                assert not differences(here, there), f"seed {seed}, step {number} {step}: {differences(here, there)[0]}"
