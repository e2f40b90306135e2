"""The HubSpot sandbox's faults, tokens, scopes and limits, and the frame that every sandbox stands in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import hubspot.crm.contacts as contacts
import pytest

from connectors.hubspot.sandbox import Options, create_app
from connectors.kit.sandbox import Call as Journalled
from connectors.kit.sandbox import Fault, Faults, Journal, serve
from tests.sandboxes.hubspot_support import TOKEN, Box, running, until

CONTACTS = "/crm/v3/objects/contacts"
GIVEN = {"properties": {"email": "a@example.com"}}


@pytest.fixture
def box() -> Iterator[Box]:
    with running() as served:
        yield served


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_status_is_answered_as_often_as_told_and_nothing_is_written(box: Box) -> None:
    box.control("faults", {"kind": "status", "status": 502, "times": 2})
    for _ in range(2):
        answer = box.http.post(CONTACTS, json=GIVEN)
        assert answer.status_code == 502
        assert {"status", "message", "correlationId", "category"} <= answer.json().keys()
    assert box.search("contacts")["total"] == 0
    assert box.call("GET", "/_sandbox/faults")["armed"] == []


def test_a_time_out_after_the_commit_leaves_the_record(box: Box) -> None:
    box.control("faults", {"kind": "timeout_after_commit", "seconds": 0.2, "match": f"POST {CONTACTS}"})
    with pytest.raises(httpx.RemoteProtocolError):
        box.http.post(CONTACTS, json=GIVEN)
    assert box.search("contacts")["total"] == 1
    shown = box.call("POST", CONTACTS, GIVEN, 409)
    assert shown["message"].startswith("Contact already exists. Existing ID: ")
    box.control("faults", {"kind": "timeout_after_commit", "seconds": 60})
    with pytest.raises(httpx.ReadTimeout):
        box.http.post(CONTACTS, json={"properties": {"email": "b@example.com"}}, timeout=0.3)
    assert box.search("contacts")["total"] == 2


def test_a_dropped_connection_leaves_nothing(box: Box) -> None:
    box.control("faults", {"kind": "drop_connection"})
    with pytest.raises(httpx.RemoteProtocolError):
        box.http.post(CONTACTS, json=GIVEN)
    assert box.search("contacts")["total"] == 0


def test_a_slow_answer_comes_after_an_impatient_caller_has_left(box: Box) -> None:
    box.control("faults", {"kind": "slow", "seconds": 0.4})
    with pytest.raises(httpx.ReadTimeout):
        box.http.post(CONTACTS, json=GIVEN, timeout=0.1)
    until(lambda: box.search("contacts")["total"] == 1)
    box.control("faults", {"kind": "slow", "seconds": 0.1})
    assert box.http.get(CONTACTS).status_code == 200


def test_an_expired_token_and_a_limit_in_the_words_of_the_vendor(box: Box) -> None:
    box.control("faults", [{"kind": "expired_token"}, {"kind": "rate_limit", "retry_after": 3}])
    expired = box.http.get(CONTACTS)
    assert (expired.status_code, expired.json()["category"]) == (401, "EXPIRED_AUTHENTICATION")
    assert "expire time" in expired.json()["context"]
    limited = box.http.get(CONTACTS)
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "3")
    shown = limited.json()
    assert (shown["policyName"], shown["errorType"]) == ("TEN_SECONDLY_ROLLING", "RATE_LIMIT")
    assert shown["message"] == "You have reached your ten_secondly_rolling limit."
    assert box.http.get(CONTACTS).status_code == 200


def test_faults_meet_only_what_they_match(box: Box) -> None:
    box.control("faults", [{"kind": "status", "match": f"PATCH {CONTACTS}"}, {"kind": "status", "match": "* /crm/v4"}])
    contact = box.create("contacts", email="a@example.com")
    assert box.http.patch(f"{CONTACTS}/{contact}", json=GIVEN).status_code == 500
    assert len(box.call("GET", "/_sandbox/faults")["armed"]) == 1
    box.call("DELETE", "/_sandbox/faults")
    assert box.call("GET", f"/crm/v4/objects/contacts/{contact}/associations/deals")["results"] == []
    assert "error" in box.call("POST", "/_sandbox/faults", {"kind": "nothing"}, 400)


def test_faults_are_used_up_in_order() -> None:
    faults = Faults()
    faults.arm([Fault("status", status=501), Fault("status", status=502, times=2), Fault("slow", match="GET /x")])
    taken = [faults.take("POST", "/a") for _ in range(4)]
    assert [fault.status if fault else None for fault in taken] == [501, 502, 502, None]
    found = faults.take("GET", "/x/1")
    assert found is not None
    assert found.kind == "slow"


def test_the_journal_tells_every_call(box: Box) -> None:
    box.call("POST", CONTACTS, GIVEN, 201)
    since = box.call("GET", "/_sandbox/requests")["last"]
    box.control("faults", {"kind": "drop_connection"})
    with pytest.raises(httpx.RemoteProtocolError):
        box.http.get(f"{CONTACTS}?limit=5&properties=email")
    box.call("POST", CONTACTS, {"properties": {}}, 400)
    form = {"grant_type": "refresh_token", "client_secret": "s3cret"}
    box.http.post("/oauth/v1/token", data=form)
    shown = box.call("GET", f"/_sandbox/requests?since={since}")["requests"]
    assert [(item["method"], item["status"], item["fault"]) for item in shown] == [
        ("GET", None, "drop_connection"),
        ("POST", 400, None),
        ("POST", 400, None),
    ]
    assert shown[0]["query"] == [["limit", "5"], ["properties", "email"]]
    assert shown[1]["body"] == {"properties": {}}
    assert shown[2]["body"] is None
    assert "s3cret" not in str(box.call("GET", "/_sandbox/requests"))
    assert TOKEN not in str(box.call("GET", "/_sandbox/requests"))


def test_the_journal_is_bounded(box: Box) -> None:
    journal = Journal(calls=3, body_bytes=10)

    def add(body: bytes) -> None:
        journal.add(Journalled(journal.number(), None, "GET", "/", "", 200, None, body, False))  # type: ignore[arg-type]

    for _ in range(5):
        add(b"")
    assert [call.n for call in journal.since(0)] == [3, 4, 5]
    add(b"x" * 8)
    add(b"y" * 8)
    assert [call.n for call in journal.since(0)] == [7]


async def test_a_sandbox_runs_in_the_callers_loop() -> None:
    async with serve(create_app()) as running_, httpx.AsyncClient(base_url=running_.url, trust_env=False) as client:
        answer = await client.get("/account-info/v3/details", headers=bearer(TOKEN))
        assert answer.status_code == 200
        with pytest.raises(OSError, match="in use"):
            async with serve(create_app(), port=running_.port):
                pass
    async with httpx.AsyncClient(base_url=running_.url, trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("/account-info/v3/details")


def test_tokens(box: Box) -> None:
    for headers in ({"Authorization": ""}, bearer("nobody"), {"Authorization": TOKEN}):
        answer = box.http.get(CONTACTS, headers=headers)
        assert (answer.status_code, answer.json()["category"]) == (401, "INVALID_AUTHENTICATION")
        assert answer.json()["message"].startswith("Authentication credentials not found.")
    box.control("seed", {"token": "pat-na1-other"})
    assert box.http.get(CONTACTS).status_code == 401
    assert box.http.get(CONTACTS, headers=bearer("pat-na1-other")).status_code == 200


def test_the_official_client_gets_the_error_class_with_the_body(box: Box) -> None:
    sdk = box.sdk()
    sdk.access_token = "nobody"
    with pytest.raises(contacts.ApiException) as refused:
        sdk.crm.contacts.basic_api.get_page()
    assert refused.value.status == 401
    assert "INVALID_AUTHENTICATION" in refused.value.body


def test_scopes(box: Box) -> None:
    box.control("seed", {"tokens": {"few": {"scopes": ["crm.objects.contacts.read"]}}})
    assert box.http.get(CONTACTS, headers=bearer("few")).status_code == 200
    assert box.http.post(f"{CONTACTS}/search", json={}, headers=bearer("few")).status_code == 200
    for method, path in (("POST", CONTACTS), ("GET", "/crm/v3/objects/deals"), ("GET", "/crm/v3/owners/")):
        answer = box.http.request(method, path, json=GIVEN if method == "POST" else None, headers=bearer("few"))
        shown = answer.json()
        assert (answer.status_code, shown["category"]) == (403, "MISSING_SCOPES")
        assert shown["errors"][0]["context"]["requiredGranularScopes"]
        assert shown["links"] == {"scopes": "https://developers.hubspot.com/scopes"}


def test_oauth_hands_out_tokens_that_expire(box: Box) -> None:
    options = Options()
    app = {"client_id": options.client_id, "client_secret": options.client_secret}
    box.control("seed", {"codes": ["once"], "refreshTokens": ["na1-given"]})
    form = app | {"grant_type": "authorization_code", "code": "once", "redirect_uri": "https://example.com"}
    made = box.http.post("/oauth/v1/token", data=form).json()
    assert (made["token_type"], made["expires_in"]) == ("bearer", 1800)
    again = box.http.post("/oauth/v3/token", data=form)
    assert (again.status_code, again.json()["status"]) == (400, "BAD_AUTH_CODE")
    for version in ("v1", "v3", "2026-09"):
        form = app | {"grant_type": "refresh_token", "refresh_token": "na1-given"}
        refreshed = box.http.post(f"/oauth/{version}/token", data=form).json()
        assert refreshed["refresh_token"] == "na1-given"
        assert box.http.get(CONTACTS, headers=bearer(refreshed["access_token"])).status_code == 200
    about = box.http.get(f"/oauth/v1/access-tokens/{made['access_token']}").json()
    assert (about["hub_id"], about["app_id"], about["token_type"]) == (options.portal_id, options.app_id, "access")
    box.control("clock", {"advance_seconds": 1801})
    expired = box.http.get(CONTACTS, headers=bearer(refreshed["access_token"]))
    assert (expired.status_code, expired.json()["category"]) == (401, "EXPIRED_AUTHENTICATION")
    assert box.http.get(CONTACTS).status_code == 200
    wrong = {
        "BAD_REFRESH_TOKEN": app | {"grant_type": "refresh_token", "refresh_token": "x"},
        "BAD_CLIENT_SECRET": app | {"grant_type": "refresh_token", "client_secret": "x"},
        "BAD_GRANT_TYPE": app | {"grant_type": "password"},
    }
    for status, form in wrong.items():
        answer = box.http.post("/oauth/v3/token", data=form)
        assert (answer.status_code, answer.json()["status"]) == (400, status)
        assert {"error", "error_description", "message"} <= answer.json().keys()


def test_oauth_through_the_official_client(box: Box) -> None:
    box.control("seed", {"refreshTokens": ["na1-given"]})
    options = Options()
    api = box.sdk().oauth.tokens_api
    made = api.create(
        grant_type="refresh_token",
        refresh_token="na1-given",
        client_id=options.client_id,
        client_secret=options.client_secret,
    )
    assert made.expires_in == 1800
    sdk = box.sdk()
    sdk.access_token = made.access_token
    assert sdk.crm.contacts.basic_api.get_page().results == []
    assert sdk.oauth.access_tokens_api.get(made.access_token).hub_id == options.portal_id
    assert sdk.oauth.refresh_tokens_api.get("na1-given").client_id == options.client_id


def headers_of(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("x-hubspot-ratelimit")}


def test_limits_of_ten_seconds_and_a_day(box: Box) -> None:
    assert headers_of(box.http.get(CONTACTS)) == {}
    box.control("seed", {"limits": {"perTenSeconds": 3, "daily": 5}})
    shown: list[dict[str, Any]] = [headers_of(box.http.get(CONTACTS)) for _ in range(3)]
    assert [item["x-hubspot-ratelimit-remaining"] for item in shown] == ["2", "1", "0"]
    assert shown[0]["x-hubspot-ratelimit-interval-milliseconds"] == "10000"
    assert shown[0]["x-hubspot-ratelimit-max"] == "3"
    assert shown[0]["x-hubspot-ratelimit-daily-remaining"] == "4"
    limited = box.http.get(CONTACTS)
    assert (limited.status_code, limited.json()["policyName"]) == (429, "TEN_SECONDLY_ROLLING")
    box.control("clock", {"advance_seconds": 10})
    assert [box.http.get(CONTACTS).status_code for _ in range(2)] == [200, 200]
    assert box.http.get(CONTACTS).json()["policyName"] == "DAILY"
    box.control("clock", {"advance_seconds": 86_400})
    assert box.http.get(CONTACTS).status_code == 200


def test_searches_have_a_limit_of_their_own_and_no_headers(box: Box) -> None:
    box.control("seed", {"limits": {"searchPerSecond": 2, "perTenSeconds": 100}})
    first = box.http.post(f"{CONTACTS}/search", json={})
    assert headers_of(first) == {}
    statuses = [box.http.post(f"{CONTACTS}/search", json={}).status_code for _ in range(10)]
    assert 429 in statuses
    box.control("clock", {"advance_seconds": 1})
    assert box.http.post(f"{CONTACTS}/search", json={}).status_code == 200


def test_lists_are_spoiled_and_still_answered_with_200(box: Box) -> None:
    for number in range(1, 5):
        box.create("contacts", email=f"c{number}@example.com", firstname=f"First{number}")
    whole = box.call("GET", f"{CONTACTS}?limit=3")
    ids = [record["id"] for record in whole["results"]]

    def spoiled(fault: dict[str, Any], search: bool = False) -> Any:
        box.control("faults", fault)
        return box.search("contacts") if search else box.call("GET", f"{CONTACTS}?limit=3")

    cut = spoiled({"kind": "truncated"})
    assert [record["id"] for record in cut["results"]] == ids[:1]
    assert "paging" not in cut
    assert spoiled({"kind": "empty"}) == {"results": []}
    assert spoiled({"kind": "empty"}, search=True)["total"] == 0
    assert spoiled({"kind": "miscounted"}, search=True)["total"] == 5
    narrow = spoiled({"kind": "narrowed", "hide": [ids[1], "firstname"]})
    assert [record["id"] for record in narrow["results"]] == [ids[0], ids[2]]
    assert all("firstname" not in record["properties"] for record in narrow["results"])
    assert spoiled({"kind": "narrowed", "hide": [ids[1]]}, search=True)["total"] == 3
    box.control("faults", {"kind": "truncated"})
    assert box.call("GET", f"{CONTACTS}/{ids[0]}")["id"] == ids[0], "a single record is no list"
    assert box.call("GET", f"{CONTACTS}?limit=3") == whole
