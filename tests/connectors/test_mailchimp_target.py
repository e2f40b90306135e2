"""Writes to an audience: exact receipts, no doubles, nobody without an opt-in, nothing overwritten unseen."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from hub.errors import AuthError, Retry
from hub.mapping import FieldMap, decode
from hub.receipt import Applied, Deferred, Receipt, Refused, Unchanged
from tests.connectors.mailchimp_support import LIST, OPTED_IN, OPTED_OUT, Rig, drain, mappings, rigged, write

MEMBERS = f"/3.0/lists/{LIST}/members"
ADA = {"email": "ada@example.com", "first_name": "Ada", "last_name": "King", "consent": OPTED_IN, "tags": ["a", "b"]}


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A connector on a sandbox that holds Bob."""
    async with rigged() as rig:
        names = {"FNAME": "Bob", "LNAME": "Ray"}
        await rig.seed(
            {"email_address": "Bob@Example.com", "status": "subscribed", "merge_fields": names, "tags": ["x"]}
        )
        yield rig


async def one(rig: Rig, *args: Any, **more: Any) -> Receipt:
    """The receipt of one write."""
    (receipt,) = await rig.connector.deliver([write(*args, **more)])
    return receipt


async def bob(rig: Rig) -> str:
    """Bob's external id."""
    return str((await rig.member("bob@example.com"))["contact_id"])


async def test_a_create_adds_the_member_with_all_fields(rig: Rig) -> None:
    receipt = await one(rig, "create", ADA)
    member = await rig.member("ada@example.com")
    assert isinstance(receipt, Applied)
    assert receipt.external_id == member["contact_id"]
    assert (member["status"], member["timestamp_opt"]) == ("subscribed", "2026-01-01T00:00:00+00:00")
    assert (member["merge_fields"]["FNAME"], sorted(tag["name"] for tag in member["tags"])) == ("Ada", ["a", "b"])
    assert decode(mappings()["members"], receipt.natives).values["tags"] == ["a", "b"]


async def test_the_order_of_a_receipt_is_the_version_of_the_change_that_comes_back(rig: Rig) -> None:
    receipt = await one(rig, "create", ADA)
    changes, _ = await drain(rig.connector)
    echo = next(change for change in changes if change.fields["email_address"] == "ada@example.com")
    assert isinstance(receipt, Applied)
    assert (receipt.order, receipt.natives) == (echo.version, echo.fields)


@pytest.mark.parametrize("consent", [None, OPTED_OUT])
async def test_nobody_is_added_without_an_opt_in(rig: Rig, consent: Any) -> None:
    values = {name: value for name, value in ADA.items() if name != "consent"} | (
        {"consent": consent} if consent else {}
    )
    before = await rig.last_call()
    receipt = await one(rig, "create", values)
    assert isinstance(receipt, Refused)
    assert receipt.code == "consent"
    assert await rig.calls(before) == []


async def test_a_create_finds_the_member_that_is_there_and_leaves_it_alone(rig: Rig) -> None:
    receipt = await one(rig, "create", ADA | {"email": "bob@example.com"})
    member = await rig.member("bob@example.com")
    assert isinstance(receipt, Deferred)
    assert [(c.external_id, c.channel) for c in receipt.found] == [(member["contact_id"], "read")]
    assert member["merge_fields"]["FNAME"] == "Bob"


@pytest.mark.parametrize("action", ["unsubscribe", "clean"])
async def test_a_create_finds_somebody_who_opted_out_there(rig: Rig, action: str) -> None:
    await rig.edit(action, "bob@example.com")
    receipt = await one(rig, "create", ADA | {"email": "bob@example.com"})
    assert isinstance(receipt, Deferred)
    found = decode(mappings()["members"], receipt.found[0].fields).values["consent"]
    assert found["status"] == "out"


async def test_a_create_that_committed_unseen_is_found_and_not_doubled(rig: Rig) -> None:
    await rig.fault("timeout_after_commit", f"POST {MEMBERS}", seconds=0.1)
    with pytest.raises(Retry):
        await one(rig, "create", ADA)
    receipt = await one(rig, "create", ADA)
    assert isinstance(receipt, Deferred)
    assert [c.fields["FNAME"] for c in receipt.found] == ["Ada"]
    members = (await rig.api.get(f"/lists/{LIST}/members")).json()
    assert members["total_items"] == 2


async def test_two_creates_of_one_address_at_once_make_one_member(rig: Rig) -> None:
    writes = [write("create", ADA, golden_id=golden) for golden in ("contact_1", "contact_2")]
    receipts = await rig.connector.deliver(writes)
    assert sorted(type(receipt).__name__ for receipt in receipts) == ["Applied", "Deferred"]


async def test_archived_members_come_back_only_where_that_is_allowed(rig: Rig) -> None:
    await rig.edit("archive", "bob@example.com")
    refused = await one(rig, "create", ADA | {"email": "bob@example.com"})
    assert isinstance(refused, Refused)
    assert refused.code == "archived"
    (allowed,) = await rig.connect(unarchive=True).deliver([write("create", ADA | {"email": "bob@example.com"})])
    member = await rig.member("bob@example.com")
    assert isinstance(allowed, Applied)
    assert (member["status"], sorted(tag["name"] for tag in member["tags"])) == ("subscribed", ["a", "b"])


async def test_the_forgotten_are_refused(rig: Rig) -> None:
    await rig.edit("delete", "bob@example.com")
    receipt = await one(rig, "create", ADA | {"email": "bob@example.com"})
    assert isinstance(receipt, Refused)
    assert receipt.code == "forgotten"


async def test_an_update_sends_what_differs(rig: Rig) -> None:
    values = {"first_name": "Robert", "tags": ["x", "y"], "phone": "+14155550123"}
    expected = {"first_name": "Bob", "tags": ["x"], "phone": None}
    receipt = await one(rig, "update", values, expected, external_id=await bob(rig))
    member = await rig.member("bob@example.com")
    assert isinstance(receipt, Applied)
    assert (member["merge_fields"]["FNAME"], member["merge_fields"]["LNAME"]) == ("Robert", "Ray")
    assert sorted(tag["name"] for tag in member["tags"]) == ["x", "y"]
    assert decode(mappings()["members"], receipt.natives).values["phone"] == "+14155550123"


async def test_tags_are_taken_away_and_fields_emptied(rig: Rig) -> None:
    expected = {"last_name": "Ray", "tags": ["x"]}
    receipt = await one(rig, "update", {"last_name": None, "tags": []}, expected, external_id=await bob(rig))
    member = await rig.member("bob@example.com")
    assert isinstance(receipt, Applied)
    assert (member["merge_fields"]["LNAME"], member["tags"]) == ("", [])
    assert receipt.natives["tags"] == []


async def test_an_edit_meanwhile_is_captured_before_anything_is_overwritten(rig: Rig) -> None:
    await rig.edit("profile", "bob@example.com", merge_fields={"FNAME": "Bobby"})
    good = write("update", {"last_name": "Rayburn"}, {"last_name": "Ray"}, external_id=await bob(rig))
    late = write("update", {"first_name": "Robert"}, {"first_name": "Bob"}, external_id=await bob(rig))
    deferred, applied = await rig.connector.deliver([late, good])
    assert isinstance(deferred, Deferred)
    assert [c.fields["FNAME"] for c in deferred.found] == ["Bobby"]
    assert isinstance(applied, Applied)
    names = (await rig.member("bob@example.com"))["merge_fields"]
    assert (names["FNAME"], names["LNAME"]) == ("Bobby", "Rayburn")


async def test_an_update_that_committed_unseen_is_known_as_done(rig: Rig) -> None:
    await rig.fault("timeout_after_commit", f"PATCH {MEMBERS}", seconds=0.1)
    wanted: Any = ("update", {"first_name": "Robert"}, {"first_name": "Bob"})
    with pytest.raises(Retry):
        await one(rig, *wanted, external_id=await bob(rig))
    known = await one(rig, *wanted, external_id=await bob(rig))
    assert isinstance(known, Unchanged)
    assert known.external_id == await bob(rig)
    assert known.order > 0, "as of when Mailchimp says that it was changed last"


async def test_an_opt_out_is_written_and_a_later_opt_in_of_the_hub_too(rig: Rig) -> None:
    for consent, before, status in ((OPTED_OUT, OPTED_IN, "unsubscribed"), (OPTED_IN, OPTED_OUT, "subscribed")):
        receipt = await one(rig, "update", {"consent": consent}, {"consent": before}, external_id=await bob(rig))
        assert isinstance(receipt, Applied)
        assert (await rig.member("bob@example.com"))["status"] == status


async def test_who_left_himself_is_not_subscribed_again_but_may_be_asked(rig: Rig) -> None:
    await rig.edit("unsubscribe", "bob@example.com")
    back = write("update", {"consent": OPTED_IN}, {"consent": OPTED_OUT}, external_id=await bob(rig))
    (refused,) = await rig.connector.deliver([back])
    assert isinstance(refused, Refused)
    assert refused.code == "compliance"
    (asked,) = await rig.connect(resubscribe="pending").deliver([back])
    assert isinstance(asked, Applied)
    assert (await rig.member("bob@example.com"))["status"] == "pending"
    assert decode(mappings()["members"], asked.natives).values["consent"] is None


async def test_a_new_address_keeps_the_record(rig: Rig) -> None:
    contact = await bob(rig)
    values, expected = {"email": "robert@example.com"}, {"email": "bob@example.com"}
    receipt = await one(rig, "update", values, expected, external_id=contact)
    assert isinstance(receipt, Applied)
    assert receipt.external_id == contact == (await rig.member("robert@example.com"))["contact_id"]


async def test_the_address_of_another_is_refused_as_a_duplicate(rig: Rig) -> None:
    await one(rig, "create", ADA)
    values, expected = {"email": "ada@example.com"}, {"email": "bob@example.com"}
    receipt = await one(rig, "update", values, expected, external_id=await bob(rig))
    assert isinstance(receipt, Refused)
    assert receipt.code == "duplicate"


async def test_a_delete_archives_and_is_done_once(rig: Rig) -> None:
    contact = await bob(rig)
    assert isinstance(await one(rig, "delete", {}, external_id=contact), Applied)
    assert (await rig.member("bob@example.com"))["status"] == "archived"
    assert await one(rig, "delete", {}, external_id=contact) == Unchanged(contact)


@pytest.mark.parametrize("action", ["archive", "delete"])
async def test_an_update_of_somebody_who_is_gone_says_so(rig: Rig, action: str) -> None:
    contact = await bob(rig)
    await rig.edit(action, "bob@example.com")
    receipt = await one(rig, "update", {"first_name": "Robert"}, {"first_name": "Bob"}, external_id=contact)
    assert isinstance(receipt, Refused)
    assert receipt.code == "gone"


async def test_what_the_vendor_refuses_says_why_and_stops_no_other(rig: Rig) -> None:
    fields = (FieldMap("city", ("CITY",)), FieldMap("score", ("SCORE",)))
    connector = rig.connect(*fields)
    await connector.open()
    mapping = mappings(*fields)["members"]
    bad = write("create", ADA | {"email": "x@invalid"}, mapping=mapping)
    good = write("create", ADA | {"city": "Oslo", "score": "12.50"}, mapping=mapping, golden_id="contact_2")
    refused, applied = await connector.deliver([bad, good])
    assert isinstance(refused, Refused)
    assert refused.code == "invalid"
    assert "valid email address" in refused.reason
    assert isinstance(applied, Applied)
    assert decode(mapping, applied.natives).values["score"] == "12.5"


@pytest.mark.parametrize(
    "fault", [{"kind": "status", "status": 500}, {"kind": "rate_limit"}, {"kind": "drop_connection"}]
)
async def test_a_failing_call_defers_its_write_only(rig: Rig, fault: dict[str, Any]) -> None:
    await rig.fault(match=f"POST {MEMBERS}", **fault)
    writes = [write("create", ADA | {"email": f"n{n}@example.com"}, golden_id=f"contact_{n}") for n in range(3)]
    receipts = await rig.connector.deliver(writes)
    assert sorted(type(receipt).__name__ for receipt in receipts) == ["Applied", "Applied", "Deferred"]
    later = await rig.connector.deliver(writes)
    assert sorted(type(receipt).__name__ for receipt in later) == ["Applied", "Deferred", "Deferred"]


async def test_a_vendor_that_is_down_concerns_all(rig: Rig) -> None:
    await rig.fault("status", f"POST {MEMBERS}", status=503, times=2)
    writes = [write("create", ADA | {"email": f"n{n}@example.com"}, golden_id=f"contact_{n}") for n in range(2)]
    with pytest.raises(Retry):
        await rig.connector.deliver(writes)


async def test_a_refused_key_concerns_all_and_is_not_repeated(rig: Rig) -> None:
    key = "wrong0123456789-us1"
    with pytest.raises(AuthError) as caught:
        await rig.connect(api_key=key).deliver([write("create", ADA)])
    assert "wrong0123456789" not in str(caught.value)


async def test_many_writes_at_once_stay_within_the_vendors_connections(rig: Rig) -> None:
    writes = [write("create", ADA | {"email": f"n{n}@example.com"}, golden_id=f"contact_{n}") for n in range(50)]
    receipts = await rig.connector.deliver(writes)
    assert {type(receipt) for receipt in receipts} == {Applied}
