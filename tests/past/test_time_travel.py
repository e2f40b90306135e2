"""Time travel: any golden record and what every system held, at any instant, as live had it."""

import os
from collections.abc import Callable, Sequence
from random import Random

from tests.past.snapshots import assert_as_live, instants, watch
from tests.stages.conftest import hub
from tests.stages.histories import live
from tests.stages.support import Stages, empty

__all__ = ["hub"]

LONG = os.environ.get("HUB_LONG") == "1"
LENGTH = 60


async def check_any_instant(hub: Stages, seed: int, pairs: int) -> int:
    """A random history; then random pairs of golden record and instant, each as live had it."""
    one = await watch(await empty(hub))
    await live(one, seed, LENGTH)
    return await assert_as_live(one, await instants(one, Random(seed), pairs), seed)


async def test_any_golden_record_at_any_instant_is_as_live_had_it(
    hub: Stages, seeds: Callable[[int], Sequence[int]], figures: Callable[..., None]
) -> None:
    chosen = seeds(100 if LONG else 6)
    there = [await check_any_instant(hub, seed, 100) for seed in chosen]
    assert sum(there) > 20 * len(chosen), "hardly any of the golden records was there at its instant"
    figures("P7", histories=len(chosen), instants=100 * len(chosen), there=sum(there))
