"""Conflicts: both sides and the base are kept; a reviewed field is left alone until it is agreed, pinned or kept."""

import pytest

from hub.view import MAX_TURNS
from tests.stages.support import Stages, assert_balanced

NEWEST = {"crm": "gold", "shop": "silver"}


async def together(hub: Stages, first: str = "crm") -> str:
    """One contact in two systems that say different tiers; the golden id."""
    for system in (first, *(s for s in NEWEST if s != first)):
        tell = hub.crm if system == "crm" else hub.shop
        await tell(system, email="ann@example.com", name="Ann", tier=NEWEST[system])
    return await hub.golden_of("crm", "contacts", "crm")


async def sent(hub: Stages, target: str) -> list[str]:
    """The fields that would be written to a target now, and are."""
    return [name for prepared in await hub.deliver(target) for write in prepared.writes for name in write.values]


@pytest.mark.parametrize("first", ["crm", "shop"])
async def test_a_differing_value_is_a_conflict_whoever_came_first(hub: Stages, first: str) -> None:
    await together(hub, first)
    (conflict,) = [c for c in await hub.conflicts() if c["field"] == "tier"]
    assert (conflict["system"], conflict["value"], conflict["golden"]) == ("shop", "silver", "gold")
    assert (conflict["state"], conflict["base"]) == ("open", None)
    assert conflict["winner_event_id"]
    assert "tier" not in await sent(hub, "shop")
    assert_balanced(await hub.ledger())


async def test_a_change_of_the_owner_is_no_conflict(hub: Stages) -> None:
    await hub.crm("crm", email="ann@example.com", name="Ann", tier="gold")
    await hub.shop("shop", email="ann@example.com", name="Ann", tier="gold")
    await hub.crm("crm", tier="silver")
    assert [c for c in await hub.conflicts() if c["field"] == "tier"] == []
    assert "tier" in await sent(hub, "shop")


async def test_the_base_is_what_the_system_held_before(hub: Stages) -> None:
    await hub.crm("crm", email="ann@example.com", city="Bonn")
    await hub.shop("shop", email="ann@example.com", city="Bonn")
    await hub.shop("shop", city="Berlin")
    (conflict,) = await hub.conflicts()
    assert (conflict["base"], conflict["value"], conflict["golden"]) == ("Bonn", "Berlin", "Bonn")
    assert (conflict["field"], conflict["state"]) == ("city", "resolved")
    assert "city" in await sent(hub, "shop")


async def test_values_that_are_the_same_to_a_vendor_are_none(hub: Stages) -> None:
    await hub.crm("crm", email="ann@example.com", city="Bonn", tags="a;b")
    await hub.shop("shop", email="ann@example.com", city=" BONN ", tags="c")
    assert await hub.conflicts() == []


@pytest.mark.parametrize("end", ["agree", "owner agrees", "pin", "keep", "withdraw"])
async def test_an_open_conflict_ends(hub: Stages, end: str) -> None:
    golden_id = await together(hub)
    match end:
        case "agree":
            await hub.shop("shop", tier="Gold")
        case "owner agrees":
            await hub.crm("crm", tier="silver")
        case "pin":
            await hub.order(golden_id, "pin", field="tier", value="platinum")
        case "keep":
            await hub.order(golden_id, "keep", field="tier")
        case "withdraw":
            await hub.delete("shop", "customers", "shop")
    states = {c["state"] for c in await hub.conflicts() if c["field"] == "tier"}
    assert states == {"resolved"}
    written = await sent(hub, "shop")
    assert ("tier" in written) == (end in ("agree", "pin", "keep"))  # "Gold" is the same, and still not "gold"
    assert not (await hub.replay()).differences
    assert_balanced(await hub.ledger())


async def test_a_kept_conflict_is_not_opened_again_by_others(hub: Stages) -> None:
    golden_id = await together(hub)
    await hub.order(golden_id, "keep", field="tier")
    await hub.news("news", email="ann@example.com", name="Ann")
    await hub.shop("shop", name="Anna")
    assert {c["state"] for c in await hub.conflicts() if c["field"] == "tier"} == {"resolved"}
    await hub.shop("shop", tier="bronze")
    assert [c["state"] for c in await hub.conflicts() if c["field"] == "tier"] == ["resolved", "open"]


async def test_under_a_pin_nothing_waits_for_a_person(hub: Stages) -> None:
    golden_id = await together(hub)
    await hub.order(golden_id, "pin", field="tier", value="platinum")
    await hub.shop("shop", tier="bronze")
    assert {c["state"] for c in await hub.conflicts()} <= {"resolved"}
    assert "tier" in await sent(hub, "shop")


async def test_an_open_conflict_goes_along_in_a_merge_and_back(hub: Stages) -> None:
    golden_id = await together(hub)
    await hub.news("news", email="otto@example.com", name="Otto")
    await hub.news("news", email="ann@example.com")
    lives = await hub.golden_of("shop", "customers", "shop")
    assert "tier" not in await sent(hub, "shop")
    assert {c["golden_id"] for c in await hub.conflicts() if c["state"] == "open"} == {lives}
    await hub.order(lives, "unmerge")
    assert {c["golden_id"] for c in await hub.conflicts() if c["state"] == "open"} == {golden_id}
    assert "tier" not in await sent(hub, "shop")


async def answered(hub: Stages) -> int:
    """The shop answers every write of the city with another one, until none is written; how often one was."""
    for number in range(3 * MAX_TURNS):
        await hub.shop("shop", city=f"Bonn {number}")
        if "city" not in await sent(hub, "shop"):
            return number
    raise AssertionError("written for ever")


@pytest.mark.parametrize("word", ["keep", "pin"])
async def test_a_field_that_goes_to_and_fro_waits_for_a_person(hub: Stages, word: str) -> None:
    await hub.crm("crm", email="ann@example.com", city="Bonn")
    await hub.shop("shop", email="ann@example.com", city="Bonn")
    assert await answered(hub) == MAX_TURNS
    (contested,) = [c for c in await hub.conflicts() if c["state"] == "open"]
    assert (contested["rule"], contested["system"], contested["field"]) == ("contested", "shop", "city")
    await hub.shop("shop", name="Ann")
    await hub.crm("crm", city="Berlin")
    assert "city" not in await sent(hub, "shop"), "only a person ends it"
    golden_id = await hub.golden_of("crm", "contacts", "crm")
    await hub.order(golden_id, word, field="city", **({"value": "Ulm"} if word == "pin" else {}))
    assert "city" in await sent(hub, "shop")
    assert await answered(hub) == 0, "once more of the same, and it waits again"
    assert_balanced(await hub.ledger())


async def test_people_who_edit_now_and_then_contest_nothing(hub: Stages) -> None:
    await hub.crm("crm", email="ann@example.com", name="Ann")
    await hub.shop("shop", email="ann@example.com", name="Ann")
    for number in range(2 * MAX_TURNS):
        await hub.crm("crm", name=f"Ann {number}")
        assert "name" in await sent(hub, "shop")
        await hub.context.pool.execute(LONG_AGO)
        await hub.shop("shop", name=f"Anna {number}")
    assert [c for c in await hub.conflicts() if c["rule"] == "contested"] == []


# The time of the last write, by the place that it has among the parts of a field's view.
LONG_AGO = "update hub.record set view = jsonb_set(view::jsonb, '{name, 8}', '0') where system = 'shop'"
