"""Members are read completely, in pages that can be resumed from, and each state of a member once."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from connectors.mailchimp.connector import Mailchimp
from connectors.mailchimp.members import CONSENT, body, changed, subscriber_hash
from hub.event import record
from hub.mapping import decode
from tests.connectors.mailchimp_support import Rig, drain, emails, mappings, pages, rigged


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A connector on a sandbox."""
    async with rigged() as rig:
        yield rig


def someone(number: int, at: str = "2026-01-01T10:00:00+00:00", **more: Any) -> dict[str, Any]:
    """A member that changed last at `at`."""
    return {"email_address": f"p{number}@example.com", "status": "subscribed", "last_changed": at, **more}


def spread(count: int) -> list[dict[str, Any]]:
    """Members that changed one after the other, three per second."""
    start = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    return [someone(n, datetime.fromtimestamp(start + n // 3, UTC).isoformat()) for n in range(count)]


async def test_every_status_is_read_once_and_archived_members_are_deletes(rig: Rig) -> None:
    statuses = ("subscribed", "unsubscribed", "cleaned", "pending", "transactional", "archived")
    await rig.seed(*({**someone(n), "status": status} for n, status in enumerate(statuses)))
    changes, _ = await drain(rig.connector)
    assert {change.fields["status"]: change.op for change in changes} == {
        **dict.fromkeys(statuses[:-1], "upsert"),
        "archived": "delete",
    }
    assert len(changes) == len(statuses)


async def test_a_member_is_read_as_the_canonical_fields(rig: Rig) -> None:
    names = {"FNAME": "Ada", "LNAME": "King", "PHONE": "415-555-0123"}
    opted = "2025-12-01T08:00:00+00:00"
    await rig.seed(someone(1, merge_fields=names, tags=["vip", "beta"], timestamp_opt=opted))
    (change,), _ = await drain(rig.connector)
    member = await rig.member("p1@example.com")
    assert decode(mappings()["members"], change.fields).values == {
        "email": "p1@example.com",
        "first_name": "Ada",
        "last_name": "King",
        "phone": "+14155550123",
        "consent": {"status": "in", "at": "2025-12-01T08:00:00Z"},
        "tags": ["beta", "vip"],
    }
    at = int(datetime(2026, 1, 1, 10, tzinfo=UTC).timestamp()) * 1_000_000
    assert (change.external_id, change.version, change.at, change.exact) == (member["contact_id"], at, at, False)


async def test_more_tags_than_a_member_is_shown_with_are_all_read(rig: Rig) -> None:
    tags = [f"tag {n:03}" for n in range(120)]
    await rig.seed(someone(1, tags=tags))
    (change,), _ = await drain(rig.connector)
    assert change.fields["tags"] == tags


async def test_an_audience_of_several_pages_is_read_completely(rig: Rig) -> None:
    await rig.seed(*spread(2_500))
    read = await pages(rig.connector, "members", None)
    changes = [change for page in read for change in page.changes]
    assert len(read) >= 3
    assert emails(changes) == sorted(f"p{n}@example.com" for n in range(2_500))


async def test_a_second_with_more_members_than_a_page_is_read_completely(rig: Rig) -> None:
    crowd = [someone(n) for n in range(2_300)]
    later = [someone(n, "2026-01-01T10:00:01+00:00") for n in range(2_300, 2_310)]
    await rig.seed(*crowd, *later)
    changes, checkpoint = await drain(rig.connector)
    assert emails(changes) == sorted(f"p{n}@example.com" for n in range(2_310))
    assert (await drain(rig.connector, checkpoint=checkpoint))[0] == []


async def test_an_idle_poll_says_nothing_and_costs_two_calls(rig: Rig) -> None:
    await rig.seed(*spread(1_200))
    _, checkpoint = await drain(rig.connector)
    before = await rig.last_call()
    assert (await drain(rig.connector, checkpoint=checkpoint))[0] == []
    assert len(await rig.calls(before)) == 2


async def test_what_just_changed_is_said_once(rig: Rig) -> None:
    await rig.seed(someone(1), someone(2))
    _, checkpoint = await drain(rig.connector)
    await rig.edit("profile", "p2@example.com", merge_fields={"FNAME": "New"})
    first, checkpoint = await drain(rig.connector, checkpoint=checkpoint)
    again, checkpoint = await drain(rig.connector, checkpoint=checkpoint)
    assert (emails(first), again) == (["p2@example.com"], [])


async def test_two_edits_within_one_second_are_two_events(rig: Rig) -> None:
    at = datetime.now(UTC).replace(microsecond=0).isoformat()
    await rig.seed(someone(1, at, merge_fields={"FNAME": "One"}))
    first, checkpoint = await drain(rig.connector)
    await rig.seed(someone(1, at, merge_fields={"FNAME": "Two"}))
    second, _ = await drain(rig.connector, checkpoint=checkpoint)
    assert [c.fields["FNAME"] for c in (*first, *second)] == ["One", "Two"]
    assert first[0].version == second[0].version
    assert record(first[0], 10**16).event_id != record(second[0], 10**16).event_id


async def test_archiving_and_coming_back_are_read(rig: Rig) -> None:
    await rig.seed(someone(1), someone(2))
    _, checkpoint = await drain(rig.connector)
    await rig.edit("archive", "p1@example.com")
    archived, checkpoint = await drain(rig.connector, checkpoint=checkpoint)
    await rig.control.post("/clock", json={"advance_seconds": 5})
    await rig.edit("subscribe", "p1@example.com")
    back, _ = await drain(rig.connector, checkpoint=checkpoint)
    assert [(c.op, c.external_id) for c in archived] == [("delete", back[0].external_id)]
    assert [(c.op, c.fields["status"]) for c in back] == [("upsert", "subscribed")]


async def test_a_new_address_keeps_the_external_id(rig: Rig) -> None:
    await rig.seed(someone(1))
    before, checkpoint = await drain(rig.connector)
    await rig.edit("upemail", "p1@example.com", new_email="new@example.com")
    after, _ = await drain(rig.connector, checkpoint=checkpoint)
    assert emails(after) == ["new@example.com"]
    assert after[0].external_id == before[0].external_id


async def test_a_sweep_finds_tags_that_moved_no_clock(rig: Rig) -> None:
    await rig.seed(someone(1), someone(2))
    connector = rig.connect(sweep_hours=0.000_001)
    _, checkpoint = await drain(connector)
    assert checkpoint is not None
    await rig.edit("tag", "p1@example.com", tags=["vip"])
    changes, _ = await drain(connector, checkpoint={**checkpoint, "swept": 0})
    assert {c.fields["email_address"]: c.fields["tags"] for c in changes}["p1@example.com"] == ["vip"]


async def test_polls_and_finds_of_one_state_are_one_event(rig: Rig) -> None:
    await rig.seed(someone(1, tags=["a"], merge_fields={"FNAME": "Ada"}))
    (polled,), _ = await drain(rig.connector)
    member = changed("mailchimp", await rig.member("p1@example.com"), "webhook")
    assert record(polled, 10**16).event_id == record(member, 10**16).event_id


async def test_reads_survive_a_limit_and_a_failing_vendor(rig: Rig) -> None:
    await rig.seed(someone(1))
    await rig.fault("rate_limit", "GET /3.0/lists", retry_after=0.05)
    await rig.fault("status", "GET /3.0/lists", status=502)
    assert emails((await drain(rig.connector))[0]) == ["p1@example.com"]


async def test_times_that_the_vendor_leaves_blank_are_unknown(rig: Rig) -> None:
    await rig.seed({**someone(1), "status": "transactional"}, blank_dates=True)
    (change,), _ = await drain(rig.connector)
    rig.recorder.exchanges.clear()  # the vendor's description does not know of blank times, which the vendor sends
    assert decode(mappings()["members"], change.fields).values["consent"] is None


@pytest.mark.parametrize(
    ("status", "decoded"),
    [
        ("subscribed", {"status": "in", "at": "2026-01-01T00:00:00+00:00"}),
        ("unsubscribed", {"status": "out", "at": "2026-02-01T00:00:00+00:00"}),
        ("cleaned", {"status": "out", "at": "2026-02-01T00:00:00+00:00"}),
        ("pending", None),
        ("transactional", None),
        ("archived", None),
    ],
)
def test_consent_follows_from_status(status: str, decoded: Any) -> None:
    present = {
        "status": status,
        "timestamp_opt": "2026-01-01T00:00:00+00:00",
        "last_changed": "2026-02-01T00:00:00+00:00",
    }
    assert CONSENT.decode(present) == decoded


def test_consent_is_written_with_the_time_of_the_opt_in() -> None:
    assert CONSENT.encode({"status": "in", "at": "2026-01-01T00:00:00Z"}) == {
        "status": "subscribed",
        "timestamp_opt": "2026-01-01T00:00:00Z",
    }
    assert CONSENT.encode({"status": "out", "at": None}) == {"status": "unsubscribed"}
    assert CONSENT.encode(None) == {}


def test_bodies_hold_merge_fields_apart_and_no_nulls() -> None:
    natives = {"email_address": "a@example.com", "status": "subscribed", "FNAME": None, "CITY": "Oslo", "tags": ["x"]}
    assert body(natives) == {
        "email_address": "a@example.com",
        "status": "subscribed",
        "merge_fields": {"FNAME": "", "CITY": "Oslo"},
    }


def test_the_hash_is_of_the_lower_case() -> None:
    """The vendor's own example."""
    assert subscriber_hash("Urist.McVankab@freddiesjokes.com") == "62eeb292278cc15f5817cb78f7790b08"


def test_the_data_centre_is_the_ending_of_the_key() -> None:
    with pytest.raises(Exception, match="data centre"):
        Mailchimp("mailchimp", {"api_key": "no-data-center/", "list_id": "a1"}, {})


async def test_a_page_that_shows_less_than_it_counts_is_not_the_last_one() -> None:
    async with rigged() as rig:
        await rig.seed(
            *(
                {
                    "email_address": f"c{n}@example.com",
                    "status": "subscribed",
                    "last_changed": f"2026-01-01T00:00:{n:02d}Z",
                }
                for n in range(40)
            )
        )
        await rig.fault("truncated", "GET /3.0/lists", times=3)
        changes, checkpoint = await drain(rig.connector)
        assert len({change.external_id for change in changes}) == 40
        assert await drain(rig.connector, checkpoint=checkpoint) == ([], checkpoint)
