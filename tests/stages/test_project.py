"""Changes become golden records by the rules, and leave one outcome for every target."""

from dataclasses import replace

from hub.change import Change
from hub.receipt import Refused
from streams.ledger import change_topics
from streams.project import Project
from tests.stages.support import Stages, assert_balanced, split


async def test_records_with_one_key_become_one_golden_record(hub: Stages) -> None:
    await hub.append(
        hub.change("crm", "contacts", "1", email="Ann@Example.com", name="Ann", city="Bonn"),
        hub.change("shop", "customers", "9", email="ann@example.com", name="Ann S", city="Berlin"),
        hub.change("news", "members", "m", email="other@example.com", name="Otto"),
    )
    await hub.run()
    assert await hub.golden_of("crm", "contacts", "1") == await hub.golden_of("shop", "customers", "9")
    assert len(await hub.goldens()) == 2
    values = await hub.values("crm", "contacts", "1")
    assert values == {"email": "ann@example.com", "name": "Ann S", "city": "Bonn", "label": "Ann S of Bonn"}
    assert_balanced(await hub.ledger())


async def test_absent_is_unknown_and_null_is_empty(hub: Stages) -> None:
    await hub.crm("1", email="a@example.com", name="Ann", city="Bonn")
    await hub.crm("1", city=None)
    values = await hub.values("crm", "contacts", "1")
    assert values["name"] == "Ann"
    assert values["city"] is None


async def test_a_value_that_its_type_does_not_admit_is_no_claim(hub: Stages) -> None:
    await hub.crm("1", email="a@example.com", name="Ann", phone="not a phone")
    values = await hub.values("crm", "contacts", "1")
    assert "phone" not in values
    (record,) = await hub.records(await hub.golden_of("crm", "contacts", "1"))
    assert record.view["phone"].value == {"invalid": "not a phone"}


async def test_an_unknown_object_is_filtered_and_accounted_for(hub: Stages) -> None:
    await hub.append(hub.change("crm", "contacts", "1", email="a@example.com"))
    (batches,) = split(await hub.unread("project", change_topics(hub.context)), None)
    left = {key: mapping for key, mapping in hub.context.model.mappings.items() if key[0] != "crm"}
    hub.context.model = replace(hub.context.model, mappings=left)
    await Project(hub.context)(batches)
    row = await hub.context.pool.fetchrow("select target, outcome from hub.ledger")
    assert row is not None
    assert tuple(row) == ("-", "filtered")


async def test_deletes_mean_what_the_entity_says(hub: Stages) -> None:
    await hub.crm("1", email="a@example.com", name="Ann")
    await hub.shop("2", email="a@example.com", name="Anna")
    await hub.news("3", email="a@example.com", name="Annie")
    golden_id = await hub.golden_of("crm", "contacts", "1")
    await hub.delete("shop", "customers", "2")
    assert (await hub.goldens())[golden_id].values()["name"] == "Annie"
    await hub.delete("news", "members", "3")
    assert (await hub.goldens())[golden_id].values()["name"] == "Annie"
    assert not (await hub.goldens())[golden_id].deleted
    await hub.delete("crm", "contacts", "1")
    assert (await hub.goldens())[golden_id].deleted
    await hub.crm("1", email="a@example.com", name="Ann again")
    assert not (await hub.goldens())[golden_id].deleted
    assert_balanced(await hub.ledger())


async def test_a_record_that_a_refusal_told_to_be_gone_comes_back_by_its_next_version(hub: Stages) -> None:
    """Nobody tells the version of such a delete, and versions may be of another unit than times."""
    await hub.tell(
        Change("crm", "contacts", "1", {"email": "a@example.com", "name": "Ann"}, version=10, exact=True, at=5),
        Change("shop", "customers", "2", {"email": "a@example.com", "name": "Anna"}, version=10, at=next(hub.clock)),
    )
    await hub.deliver("crm", Refused("no such contact", "gone"))
    await hub.run()
    golden_id = await hub.golden_of("crm", "contacts", "1")
    assert (await hub.goldens())[golden_id].deleted
    await hub.tell(Change("crm", "contacts", "1", {"name": "Back"}, version=11, exact=True, at=next(hub.clock)))
    assert not (await hub.goldens())[golden_id].deleted
    assert_balanced(await hub.ledger())
    assert not (await hub.replay()).differences


async def test_the_same_change_by_two_channels_counts_once(hub: Stages) -> None:
    change = hub.change("crm", "contacts", "1", email="a@example.com", name="Ann")
    await hub.append(change, replace(change, channel="webhook"))
    await hub.run()
    ledger = await hub.ledger()
    assert (ledger.captured, ledger.events, ledger.duplicates) == (2, 1, 1)
    assert_balanced(ledger)


async def test_redelivery_of_any_suffix_changes_nothing(hub: Stages) -> None:
    for n in range(6):
        await hub.append(
            hub.change("crm", "contacts", str(n), email=f"{n % 4}@example.com", name=f"N{n}"),
            hub.change("shop", "customers", str(n), email=f"{n % 3}@example.com", name=f"S{n}", tier=f"T{n}"),
        )
        await hub.run()
    before = await hub.state()
    for start in range(len(hub.handled)):
        for batch in hub.handled[start:]:
            await Project(hub.context)([batch])
    assert await hub.state() == before


async def test_a_created_record_is_linked_even_if_its_end_was_reported_first(hub: Stages) -> None:
    await hub.crm("1", email="a@example.com", name="Ann")
    golden_id = await hub.golden_of("crm", "contacts", "1")
    await hub.delete("shop", "customers", f"shop-{golden_id}")
    await hub.deliver("shop")
    assert await hub.golden_of("shop", "customers", f"shop-{golden_id}") == golden_id
    assert_balanced(await hub.ledger())
