"""P7 where the configuration changes: after each deployment, and what happens since, a replay under the configuration in
effect gives the bytes of live."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import pytest

from hub.identity import IdentityEvent
from streams import applying
from streams.context import Context
from streams.records import NewRecord
from tests.changes.support import BASE, VARIANTS, Deployed
from tests.promises.mutations import broken, mutation
from tests.stages.conftest import hub
from tests.stages.histories import live
from tests.stages.support import Stages, assert_balanced, empty

__all__ = ["hub"]

LONG = os.environ.get("HUB_LONG") == "1"
LENGTH = 40


async def check_replay_after_apply(hub: Stages, seed: int, names: Sequence[str]) -> int:
    """Live through deployments of these variants, each amid a history: the same hashes as the rebuild."""
    hub.context.model = BASE
    one = await empty(hub)
    deployed = Deployed(one)
    await deployed.adopt()
    await live(one, seed, LENGTH)
    for place, name in enumerate(names):
        await deployed.apply(VARIANTS.get(name, BASE))
        found = await one.replay()
        assert not found.differences, f"seed {seed}, {names[: place + 1]}: {found.differences[:3]}"
        await live(one, seed + 1_000 * (place + 1), LENGTH // 4)
        found = await one.replay()
        assert found.hashes == found.live, f"seed {seed}, after {names[: place + 1]}: {found.differences[:3]}"
        assert_balanced(await one.ledger())
    return len(names)


@pytest.mark.parametrize("name", VARIANTS)
async def test_a_replay_equals_live_after_each_kind_of_change_and_back(
    hub: Stages, name: str, seeds: Callable[[int], Sequence[int]]
) -> None:
    for seed in seeds(20 if LONG else 1):
        await check_replay_after_apply(hub, seed, [name, "base"])


async def test_a_replay_equals_live_through_a_row_of_changes(
    hub: Stages, seeds: Callable[[int], Sequence[int]], figures: Callable[..., None]
) -> None:
    applied = 0
    for seed in seeds(100 if LONG else 2):
        applied += await check_replay_after_apply(hub, seed, Random(seed).choices([*VARIANTS, "base"], k=4))
    figures("P7", deployments=applied)


def silent(*_: object) -> list[object]:
    """Decisions that are taken and not told."""
    return []


async def test_the_check_fails_without_decisions_on_the_log(hub: Stages) -> None:
    with mutation(applying, "_unsaid", silent), broken("what events do not claim is not told"):
        for seed in range(20):
            await check_replay_after_apply(hub, seed, ["swapped"])


async def test_the_check_fails_without_moves_on_the_log(hub: Stages) -> None:
    whole = applying._identity

    def merges_only(context: Context, decision: IdentityEvent, number: int) -> NewRecord:
        return whole(context, replace(decision, kind="link") if decision.kind == "move" else decision, number)

    with mutation(applying, "_identity", merges_only), broken("records are set apart and nobody is told"):
        for seed in range(20):
            await check_replay_after_apply(hub, seed, ["matched otherwise"])


async def test_the_check_fails_where_values_keep_the_rule_version_that_chose_them_before(hub: Stages) -> None:
    with mutation(applying, "save_golden", nothing), broken("golden records are not stored"):
        await check_replay_after_apply(hub, 1, ["rules"])


async def nothing(*_: object) -> None:
    """Nothing is stored."""
