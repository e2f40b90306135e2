"""The configuration that was in force: what a record was at an instant is what live had then, whatever was deployed since."""

import os
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest

from hub.edge import reasons
from hub.model import Model
from streams import in_force, past
from streams.past import Step, Then
from tests.changes.support import BASE, VARIANTS, Deployed
from tests.past.snapshots import Instant, assert_as_live, instants, watch
from tests.past.test_reasons import assert_proven
from tests.promises.mutations import broken, mutation
from tests.stages.conftest import hub
from tests.stages.histories import live
from tests.stages.support import Stages, empty

__all__ = ["hub"]

LONG = os.environ.get("HUB_LONG") == "1"
LENGTH = 15
DEPLOYMENTS = 5
PAIRS = 60


async def changing(hub: Stages, seed: int, names: Sequence[str] = tuple(VARIANTS)) -> Deployed:
    """A random history in which configurations are deployed and taken back, each drawn of these."""
    return await go_on(Deployed(await watch(await empty(hub))), seed, names)


async def go_on(deployed: Deployed, seed: int, names: Sequence[str], times: int = DEPLOYMENTS) -> Deployed:
    """The same on a hub that is empty and watched."""
    random, context = Random(seed), deployed.hub.context
    context.model, context.configuration = BASE, ""
    context.models.clear()
    await deployed.adopt()
    await live(deployed.hub, seed, LENGTH)
    for n in range(times):
        name = random.choice(names)
        await deployed.apply(BASE if random.random() < 0.3 else VARIANTS[name])
        await live(deployed.hub, seed * 100 + n, LENGTH)
    return deployed


async def check_any_instant(hub: Stages, seed: int, names: Sequence[str] = tuple(VARIANTS)) -> int:
    """Random pairs of golden record and instant over such a history, each as live had it."""
    one = (await changing(hub, seed, names)).hub
    return await assert_as_live(one, await instants(one, Random(seed), PAIRS), seed)


async def test_any_golden_record_at_any_instant_is_as_live_had_it(
    hub: Stages, seeds: Callable[[int], Sequence[int]], figures: Callable[..., None]
) -> None:
    chosen = seeds(100 if LONG else 2)
    there = [await check_any_instant(hub, seed) for seed in chosen]
    assert sum(there) > PAIRS / 5 * len(chosen), "hardly any of the golden records was there at its instant"
    figures("P7", deployments=DEPLOYMENTS * len(chosen), instants_between=PAIRS * len(chosen))


async def test_what_was_part_of_one_thing_and_becomes_part_of_another_is_as_live_had_it(hub: Stages) -> None:
    """A deployment makes a merged golden record part of another one than before, and then it is given a pin."""
    assert await check_any_instant(hub, 21) > PAIRS / 5


@pytest.mark.skipif(not LONG, reason="make soak runs it")
@pytest.mark.parametrize("name", VARIANTS)
async def test_for_each_kind_of_change(hub: Stages, name: str) -> None:
    for seed in range(3):
        await check_any_instant(hub, seed, [name])


ONE_ENTITY = Model(
    {"contact": BASE.entities["contact"]}, {p: m for p, m in BASE.mappings.items() if m.entity.name == "contact"}, ""
)


async def check_an_entity_that_goes_and_comes(hub: Stages) -> None:
    """While a configuration does not know an entity, its golden records stay as they were."""
    hub.context.model = BASE
    deployed = Deployed(await watch(hub))
    await deployed.adopt()
    for number, model in enumerate((None, ONE_ENTITY, BASE)):
        if model is not None:
            await deployed.apply(model)
        if model is not ONE_ENTITY:
            await hub.tell(hub.change("crm", "companies", "7", name=f"Firm {number}", domain="firm.example"))
        await hub.crm("1", email="ann@example.com", city=f"City {number}")
    firm = await hub.golden_of("crm", "companies", "7")
    times = [row["at"] for row in await hub.context.pool.fetch("select distinct at from seen.golden")]
    assert await assert_as_live(hub, [Instant(firm, at + 1) for at in times], 0) == len(times)


async def test_an_entity_that_goes_and_comes_is_as_live_had_it(hub: Stages) -> None:
    await check_an_entity_that_goes_and_comes(hub)


async def check_proofs(hub: Stages, seed: int, names: Sequence[str]) -> int:
    """Values that were chosen under a row of configurations follow from the events that they cite."""
    return await assert_proven((await changing(hub, seed, names)).hub, seed)


async def test_values_are_proven_across_deployments(hub: Stages) -> None:
    assert await check_proofs(hub, 1, ["field gone", "transform", "swapped", "matched more"]) > 10


async def check_a_part_is_decided_as_the_whole(hub: Stages) -> None:
    """A name goes from Ann to Bob and back, in one system, while another says Sue; then all is read anew. Of the events that
    are cited Bob is none; that Ann was said again must stand all the same."""
    hub.context.model = BASE
    deployed = Deployed(hub)
    await deployed.adopt()
    await hub.crm("1", email="ann@example.com", name="Ann", city="Bonn")
    await hub.crm("1", name="Bob")
    await hub.shop("2", email="ann@example.com", name="Sue")
    await hub.crm("1", name="Ann")
    await deployed.apply(VARIANTS["transform"])
    told = await reasons.why(hub.context, "contact", "ann@example.com", "label", proof=True)
    assert told["value"] == "ANN of Bonn"
    assert told["proof"]["holds"], f"recomputed {told['proof']['value']}"


async def test_a_part_is_decided_as_the_whole(hub: Stages) -> None:
    await check_a_part_is_decided_as_the_whole(hub)


async def test_the_check_of_proofs_fails_where_a_part_is_decided_anew(hub: Stages) -> None:
    begin = past.begin
    with mutation(past, "begin", lambda context, thing, fixed=None: begin(context, thing)), broken("decided anew"):
        await check_a_part_is_decided_as_the_whole(hub)


async def none(_: Any) -> list[in_force.InForce]:
    """The present configuration is that of all times."""
    return []


def only_rules(self: Then, number: int, new: Any) -> None:
    """What records claim and hold is not read again."""
    self.model = new


def unmoved(self: Then, step: Step, told: Any) -> None:
    """Records stay where they were linked first."""
    if step.kind != "move":
        take(self, step, told)


take = Then.take


@pytest.mark.parametrize(
    ("owner", "name", "instead"),
    [(in_force, "deployments", none), (Then, "_deploy", only_rules), 
     (in_force, "before", lambda *_: None), (Then, "take", unmoved)],
    ids=["configurations", "rereading", "the first one", "moves"],
)  # fmt: skip
async def test_the_check_fails_without(hub: Stages, owner: Any, name: str, instead: Any) -> None:
    with mutation(owner, name, instead), broken(name):
        for seed in range(1, 7):
            await check_any_instant(hub, seed, ["matched otherwise"] if name == "take" else tuple(VARIANTS))


async def test_the_check_fails_where_what_no_entity_is_known_of_is_forgotten(hub: Stages) -> None:
    golden = Then.golden

    def forgetful(self: Then, golden_id: str) -> Any:
        self.frozen.clear()
        return golden(self, golden_id)

    with mutation(Then, "golden", forgetful), broken("nothing is kept"):
        await check_an_entity_that_goes_and_comes(hub)
