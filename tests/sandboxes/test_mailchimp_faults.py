"""Credentials, limits and injected faults of the Mailchimp sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from connectors.mailchimp.sandbox import API_KEY
from tests.sandboxes.mailchimp_support import ADA, LIST, Box, md5, running

MEMBERS = f"/lists/{LIST}/members"
NEW = {"email_address": "new@example.com", "status": "subscribed"}


@pytest.fixture
def box() -> Iterator[Box]:
    with running() as served:
        yield served


def arm(box: Box, **fault: Any) -> None:
    box.control.post("/faults", json=fault).raise_for_status()


def test_credentials(box: Box) -> None:
    box.seed(access_token="oauth-token-1")
    accepted = [httpx.BasicAuth("", API_KEY), httpx.BasicAuth("anyone", API_KEY), "oauth-token-1", API_KEY]
    refused = {httpx.BasicAuth("any", API_KEY.replace("-us1", "-us2")): "Invalid", "other": "Invalid", "": "Missing"}
    for given in (*accepted, *refused):
        auth = given if isinstance(given, httpx.Auth) else None
        headers = {"authorization": f"Bearer {given}"} if isinstance(given, str) and given else {}
        answer = httpx.get(f"{box.url}/3.0/ping", auth=auth, headers=headers, trust_env=False)
        assert answer.status_code == (200 if given in accepted else 401)
        if given in refused:
            assert answer.json()["title"] == f"API Key {refused[given]}"


@pytest.mark.parametrize(
    ("fault", "status", "title"),
    [
        ({"kind": "status", "status": 500}, 500, "Internal Server Error"),
        ({"kind": "rate_limit"}, 429, "Too Many Requests"),
        ({"kind": "expired_token"}, 401, "API Key Invalid"),
    ],
)
def test_faults_speak_as_the_vendor(box: Box, fault: dict[str, Any], status: int, title: str) -> None:
    arm(box, **fault, match=f"POST /3.0/lists/{LIST}")
    assert box.api.get(MEMBERS).status_code == 200
    answer = box.api.post(MEMBERS, json=NEW)
    assert (answer.status_code, answer.json()["title"]) == (status, title)
    assert "retry-after" not in answer.headers
    assert box.api.get(MEMBERS).json()["total_items"] == 0
    assert box.api.post(MEMBERS, json=NEW).status_code == 200


def test_a_high_volume_gets_a_bare_403(box: Box) -> None:
    arm(box, kind="status", status=403, times=2)
    for _ in range(2):
        answer = box.api.get("/ping")
        assert answer.status_code == 403
        assert answer.headers["content-type"].startswith("text/html")
        assert b"Forbidden" in answer.content
    assert box.api.get("/ping").status_code == 200


def test_an_answer_lost_after_the_commit(box: Box) -> None:
    arm(box, kind="timeout_after_commit", seconds=0.05)
    with pytest.raises(httpx.TransportError):
        box.api.post(MEMBERS, json=NEW)
    assert box.member("new@example.com")["status"] == "subscribed"
    again = box.api.post(MEMBERS, json=NEW)
    assert again.json()["title"] == "Member Exists"


def test_more_than_ten_calls_at_once_are_refused(box: Box) -> None:
    arm(box, kind="slow", seconds=2.0, times=10, match="GET /3.0/ping")

    def call(url: str) -> int:
        return httpx.get(f"{box.url}/3.0{url}", auth=("any", API_KEY), timeout=30, trust_env=False).status_code

    with ThreadPoolExecutor(16) as pool:
        held = [pool.submit(call, "/ping") for _ in range(10)]
        while len(box.control.get("/faults").json()["armed"]) > 0:
            pass  # until all ten are under way
        assert box.api.get("/lists").json()["detail"] == "You have exceeded the limit of 10 simultaneous connections."
        assert box.api.get("/lists", headers={"authorization": "Bearer other"}, auth=None).status_code == 401
        assert [future.result() for future in held] == [200] * 10
    assert box.api.get("/lists").status_code == 200


def test_the_limit_can_be_switched_off(box: Box) -> None:
    box.seed(connection_limit=None)
    arm(box, kind="slow", seconds=0.2, times=12, match="GET /3.0/ping")
    with ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(box.api.get, "/ping") for _ in range(12)]
        assert {call.result().status_code for call in calls} == {200}


def test_journal_and_state_serve_as_an_oracle(box: Box) -> None:
    box.seed(ADA)
    last = box.control.get("/requests").json()["last"]
    box.api.post(MEMBERS, json=NEW)
    calls = box.control.get("/requests", params={"since": last}).json()["requests"]
    assert [(call["method"], call["path"], call["body"]) for call in calls] == [("POST", f"/3.0{MEMBERS}", NEW)]
    members = box.control.get("/state").json()["lists"][LIST]["members"]
    assert members[md5("new@example.com")]["email_address"] == "new@example.com"
    assert API_KEY not in box.control.get("/state").text


def test_instants_that_are_not_known_are_left_out_or_blank() -> None:
    with running() as box:
        box.seed({"email_address": "p@example.com", "status": "pending"})
        assert "timestamp_opt" not in box.member("p@example.com")
        box.seed(blank_dates=True)
        assert box.member("p@example.com")["timestamp_opt"] == ""
        box.recorder.exchanges.clear()  # the real service's blank does not fit its own description


@pytest.mark.parametrize(
    "body",
    [
        {"list": LIST, "email": "ada@example.com", "action": "fly"},
        {"list": LIST, "email": "nobody@example.com", "action": "profile"},
        {"list": "nowhere", "email": "ada@example.com", "action": "profile"},
        {"list": LIST, "email": "ada@example.com", "action": "profile", "merge_fields": {"SCORE": "x"}},
        {"action": "profile"},
    ],
)
def test_edits_that_cannot_be_made_are_refused(box: Box, body: dict[str, Any]) -> None:
    box.seed(ADA)
    before = box.control.get("/state").json()
    assert box.control.post("/edit", json=body).status_code == 400
    assert box.control.get("/state").json() == before


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", MEMBERS, {**NEW, "merge_fields": None}),
        ("POST", MEMBERS, {**NEW, "tags": [{"name": 5}]}),
        ("POST", MEMBERS, {**NEW, "status": ["subscribed"]}),
        ("POST", f"/lists/{LIST}", {"members": [None]}),
        ("POST", f"/lists/{LIST}", {"members": {}}),
        ("POST", f"{MEMBERS}/ada%40example.com/tags", {"tags": "vip"}),
        ("POST", f"{MEMBERS}/ada%40example.com/tags", {"tags": None}),
        ("POST", f"{MEMBERS}/ada%40example.com/notes", {"note": 5}),
        ("POST", f"/lists/{LIST}/merge-fields", {"name": "N", "type": "colour"}),
        ("POST", f"/lists/{LIST}/merge-fields", {"name": "N", "type": "text", "tag": "FNAME"}),
        ("POST", f"/lists/{LIST}/merge-fields", {"name": "N", "type": "text", "options": "x"}),
        ("POST", f"/lists/{LIST}/merge-fields", {"name": "N", "type": "text", "display_order": "first"}),
        ("PATCH", f"/lists/{LIST}/merge-fields/1", {"name": "N", "tag": "too_long_a_tag"}),
        ("POST", f"/lists/{LIST}/segments", {"name": "S", "static_segment": 5}),
        ("POST", "/lists", {"name": "only"}),
        ("POST", "/campaigns", {"type": "regular", "settings": "x"}),
        ("POST", "/campaigns", {"type": "regular", "recipients": [1]}),
        ("POST", "/campaigns", {"type": "pigeon"}),
        ("POST", "/batches", {"operations": [{"method": "BREW", "path": "/"}]}),
        ("POST", "/batches", {"operations": []}),
        ("POST", "/batches", {"operations": [{"method": "GET", "path": "https://example.com/"}]}),
    ],
)
def test_bodies_of_the_wrong_shape_are_refused(box: Box, method: str, path: str, body: dict[str, Any]) -> None:
    box.seed(ADA)
    before = box.control.get("/state").json()
    answer = box.api.request(method, path, json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["title"] == "Invalid Resource"
    assert box.control.get("/state").json() == before


def test_lists_are_spoiled_and_still_answered_with_200(box: Box) -> None:
    box.seed(
        *(
            {"email_address": f"c{n}@example.com", "status": "subscribed", "merge_fields": {"FNAME": "F"}}
            for n in range(4)
        )
    )
    whole = box.api.get(MEMBERS).json()

    def spoiled(**fault: Any) -> Any:
        arm(box, match="GET /3.0/lists", **fault)
        return box.api.get(MEMBERS).raise_for_status().json()

    cut = spoiled(kind="truncated")
    assert (cut["members"], cut["total_items"]) == (whole["members"][:2], 4)
    nothing = spoiled(kind="empty")
    assert (nothing["members"], nothing["total_items"]) == ([], 0)
    assert spoiled(kind="miscounted")["total_items"] == 5
    narrow = spoiled(kind="narrowed", hide=[whole["members"][0]["contact_id"], "FNAME"])
    assert (len(narrow["members"]), narrow["total_items"]) == (3, 3)
    assert all("FNAME" not in member["merge_fields"] for member in narrow["members"])
    arm(box, kind="truncated")
    assert box.member("c1@example.com")["email_address"] == "c1@example.com", "a single member is no list"
    assert box.api.get(MEMBERS).json()["members"] == whole["members"]
