"""Mailchimp's official Python client talks to the sandbox; every exchange fits the official description."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from typing import Any

import httpx
import mailchimp_marketing
import pytest
from mailchimp_marketing.api_client import ApiClientError

from connectors.mailchimp.sandbox import API_KEY
from tests.sandboxes.mailchimp_support import ADA, LIST, Box, md5, receiving, running, until


@pytest.fixture
def box() -> Iterator[Box]:
    with running() as served:
        yield served


@pytest.fixture
def sdk(box: Box) -> Any:
    client = mailchimp_marketing.Client({"api_key": API_KEY})
    client.api_client.host = f"{box.url}/3.0"  # the client has no setting for it; the host is a public attribute
    return client


def test_ping_and_root(sdk: Any) -> None:
    assert sdk.ping.get() == {"health_status": "Everything's Chimpy!"}
    assert sdk.root.get_root()["total_subscribers"] == 0


def test_a_member_is_added_read_changed_and_archived(sdk: Any) -> None:
    body: dict[str, Any] = {
        "email_address": "Bob@Example.com",
        "status": "subscribed",
        "merge_fields": {"FNAME": " Bob "},
    }
    made = sdk.lists.add_list_member(LIST, body)
    assert made["id"] == md5("bob@example.com")
    assert made["email_address"] == "Bob@Example.com"
    assert made["merge_fields"]["FNAME"] == "Bob"
    assert made["merge_fields"]["LNAME"] == ""
    assert sdk.lists.get_list_member(LIST, md5("BOB@example.com"))["contact_id"] == made["contact_id"]
    sdk.lists.update_list_member(LIST, made["id"], {"merge_fields": {"LNAME": "Stone"}})
    put = sdk.lists.set_list_member(LIST, made["id"], {"email_address": "Bob@Example.com", "status_if_new": "pending"})
    assert put["merge_fields"]["FNAME"] == "Bob"
    assert put["full_name"] == "Bob Stone"
    assert put["status"] == "subscribed"
    assert sdk.lists.delete_list_member(LIST, made["id"]).status_code == 204
    assert sdk.lists.get_list_member(LIST, made["id"])["status"] == "archived"
    sdk.lists.delete_list_member_permanent(LIST, made["id"])
    with pytest.raises(ApiClientError) as caught:
        sdk.lists.get_list_member(LIST, made["id"])
    assert caught.value.status_code == 404
    assert json.loads(caught.value.text)["title"] == "Resource Not Found"


def test_a_list_is_created_with_its_usual_merge_fields(sdk: Any) -> None:
    made = sdk.lists.create_list(
        {
            "name": "News",
            "permission_reminder": "You signed up.",
            "email_type_option": False,
            "contact": {"company": "C", "address1": "1 Main", "city": "X", "country": "US"},
            "campaign_defaults": {"from_name": "N", "from_email": "n@example.com", "subject": "", "language": "en"},
        }
    )
    fields = sdk.lists.get_list_merge_fields(made["id"])["merge_fields"]
    assert [field["tag"] for field in fields] == ["FNAME", "LNAME", "ADDRESS", "PHONE"]
    added = sdk.lists.add_list_merge_field(made["id"], {"name": "Company", "type": "text", "tag": "company"})
    assert added["tag"] == "COMPANY"
    changed = sdk.lists.update_list_merge_field(made["id"], str(added["merge_id"]), {"name": "Firm", "required": True})
    assert (changed["name"], changed["required"]) == ("Firm", True)
    assert sdk.lists.get_all_lists()["total_items"] == 2
    assert sdk.lists.get_list(made["id"])["stats"]["merge_field_count"] == 5


def test_many_members_at_once_each_have_an_outcome(sdk: Any, box: Box) -> None:
    box.seed(ADA)
    members: list[dict[str, Any]] = [{"email_address": f"m{n}@example.com", "status": "subscribed"} for n in range(3)]
    members += [{"email_address": "ada@example.com", "status": "unsubscribed"}]
    members += [{"email_address": "bad@example.com", "status": "subscribed", "merge_fields": {"SCORE": "many"}}]
    done = sdk.lists.batch_list_members(LIST, {"members": members})
    assert (done["total_created"], done["total_updated"], done["error_count"]) == (3, 0, 2)
    codes = {error["email_address"]: (error["error_code"], error["field"]) for error in done["errors"]}
    assert codes == {
        "ada@example.com": ("ERROR_CONTACT_EXISTS", ""),
        "bad@example.com": ("ERROR_GENERIC", "SCORE"),
    }
    again = sdk.lists.batch_list_members(LIST, {"members": members[3:4], "update_existing": True})
    assert [member["status"] for member in again["updated_members"]] == ["unsubscribed"]
    too_many = [{"email_address": f"x{n}@example.com", "status": "subscribed"} for n in range(501)]
    with pytest.raises(ApiClientError) as caught:
        sdk.lists.batch_list_members(LIST, {"members": too_many})
    assert caught.value.status_code == 400


def test_tags_are_segments_and_no_change_of_the_member(sdk: Any, box: Box) -> None:
    box.seed(ADA)
    before = box.member("ada@example.com")["last_changed"]
    tags = {"tags": [{"name": "vip", "status": "active"}, {"name": "old", "status": "active"}]}
    assert sdk.lists.update_list_member_tags(LIST, md5("ada@example.com"), tags).status_code == 204
    sdk.lists.update_list_member_tags(
        LIST,
        md5("ada@example.com"),
        {"tags": [{"name": "old", "status": "inactive"}, {"name": "no", "status": "inactive"}]},
    )
    held = sdk.lists.get_list_member_tags(LIST, md5("ada@example.com"))
    assert [tag["name"] for tag in held["tags"]] == ["vip"]
    segments = {each["name"]: each["member_count"] for each in sdk.lists.list_segments(LIST)["segments"]}
    assert segments == {"vip": 1, "old": 0}
    vip = sdk.lists.get_segment_members_list(LIST, str(held["tags"][0]["id"]))
    assert [member["email_address"] for member in vip["members"]] == ["Ada@Example.com"]
    assert sdk.lists.tag_search(LIST, name="vi")["total_items"] == 1
    member = box.member("ada@example.com")
    assert (member["last_changed"], member["tags_count"]) == (before, 1)


def test_notes(sdk: Any, box: Box) -> None:
    box.seed(ADA)
    key = md5("ada@example.com")
    note = sdk.lists.create_list_member_note(LIST, key, {"note": "called"})
    sdk.lists.update_list_member_note(LIST, key, str(note["id"]), {"note": "called twice"})
    assert sdk.lists.get_list_member_notes(LIST, key)["notes"][0]["note"] == "called twice"
    assert box.member("ada@example.com")["last_note"]["note"] == "called twice"
    sdk.lists.delete_list_member_note(LIST, key, str(note["id"]))
    assert sdk.lists.get_list_member_notes(LIST, key)["total_items"] == 0


def test_a_batch_runs_in_the_background_and_packs_its_answers(sdk: Any, box: Box) -> None:
    operations: list[dict[str, Any]] = [
        {
            "method": "PUT",
            "path": f"/lists/{LIST}/members/{md5(f'b{n}@example.com')}",
            "operation_id": f"op-{n}",
            "body": json.dumps({"email_address": f"b{n}@example.com", "status_if_new": "subscribed"}),
        }
        for n in range(600)
    ]
    operations.append({"method": "GET", "path": f"lists/{LIST}/members", "params": {"count": "1"}, "operation_id": "g"})
    operations.append({"method": "GET", "path": "/lists/nowhere", "operation_id": "lost"})
    operations.append({"method": "POST", "path": f"/lists/{LIST}/members", "body": "{", "operation_id": "torn"})
    started = sdk.batches.start({"operations": operations})
    assert started["status"] == "pending"
    until(lambda: bool(sdk.batches.status(started["id"])["status"] == "finished"), "the batch")
    done = sdk.batches.status(started["id"])
    assert (done["total_operations"], done["finished_operations"], done["errored_operations"]) == (603, 603, 2)
    answers = {answer["operation_id"]: answer for answer in _unpack(done["response_body_url"])}
    assert json.loads(answers["op-7"]["response"])["email_address"] == "b7@example.com"
    assert json.loads(answers["g"]["response"])["total_items"] == 600
    assert (answers["lost"]["status_code"], answers["torn"]["status_code"]) == (404, 400)
    assert sdk.batches.list()["total_items"] == 1
    sdk.batches.delete_request(started["id"])
    assert sdk.batches.list()["total_items"] == 0


def _unpack(url: str) -> list[dict[str, Any]]:
    """All answers of a batch, without credentials, as the real URL is public."""
    packed = httpx.get(url, trust_env=False).raise_for_status().content
    answers: list[dict[str, Any]] = []
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        files = [archive.extractfile(name) for name in archive.getnames()]
        assert len(files) == 2  # over 500 answers are split
        for file in files:
            assert file is not None
            answers += json.load(file)
    return answers


def test_webhooks_are_registered_changed_and_dropped(sdk: Any, box: Box) -> None:
    with receiving() as receiver:
        body = {"url": receiver.url, "events": {"subscribe": True}, "sources": {"api": True}}
        made = sdk.lists.create_list_webhook(LIST, body)
        assert receiver.probes == 1
        assert [name for name, wanted in made["events"].items() if wanted] == ["subscribe"]
        sdk.lists.add_list_member(LIST, {"email_address": "w@example.com", "status": "subscribed"})
        assert receiver.wait(1)[0]["type"] == "subscribe"
        changed = sdk.lists.update_list_webhook(LIST, made["id"], {"sources": {"user": True}})
        assert changed["sources"] == {"user": True, "admin": False, "api": False}
        with pytest.raises(ApiClientError) as caught:
            sdk.lists.create_list_webhook(LIST, {"url": receiver.url + "&other=1"})
        assert "multiple WebHooks for one URL" in caught.value.text
        assert sdk.lists.get_list_webhooks(LIST)["total_items"] == 1
        sdk.lists.delete_list_webhook(LIST, made["id"])
        assert sdk.lists.get_list_webhooks(LIST)["total_items"] == 0


def test_a_campaign_is_sent_and_reported(sdk: Any, box: Box) -> None:
    box.seed(ADA, {"email_address": "gone@example.com", "status": "unsubscribed"}, {"email_address": "eve@example.com"})
    settings = {"subject_line": "Hello", "title": "H1", "from_name": "N", "reply_to": "n@example.com"}
    made = sdk.campaigns.create({"type": "regular", "recipients": {"list_id": LIST}, "settings": settings})
    assert made["status"] == "save"
    with pytest.raises(ApiClientError):
        sdk.reports.get_campaign_report(made["id"])
    sdk.campaigns.send(made["id"])
    box.edit("open", "ada@example.com", campaign=made["id"])
    box.edit("click", "ada@example.com", campaign=made["id"], url="https://example.com/x")
    box.edit("unsubscribe", "eve@example.com", campaign=made["id"], said="too many", reason="abuse")
    report = sdk.reports.get_campaign_report(made["id"])
    assert (report["emails_sent"], report["opens"]["opens_total"], report["unsubscribed"]) == (2, 1, 1)
    assert report["abuse_reports"] == 1
    acts = {
        each["email_address"]: each["activity"]
        for each in sdk.reports.get_email_activity_for_campaign(made["id"])["emails"]
    }
    assert [act["action"] for act in acts["Ada@Example.com"]] == ["open", "click"]
    assert acts["eve@example.com"] == []
    assert sdk.reports.get_campaign_recipients(made["id"])["total_items"] == 2
    left = sdk.reports.get_unsubscribed_list_for_campaign(made["id"])["unsubscribes"]
    assert [(each["email_address"], each["reason"]) for each in left] == [("eve@example.com", "too many")]
    feed = sdk.lists.get_list_member_activity_feed(LIST, md5("ada@example.com"))["activity"]
    assert [item["activity_type"] for item in feed] == ["click", "open", "sent"]
    recent = sdk.lists.get_list_member_activity(LIST, md5("ada@example.com"), action=["click"])
    assert [item["url"] for item in recent["activity"]] == ["https://example.com/x"]
    assert sdk.campaigns.list(list_id=LIST, status="sent")["campaigns"][0]["report_summary"]["unique_opens"] == 1
    assert sdk.reports.get_all_campaign_reports()["total_items"] == 1
    sdk.campaigns.remove(made["id"])
    assert sdk.campaigns.list()["total_items"] == 0


def test_a_wrong_key_is_refused(sdk: Any) -> None:
    sdk.set_config({"api_key": "f" * 32 + "-us1"})
    with pytest.raises(ApiClientError) as caught:
        sdk.ping.get()
    assert caught.value.status_code == 401
    assert json.loads(caught.value.text)["title"] == "API Key Invalid"
