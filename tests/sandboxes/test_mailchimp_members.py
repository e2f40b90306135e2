"""Mailchimp's rules for members: consent, archiving, addresses, merge fields, and paging."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.sandboxes.mailchimp_support import ADA, LIST, Box, md5, running

MEMBERS = f"/lists/{LIST}/members"


@pytest.fixture
def box() -> Iterator[Box]:
    with running() as served:
        yield served


@pytest.fixture(scope="module")
def shared() -> Iterator[Box]:
    """One sandbox for the tests that only write one member's values."""
    with running() as served:
        yield served


def path(email: str) -> str:
    return f"{MEMBERS}/{md5(email)}"


def refused(answer: httpx.Response, title: str, status: int = 400) -> dict[str, Any]:
    """The problem document of a refusal."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem: dict[str, Any] = answer.json()
    assert problem["title"] == title
    return problem


def test_a_member_is_found_by_hash_address_and_contact_id(box: Box) -> None:
    box.seed(ADA)
    by_hash = box.api.get(path("ADA@example.com")).json()
    assert box.api.get(f"{MEMBERS}/ada%40example.com").json() == by_hash
    assert box.api.get(f"{MEMBERS}/{by_hash['contact_id']}").json() == by_hash
    refused(box.api.get(f"{MEMBERS}/{md5('x@example.com')}"), "Resource Not Found", 404)
    refused(box.api.get("/lists/nope/members"), "Resource Not Found", 404)
    refused(box.api.put(MEMBERS, json={}), "Method Not Allowed", 405)


def test_a_member_that_exists_is_not_created_again(box: Box) -> None:
    box.seed(ADA, {"email_address": "old@example.com", "status": "archived"})
    for email in ("aDa@example.com", "old@example.com"):
        answer = box.api.post(MEMBERS, json={"email_address": email, "status": "subscribed"})
        problem = refused(answer, "Member Exists")
        assert problem["detail"] == f"{email} is already a list member. Use PUT to insert or update list members."


def test_a_put_with_a_wrong_hash_hits_the_member_that_exists(box: Box) -> None:
    box.seed(ADA)
    body = {"email_address": "Ada@Example.com", "status_if_new": "subscribed"}
    wrong = f"{MEMBERS}/5f4dcc3b5aa765d61d8327deb882cf99"  # not the hash of the lower-case address
    refused(box.api.put(wrong, json=body), "Member Exists")
    assert box.api.get(MEMBERS).json()["total_items"] == 1


def test_status_if_new_is_for_new_members_only(box: Box) -> None:
    problem = refused(box.api.put(path("n@example.com"), json={"email_address": "n@example.com"}), "Invalid Resource")
    assert problem["errors"] == [{"field": "", "message": "Required fields were not provided: status_if_new"}]
    body = {"email_address": "n@example.com", "status_if_new": "pending"}
    assert box.api.put(path("n@example.com"), json=body).json()["status"] == "pending"
    body["status_if_new"] = "subscribed"
    assert box.api.put(path("n@example.com"), json=body).json()["status"] == "pending"


@pytest.mark.parametrize("action", ["unsubscribe", "clean"])
def test_who_left_himself_cannot_be_subscribed_by_the_api(box: Box, action: str) -> None:
    box.seed(ADA)
    box.edit(action, "ada@example.com")
    for call in (box.api.patch, box.api.put):
        body = {"email_address": "Ada@Example.com", "status": "subscribed", "status_if_new": "subscribed"}
        problem = refused(call(path("ada@example.com"), json=body), "Member In Compliance State")
        assert "and cannot be subscribed" in problem["detail"]
    members = [{"email_address": "ada@example.com", "status": "subscribed"}]
    bulk = box.api.post(f"/lists/{LIST}", json={"members": members, "update_existing": True}).json()
    assert (bulk["error_count"], bulk["errors"][0]["error_code"]) == (1, "ERROR_GENERIC")
    renamed = box.api.patch(path("ada@example.com"), json={"merge_fields": {"FNAME": "Adah"}})
    assert renamed.json()["merge_fields"]["FNAME"] == "Adah"
    assert box.api.patch(path("ada@example.com"), json={"status": "pending"}).json()["status"] == "pending"
    refused(box.api.patch(path("ada@example.com"), json={"status": "subscribed"}), "Member In Compliance State")
    assert box.edit("confirm", "ada@example.com")["status"] == "subscribed"


def test_who_was_unsubscribed_by_the_api_can_come_back_by_it(box: Box) -> None:
    box.seed(ADA)
    assert box.api.patch(path("ada@example.com"), json={"status": "unsubscribed"}).json()["status"] == "unsubscribed"
    assert box.api.patch(path("ada@example.com"), json={"status": "subscribed"}).json()["status"] == "subscribed"


def test_archived_members_stay_and_come_back(box: Box) -> None:
    box.seed(ADA, {"email_address": "left@example.com", "status": "unsubscribed"})
    for email in ("ada@example.com", "left@example.com"):
        assert box.api.delete(path(email)).status_code == 204
        problem = refused(box.api.delete(path(email)), "Method Not Allowed", 405)
        assert "bounced, pending or archived" in problem["detail"]
    assert box.api.get(MEMBERS, params={"status": "archived"}).json()["total_items"] == 2
    assert box.api.patch(path("ada@example.com"), json={"status": "subscribed"}).json()["status"] == "subscribed"
    # Archiving is no way around the contact's own will.
    refused(box.api.patch(path("left@example.com"), json={"status": "subscribed"}), "Member In Compliance State")


def test_a_permanently_deleted_address_cannot_be_imported(box: Box) -> None:
    box.seed(ADA, {"email_address": "other@example.com"})
    assert box.api.post(f"{path('ada@example.com')}/actions/delete-permanent").status_code == 204
    refused(box.api.get(path("ada@example.com")), "Resource Not Found", 404)
    body = {"email_address": "ada@example.com", "status": "subscribed", "status_if_new": "subscribed"}
    for answer in (box.api.post(MEMBERS, json=body), box.api.put(path("ada@example.com"), json=body)):
        problem = refused(answer, "Forgotten Email Not Subscribed")
        assert problem["detail"].startswith("ada@example.com was permanently deleted and cannot be re-imported.")
    moved = box.api.patch(path("other@example.com"), json={"email_address": "ada@example.com"})
    refused(moved, "Forgotten Email Not Subscribed")
    assert box.edit("subscribe", "ada@example.com")["status"] == "subscribed"
    assert box.member("ada@example.com")["merge_fields"]["FNAME"] == ""


def test_a_new_address_moves_the_hash_and_keeps_the_contact(box: Box) -> None:
    box.seed(ADA, {"email_address": "taken@example.com"})
    old = box.member("ada@example.com")
    refused(box.api.patch(path("ada@example.com"), json={"email_address": "taken@example.com"}), "Member Exists")
    new = box.api.patch(path("ada@example.com"), json={"email_address": "Countess@Example.com"}).json()
    assert new["id"] == md5("countess@example.com")
    assert (new["contact_id"], new["web_id"]) == (old["contact_id"], old["web_id"])
    assert new["unique_email_id"] != old["unique_email_id"]  # it is the address's id, in every audience
    refused(box.api.get(path("ada@example.com")), "Resource Not Found", 404)
    recased = box.api.patch(path("countess@example.com"), json={"email_address": "countess@example.com"}).json()
    assert (recased["id"], recased["email_address"]) == (new["id"], "countess@example.com")
    # The old address is free, and whoever takes it is another contact.
    body = {"email_address": "ada@example.com", "status": "subscribed"}
    assert box.api.post(MEMBERS, json=body).json()["contact_id"] != old["contact_id"]


def test_nothing_changed_leaves_the_time_of_change(box: Box) -> None:
    box.seed(ADA)
    same = box.api.patch(path("ada@example.com"), json={"merge_fields": {"FNAME": " Ada ", "LNAME": ""}})
    assert same.json()["last_changed"] == ADA["last_changed"]
    other = box.api.patch(path("ada@example.com"), json={"merge_fields": {"FNAME": "Bea"}})
    assert other.json()["last_changed"] > ADA["last_changed"]


@pytest.mark.parametrize(
    ("tag", "given", "kept"),
    [
        ("FNAME", "  Ada ", "Ada"),
        ("FNAME", "x" * 300, "x" * 255),
        ("FNAME", 7, "7"),
        ("PHONE", "+1 404.555.1212", "(404) 555-1212"),
        ("SCORE", "12.50", 12.5),
        ("SCORE", 3.0, 3),
        ("SINCE", "2/29/2024", "2024-02-29"),
        ("SINCE", "2024-02-29T10:00:00Z", "2024-02-29"),
        ("BDAY", "2/29", "02/29"),
        ("TIER", "gold", "gold"),
        ("TIER", "", ""),
        ("ADDRESS", "1 Main  Springfield  IL  62701", {"addr1": "1 Main", "city": "Springfield", "country": "US"}),
        ("ADDRESS", {"addr1": "", "city": "", "state": "", "zip": "", "country": "US"}, ""),
        ("NOSUCH", "ignored", None),
    ],
)
def test_values_are_rewritten_by_type(shared: Box, tag: str, given: Any, kept: Any) -> None:
    shared.seed(ADA)
    values = shared.api.patch(path("ada@example.com"), json={"merge_fields": {tag: given}}).json()["merge_fields"]
    if isinstance(kept, dict):
        assert kept.items() <= values[tag].items()
    else:
        assert values.get(tag) == kept
    assert None not in values.values()


@pytest.mark.parametrize(
    ("tag", "given", "message"),
    [
        ("FNAME", None, "Schema describes string, NULL found instead"),
        ("FNAME", {"first": "Ada"}, "Schema describes string, object found instead"),
        ("PHONE", "555-1212", "Please enter a valid phone number"),
        ("SCORE", "many", "Please enter a number"),
        ("SCORE", "NaN", "Please enter a number"),
        ("SINCE", "2023-02-29", "Please enter the date"),
        ("BDAY", "1990-05-01", "Please enter a month (01-12) and a day (01-31)"),
        ("TIER", "lead", "Value must be one of: gold, silver (not lead)"),
        ("ADDRESS", {"addr1": "1 Main", "city": "Springfield"}, "Please enter a complete address"),
    ],
)
def test_values_that_do_not_fit_the_type_are_refused(shared: Box, tag: str, given: Any, message: str) -> None:
    shared.seed(ADA)
    answer = shared.api.patch(path("ada@example.com"), json={"merge_fields": {tag: given, "LNAME": "L"}})
    problem = refused(answer, "Invalid Resource")
    assert problem["detail"] == "Your merge fields were invalid."
    assert problem["errors"] == [{"field": tag, "message": message}]
    assert shared.member("ada@example.com")["merge_fields"]["LNAME"] == ""


def test_required_fields_are_asked_for_unless_skipped(box: Box) -> None:
    box.api.patch(f"/lists/{LIST}/merge-fields/2", json={"name": "Last Name", "required": True}).raise_for_status()
    body = {"email_address": "n@example.com", "status": "subscribed"}
    problem = refused(box.api.post(MEMBERS, json=body), "Invalid Resource")
    assert problem["errors"] == [{"field": "LNAME", "message": "Please enter a value"}]
    assert box.api.post(MEMBERS, params={"skip_merge_validation": "true"}, json=body).status_code == 200
    # A member who lacks it can still be told to be unsubscribed.
    assert box.api.patch(path("n@example.com"), json={"status": "unsubscribed"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "title"),
    [
        ({"email_address": "not an address", "status": "subscribed"}, "Invalid Resource"),
        ({"email_address": 5, "status": "subscribed"}, "Invalid Resource"),
        ({"email_address": "a@example.com", "status": "happy"}, "Invalid Resource"),
        ({"email_address": "a@example.com"}, "Invalid Resource"),
        ({"email_address": "a@example.com", "status": "subscribed", "vip": "yes"}, "Invalid Resource"),
        ({"email_address": "a@example.com", "status": "subscribed", "merge_fields": []}, "Invalid Resource"),
        ({"email_address": "a@example.com", "status": "subscribed", "timestamp_opt": "soon"}, "Invalid Resource"),
    ],
)
def test_bad_members_are_refused(box: Box, body: dict[str, Any], title: str) -> None:
    refused(box.api.post(MEMBERS, json=body), title)
    assert box.api.get(MEMBERS).json()["total_items"] == 0


def test_malformed_json_is_refused(box: Box) -> None:
    refused(box.api.post(MEMBERS, content=b'{"email_address":'), "JSON Parse Error")
    refused(box.api.post(MEMBERS, content=b"[]"), "Invalid Resource")


def test_windows_of_change_exclude_their_ends(box: Box) -> None:
    box.seed(*(_changed(f"m{n}@example.com", f"2026-01-0{n}T00:00:00+00:00") for n in (1, 2, 3)))
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"since_last_changed": "2026-01-02T00:00:00+00:00"}, ["m3@example.com"]),
        ({"since_last_changed": "2026-01-01T23:59:59Z"}, ["m2@example.com", "m3@example.com"]),
        ({"before_last_changed": "2026-01-02T00:00:00+00:00"}, ["m1@example.com"]),
        (
            {"since_last_changed": "2026-01-01T01:00:00+01:00", "status": "subscribed"},
            ["m2@example.com", "m3@example.com"],
        ),
        ({"sort_field": "last_changed", "sort_dir": "DESC", "count": 1}, ["m3@example.com"]),
        ({"offset": 2}, ["m3@example.com"]),
    ]
    for params, expected in cases:
        answer = box.api.get(MEMBERS, params=params).json()
        assert [member["email_address"] for member in answer["members"]] == expected, params
    refused(box.api.get(MEMBERS, params={"since_last_changed": "yesterday"}), "Invalid Resource")
    refused(box.api.get(MEMBERS, params={"count": 1001}), "Invalid Resource")
    refused(box.api.get(MEMBERS, params={"status": "lost"}), "Invalid Resource")
    problem = refused(box.api.get(MEMBERS, params={"since_last_campaign": "true"}), "Invalid Resource")
    assert problem["detail"] == "Status is required when using since_last_campaign filter."


def _changed(email: str, at: str) -> dict[str, Any]:
    return {"email_address": email, "status": "subscribed", "last_changed": at}


def test_a_change_between_two_pages_hides_a_member(box: Box) -> None:
    """The documented trap of offsets: whoever reads by them alone misses a record that never changed."""
    box.seed(*(_changed(f"m{n}@example.com", f"2026-01-0{n}T00:00:00+00:00") for n in range(1, 7)))
    since = {"since_last_changed": "2025-12-31T00:00:00+00:00", "sort_field": "last_changed", "count": "2"}

    def page(offset: int) -> list[str]:
        answer = box.api.get(MEMBERS, params={**since, "offset": str(offset)}).json()
        assert answer["total_items"] == 6
        return [member["email_address"] for member in answer["members"]]

    seen = page(0)
    box.edit("profile", "m1@example.com", merge_fields={"FNAME": "Moved"})  # it goes to the end, the others move up
    seen += page(2) + page(4)
    assert "m3@example.com" not in seen
    assert seen.count("m1@example.com") == 2


def test_fields_and_exclude_fields(box: Box) -> None:
    box.seed({**ADA, "tags": ["vip"]})
    only = box.api.get(MEMBERS, params={"fields": "members.email_address,members.tags.name,total_items"}).json()
    assert only == {"members": [{"email_address": "Ada@Example.com", "tags": [{"name": "vip"}]}], "total_items": 1}
    without = box.api.get(MEMBERS, params={"exclude_fields": "members.stats,members.tags.id"}).json()["members"][0]
    assert "stats" not in without
    assert without["tags"] == [{"name": "vip"}]
    assert without["merge_fields"]["FNAME"] == "Ada"


def test_duplicates_in_one_bulk_call(box: Box) -> None:
    twice = [{"email_address": email, "status": "subscribed"} for email in ("d@example.com", "D@example.com")]
    first = box.api.post(f"/lists/{LIST}", json={"members": twice}).json()
    assert (first["total_created"], first["error_count"]) == (1, 1)
    again = box.api.post(
        f"/lists/{LIST}", params={"skip_duplicate_check": "true"}, json={"members": twice, "update_existing": True}
    ).json()
    assert (again["total_updated"], again["error_count"]) == (1, 0)


def test_bulk_calls_can_replace_tags(box: Box) -> None:
    box.seed({**ADA, "tags": ["old", "kept"]})
    body = {
        "members": [{"email_address": "ada@example.com", "status": "subscribed", "tags": ["kept", "new"]}],
        "update_existing": True,
        "sync_tags": True,
    }
    box.api.post(f"/lists/{LIST}", json=body).raise_for_status()
    assert sorted(tag["name"] for tag in box.member("ada@example.com")["tags"]) == ["kept", "new"]


def test_a_large_audience_is_read_whole_by_pages(box: Box) -> None:
    people = [
        _changed(f"p{n}@example.com", f"2026-01-01T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z")
        for n in range(20_000)
    ]
    box.seed(*people)
    seen: list[str] = []
    since = {"since_last_changed": "2025-01-01T00:00:00Z", "fields": "members.email_address", "count": "1000"}
    for offset in range(0, 20_000, 1000):
        answer = box.api.get(MEMBERS, params={**since, "sort_field": "last_changed", "offset": str(offset)}).json()
        seen += [member["email_address"] for member in answer["members"]]
    assert seen == [person["email_address"] for person in people]
    assert box.api.get(f"/lists/{LIST}").json()["stats"]["member_count"] == 20_000
