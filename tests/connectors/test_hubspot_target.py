"""Writing to HubSpot: found before created, compared before updated, nothing doubled, one receipt each."""

from typing import Any

import pytest

from connectors.hubspot.api import VENDOR
from connectors.kit.http import Answer
from hub.change import Notice
from hub.errors import AuthError, Retry
from hub.mapping import FieldMap, decode, identifiers
from hub.receipt import Applied, Deferred, Refused, Unchanged
from tests.connectors.hubspot_support import Rig, contact, create, delete, extended, mappings, rig, update

MAPS = mappings()
CONTACTS, COMPANIES, DEALS, CALLS = (MAPS[name] for name in ("contacts", "companies", "deals", "calls"))


def ref(object_: str, id_: str) -> dict[str, str]:
    """A reference in HubSpot's own terms."""
    return {"system": "hubspot", "object": object_, "id": id_}


async def properties(hub: Rig, object_: str, id_: str, *names: str) -> dict[str, Any]:
    """What HubSpot holds of one record."""
    answer = await hub.api.get(f"/crm/v3/objects/{object_}/{id_}", params={"properties": ",".join(names)})
    held: dict[str, Any] = answer.raise_for_status().json()["properties"]
    return {name: held.get(name) for name in names}


async def linked(hub: Rig, object_: str, id_: str, to: str) -> set[str]:
    """Ids of the records associated with one."""
    answer = await hub.api.get(f"/crm/v4/objects/{object_}/{id_}/associations/{to}")
    return {str(row["toObjectId"]) for row in answer.raise_for_status().json()["results"]}


async def test_creates_carry_the_hubs_id_all_types_and_associations() -> None:
    async with rig() as hub:
        await hub.seed(companies=[{"id": "7", "properties": {"name": "Acme"}}])
        consent = {"status": "in", "at": "2026-09-01T08:00:00Z"}
        who = create(CONTACTS, "contact_a", email="ada@example.com", first_name="Ada", phone="+15550100100",
                     consent=consent, company=ref("companies", "7"), city=None)  # fmt: skip
        (applied,) = await hub.connector.deliver([who])
        assert isinstance(applied, Applied)
        held = await properties(hub, "contacts", applied.external_id, "email", "firstname", "hub_id", "hub_consent")
        assert held == {"email": "ada@example.com", "firstname": "Ada", "hub_id": "contact_a", "hub_consent": "in"}
        assert await linked(hub, "contacts", applied.external_id, "companies") == {"7"}
        stored = decode(CONTACTS, applied.natives).values
        assert (stored["consent"], stored["company"]["id"]) == (consent, "7")
        deal = create(DEALS, "deal_a", name="Big", amount="1200.50", close_date="2026-12-24",
                      contact=ref("contacts", applied.external_id), company=ref("companies", "7"))  # fmt: skip
        (bought,) = await hub.connector.deliver([deal])
        assert isinstance(bought, Applied)
        read = decode(DEALS, (await hub.connector.fetch([_notice("deals", bought.external_id)]))[0].fields).values
        assert (read["amount"], read["close_date"]) == ("1200.5", "2026-12-24")
        assert read["contact"]["id"] == applied.external_id
        call = create(CALLS, "engagement_a", kind="call", subject="Hello", status="completed", duration_seconds=90,
                      occurred_at="2026-09-01T10:00:00Z", deal=ref("deals", bought.external_id))  # fmt: skip
        (called,) = await hub.connector.deliver([call])
        assert isinstance(called, Applied)
        again = decode(CALLS, (await hub.connector.fetch([_notice("calls", called.external_id)]))[0].fields).values
        assert (again["duration_seconds"], again["status"]) == (90, "completed")
        assert again["occurred_at"] == "2026-09-01T10:00:00Z"


def _notice(object_: str, id_: str) -> Notice:
    return Notice("hubspot", object_, id_, "creation")


async def test_the_answer_holds_the_clock_and_the_natives_of_the_change_that_comes_back() -> None:
    async with rig() as hub:
        (applied,) = await hub.connector.deliver([create(CONTACTS, "contact_a", email="ada@example.com")])
        assert isinstance(applied, Applied)
        (change,) = await hub.connector.fetch([_notice("contacts", applied.external_id)])
        assert applied.order == change.version
        assert applied.natives.items() <= change.fields.items()
        assert identifiers(CONTACTS, change.fields) == {"golden": "contact_a"}


async def test_a_create_whose_answer_was_lost_is_found_again_and_never_doubled() -> None:
    async with rig() as hub:
        lost = {
            "kind": "timeout_after_commit",
            "times": 1,
            "seconds": 0.05,
            "match": "POST /crm/v3/objects/contacts/batch/upsert",
        }
        await hub.fault(lost)
        writes = [create(CONTACTS, f"contact_{n}", email=f"n{n}@example.com") for n in range(5)]
        with pytest.raises(Retry):
            await hub.connector.deliver(writes)
        receipts = await hub.connector.deliver(writes)
        assert all(isinstance(r, Deferred) and r.reason == "found" for r in receipts)
        assert [identifiers(CONTACTS, r.found[-1].fields) for r in receipts if isinstance(r, Deferred)] == [
            {"golden": f"contact_{n}"} for n in range(5)
        ]
        assert len(await hub.all_of("contacts")) == 5


async def test_a_record_that_somebody_else_made_is_handed_over_and_not_overwritten() -> None:
    async with rig() as hub:
        await hub.seed(
            contacts=[contact(1, email="ada@example.com", firstname="Augusta")],
            companies=[{"id": "7", "properties": {"name": "Acme Inc", "domain": "acme.com"}}],
        )
        (who,) = await hub.connector.deliver([create(CONTACTS, "contact_a", email="ada@example.com", first_name="Ada")])
        assert isinstance(who, Deferred)
        assert [(c.external_id, c.fields["firstname"]) for c in who.found] == [("1", "Augusta")]
        what, other = await hub.connector.deliver([
            create(COMPANIES, "company_a", name="Acme", domain="acme.com"),
            create(COMPANIES, "company_b", name="Other", domain="other.com"),
        ])  # fmt: skip
        assert isinstance(what, Deferred)
        assert [c.external_id for c in what.found] == ["7"]
        assert isinstance(other, Applied)
        assert (await properties(hub, "contacts", "1", "firstname", "hub_id")) == {
            "firstname": "Augusta",
            "hub_id": None,
        }


async def test_a_mailbox_of_a_role_that_is_taken_is_refused_for_capturing_it_would_not_link() -> None:
    async with rig() as hub:
        await hub.seed(contacts=[contact(1, email="info@example.com")])
        (receipt,) = await hub.connector.deliver([create(CONTACTS, "contact_a", email="info@example.com")])
        assert receipt == Refused("another record has the same unique value", "duplicate")


async def test_two_creates_of_one_address_give_one_record() -> None:
    async with rig() as hub:
        writes = [create(CONTACTS, f"contact_{n}", email="same@example.com", first_name=str(n)) for n in range(2)]
        receipts = await hub.connector.deliver(writes)
        assert sum(isinstance(r, Applied) for r in receipts) == 1
        assert len(await hub.all_of("contacts")) == 1
        loser = next(r for r in receipts if not isinstance(r, Applied))
        assert isinstance(loser, Deferred | Refused)


async def test_one_bad_record_does_not_stop_the_rest_of_its_batch() -> None:
    async with rig() as hub:
        writes = [create(CONTACTS, f"contact_{n}", email=f"n{n}@example.com") for n in range(20)]
        writes[7] = create(CONTACTS, "contact_7", email="n7@example.com", lifecycle="no such stage")
        receipts = await hub.connector.deliver(writes)
        assert [n for n, r in enumerate(receipts) if not isinstance(r, Applied)] == [7]
        refused = receipts[7]
        assert isinstance(refused, Refused)
        assert "lifecyclestage" in refused.reason
        assert len(await hub.all_of("contacts")) == 19


async def test_a_batch_refused_as_a_whole_is_tried_in_halves() -> None:
    async with rig() as hub:
        whole = {"kind": "status", "times": 1, "status": 400, "match": "POST /crm/v3/objects/contacts/batch/upsert"}
        await hub.fault(whole)
        writes = [create(CONTACTS, f"contact_{n}", email=f"n{n}@example.com") for n in range(7)]
        assert all(isinstance(r, Applied) for r in await hub.connector.deliver(writes))
        await hub.fault(whole)
        (refused,) = await hub.connector.deliver([create(CONTACTS, "contact_9", email="n9@example.com")])
        assert isinstance(refused, Refused)


async def test_an_update_sends_what_is_due_and_compares_first() -> None:
    async with rig() as hub:
        await hub.seed(contacts=[contact(n) for n in range(1, 5)])
        await hub.edit("contacts", "2", properties={"firstname": "Edited"})
        writes = [
            update(CONTACTS, "g1", "1", {"first_name": "First1"}, first_name="Ada", city="London"),
            update(CONTACTS, "g2", "2", {"first_name": "First2"}, first_name="Bea"),
            update(CONTACTS, "g3", "3", {"first_name": "First3"}, first_name="First3"),
            update(CONTACTS, "g4", "4", {"last_name": "Last"}, last_name=None),
            update(CONTACTS, "g5", "5", {}, first_name="Nobody"),
        ]
        one, two, three, four, five = await hub.connector.deliver(writes)
        assert isinstance(one, Applied)
        assert (one.natives["firstname"], one.natives["city"]) == ("Ada", "London")
        assert isinstance(two, Deferred)
        assert (two.reason, two.seconds, two.found[-1].fields["firstname"]) == ("edited meanwhile", 0.5, "Edited")
        assert isinstance(three, Unchanged)
        assert (three.external_id, three.order > 0) == ("3", True)
        assert isinstance(four, Applied)
        assert isinstance(five, Refused)
        assert five.code == "gone"
        assert await properties(hub, "contacts", "2", "firstname") == {"firstname": "Edited"}
        assert (
            decode(CONTACTS, (await hub.connector.fetch([_notice("contacts", "4")]))[0].fields).values["last_name"]
            is None
        )


async def test_an_update_of_a_merged_record_hands_over_what_it_became() -> None:
    async with rig() as hub:
        await hub.seed(contacts=[contact(1), contact(2)])
        await hub.edit("contacts", "2", action="merge", into="1")
        (receipt,) = await hub.connector.deliver([update(CONTACTS, "g2", "2", {}, first_name="Bea")])
        assert isinstance(receipt, Deferred)
        assert receipt.found[0].op == "merge"
        assert "2" in receipt.found[0].merged


async def test_a_unique_value_of_another_record_refuses_the_update_of_that_one_only() -> None:
    async with rig() as hub:
        await hub.seed(contacts=[contact(1), contact(2), contact(3)])
        taken = update(CONTACTS, "g1", "1", {}, email="c2@example.com")
        fine = update(CONTACTS, "g3", "3", {}, email="new@example.com")
        refused, applied = await hub.connector.deliver([taken, fine])
        assert isinstance(refused, Refused)
        assert refused.code == "duplicate"
        assert isinstance(applied, Applied)


async def test_references_are_added_moved_and_taken_away_and_others_left_alone() -> None:
    async with rig() as hub:
        await hub.seed(
            contacts=[contact(1)],
            companies=[{"id": str(n), "properties": {"name": f"C{n}"}} for n in (7, 8, 9)],
            associations=[{"from": ["contacts", "1"], "to": ["companies", "9"], "typeId": 279}],
        )
        seven, eight = ref("companies", "7"), ref("companies", "8")
        believed = [{"company": ref("companies", "9")}, {"company": seven}, {"company": eight}]
        (added,) = await hub.connector.deliver([update(CONTACTS, "g", "1", {}, company=seven)])
        assert isinstance(added, Applied)
        assert await linked(hub, "contacts", "1", "companies") == {"7", "9"}
        (moved,) = await hub.connector.deliver([update(CONTACTS, "g", "1", believed[1], company=eight, first_name="A")])
        assert isinstance(moved, Applied)
        assert await linked(hub, "contacts", "1", "companies") == {"8", "9"}
        (gone,) = await hub.connector.deliver([update(CONTACTS, "g", "1", believed[2], company=None)])
        assert isinstance(gone, Applied)
        assert await linked(hub, "contacts", "1", "companies") == {"9"}


async def test_a_reference_to_nothing_is_told_apart_from_the_records_own_absence() -> None:
    async with rig() as hub:
        await hub.seed(contacts=[contact(1), contact(2)], companies=[{"id": "7", "properties": {"name": "C7"}}])
        lost, fine = await hub.connector.deliver([
            update(CONTACTS, "g1", "1", {}, company=ref("companies", "999")),
            update(CONTACTS, "g2", "2", {}, company=ref("companies", "7")),
        ])  # fmt: skip
        assert isinstance(lost, Refused)
        assert lost.code == "association"
        assert isinstance(fine, Applied)
        (made,) = await hub.connector.deliver(
            [create(CONTACTS, "g3", email="g3@example.com", company=ref("companies", "999"))]
        )
        assert isinstance(made, Deferred)
        assert identifiers(CONTACTS, made.found[-1].fields) == {"golden": "g3"}


async def test_deletes_archive_and_are_idempotent() -> None:
    async with rig() as hub:
        await hub.seed(contacts=[contact(1), contact(2)])
        await hub.edit("contacts", "2", action="archive")
        one, two, three = await hub.connector.deliver([delete(CONTACTS, f"g{n}", n) for n in ("1", "2", "3")])
        assert isinstance(one, Applied)
        assert (two, three) == (Unchanged("2"), Unchanged("3"))
        assert await hub.all_of("contacts") == []


async def test_operations_in_one_delivery_keep_their_places() -> None:
    async with rig() as hub:
        await hub.seed(contacts=[contact(1), contact(2)])
        receipts = await hub.connector.deliver([
            delete(CONTACTS, "g1", "1"),
            create(CONTACTS, "g3", email="g3@example.com"),
            update(CONTACTS, "g2", "2", {}, first_name="Bea"),
        ])  # fmt: skip
        assert [r.external_id for r in receipts if isinstance(r, Applied)][0::2] == ["1", "2"]
        assert len(receipts) == 3


async def test_more_than_a_hundred_writes_are_cut() -> None:
    async with rig() as hub:
        writes = [create(CONTACTS, f"contact_{n}", email=f"n{n}@example.com") for n in range(230)]
        receipts = await hub.connector.deliver(writes)
        assert all(isinstance(r, Applied) for r in receipts)
        writes = [
            update(CONTACTS, f"contact_{n}", r.external_id, {}, first_name="X")
            for n, r in enumerate(receipts)
            if isinstance(r, Applied)
        ]
        assert all(isinstance(r, Applied) for r in await hub.connector.deliver(writes))
        assert {r["properties"]["firstname"] for r in await hub.all_of("contacts")} == {"X"}


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "rate_limit", "times": 9, "retry_after": 1}, Retry),
        ({"kind": "status", "times": 9, "status": 500}, Retry),
        ({"kind": "status", "times": 9, "status": 503}, Retry),
        ({"kind": "drop_connection", "times": 9}, Retry),
        ({"kind": "expired_token", "times": 9}, AuthError),
    ],
    ids=lambda value: value["kind"] + str(value.get("status", "")) if isinstance(value, dict) else "",
)
async def test_what_concerns_the_whole_call_is_raised_and_nothing_is_half_told(
    fault: dict[str, Any], error: type
) -> None:
    async with rig() as hub:
        match = "POST /crm/v3/objects/contacts/batch/upsert"
        await hub.fault(fault | {"match": match})
        with pytest.raises(error) as raised:
            await hub.connector.deliver([create(CONTACTS, "g1", email="g1@example.com")])
        if fault["kind"] == "rate_limit":
            assert raised.value.after == 1.0
        assert "pat-na1" not in str(raised.value)
        (await hub.control.delete("/_sandbox/faults")).raise_for_status()
        (receipt,) = await hub.connector.deliver([create(CONTACTS, "g1", email="g1@example.com")])
        assert isinstance(receipt, Applied)


async def test_a_used_up_day_is_waited_for_longer_than_a_used_up_second() -> None:
    answer = Answer(429, {}, b'{"policyName": "DAILY"}')
    assert VENDOR.wait(answer) == 900.0
    assert VENDOR.wait(Answer(429, {}, b'{"policyName": "SECONDLY"}')) == 1.0


async def test_an_opt_out_in_hubspot_is_read_as_one_whatever_the_hub_wrote() -> None:
    natives = {"hub_consent": "in", "hub_consent_at": "2026-09-01T08:00:00Z"}
    at = "2026-09-01T08:00:00Z"
    assert decode(CONTACTS, natives).values["consent"] == {"status": "in", "at": at}
    assert decode(CONTACTS, natives | {"hs_email_optout": "true"}).values["consent"] == {"status": "out", "at": None}
    out = natives | {"hub_consent": "out", "hs_email_optout": "true"}
    assert decode(CONTACTS, out).values["consent"] == {"status": "out", "at": at}
    assert decode(CONTACTS, {"hub_consent": None, "hs_email_optout": "false"}).values["consent"] is None


async def test_a_foreign_id_is_provisioned_and_read() -> None:
    async with rig() as hub:
        mapping = extended(CONTACTS, FieldMap("external_id", ("external_id",), identifies="crm.contacts"))
        connector = hub.connect({"contacts": mapping})
        await connector.open()
        await connector.open()
        body = {"properties": {"email": "a@example.com", "external_id": "17"}}
        id_ = (await hub.api.post("/crm/v3/objects/contacts", json=body)).raise_for_status().json()["id"]
        (change,) = await connector.fetch([_notice("contacts", id_)])
        assert identifiers(mapping, change.fields) == {"crm.contacts": "17"}
        await connector.close()
