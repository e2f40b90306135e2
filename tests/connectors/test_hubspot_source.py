"""HubSpot polled: everything from the beginning, then what changes, resumable from every checkpoint."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from hub.change import Change, Notice
from tests.connectors.hubspot_support import Rig, changes_of, contact, ids, mappings, pages, rig


def now(ahead: float = 0.0) -> str:
    """The time as HubSpot writes it."""
    return (datetime.now(UTC) + timedelta(seconds=ahead)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def searches(hub: Rig, since: int = 0) -> list[dict[str, Any]]:
    """The searches in the journal."""
    return [c for c in await hub.calls(since) if c["path"].endswith("/search")]


async def test_the_first_read_is_complete_and_an_idle_poll_is_one_call_that_finds_nothing() -> None:
    async with rig() as hub:
        stamp = now()  # recent, so that the next passes meet them again
        await hub.seed(contacts=[contact(i, stamp) for i in range(1, 151)])
        first = await pages(hub.connector, "contacts")
        assert {c.external_id for c in changes_of(first)} == {str(i) for i in range(1, 151)}
        before = len(await hub.calls())
        idle = await pages(hub.connector, "contacts", first[-1].checkpoint)
        assert changes_of(idle) == []
        assert len(await hub.calls()) - before == 1


async def test_a_change_has_the_mapped_fields_the_clock_and_its_associations_primary_first() -> None:
    async with rig() as hub:
        await hub.seed(
            contacts=[contact(1, phone="+1 555 010 0100", custom_unmapped=None)],
            companies=[{"id": str(i), "properties": {"name": f"C{i}"}} for i in (7, 8, 9)],
            associations=[
                {"from": ["contacts", "1"], "to": ["companies", "7"], "typeId": 279},
                {"from": ["contacts", "1"], "to": ["companies", "8"], "typeId": 279},
                {"from": ["contacts", "1"], "to": ["companies", "9"], "typeId": 279},
                {"from": ["contacts", "1"], "to": ["companies", "9"], "typeId": 1},
            ],
        )
        (change,) = changes_of(await pages(hub.connector, "contacts"))
        assert change.fields["associations.companies"] == ["9", "7", "8"]
        assert change.fields["email"] == "c1@example.com"
        assert change.fields["city"] is None
        assert "hs_object_id" not in change.fields
        assert change.version == change.at == 1_788_256_800_000_000
        assert not change.exact


async def test_an_edit_is_found_once_and_found_by_webhook_is_the_same_event() -> None:
    async with rig() as hub:
        await hub.seed(contacts=[contact(i) for i in range(1, 4)])
        checkpoint = (await pages(hub.connector, "contacts"))[-1].checkpoint
        await hub.edit("contacts", "2", properties={"firstname": "Ada"})
        polled = await pages(hub.connector, "contacts", checkpoint)
        assert [(c.external_id, c.fields["firstname"]) for c in changes_of(polled)] == [("2", "Ada")]
        again = await pages(hub.connector, "contacts", polled[-1].checkpoint)
        assert changes_of(again) == []
        fetched = await hub.connector.fetch([Notice("hubspot", "contacts", "2", "propertyChange")])
        assert ids(fetched) == ids(changes_of(polled))


async def test_what_was_not_acknowledged_is_found_again_by_the_same_connector() -> None:
    async with rig() as hub:
        await hub.seed(contacts=[contact(1)])
        checkpoint = (await pages(hub.connector, "contacts"))[-1].checkpoint
        await hub.edit("contacts", "1", properties={"firstname": "Ada"})
        lost = [page async for page in hub.connector.poll("contacts", checkpoint)]
        assert [c.external_id for c in changes_of(lost)] == ["1"]
        assert ids(changes_of(await pages(hub.connector, "contacts", checkpoint))) == ids(changes_of(lost))


async def test_twelve_thousand_records_of_one_timestamp_pass_the_searches_cap() -> None:
    async with rig() as hub:
        checkpoint = (await pages(hub.connector, "contacts"))[-1].checkpoint
        stamp = now()
        await hub.seed(contacts=[contact(i, stamp) for i in range(1, 12_001)])
        since = len(await hub.calls())
        found = await pages(hub.connector, "contacts", checkpoint)
        assert len(changes_of(found)) == 12_000
        assert {c.external_id for c in changes_of(found)} == {str(i) for i in range(1, 12_001)}
        assert {call["status"] for call in await hub.calls(since)} <= {200, 207}
        # The last page of that pass had nothing more: the next pass begins at the first id again.
        await hub.edit("contacts", "5", properties={"firstname": "Ada"})
        later = await pages(hub.connector, "contacts", found[-1].checkpoint)
        assert [c.external_id for c in changes_of(later)] == ["5"]
        middle = found[30].checkpoint
        resumed = hub.connect()
        rest = {c.external_id for c in changes_of(await pages(resumed, "contacts", middle))}
        await resumed.close()
        assert rest >= {c.external_id for page in found[31:] for c in page.changes}


async def test_what_the_index_shows_late_is_not_missed() -> None:
    async with rig(index_lag_seconds=10) as hub:
        await hub.seed(contacts=[contact(1), contact(2)], app={"indexLagSeconds": 3.0})
        checkpoint = (await pages(hub.connector, "contacts"))[-1].checkpoint
        await hub.edit("contacts", "1", properties={"firstname": "Early"})
        await asyncio.sleep(2.0)
        await hub.edit("contacts", "2", properties={"firstname": "Late"})
        found: list[Change] = []
        # The pass that sees the early edit began after the late one, which it cannot see yet.
        while len({c.external_id for c in found}) < 2:
            some = await pages(hub.connector, "contacts", checkpoint)
            found += changes_of(some)
            checkpoint = some[-1].checkpoint if some else checkpoint
            await asyncio.sleep(0.2)
        assert [c.fields["firstname"] for c in found] == ["Early", "Late"]


async def test_what_changes_behind_a_pass_is_found_by_the_next_one() -> None:
    async with rig(index_lag_seconds=0) as hub:
        checkpoint = (await pages(hub.connector, "contacts"))[-1].checkpoint
        await hub.seed(contacts=[contact(i, now()) for i in range(1, 451)])
        async for page in hub.connector.poll("contacts", checkpoint):
            if checkpoint["last_id"] == 0 and page.checkpoint["last_id"]:
                await hub.edit("contacts", "1", properties={"firstname": "Ada"})
                await asyncio.sleep(2.1)  # the vendor's clock is told by the second
            checkpoint = page.checkpoint
            await page.acknowledge()
        (change,) = changes_of(await pages(hub.connector, "contacts", checkpoint))
        assert (change.external_id, change.fields["firstname"]) == ("1", "Ada")


async def test_archived_records_are_deletes_with_the_event_id_that_a_webhook_gives_them() -> None:
    async with rig(deletes_seconds=0) as hub:
        await hub.seed(contacts=[contact(1), contact(2)])
        checkpoint = (await pages(hub.connector, "contacts"))[-1].checkpoint
        await hub.edit("contacts", "2", action="archive")
        deletes = [c for c in changes_of(await pages(hub.connector, "contacts", checkpoint)) if c.op == "delete"]
        assert [(c.external_id, c.fields) for c in deletes] == [("2", {})]
        told = await hub.connector.fetch([Notice("hubspot", "contacts", "2", "deletion", at=1)])
        assert ids(told) == ids(deletes)


async def test_what_was_archived_before_the_first_read_is_no_news() -> None:
    async with rig(deletes_seconds=0, index_lag_seconds=0) as hub:
        await hub.seed(contacts=[contact(1), contact(2) | {"archived": True, "archivedAt": "2026-09-02T10:00:00Z"}])
        first = await pages(hub.connector, "contacts")
        more = await pages(hub.connector, "contacts", first[-1].checkpoint)
        assert [(c.op, c.external_id) for c in changes_of([*first, *more])] == [("upsert", "1")]


async def test_a_merge_is_told_by_the_record_it_made() -> None:
    async with rig() as hub:
        await hub.seed(contacts=[contact(1), contact(2), contact(3)])
        checkpoint = (await pages(hub.connector, "contacts"))[-1].checkpoint
        await hub.edit("contacts", "2", action="merge", into="1")
        merge, state = changes_of(await pages(hub.connector, "contacts", checkpoint))
        assert (merge.op, state.op) == ("merge", "upsert")
        assert merge.external_id == state.external_id
        assert {*merge.merged, merge.external_id} >= {"1", "2"}
        assert state.fields["email"] == "c1@example.com"
        told = await hub.connector.fetch([Notice("hubspot", "contacts", "2", "propertyChange")])
        assert ids(told) == ids([merge, state])
        await hub.edit("contacts", state.external_id, properties={"firstname": "Ada"})
        again, edited = await hub.connector.fetch([Notice("hubspot", "contacts", state.external_id, "propertyChange")])
        assert ids([again]) == ids([merge])
        assert ids([edited]) != ids([state])


async def test_a_bounded_rate_is_kept_and_a_refusal_for_speed_is_waited_out() -> None:
    async with rig() as hub:
        await hub.seed(contacts=[contact(i) for i in range(1, 120)])
        await hub.fault({"kind": "rate_limit", "times": 1, "retry_after": 1, "match": "GET /crm/v3/objects/contacts"})
        assert len(changes_of(await pages(hub.connector, "contacts"))) == 119
        assert [c["status"] for c in await hub.calls() if c["path"] == "/crm/v3/objects/contacts"] == [429, 200, 200]


async def test_every_object_of_the_manifest_can_be_read() -> None:
    names = ("contacts", "companies", "deals", "notes", "calls", "emails", "meetings", "tasks")
    async with rig() as hub:
        for name in names:
            await hub.seed(**{name: [{"id": "5", "properties": {}, "createdAt": now(), "updatedAt": now()}]})
        connector = hub.connect(mappings(names))
        await connector.open()
        assert {s.name for s in connector.streams()} == set(names)
        for name in names:
            assert [c.external_id for c in changes_of(await pages(connector, name))] == ["5"], name
        await connector.close()
