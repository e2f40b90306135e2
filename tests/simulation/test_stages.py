"""The real stages on a real PostgreSQL, stepped by the schedule: they end as the twin ends, and the ledger balances."""

from collections.abc import Callable, Sequence

import asyncpg

from tests.simulation.playing import Played, check_all_agree, check_no_edit_is_suppressed, check_nothing_is_doubled
from tests.simulation.real import open_real, renewed, virtual
from tests.simulation.rings import MODELS, drawn, in_memory
from tests.simulation.test_twin import differences, told
from tests.simulation.world import World, schedule
from tests.stages.support import assert_balanced


async def test_the_stages_come_to_rest_as_the_twin_does(
    pool: asyncpg.Pool, seeds: Callable[[int], Sequence[int]]
) -> None:
    base = await open_real(pool, MODELS[6, "latest"])
    for seed in seeds(25):
        base.context.model, vendors, clock = drawn(seed)
        twin = in_memory(seed)
        with virtual(clock):
            real = World(vendors, await renewed(base, vendors), clock)
            for world in (real, twin):
                await world.begin()
                await world.run(schedule(seed, 40))
                await world.rest()
            here, there = await real.hub.state(), await twin.hub.state()
            found = differences(told(here, real.vendors), told(there, twin.vendors))
            assert not found, f"seed {seed}: {found[0]}"
            assert_balanced(await real.hub.stages.ledger())  # type: ignore[attr-defined]
        for check in (check_no_edit_is_suppressed, check_nothing_is_doubled, check_all_agree):
            check(Played(twin))
