"""Reasons: a value recomputed from the events that it cites is the same; without the event that it comes from it is another
event's. And what is told of where it comes from."""

import os
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest

from hub.edge import reasons
from hub.entity import Entity
from tests.promises.mutations import broken, mutation
from tests.stages.conftest import hub
from tests.stages.histories import live
from tests.stages.support import Stages, empty

__all__ = ["hub"]

LONG = os.environ.get("HUB_LONG") == "1"
LENGTH = 40


async def check_proofs(hub: Stages, seed: int) -> int:
    """Every field of every golden record of a random history; how many values were proven."""
    one = await empty(hub)
    await live(one, seed, LENGTH)
    return await assert_proven(one, seed)


async def assert_proven(one: Stages, seed: int) -> int:
    """The same for what there is."""
    proven = 0
    for golden_id, golden in (await one.goldens()).items():
        for name, field in golden.fields.items():
            told = await reasons.why(one.context, golden.entity, golden_id, name, proof=True)
            proof, where = told["proof"], f"seed {seed}: {golden_id}.{name}"
            assert told["value"] == field.value, f"{where} is told to be {told['value']}, and is {field.value}"
            assert proof["value"] == field.value, f"{where} is {field.value}, recomputed {proof['value']}"
            assert proof["holds"], f"{where} has another provenance when it is recomputed"
            for drop in proof["without"]:
                assert drop["event_id"] in proof["cited"], f"{where}: {drop['event_id']} decides, and is not cited"
                by = drop["by"] or {"event_id": ""}
                assert drop["changes"] or by["event_id"] != drop["event_id"] or not field.event_id, f"{where}: {drop}"
            proven += 1
    return proven


async def test_a_value_follows_from_the_events_that_it_cites(
    hub: Stages, seeds: Callable[[int], Sequence[int]], figures: Callable[..., None]
) -> None:
    chosen = seeds(60 if LONG else 2)
    proven = [await check_proofs(hub, seed) for seed in chosen]
    assert sum(proven) > 10 * len(chosen), "hardly any value was there to prove"
    figures("P7", histories=len(chosen), proven=sum(proven))


def own_only(definition: Entity, field: str) -> set[str]:
    """A rule that looks at other fields is not followed there."""
    return {field}


def all_but(
    context: Any,
    thing: Any,
    count: int,
    told: Any,
    only: Collection[str] | None = None,
    without: str = "",
    fixed: Any = None,
) -> Any:
    """What is to be left out is not."""
    return taken(context, thing, count, told, only, fixed=fixed)


taken = reasons.taken


@pytest.mark.parametrize(
    ("name", "instead"), [("needed", own_only), ("taken", all_but)], ids=["dependencies", "dropping"]
)
async def test_the_check_of_proofs_fails_without(hub: Stages, name: str, instead: Any) -> None:
    with mutation(reasons, name, instead), broken(name):
        for seed in range(3):
            await check_proofs(hub, seed)


async def test_what_is_told_of_a_claim_and_of_a_pin(hub: Stages) -> None:
    await hub.crm("1", email="ann@example.com", city="Bonn", phone="+4930123456", updated_by="otto")
    await hub.shop("7", email="ann@example.com", city="Berlin")
    golden_id = await hub.golden_of("crm", "contacts", "1")
    told = await reasons.why(hub.context, "contact", "ann@example.com", "city", proof=True)
    winner, (loser,) = told["winner"], told["losers"]
    assert (winner["channel"], winner["author"]) == ("poll", "otto")
    assert winner["payload"].startswith("hub.changes.crm.contacts/")
    assert winner["transforms"] == [
        {"natives": {"city": "Bonn"}, "codec": None, "options": {}, "type": "text", "value": "Bonn"}
    ]
    assert (loser["author"], loser["reason"]) == (None, "crm before shop before news")
    assert [(d["value"], d["by"]["event_id"]) for d in told["proof"]["without"]] == [("Berlin", loser["event_id"])]
    await hub.order(golden_id, "pin", field="city", value="Köln")
    pinned = await reasons.why(hub.context, "contact", golden_id, "city", proof=True)
    assert (pinned["value"], pinned["pin"]["author"], pinned["pin"]["reason"]) == ("Köln", "ann", "because")
    assert pinned["winner"]["author"] == "ann"
    assert pinned["winner"]["channel"] == "steward"
    assert pinned["proof"]["without"][0]["value"] == "Bonn"
    before = await reasons.why(hub.context, "contact", golden_id, "city", at=winner["event_id"])
    assert (before["value"], before["pin"], before["losers"]) == ("Bonn", None, [])
