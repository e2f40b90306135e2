"""The webhooks of the Mailchimp sandbox: which events, to whom, with which bodies and signature."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from typing import Any

import pytest

from tests.sandboxes.mailchimp_support import ADA, LIST, Box, Receiver, md5, receiving, running, until

HOOKS = f"/lists/{LIST}/webhooks"
ALL_EVENTS = dict.fromkeys(("subscribe", "unsubscribe", "profile", "cleaned", "upemail", "campaign"), True)


@pytest.fixture
def box() -> Iterator[Box]:
    with running() as served:
        yield served


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as served:
        yield served


def register(box: Box, receiver: Receiver, **sources: bool) -> dict[str, Any]:
    """Register the receiver for every event caused by these sources."""
    made = box.api.post(HOOKS, json={"url": receiver.url, "events": ALL_EVENTS, "sources": sources})
    answer: dict[str, Any] = made.raise_for_status().json()
    return answer


def change(box: Box, **body: Any) -> None:
    box.api.patch(f"/lists/{LIST}/members/{md5('ada@example.com')}", json=body).raise_for_status()


def test_each_event_has_its_body(box: Box, receiver: Receiver) -> None:
    box.seed({**ADA, "merge_fields": {"FNAME": "Ada", "ADDRESS": "1 Main  Springfield  IL  62701"}})
    register(box, receiver, user=True, admin=True)
    known = box.member("ada@example.com")
    box.edit("profile", "ada@example.com", merge_fields={"LNAME": "Byron"})
    box.edit("upemail", "ada@example.com", new_email="countess@example.com")
    box.edit("unsubscribe", "countess@example.com", reason="abuse")
    box.edit("subscribe", "countess@example.com")
    box.edit("archive", "countess@example.com")
    box.edit("subscribe", "bounce@example.com")
    box.edit("clean", "bounce@example.com")
    box.edit("campaign_send", "", campaign={"id": "c1", "title": "T", "subject": "Hello"})
    posts = receiver.wait(9)
    assert [post["type"] for post in posts] == [
        "profile", "upemail", "profile", "unsubscribe", "subscribe", "unsubscribe", "subscribe", "cleaned", "campaign",
    ]  # fmt: skip
    profile, upemail, _, left, came, archived, _, cleaned, campaign = posts
    assert all(len(post["fired_at"]) == len("2026-01-01 00:00:00") and "T" not in post["fired_at"] for post in posts)
    assert profile["data[id]"] == known["unique_email_id"]
    assert profile["data[web_id]"] == str(known["web_id"])
    assert profile["data[list_id]"] == LIST
    assert (profile["data[email]"], profile["data[merges][EMAIL]"]) == ("Ada@Example.com", "Ada@Example.com")
    assert (profile["data[merges][LNAME]"], profile["data[merges][PHONE]"]) == ("Byron", "")
    assert profile["data[merges][ADDRESS][city]"] == "Springfield"
    assert upemail["data[old_email]"] == "Ada@Example.com"
    assert upemail["data[new_email]"] == "countess@example.com"
    assert upemail["data[new_id]"] == left["data[id]"] == came["data[id]"]
    assert (left["data[action]"], left["data[reason]"]) == ("unsub", "abuse")
    assert (archived["data[action]"], archived["data[reason]"]) == ("delete", "manual")
    assert (cleaned["data[email]"], cleaned["data[reason]"]) == ("bounce@example.com", "hard")
    assert {name: value for name, value in campaign.items() if name != "fired_at"} == {
        "type": "campaign",
        "data[id]": "c1",
        "data[subject]": "Hello",
        "data[status]": "sent",
        "data[reason]": "",
        "data[list_id]": LIST,
    }


def test_api_changes_fire_only_where_asked_for(box: Box, receiver: Receiver) -> None:
    box.seed(ADA)
    hook = register(box, receiver, user=True, admin=True, api=False)
    change(box, merge_fields={"FNAME": "quiet"})
    box.edit("profile", "ada@example.com", merge_fields={"FNAME": "loud"})
    assert [post["data[merges][FNAME]"] for post in receiver.wait(1)] == ["loud"]
    box.api.patch(f"{HOOKS}/{hook['id']}", json={"sources": {"api": True}}).raise_for_status()
    change(box, merge_fields={"FNAME": "heard"})
    box.edit("profile", "ada@example.com", merge_fields={"FNAME": "unheard"})
    change(box, status="unsubscribed")
    posts = receiver.wait(3)
    assert [(post["type"], post["data[merges][FNAME]"]) for post in posts[1:]] == [
        ("profile", "heard"),
        ("unsubscribe", "unheard"),
    ]


def test_a_change_of_nothing_and_of_tags_fires_nothing(box: Box, receiver: Receiver) -> None:
    box.seed(ADA)
    register(box, receiver, api=True, user=True, admin=True)
    change(box, merge_fields={"FNAME": "Ada"})
    box.edit("tag", "ada@example.com", tags=["vip"])
    change(box, merge_fields={"FNAME": "last"})
    assert [post["data[merges][FNAME]"] for post in receiver.wait(1)] == ["last"]


@pytest.mark.parametrize("status", [404, 301, 500])
def test_a_url_that_does_not_answer_200_is_refused(box: Box, receiver: Receiver, status: int) -> None:
    receiver.probe_status = status
    answer = box.api.post(HOOKS, json={"url": receiver.url})
    assert answer.status_code == 400
    message = "We couldn't verify the URL is working. Please double check and try again."
    assert answer.json()["errors"] == [{"field": "url", "message": f"{message} HTTP Code: {status}"}]
    assert box.api.get(HOOKS).json()["total_items"] == 0


@pytest.mark.parametrize("url", ["ftp://example.com/x", "nothing", "http://127.0.0.1:9/closed"])
def test_a_url_that_cannot_be_called_is_refused(box: Box, url: str) -> None:
    assert box.api.post(HOOKS, json={"url": url}).status_code == 400


def test_deliveries_are_signed_when_there_is_a_secret(box: Box, receiver: Receiver) -> None:
    box.seed(ADA)
    box.control.post("/webhooks", json={"url": receiver.url, "secret": "k"}).raise_for_status()
    box.edit("unsubscribe", "ada@example.com")
    receiver.wait(1)
    said = dict(part.split("=") for part in receiver.headers[0]["x-mailchimp-signature"].split(","))
    expected = hmac.new(b"k", said["t"].encode() + b"." + receiver.bodies[0], hashlib.sha256).hexdigest()
    assert said["v1"] == expected
    assert receiver.headers[0]["content-type"] == "application/x-www-form-urlencoded"


def test_a_failed_delivery_is_retried(box: Box, receiver: Receiver) -> None:
    box.seed(ADA)
    box.control.post("/webhooks", json={"mode": {"seed": 1}, "base_delay_seconds": 0.01}).raise_for_status()
    register(box, receiver, user=True)
    receiver.refuse_first = 3
    box.edit("unsubscribe", "ada@example.com")
    assert receiver.wait(1)[0]["type"] == "unsubscribe"
    until(lambda: box.control.get("/webhooks").json()["pending"] == 0, "no pending webhook")
    counts = box.control.get("/webhooks").json()
    assert (counts["sent"], counts["attempts"], counts["failed"]) == (1, 4, 0)


def test_duplicates_are_injected(box: Box, receiver: Receiver) -> None:
    box.seed(ADA)
    box.control.post("/webhooks", json={"url": receiver.url, "mode": {"duplicate": 1.0}}).raise_for_status()
    box.edit("unsubscribe", "ada@example.com")
    first, second = receiver.wait(2)
    assert first == second


def test_seeding_fires_nothing_and_pending_members_are_told_when_they_confirm(box: Box, receiver: Receiver) -> None:
    box.control.post("/webhooks", json={"url": receiver.url}).raise_for_status()
    box.seed(ADA)
    box.edit("subscribe", "new@example.com", status="pending")
    box.edit("confirm", "new@example.com")
    assert [(post["type"], post["data[email]"]) for post in receiver.wait(1)] == [("subscribe", "new@example.com")]
