"""Webhooks: who may speak, what is read, and what it leads to."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest

from connectors.kit.connector import Request
from connectors.kit.signing import timestamped
from connectors.mailchimp.connector import Mailchimp
from connectors.mailchimp.members import subscriber_hash
from connectors.mailchimp.webhooks import MAX_BODY
from hub.change import Notice
from hub.errors import Reject
from hub.event import record
from tests.connectors.mailchimp_support import LIST, SECRET, Rig, drain, rigged
from tests.sandboxes.mailchimp_support import Receiver, receiving

NOW = 1_767_225_600.0
URL = f"https://hub.example.com/webhooks/mailchimp?secret={SECRET}"
LEFT = {
    "type": "unsubscribe",
    "fired_at": "2026-01-01 08:00:00",
    "data[list_id]": LIST,
    "data[email]": "Ada@Example.com",
}


def webhook(fields: dict[str, str] | bytes, url: str = URL, **headers: str) -> Request:
    """A webhook as the hub's edge hands it on."""
    body = fields if isinstance(fields, bytes) else urlencode(fields).encode()
    return Request("POST", url, headers, body, NOW)


def connector(**settings: str) -> Mailchimp:
    """A connector that never calls anybody."""
    return Mailchimp("mailchimp", {"api_key": "key-us1", "list_id": LIST, "webhook_secret": SECRET} | settings, {})


async def test_a_webhook_is_a_notice() -> None:
    (notice,) = await connector().receive(webhook(LEFT | {"data[reason]": "manual", "data[merges][FNAME]": "Ada"}))
    assert notice == Notice(
        "mailchimp",
        "members",
        subscriber_hash("ada@example.com"),
        "unsubscribe",
        1_767_254_400_000_000,
        {"email": "Ada@Example.com", "reason": "manual"},
    )


async def test_a_new_address_is_looked_up_and_a_campaign_is_activity() -> None:
    moved = {"type": "upemail", "data[list_id]": LIST, "data[old_email]": "a@x.org", "data[new_email]": "b@x.org"}
    sent = {"type": "campaign", "data[list_id]": LIST, "data[id]": "c1", "data[status]": "sent"}
    notices = [notice for fields in (moved, sent) for notice in await connector().receive(webhook(fields))]
    assert [(n.object, n.external_id, n.at) for n in notices] == [
        ("members", subscriber_hash("b@x.org"), None),
        ("activity", "c1", None),
    ]


@pytest.mark.parametrize("fields", [LEFT | {"data[list_id]": "other"}, LEFT | {"type": "brand_new_kind"}])
async def test_what_is_not_read_is_accepted_and_ignored(fields: dict[str, str]) -> None:
    assert await connector().receive(webhook(fields)) == []


async def test_the_probe_of_the_vendor_is_accepted() -> None:
    assert await connector().receive(Request("GET", URL, {}, b"", NOW)) == []


@pytest.mark.parametrize(
    "url",
    [
        "https://hub.example.com/webhooks/mailchimp",
        "https://hub.example.com/webhooks/mailchimp?secret=",
        "https://hub.example.com/webhooks/mailchimp?secret=wrong",
        f"https://hub.example.com/webhooks/{SECRET}/mailchimp",
        f"https://hub.example.com/webhooks/mailchimp?secret={SECRET}x",
    ],
)
async def test_a_wrong_secret_is_refused(url: str) -> None:
    with pytest.raises(Reject) as caught:
        await connector().receive(webhook(LEFT, url))
    assert (caught.value.code, SECRET in str(caught.value)) == ("signature", False)


async def test_the_secret_may_stand_at_the_end_of_the_path() -> None:
    assert len(await connector().receive(webhook(LEFT, f"https://hub.example.com/webhooks/mailchimp/{SECRET}"))) == 1


async def test_without_any_secret_nothing_is_accepted() -> None:
    with pytest.raises(Reject) as caught:
        await connector(webhook_secret="").receive(webhook(LEFT))
    assert caught.value.code == "config"


async def test_signatures_are_checked_where_they_are_agreed_upon() -> None:
    signed = connector(signing_secret="shared")
    body = urlencode(LEFT).encode()
    good = f"t={NOW:.0f},v1={timestamped('shared', f'{NOW:.0f}', body)}"
    stale = f"t={NOW - 301:.0f},v1={timestamped('shared', f'{NOW - 301:.0f}', body)}"
    assert len(await signed.receive(webhook(body, **{"x-mailchimp-signature": good}))) == 1
    for header, code in ((good.replace("v1=", "v1=0"), "signature"), (stale, "stale"), ("", "signature")):
        with pytest.raises(Reject) as caught:
            await signed.receive(webhook(body, **{"x-mailchimp-signature": header}))
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b"{}", "malformed"),
        (urlencode({"type": "profile"}).encode(), "malformed"),
        (b"&".join(b"a%d=1" % n for n in range(600)), "malformed"),
        (b"type=profile&x=" + b"x" * MAX_BODY, "too-long"),
    ],
)
async def test_bad_bodies_are_refused(body: bytes, code: str) -> None:
    with pytest.raises(Reject) as caught:
        await connector().receive(webhook(body))
    assert caught.value.code == code


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A connector on a sandbox that holds Ada."""
    async with rigged() as rig:
        await rig.seed({"email_address": "Ada@Example.com", "status": "subscribed"})
        yield rig


async def told(rig: Rig, receiver: Receiver, count: int) -> list[Notice]:
    """The notices of the first webhooks, once so many came."""
    return [
        notice
        for body in receiver.bodies[:count]
        for notice in await rig.connector.receive(webhook(body, f"{receiver.url}&secret={SECRET}"))
    ]


@pytest.mark.parametrize(
    ("action", "more", "op"),
    [
        ("unsubscribe", {}, "upsert"),
        ("profile", {"merge_fields": {"FNAME": "Ada"}}, "upsert"),
        ("clean", {}, "upsert"),
        ("upemail", {"new_email": "lady@example.com"}, "upsert"),
        ("archive", {}, "delete"),
    ],
)
async def test_what_people_do_arrives_as_the_change_that_a_poll_would_bring(
    rig: Rig, action: str, more: dict[str, str], op: str
) -> None:
    _, checkpoint = await drain(rig.connector)
    with receiving() as receiver:
        target = {"url": receiver.url, "secret": None, "mode": {"duplicate": 1.0}}
        (await rig.control.post("/webhooks", json=target)).raise_for_status()
        await rig.edit(action, "ada@example.com", **more)
        await asyncio.to_thread(receiver.wait, 2)
        notices = await told(rig, receiver, 2)
    fetched = await rig.connector.fetch(notices)
    polled, _ = await drain(rig.connector, checkpoint=checkpoint)
    assert [c.op for c in fetched] == [op]
    assert [record(c, 10**16).event_id for c in fetched] == [record(c, 10**16).event_id for c in polled]


async def test_the_address_of_an_old_webhook_may_be_another_by_now(rig: Rig) -> None:
    await drain(rig.connector)
    (notice,) = await rig.connector.receive(webhook(LEFT))
    await rig.edit("upemail", "ada@example.com", new_email="lady@example.com")
    (change,) = await rig.connector.fetch([notice])
    assert (change.op, change.fields["email_address"]) == ("upsert", "lady@example.com")


async def test_who_was_deleted_for_good_is_a_delete_where_the_contact_is_known(rig: Rig) -> None:
    changes, _ = await drain(rig.connector)
    (notice,) = await rig.connector.receive(webhook(LEFT))
    await rig.edit("delete", "ada@example.com")
    (change,) = await rig.connector.fetch([notice])
    assert (change.op, change.external_id) == ("delete", changes[0].external_id)
    assert await rig.connect().fetch([notice]) == []


async def test_a_fetch_by_external_id_proves_a_delete(rig: Rig) -> None:
    contact = (await rig.member("ada@example.com"))["contact_id"]
    notice = Notice("mailchimp", "members", contact, "profile")
    assert [c.op for c in await rig.connector.fetch([notice])] == ["upsert"]
