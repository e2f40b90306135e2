"""What members did with campaigns becomes engagements: each once, with the same id whenever it is read."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hub.change import Change, Notice
from hub.mapping import decode
from tests.connectors.mailchimp_support import LIST, Rig, drain, mappings, pages, rigged

SENT = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)


def later(minutes: int) -> str:
    """So long after the campaign."""
    return (SENT + timedelta(minutes=minutes)).isoformat()


def campaign(*activity: dict[str, Any], number: int = 1, sent: datetime = SENT) -> dict[str, Any]:
    """A sent campaign as it is seeded."""
    return {
        "id": f"c{number}", "list": LIST, "title": f"News {number}", "subject": "Hello",
        "send_time": sent.isoformat(), "activity": list(activity),
    }  # fmt: skip


def people(count: int) -> list[dict[str, Any]]:
    """Subscribed members."""
    return [{"email_address": f"p{n}@example.com", "status": "subscribed"} for n in range(count)]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A connector on a sandbox."""
    async with rigged() as rig:
        yield rig


def told(changes: list[Change]) -> list[str]:
    """Subjects, sorted."""
    return sorted(change.fields["subject"] for change in changes)


async def test_each_action_is_an_engagement_of_its_member(rig: Rig) -> None:
    opened = {"email": "p0@example.com", "action": "open", "at": later(5)}
    clicked = {"email": "p0@example.com", "action": "click", "at": later(6), "url": "https://example.com/offer"}
    await rig.seed(*people(2), campaigns=[campaign(opened, clicked)])
    changes, _ = await drain(rig.connector, "activity")
    assert told(changes) == ["News 1: click", "News 1: open", "News 1: sent", "News 1: sent"]
    click = next(change for change in changes if change.fields["action"] == "click")
    contact = (await rig.member("p0@example.com"))["contact_id"]
    assert decode(mappings()["activity"], click.fields).values == {
        "kind": "email",
        "subject": "News 1: click",
        "body": "https://example.com/offer",
        "occurred_at": later(6).replace("+00:00", "Z"),
        "status": "click",
        "contact": {"system": "mailchimp", "object": "members", "id": contact},
    }


async def test_an_idle_poll_says_nothing(rig: Rig) -> None:
    await rig.seed(*people(3), campaigns=[campaign()])
    _, checkpoint = await drain(rig.connector, "activity")
    before = await rig.last_call()
    assert await pages(rig.connector, "activity", checkpoint) == []
    assert await rig.calls(before) == ["GET /3.0/campaigns", "GET /3.0/reports/c1"]


async def test_new_activity_is_said_once_and_nothing_else_again(rig: Rig) -> None:
    await rig.seed(*people(3), campaigns=[campaign({"email": "p0@example.com", "action": "open", "at": later(1)})])
    _, checkpoint = await drain(rig.connector, "activity")
    await rig.edit("open", "p1@example.com", campaign="c1")
    await rig.edit("unsubscribe", "p2@example.com", campaign="c1")
    changes, checkpoint = await drain(rig.connector, "activity", checkpoint)
    assert told(changes) == ["News 1: open", "News 1: unsubscribed"]
    assert (await drain(rig.connector, "activity", checkpoint))[0] == []


async def test_campaigns_outside_the_window_and_of_other_audiences_are_left_alone(rig: Rig) -> None:
    old = campaign(number=2, sent=SENT - timedelta(days=60))
    await rig.seed(*people(1), campaigns=[campaign(), old])
    changes, _ = await drain(rig.connector, "activity")
    assert told(changes) == ["News 1: sent"]


async def test_a_campaign_webhook_brings_its_activity(rig: Rig) -> None:
    await rig.seed(*people(2), campaigns=[campaign()])
    notice = Notice("mailchimp", "activity", "c1", "campaign")
    fetched = await rig.connector.fetch([notice, notice])
    polled, _ = await drain(rig.connector, "activity")
    assert {c.external_id: c.fields for c in fetched} == {c.external_id: c.fields for c in polled}
    assert len(fetched) == 2


async def test_who_is_no_more_in_the_audience_is_left_out(rig: Rig) -> None:
    await rig.seed(*people(2), campaigns=[campaign()])
    await rig.edit("delete", "p0@example.com")
    changes, _ = await drain(rig.connector, "activity")
    contact = (await rig.member("p1@example.com"))["contact_id"]
    assert [change.fields["contact_id"] for change in changes] == [contact]
