"""Audits: what a system holds and the hub does not know of is found, what is on its way is not, and repair tells the hub."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from hub.config.loading import loads
from hub.drift import Drift, Threshold
from hub.edge import gauges
from hub.edge.assembly import audit_plans
from hub.edge.embedded import Embedded
from hub.edge.wiring import MANIFESTS
from hub.errors import ConfigError, Reject, Retry
from streams import audit_decisions, settling
from streams.audit import Order, audit
from streams.audit_store import KEPT, latest
from streams.auditing import Plan, due, turn
from tests.promises.auditing import Bench, bench
from tests.promises.mutations import broken, mutation
from tests.promises.vendors import Sandbox, crm, hubspot, mailchimp


@pytest.fixture(params=["hubspot", "mailchimp", "crm"])
async def hub(pool: asyncpg.Pool, postgres: Embedded, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """A hub that knows twenty records."""
    made: Any = {"hubspot": hubspot, "mailchimp": mailchimp, "crm": lambda: crm(postgres)}[request.param]()
    async with made as vendor, bench(pool, vendor) as hub:
        await vendor.create(range(1, 21), old=True)
        await hub.sync()
        yield hub


@pytest.fixture
async def known(pool: asyncpg.Pool) -> AsyncIterator[Bench]:
    """A hub on Mailchimp that knows twenty records."""
    async with mailchimp() as vendor, bench(pool, vendor) as hub:
        await vendor.create(range(1, 21), old=True)
        await hub.sync()
        yield hub


async def tamper(hub: Bench, number: int, sql: str) -> str:
    """Spoil what the hub knows of a record, behind its back; the record's id."""
    one = await hub.vendor.id(number)
    done = await hub.stages.context.pool.execute(f"{sql} where external_id = $1 and system <> 'hub'", one)
    assert done.endswith(" 1"), done
    return one


RENAMED = """update hub.record set view = jsonb_set(view::jsonb, '{first_name,0}', '"Somebody"')"""


async def drift(hub: Bench) -> set[Drift]:
    """One record that the hub has lost, one that it believes to be otherwise, and one that it does not know to be gone."""
    missing = await tamper(hub, 2, "delete from hub.record")
    stale = await tamper(hub, 3, RENAMED)
    extra = await hub.vendor.id(4)
    await hub.vendor.erase(4)
    return {Drift(missing, "missing"), Drift(stale, "stale", ("first_name",)), Drift(extra, "extra")}


def without_fields(found: tuple[Drift, ...]) -> set[Drift]:
    """Of what is missing all fields are told, and need not be compared."""
    return {Drift(d.external_id, d.kind, d.fields if d.kind == "stale" else ()) for d in found}


async def test_drift_is_reported_by_record_and_field_and_repaired_by_changes(hub: Bench) -> None:
    for full in (True, False):
        clean = await hub.audit(full, "nothing")
        assert (clean.row.state, clean.row.known, clean.row.read, clean.drift) == ("clean", 20, 20, ())
    assert (len(await hub.told()), await hub.alerts()) == (2, [])

    expected = await drift(hub)
    report = await hub.audit(apply="nothing")
    assert (report.row.state, without_fields(report.drift)) == ("drift", expected), report
    assert (report.row.deleted, report.row.repaired) == (0, 0)
    told = await hub.told()
    assert {(t["external_id"], t["kind"]) for t in told if t["external_id"]} == {
        (d.external_id, d.kind) for d in expected
    }
    assert [t["kind"] for t in told if t["external_id"] is None] == ["clean", "clean", "drift"]
    assert await hub.alerts() == [("drift", "raised")]
    _, row = await latest(hub.stages.context)
    assert (row["missing"], row["stale"], row["extra"]) == (1, 1, 1)

    repaired = await hub.audit(apply="all")
    assert (repaired.row.state, repaired.row.deleted, repaired.row.repaired) == ("clean", 1, 2), repaired
    again = await hub.audit(apply="nothing")
    assert (again.row.state, again.drift) == ("clean", ()), again
    assert len(await hub.living()) == 19
    assert await hub.alerts() == [("drift", "raised"), ("drift", "cleared")]
    assert (await hub.stages.ledger()).unaccounted == 0

    await hub.vendor.edit(3, "Augusta")
    await hub.vendor.edit(2, "Byron")
    await hub.sync()
    for number, name in ((3, "Augusta"), (2, "Byron")):
        values = await hub.stages.values(hub.vendor.system, hub.vendor.mapping.object, await hub.vendor.id(number))
        assert values["first_name"] == name
    await check_an_edit_made_just_now_is_no_drift(hub)


async def check_an_edit_made_just_now_is_no_drift(hub: Bench) -> None:
    """Records are edited and made between the last poll and the audit; the hub goes on meanwhile."""
    await hub.vendor.edit(5, "Latest")
    await hub.vendor.create([21])
    report = await hub.audit(apply="nothing")
    assert report.drift == (), f"{report.drift} is called drift"


async def at_once(*_: Any) -> bool:
    """Waits for nothing."""
    return True


async def test_an_edit_made_just_now_fails_without_waiting(pool: asyncpg.Pool, postgres: Embedded) -> None:
    async with crm(postgres) as vendor, bench(pool, vendor) as hub:
        await vendor.create(range(1, 21))
        await hub.sync()
        with mutation(settling, "drained", at_once), broken("nothing is waited for"):
            await check_an_edit_made_just_now_is_no_drift(hub)


async def test_where_no_hub_runs_nothing_is_concluded(known: Bench) -> None:
    hub = known
    await drift(hub)
    report = await hub.audit(apply="all", patience=-1)
    assert (report.row.state, report.drift, report.row.unsettled) == ("incomplete", (), 3), report
    assert "is a hub running" in report.row.reason
    assert len(await hub.living()) == 19  # the lost one is not known, the erased one is still believed in


async def test_a_sample_finds_what_it_looks_at_and_that_numbers_differ(known: Bench) -> None:
    hub = known
    await tamper(hub, 3, RENAMED)
    sampled = await hub.audit(full=False, apply="nothing")
    assert [(d.kind, d.fields) for d in sampled.drift] == [("stale", ("first_name",))]
    await hub.audit(full=False, apply="all")
    await tamper(hub, 2, "delete from hub.record")
    numbers = await hub.audit(full=False, apply="nothing")
    assert (numbers.row.state, numbers.drift) == ("drift", ())
    assert numbers.row.reason.startswith("it has 20 records, the hub knows 19")
    few = await hub.audit(full=False, sample=5)
    assert few.row.read == 5


async def test_a_field_that_a_type_does_not_admit_is_no_drift(pool: asyncpg.Pool) -> None:
    async with hubspot() as vendor, bench(pool, vendor) as hub:
        odd = {"id": "1", "properties": {"email": "nobody at all", "firstname": "Odd"}}
        await vendor.post("seed", {"contacts": [odd]})
        await hub.sync()
        assert (await hub.audit(apply="nothing")).row.state == "clean"


async def test_a_merge_that_was_not_told_is_captured_as_one(pool: asyncpg.Pool) -> None:
    async with hubspot() as vendor, bench(pool, vendor) as hub:
        await vendor.create(range(1, 21), old=True)
        await hub.sync()
        await vendor.post("edit", {"object": "contacts", "id": "8", "action": "merge", "into": "7"})
        # The merged record is older than the cursor of the poll, as after a restored backup of the hub's state.
        (capture,) = hub.captures
        await hub.stages.context.pool.execute(
            "update hub.checkpoint set state = jsonb_set(state, '{since}', to_jsonb(4102444800000))"
        )
        capture.context.connectors["hubspot"]._wires = None
        report = await hub.audit(apply="all")
        assert {d.external_id for d in report.drift if d.kind == "extra"} == {"7", "8"}, report
        assert report.row.deleted == 0
        assert len(await hub.living()) == 19


async def test_what_cannot_be_audited_says_so(pool: asyncpg.Pool) -> None:
    async with mailchimp() as vendor, bench(pool, vendor) as hub:
        context = hub.stages.context
        with pytest.raises(Reject, match="is not configured; there are mailchimp/members"):
            await audit(context, Order("mailchimp", "people"))
        await pool.execute("delete from hub.counter where name = 'primed'")
        with pytest.raises(Retry, match="was not read completely yet"):
            await audit(context, Order("mailchimp", "members"))


async def test_audits_are_carried_out_when_they_are_due(pool: asyncpg.Pool) -> None:
    async with mailchimp() as vendor, bench(pool, vendor) as hub:
        await vendor.create(range(1, 21), old=True)
        await hub.sync()
        context = hub.stages.context
        plan = Plan("mailchimp", ["members"], ["members"], 10, 3_600, 7_200, Threshold())
        assert [(o.sample, o.apply) for o in await due(context, plan)] == [(None, "deletes"), (10, "nothing")]
        assert [r.row.state for r in await turn(context, plan)] == ["clean", "clean"]
        assert await turn(context, plan) == []
        await pool.execute("update hub.audit set ended = ended - interval '61 minutes'")
        assert [o.sample for o in await due(context, plan)] == [10]
        await pool.execute("update hub.audit set ended = ended - interval '61 minutes'")
        assert [o.sample for o in await due(context, plan)] == [None, 10]


async def test_old_audits_are_forgotten_but_not_those_that_wait(pool: asyncpg.Pool) -> None:
    async with mailchimp() as vendor, bench(pool, vendor) as hub:
        await vendor.create(range(1, 21), old=True)
        await hub.sync()
        for number in range(1, 13):
            await vendor.erase(number)
        assert (await hub.audit()).row.state == "waiting"
        await vendor.spoil("empty")
        assert (await hub.audit()).row.state == "incomplete"
        await vendor.heal()
        for _ in range(KEPT + 2):
            await hub.audit(full=False, apply="nothing", sample=1, patience=-1)
        assert ("deletes_waiting", "cleared") not in await hub.alerts(), "nobody has decided"
        told = {(m.name, labels): value for m, labels, value in await gauges.audits(hub.stages.context)}
        assert told["hub_audit_ended", ("mailchimp", "members", "waiting")] == 1
        states = [r["state"] for r in await pool.fetch("select state from hub.audit order by id")]
        assert (states[0], len(states)) == ("waiting", KEPT + 1)
        assert isinstance(vendor, Sandbox)
        assert (await hub.audit()).row.state == "waiting"
        assert await pool.fetchval("select count(*) from hub.audit where state = 'waiting'") == 1
        assert (await hub.alerts()).count(("deletes_waiting", "raised")) == 1
        await audit_decisions.discard(
            hub.stages.context, (await audit_decisions.waiting(hub.stages.context))[0]["id"], "ann", ""
        )
        assert ("deletes_waiting", "cleared") in await hub.alerts()


SYSTEMS = """
version: 1
systems:
  news:
    connector: mailchimp
    api_key: ${KEY}
    list_id: a
    audit: {hours: 6, sample: 50, wait_records: 3, wait_percent: 1}
    objects: {members: {deletes: scan}}
  crm: {connector: hubspot, access_token: "${KEY}", objects: {contacts: {deletes: scan}, companies: {}}}
  other: {connector: hubspot, access_token: "${KEY}", objects: [companies]}
"""


def test_the_configuration_says_what_is_audited_when() -> None:
    config = loads(SYSTEMS, MANIFESTS, {"KEY": "x-us1"})
    news, crm_ = audit_plans(config)
    assert news == Plan("news", ["members"], ["members"], 50, 21_600, 86_400, Threshold(3, 0.01))
    assert (crm_.system, crm_.scans, crm_.sample_seconds, crm_.threshold) == ("crm", ["contacts"], 0, Threshold())
    with pytest.raises(ConfigError, match="unknown key 'smaple'"):
        loads(SYSTEMS.replace("sample", "smaple"), MANIFESTS, {"KEY": "x-us1"})
