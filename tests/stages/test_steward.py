"""What a person decides: pins beat every rule, end by an event, and go where their golden record goes."""

from datetime import UTC, datetime, timedelta

from streams.services import expire_pins
from tests.stages.support import Stages, assert_balanced


async def pinned(hub: Stages) -> str:
    """A contact whose city a person has pinned."""
    await hub.crm("1", email="ann@example.com", name="Ann", city="Bonn", zip="53111")
    golden_id = await hub.golden_of("crm", "contacts", "1")
    await hub.order(golden_id, "pin", field="city", value="Köln")
    return golden_id


async def test_a_pin_beats_every_rule_until_it_is_lifted(hub: Stages) -> None:
    golden_id = await pinned(hub)
    await hub.crm("1", city="Hamburg", zip="20095")
    golden = (await hub.goldens())[golden_id]
    assert golden.values()["city"] == "Köln"
    assert golden.fields["city"].pinned_by == "ann"
    await hub.order(golden_id, "unpin", field="city")
    assert (await hub.goldens())[golden_id].values()["city"] == "Hamburg"
    assert not (await hub.replay()).differences
    assert_balanced(await hub.ledger())


async def test_a_field_that_follows_a_pinned_one_keeps_its_source(hub: Stages) -> None:
    golden_id = await pinned(hub)
    assert (await hub.goldens())[golden_id].values()["zip"] == "53111"


async def test_an_empty_value_can_be_pinned(hub: Stages) -> None:
    golden_id = await pinned(hub)
    await hub.order(golden_id, "pin", field="city", value=None)
    assert (await hub.goldens())[golden_id].values()["city"] is None


async def test_a_pin_survives_a_merge_and_an_unmerge(hub: Stages) -> None:
    await hub.crm("1", email="ann@example.com", city="Bonn")
    await hub.shop("2", email="otto@example.com", city="Berlin")
    one, two = await hub.golden_of("crm", "contacts", "1"), await hub.golden_of("shop", "customers", "2")
    await hub.order(one, "pin", field="city", value="Pin one")
    await hub.order(two, "pin", field="name", value="Pin two")
    await hub.shop("2", crm_id="1")
    values = await hub.values("crm", "contacts", "1")
    assert (values["city"], values["name"]) == ("Pin one", "Pin two")
    assert not (await hub.replay()).differences
    await hub.order(min(one, two), "unmerge")
    goldens = await hub.goldens()
    assert goldens[one].values()["city"] == "Pin one"
    assert goldens[two].values()["name"] == "Pin two"
    assert "name" not in goldens[one].values()
    assert goldens[two].values()["city"] == "Berlin"
    assert not (await hub.replay()).differences


async def test_of_two_pins_that_meet_in_a_merge_the_later_counts(hub: Stages) -> None:
    await hub.crm("1", email="ann@example.com", city="Bonn")
    await hub.shop("2", email="otto@example.com", city="Berlin")
    ids = [await hub.golden_of("crm", "contacts", "1"), await hub.golden_of("shop", "customers", "2")]
    for golden_id in (*ids, *reversed(ids)):  # whichever of the two ids is the greater one
        await hub.order(golden_id, "pin", field="city", value=f"pinned on {golden_id}")
    await hub.shop("2", crm_id="1")
    assert (await hub.values("crm", "contacts", "1"))["city"] == f"pinned on {ids[0]}"
    await hub.order(ids[1], "unpin", field="city")
    assert (await hub.values("crm", "contacts", "1"))["city"] == "Bonn"
    assert not (await hub.replay()).differences


async def test_a_pin_ends_by_an_event_once_and_also_after_a_merge(hub: Stages) -> None:
    await hub.crm("1", email="ann@example.com", city="Bonn")
    await hub.shop("2", email="otto@example.com", city="Berlin")
    ids = [await hub.golden_of("crm", "contacts", "1"), await hub.golden_of("shop", "customers", "2")]
    over = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    for golden_id, field in ((ids[0], "city"), (ids[1], "name")):
        await hub.order(golden_id, "pin", field=field, value="for a while", expires_at=over)
    await hub.shop("2", crm_id="1")
    assert await expire_pins(hub.context) == 2
    await hub.run()
    values = await hub.values("crm", "contacts", "1")
    assert values["city"] == "Bonn"
    assert "name" not in values
    assert await expire_pins(hub.context) == 0
    assert not (await hub.replay()).differences
    assert_balanced(await hub.ledger())


async def test_a_decision_about_nothing_and_a_decision_that_makes_no_sense_stop_nobody(hub: Stages) -> None:
    golden_id = await pinned(hub)
    await hub.order("contact_nobody", "pin", field="city", value="x")
    await hub.order(golden_id, "explode")
    await hub.order(golden_id, "pin")
    await hub.crm("1", name="Ann goes on")
    assert (await hub.values("crm", "contacts", "1"))["name"] == "Ann goes on"
    assert len(await hub.parked()) == 2
    assert_balanced(await hub.ledger())
    assert not (await hub.replay()).differences
