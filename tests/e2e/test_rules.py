"""What a delete in each system means, and that an opt-out stays one whatever is read or sent again."""

from datetime import UTC, datetime
from typing import Any

from tests.e2e.systems import Friend, Systems, hub_on, settled, show


async def held(systems: Systems, friend: Friend) -> tuple[Any, Any, Any]:
    """The friend's live records in CRM, HubSpot and Mailchimp; None where there is none."""
    now = await systems.now_held()
    rows = [r for r in now.crm["contacts"] if r["id"] == friend.crm]
    contacts = [r for r in now.hubspot["contacts"] if r["properties"].get("email") == friend.email]
    members = [m for m in now.mailchimp["lists"][0]["members"] if m["email_address"] == friend.email]
    one, two, three = ([*some, None][0] for some in (rows, contacts, members))
    return one, two, three


async def test_deletes_and_opt_outs(systems: Systems) -> None:
    gone, detached, left, told_out, back = systems.friends[:5]
    async with hub_on(systems) as (hub, _):
        await settled(hub, systems)
        await systems.crm_delete("contacts", gone.crm)
        await systems.hubspot_archive("contacts", detached.hubspot)
        await systems.mailchimp_edit(left.email, "unsubscribe", {"status": "unsubscribed"})
        await systems.crm_edit("contacts", told_out.crm, email_consent="out", consent_at=datetime.now(UTC))
        await systems.crm_edit("contacts", back.crm, email_consent="out", consent_at=datetime.now(UTC))
        await settled(hub, systems)
        row, contact, member = await held(systems, gone)
        assert (row, contact) == (None, None)
        assert member is None or member["status"] == "archived"
        row, contact, member = await held(systems, detached)
        assert row is not None
        assert contact is None, "a record deleted in HubSpot is not made there again"
        assert member["status"] == "subscribed"
        await assert_out(systems, left)
        await assert_out(systems, told_out)
        # A later opt-in of the person himself lifts it.
        at = datetime.now(UTC)
        await systems.crm_edit("contacts", back.crm, email_consent="in", consent_at=at)
        await settled(hub, systems)
        assert (await held(systems, back))[0]["email_consent"] == "in"
        # Everything is read again from the beginning, as after a restore.
        await hub.context.pool.execute("delete from hub.checkpoint")
    async with hub_on(systems) as (hub, _):
        await settled(hub, systems)
        await systems.crm_edit("contacts", left.crm, first_name="Touched")
        await settled(hub, systems)
        await assert_out(systems, left)
        await assert_out(systems, told_out)
        assert (await held(systems, detached))[1] is None
        assert (problems := await systems.problems()) == [], show(problems)


async def assert_out(systems: Systems, friend: Friend) -> None:
    """The friend has opted out, as far as every system knows."""
    row, contact, member = await held(systems, friend)
    assert row["email_consent"] == "out"
    assert contact["properties"]["hub_consent"] == "out"
    assert member["status"] == "unsubscribed"
