"""Identity on a real database: links by key in either order, merges and their undoing, ids that are never used twice."""

import asyncio
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from hub.change import Change
from hub.projection import dump
from streams.faults import INFRASTRUCTURE
from streams.project import Project
from tests.stages.model import CONTACT, model
from tests.stages.support import Stages, assert_balanced, make, split


async def halves(hub: Stages) -> tuple[str, str]:
    """Two contacts that share nothing yet."""
    await hub.crm("1", email="ann@example.com", name="Ann", city="Bonn", tags="a;b")
    await hub.shop("2", email="otto@example.com", name="Otto", city="Berlin", phone="+4930123456", tags="c")
    return await hub.golden_of("crm", "contacts", "1"), await hub.golden_of("shop", "customers", "2")


async def merge(hub: Stages) -> tuple[str, str]:
    """The two contacts, merged because the shop says so; (the living id, the other)."""
    ids = await halves(hub)
    await hub.shop("2", crm_id="1")
    lives = await hub.golden_of("shop", "customers", "2")
    assert lives == await hub.golden_of("crm", "contacts", "1")
    return lives, next(id_ for id_ in ids if id_ != lives)


async def fields(hub: Stages) -> dict[str, Any]:
    """Every living golden record as stored."""
    return {id_: dump(golden) for id_, golden in (await hub.goldens()).items()}


async def test_unmerge_after_merge_restores_both_sides(hub: Stages) -> None:
    await halves(hub)
    before = await fields(hub)
    await hub.shop("2", crm_id="1")
    assert len(await hub.goldens()) == 1
    await hub.order(await hub.golden_of("crm", "contacts", "1"), "unmerge")
    assert await fields(hub) == before
    assert not (await hub.replay()).differences
    assert_balanced(await hub.ledger())


async def test_what_was_set_apart_stays_apart_and_goes_on_working(hub: Stages) -> None:
    lives, _ = await merge(hub)
    await hub.order(lives, "unmerge")
    for n in range(3):
        await asyncio.wait_for(hub.crm("1", email="same@example.com", name=f"Ann {n}"), 10)
        await asyncio.wait_for(hub.shop("2", email="same@example.com", name=f"Otto {n}"), 10)
    assert await hub.golden_of("crm", "contacts", "1") != await hub.golden_of("shop", "customers", "2")
    assert (await hub.values("crm", "contacts", "1"))["name"] == "Ann 2"
    assert (await hub.values("shop", "customers", "2"))["name"] == "Otto 2"
    assert_balanced(await hub.ledger())


async def test_a_third_record_does_not_bring_together_what_was_set_apart(hub: Stages) -> None:
    lives, other = await merge(hub)
    await hub.order(lives, "unmerge")
    await hub.crm("1", email="ann@example.com")
    await hub.shop("2", email="otto@example.com", crm_id=None)
    await hub.news("3", email="ann@example.com", name="N")
    await asyncio.wait_for(hub.news("3", email="otto@example.com"), 10)
    goldens = {await hub.golden_of("crm", "contacts", "1"), await hub.golden_of("shop", "customers", "2")}
    assert goldens == {lives, other}


async def test_later_merges_do_not_bring_together_what_was_set_apart(hub: Stages) -> None:
    """A and B are apart; C becomes part of B (or B of C); then C and A turn out to share a key."""
    lives, _ = await merge(hub)
    await hub.order(lives, "unmerge")
    await hub.crm("1", email="ann@example.com")
    await hub.shop("2", email="otto@example.com", crm_id=None)
    for n in range(4):  # ids are hashes: of several newcomers some are smaller than the ids set apart, some greater
        await hub.news(f"n{n}", email=f"n{n}@example.com")
        await hub.news(f"n{n}", email="otto@example.com")
    await asyncio.wait_for(hub.news("n0", email="ann@example.com"), 10)
    assert await hub.golden_of("crm", "contacts", "1") != await hub.golden_of("shop", "customers", "2")
    assert not (await hub.replay()).differences


async def test_under_review_nothing_is_merged_and_nothing_stops(pool: asyncpg.Pool) -> None:
    hub = await make(pool, model(replace(CONTACT, merge="review")))
    await halves(hub)
    await asyncio.wait_for(hub.shop("2", email="ann@example.com"), 10)
    await asyncio.wait_for(hub.crm("1", name="Ann again"), 10)
    assert await hub.golden_of("crm", "contacts", "1") != await hub.golden_of("shop", "customers", "2")
    assert (await hub.values("crm", "contacts", "1"))["name"] == "Ann again"
    assert not (await hub.replay()).differences


async def test_a_chain_of_merges_is_undone_as_a_whole(hub: Stages) -> None:
    await halves(hub)
    await hub.news("3", email="third@example.com", name="Third")
    before = await fields(hub)
    await hub.news("3", email="otto@example.com")
    await hub.news("3", email="third@example.com")
    await hub.shop("2", crm_id="1")
    assert len(await hub.goldens()) == 1
    await hub.order(await hub.golden_of("crm", "contacts", "1"), "unmerge")
    after = await fields(hub)
    assert after.keys() == before.keys()
    assert {i: {n: f[0] for n, f in g.items()} for i, g in after.items()} == {
        i: {n: f[0] for n, f in g.items()} for i, g in before.items()
    }
    assert not (await hub.replay()).differences


@pytest.mark.parametrize("crm_first", [True, False])
async def test_a_foreign_id_links_in_either_order(hub: Stages, crm_first: bool) -> None:
    person = hub.change("crm", "contacts", "1", email="ann@example.com", name="Ann")
    customer = hub.change("shop", "customers", "2", crm_id="1", name="A.")
    await hub.tell(*((person, customer) if crm_first else (customer, person)))
    assert await hub.golden_of("crm", "contacts", "1") == await hub.golden_of("shop", "customers", "2")
    assert len(await hub.goldens()) == 1


async def test_a_golden_id_held_by_a_record_links_it(hub: Stages) -> None:
    await hub.crm("1", email="ann@example.com", name="Ann")
    golden_id = await hub.golden_of("crm", "contacts", "1")
    await hub.shop("2", hub_id=golden_id, name="A.")
    await hub.shop("3", hub_id="contact_nobody", name="B.")
    assert await hub.golden_of("shop", "customers", "2") == golden_id
    assert await hub.golden_of("shop", "customers", "3") != golden_id


async def test_an_id_of_a_merged_golden_record_still_names_it(hub: Stages) -> None:
    lives, other = await merge(hub)
    await hub.shop("7", hub_id=other, name="Late")
    assert await hub.golden_of("shop", "customers", "7") == lives


async def test_a_role_mailbox_is_no_key(hub: Stages) -> None:
    await hub.crm("1", email="info@example.com", name="Ann")
    await hub.shop("2", email="info@example.com", name="Otto")
    assert await hub.golden_of("crm", "contacts", "1") != await hub.golden_of("shop", "customers", "2")


async def test_a_merge_at_the_vendor_merges_here(hub: Stages) -> None:
    await hub.shop("1", email="ann@example.com", name="Ann")
    await hub.shop("2", email="otto@example.com", name="Otto")
    at = next(hub.clock)
    await hub.tell(Change("shop", "customers", "1", op="merge", version=at, at=at, merged=("2", "unseen")))
    first = await hub.golden_of("shop", "customers", "1")
    assert await hub.golden_of("shop", "customers", "2") == first
    assert (await hub.values("shop", "customers", "1"))["name"] == "Ann"
    assert {r.id[2]: r.gone for r in await hub.records(first)} == {"1": False, "2": True, "unseen": True}
    assert not (await hub.replay()).differences
    assert_balanced(await hub.ledger())


async def test_golden_ids_are_never_used_again(hub: Stages) -> None:
    """A record whose golden id lives on inside another gets a new one when it is seen as if for the first time."""
    _, other = await merge(hub)
    await hub.context.pool.execute("delete from hub.record where home = $1", other)
    await hub.crm("1", email="new@example.com")
    await hub.shop("2", email="newer@example.com")
    used = {row["golden_id"] for row in await hub.context.pool.fetch("select golden_id from hub.golden")}
    assert other in used
    assert other not in {await hub.golden_of("crm", "contacts", "1"), await hub.golden_of("shop", "customers", "2")}


async def test_two_workers_make_one_thing_of_one_key(hub: Stages) -> None:
    """The same new e-mail in two systems, processed by two workers at the same time."""
    for n in range(10):
        await hub.append(
            hub.change("crm", "contacts", f"c{n}", email=f"x{n}@example.com", name="C"),
            hub.change("shop", "customers", f"s{n}", email=f"x{n}@example.com", name="S"),
        )
    crm = split(await hub.unread("project", ["hub.changes.crm.contacts"]), None)
    shop = split(await hub.unread("project", ["hub.changes.shop.customers"]), None)
    await asyncio.gather(_until_done(hub, crm[0]), _until_done(hub, shop[0]))
    for n in range(10):
        assert await hub.golden_of("crm", "contacts", f"c{n}") == await hub.golden_of("shop", "customers", f"s{n}")
    assert_balanced(await hub.ledger())
    assert not (await hub.replay()).differences


async def _until_done(hub: Stages, batches: list[Any]) -> None:
    while True:
        try:
            await Project(hub.context)(batches)
            return
        except INFRASTRUCTURE:
            await asyncio.sleep(0.01)


async def test_an_old_report_that_comes_late_does_not_bring_a_deleted_record_to_life(hub: Stages) -> None:
    old = hub.change("crm", "contacts", "1", email="ann@example.com", name="Ann")
    await hub.delete("crm", "contacts", "1")
    await hub.tell(old)
    assert (await hub.goldens())[await hub.golden_of("crm", "contacts", "1")].deleted
    await hub.crm("1", name="Ann is back")
    assert not (await hub.goldens())[await hub.golden_of("crm", "contacts", "1")].deleted
    assert not (await hub.replay()).differences
    assert_balanced(await hub.ledger())


async def test_what_two_new_records_of_a_batch_were_is_known_after_a_third_made_them_one(hub: Stages) -> None:
    """Two things are found and merged within one batch, then taken apart."""
    await hub.append(
        hub.change("crm", "contacts", "1", email="ann@example.com", name="Ann"),
        hub.change("crm", "contacts", "2", email="otto@example.com", name="Otto"),
        hub.change("crm", "contacts", "1", email="otto@example.com"),
    )
    await hub.run()
    assert not await hub.parked()
    assert len(await hub.goldens()) == 1
    assert await hub.context.pool.fetchval("select count(*) from hub.position where processed > 2") in (0, 1)
    await hub.order(await hub.golden_of("crm", "contacts", "1"), "unmerge")
    assert (await hub.values("crm", "contacts", "1"))["name"] == "Ann"
    assert (await hub.values("crm", "contacts", "2"))["name"] == "Otto"
    assert not (await hub.replay()).differences


async def test_what_a_merged_golden_record_still_owed_is_settled_with_the_one_it_became(hub: Stages) -> None:
    for n in range(4):
        await hub.shop("2", email="otto@example.com", name=f"Otto {n}")
    await hub.crm("1", email="ann@example.com", name="Ann")
    await hub.shop("2", crm_id="1")
    for target in ("crm", "shop", "news"):
        await hub.deliver(target)
    await hub.run()
    for target in ("crm", "shop", "news"):
        await hub.deliver(target)
    ledger = await hub.ledger()
    assert ledger.pending == 0, ledger.targets
    assert_balanced(ledger)


async def test_a_key_that_a_record_no_longer_holds_names_nobody(hub: Stages) -> None:
    """Keys that stay are left alone, the one given up goes, and whoever brings it next is somebody else."""
    await hub.crm("1", email="ann@example.com", name="Ann")
    await hub.tell(hub.change("shop", "customers", "9", email="ann@example.com", name="Ann"))
    before = await hub.context.pool.fetch("select kind, value, ctid from hub.match_key where kind = 'record'")
    await hub.tell(
        hub.change("crm", "contacts", "1", email="new@example.com", name="Ann"),
        hub.change("shop", "customers", "9", email="new@example.com", name="Ann"),
    )
    keys = await hub.context.pool.fetch("select value from hub.match_key where kind = 'email'")
    assert [row["value"] for row in keys] == ["new@example.com"]
    assert await hub.context.pool.fetch("select kind, value, ctid from hub.match_key where kind = 'record'") == before
    await hub.tell(hub.change("news", "members", "7", email="ann@example.com", name="Other"))
    assert len(await hub.goldens()) == 2
