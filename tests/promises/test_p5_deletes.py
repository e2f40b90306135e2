"""P5, deletes are exact: a complete scan deletes exactly what is missing; any other deletes nothing, and says so."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from random import Random
from typing import Any

import asyncpg
import pytest

from connectors.hubspot.scan import Scan as HubSpotScan
from connectors.postgresql import scan as pg_scan
from hub.change import Change
from hub.drift import Drift, Threshold
from hub.edge.embedded import Embedded
from hub.errors import HubError, Reject
from streams import audit, audit_decisions, scanning, settling
from streams.scanning import Scan
from tests.e2e.systems import LONG
from tests.promises.auditing import Bench, bench
from tests.promises.mutations import broken, mutation
from tests.promises.vendors import Sandbox, crm, hubspot, mailchimp, reader

Mutated = AbstractContextManager[None]
NEVER = Threshold(10_000, 1.0)
"""A threshold that no scan reaches."""


@pytest.fixture(params=["hubspot", "mailchimp", "crm"])
async def hub(pool: asyncpg.Pool, postgres: Embedded, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    made: Any = {"hubspot": hubspot, "mailchimp": mailchimp, "crm": lambda: crm(postgres)}[request.param]()
    async with made as vendor, bench(pool, vendor) as hub:
        yield hub


async def check_history(hub: Bench, random: Random, base: int, steps: int = 30) -> int:
    """People create, edit and delete, told and untold; then a scan deletes exactly what is missing. How many that were."""
    others, dead = await hub.living(), await hub.deleted()
    there, untold, number = set(range(base + 1, base + 41)), set(), base + 41
    await hub.vendor.create(sorted(there))
    first = {n: await hub.vendor.id(n) for n in there}
    seen: set[int] = set()  # of who came and went between two syncs some systems tell, and others do not

    async def sync() -> None:
        await hub.sync()
        seen.update(there)

    await sync()
    for _ in range(steps):
        match random.choice(("create", "edit", "edit", "erase", "erase", "remove", "sync")):
            case "create":
                await hub.vendor.create([number])
                there.add(number)
                first[number] = await hub.vendor.id(number)
                number += 1
            case "edit":
                await hub.vendor.edit(random.choice(sorted(there)), f"Name{random.random()}")
            case "erase":
                await sync()  # and who is erased was seen
                untold.add(one := random.choice(sorted(there)))
                there.remove(one)
                await hub.vendor.erase(one)
            case "remove":
                there.remove(one := random.choice(sorted(there)))
                await hub.vendor.remove(one)
            case "sync":
                await sync()
    await sync()
    left = others | {first[n] for n in there}
    assert await hub.living() == left | {first[n] for n in untold}, "the history itself is not what it should be"
    report = await hub.audit(threshold=NEVER)
    assert {d.external_id for d in report.drift} == {first[n] for n in untold}, report
    assert (report.row.state, report.row.deleted) == ("clean", len(untold)), report
    assert await hub.living() == left
    assert {first[n] for n in seen} - left <= await hub.deleted() - dead <= set(first.values()) - left
    again = await hub.audit(threshold=NEVER)
    assert (again.row.state, again.drift) == ("clean", ()), "a second scan finds what the first one has deleted"
    return len(untold)


async def test_a_complete_scan_deletes_exactly_what_is_missing(
    hub: Bench, seeds: Callable[[int], Sequence[int]], figures: Callable[..., None]
) -> None:
    found = [
        await check_history(hub, Random(f"{hub.vendor.system}{seed}"), seed * 1_000)
        for seed in seeds(20 if LONG else 2)
    ]
    figures("P5", system=hub.vendor.system, histories=len(found), untold_deletes=sum(found), deleted=sum(found))


async def none(*_: Any) -> str:
    """A guard that has no doubts."""
    return ""


async def blind(
    context: Any, mapping: Any, scanner: Any, scan: Scan, ids: Sequence[str], found: settling.Findings
) -> None:
    """A second look that does not look: what was not shown is gone."""
    for one in ids:
        if one in scan.absent:
            found.drift.append(Drift(one, "extra"))
            found.changes[one] = Change(mapping.system, mapping.object, one, op="delete", channel="audit")


def uncounted() -> Mutated:
    """Without comparing counts."""
    return mutation(scanning, "miscounted", none)


def trusting() -> Mutated:
    """Without asking for each record by itself."""
    return mutation(settling, "look_again", blind)


def unlimited() -> Mutated:
    """Without a threshold."""
    return mutation(Threshold, "exceeded", lambda *_: False)


@contextmanager
def without(*mechanisms: Callable[[], Mutated]) -> Iterator[None]:
    """Several mechanisms switched off at once."""
    with ExitStack() as stack:
        for mechanism in mechanisms:
            stack.enter_context(mechanism())
        yield


@pytest.fixture(params=["hubspot", "mailchimp"])
async def vendor(pool: asyncpg.Pool, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """A hub on a sandbox with forty records, three of which were erased untold."""
    made: Any = {"hubspot": hubspot, "mailchimp": mailchimp}[request.param]()
    async with made as vendor, bench(pool, vendor) as hub:
        await vendor.create(range(1, 41), old=True)
        await hub.sync()
        for number in (3, 5, 8):
            await vendor.erase(number)
        yield hub


async def check_deletes_nothing_and_alerts(hub: Bench, threshold: Threshold = NEVER) -> None:
    """Nothing is deleted, and an alert says that the scan was not complete."""
    before = await hub.living()
    report = await hub.audit(threshold=threshold)
    assert (await hub.living(), report.row.deleted) == (before, 0), f"deleted {before - await hub.living()}"
    assert report.row.state == "incomplete", f"a scan that showed {report.row.read} of {report.row.known} {report.row}"
    assert (await hub.alerts())[-1] == ("scan_incomplete", "raised"), "nobody was told"


async def check_goes_on_when_healed(hub: Bench) -> None:
    """The next complete scan deletes exactly what is missing, and the alert is over."""
    await sandbox(hub).heal()
    before = await hub.living()
    report = await hub.audit(threshold=NEVER)
    assert (len(before - await hub.living()), report.row.deleted, report.row.state) == (3, 3, "clean"), report.row
    assert (await hub.alerts())[-1] == ("scan_incomplete", "cleared")


def sandbox(hub: Bench) -> Sandbox:
    assert isinstance(hub.vendor, Sandbox)
    return hub.vendor


async def test_a_spoiled_scan_deletes_nothing(vendor: Bench) -> None:
    """Not when a page is cut short, nor when nothing is shown, nor when the vendor's own count disagrees; and counts, or
    the look at each record by itself, are enough alone."""
    for kind in ("truncated", "empty", "miscounted"):
        await sandbox(vendor).spoil(kind)
        await check_deletes_nothing_and_alerts(vendor)
        if kind != "miscounted":
            for guard in (uncounted, trusting):
                with without(guard):
                    await check_deletes_nothing_and_alerts(vendor)
        await sandbox(vendor).heal()
    await check_goes_on_when_healed(vendor)


@pytest.mark.parametrize("kind", ["truncated", "empty"])
async def test_a_spoiled_scan_fails_without_completeness(pool: asyncpg.Pool, kind: str) -> None:
    async with hubspot() as vendor, bench(pool, vendor) as hub:
        await vendor.create(range(1, 41), old=True)
        await hub.sync()
        await vendor.spoil(kind)
        off = (uncounted, trusting, lambda: mutation(scanning, "empty", lambda _: ""))
        with without(*off), broken("no completeness"):
            await check_deletes_nothing_and_alerts(hub)


async def test_a_count_that_disagrees_fails_without_counting(pool: asyncpg.Pool) -> None:
    async with mailchimp() as vendor, bench(pool, vendor) as hub:
        await vendor.create(range(1, 41), old=True)
        await hub.sync()
        await vendor.spoil("miscounted")
        with without(uncounted), broken("no counting"):
            await check_deletes_nothing_and_alerts(hub)


async def test_hidden_records_are_not_deleted(pool: asyncpg.Pool) -> None:
    """List and count agree with each other, and leave records out that still exist."""
    async with hubspot() as vendor, bench(pool, vendor) as hub:
        await vendor.create(range(1, 41), old=True)
        await hub.sync()
        for match in (vendor.lists, vendor.counts):
            await vendor.spoil("narrowed", match, hide=["11", "12"])
        await check_deletes_nothing_and_alerts(hub)
        with without(trusting), broken("no second look"):
            await check_deletes_nothing_and_alerts(hub)


async def test_hidden_fields_make_a_scan_doubtful(vendor: Bench) -> None:
    hidden = {"hubspot": "firstname", "mailchimp": "FNAME"}[vendor.vendor.system]
    await sandbox(vendor).spoil("narrowed", hide=[hidden])
    await check_deletes_nothing_and_alerts(vendor)
    with without(lambda: mutation(scanning, "narrowed", lambda *_: "")), broken("no look at fields"):
        await check_deletes_nothing_and_alerts(vendor)


async def forgiving(self: Any) -> AsyncIterator[Sequence[Change]]:
    """A listing that takes an error for the end."""
    with suppress(HubError):
        async for page in LISTING(self):
            yield page


LISTING = HubSpotScan.listing


async def test_a_scan_that_fails_halfway_deletes_nothing(pool: asyncpg.Pool) -> None:
    async with hubspot() as vendor, bench(pool, vendor) as hub:
        await vendor.create(range(1, 151), old=True)
        await hub.sync()
        halfway = [
            {"kind": "slow", "seconds": 0, "match": vendor.lists},
            {"kind": "status", "status": 403, "match": vendor.lists},
        ]
        await vendor.post("faults", halfway)
        await check_deletes_nothing_and_alerts(hub)
        await vendor.heal()
        await vendor.post("faults", halfway)
        twin = mutation(HubSpotScan, "listing", forgiving)
        with without(uncounted, trusting, lambda: twin), broken("an error is taken for the end"):
            await check_deletes_nothing_and_alerts(hub)


async def test_a_record_that_may_not_be_read_is_not_gone(pool: asyncpg.Pool) -> None:
    """403 on single records: the credentials see less than they did."""
    async with hubspot() as vendor, bench(pool, vendor) as hub:
        await vendor.create(range(1, 41), old=True)
        await hub.sync()
        await vendor.erase(7)
        await vendor.spoil("status", f"{vendor.lists}/7", status=403)
        await check_deletes_nothing_and_alerts(hub)

        async def gone(*_: Any) -> bool:
            return False

        with without(lambda: mutation(HubSpotScan, "exists", gone)), broken("403 taken for 404"):
            await check_deletes_nothing_and_alerts(hub)


async def test_rows_hidden_by_a_policy_of_the_database_are_not_deleted(pool: asyncpg.Pool, postgres: Embedded) -> None:
    async with crm(postgres) as vendor, bench(pool, vendor) as hub:
        await vendor.create(range(1, 41))
        await hub.sync()
        async with reader(vendor) as narrowed:
            hub.stages.context = replace(hub.stages.context, connectors={"crm": narrowed})
            await check_deletes_nothing_and_alerts(hub)
            with without(lambda: mutation(pg_scan, "NARROWED", "SELECT $1::text IS NULL")), broken("policies unseen"):
                await check_deletes_nothing_and_alerts(hub)


async def check_a_person_decides(hub: Bench) -> None:
    """Fifteen of forty records are gone: nothing is deleted, an alert is raised, and a decision is asked for."""
    before = await hub.living()
    report = await hub.audit()
    assert await hub.living() == before, f"{len(before - await hub.living())} deletes without a person"
    assert (report.row.state, report.row.deleted) == ("waiting", 0), report.row
    assert (await hub.alerts())[-1] == ("deletes_waiting", "raised")


async def test_a_drop_above_the_threshold_waits_for_a_person(vendor: Bench, figures: Callable[..., None]) -> None:
    hub, context = vendor, vendor.stages.context
    gone = await hub.ids(range(20, 32))
    for number in range(20, 32):
        await hub.vendor.erase(number)
    await check_a_person_decides(hub)
    (waits,) = await audit_decisions.waiting(context)
    assert gone < set(waits["gone"])
    assert len(waits["gone"]) == 15
    discarded = await audit_decisions.discard(context, waits["id"], "ann", "an import went wrong")
    assert (discarded.state, await audit_decisions.waiting(context)) == ("discarded", [])
    await check_a_person_decides(hub)
    (waits,) = await audit_decisions.waiting(context)
    approved = await audit_decisions.approve(context, waits["id"], "ann", "the audience was cleaned")
    await hub.stages.project()
    assert (approved.state, approved.deleted) == ("approved", 15)
    assert len(await hub.living()) == 25
    assert not gone & await hub.living()
    told = [(t["kind"], t["author"], t["reason"]) for t in await hub.told() if t["author"]]
    assert sorted(told) == [
        ("approved", "ann", "the audience was cleaned"),
        ("discarded", "ann", "an import went wrong"),
    ]
    with pytest.raises(Reject, match="no deletes wait"):
        await audit_decisions.approve(context, waits["id"], "bob", "again")
    figures("P5", system=hub.vendor.system, waited=15, approved=approved.deleted)


async def test_a_drop_above_the_threshold_fails_without_threshold(vendor: Bench) -> None:
    for number in range(20, 32):
        await vendor.vendor.erase(number)
    with without(unlimited), broken("no threshold"):
        await check_a_person_decides(vendor)


async def test_an_approval_deletes_only_what_is_gone_still(pool: asyncpg.Pool) -> None:
    async with mailchimp() as vendor, bench(pool, vendor) as hub:
        await vendor.create(range(1, 41), old=True)
        await hub.sync()
        back = await vendor.id(20)
        for number in range(20, 35):
            await vendor.erase(number)
        await check_a_person_decides(hub)
        await vendor.create([20])  # somebody has put it back
        (waits,) = await audit_decisions.waiting(hub.stages.context)
        approved = await audit_decisions.approve(hub.stages.context, waits["id"], "ann", "")
        await hub.stages.project()
        assert approved.deleted == 14
        assert back in await hub.living()


async def check_what_comes_to_be_meanwhile_lives(hub: Bench) -> None:
    """A record that is made and captured between the listing and the verdict."""

    async def born() -> None:
        await hub.vendor.create([77])

    hub.meanwhile.append(born)
    report = await hub.audit(threshold=NEVER)
    assert hub.meanwhile == [], "nothing happened meanwhile"
    assert await hub.vendor.id(77) in await hub.living(), "a record born during the scan was deleted"
    assert report.row.deleted == 3, report.row


async def late(context: Any, mapping: Any, scanner: Any, scan: Scan, pause: Any) -> settling.Findings:
    """What the hub knows is taken after the listing, not before."""
    await settling.drained(context, mapping, pause)
    scan.known = await scanning.living(context, mapping)
    return await SETTLE(context, mapping, scanner, scan, pause)


SETTLE = settling.settle


async def test_what_comes_to_be_during_a_scan_is_not_deleted(vendor: Bench) -> None:
    with without(trusting):  # not even where nobody looks twice
        await check_what_comes_to_be_meanwhile_lives(vendor)


async def test_what_comes_to_be_during_a_scan_fails_without_an_early_look_at_what_is_known(vendor: Bench) -> None:
    with without(trusting, lambda: mutation(audit, "settle", late)), broken("known too late"):
        await check_what_comes_to_be_meanwhile_lives(vendor)


@pytest.mark.parametrize(("policy", "lives"), [("propagate", False), ("detach", True), ("ignore", True)])
async def test_what_a_found_delete_means_is_the_entitys_to_say(pool: asyncpg.Pool, policy: Any, lives: bool) -> None:
    async with mailchimp(policy) as vendor, bench(pool, vendor) as hub:
        await vendor.create(range(1, 21), old=True)
        await hub.sync()
        one = await vendor.id(4)
        await vendor.erase(4)
        assert (await hub.audit()).row.deleted == 1
        assert one not in await hub.living()
        assert (one in await hub.deleted()) is not lives
