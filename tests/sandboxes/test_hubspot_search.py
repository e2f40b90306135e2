"""The HubSpot sandbox's search: operators, limits, the 10,000-result cap and a lagging index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.hubspot.sandbox import Options
from tests.sandboxes.hubspot_support import Box, running

AT = "2026-03-01T10:00:00Z"
AT_MS = 1_772_359_200_000
PEOPLE = [
    {"id": "1", "properties": {"firstname": "Ann", "email": "ann@acme.com", "lifecyclestage": "lead"}},
    {"id": "2", "properties": {"firstname": "Bob", "email": "bob@acme.com", "lifecyclestage": "customer"}},
    {"id": "3", "properties": {"firstname": "Ann Lee", "email": "lee@other.org"}},
    {"id": "4", "properties": {"lastname": "Nobody"}},
]


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with running() as served:
        times = {"createdAt": AT, "updatedAt": AT}
        served.control("seed", {"contacts": [person | times for person in PEOPLE]})
        amounts = ["5", "40", "300.5", ""]
        made = [
            {"id": str(n), "properties": {"dealname": "D", "amount": text, "closedate": f"2026-0{n}-01"}}
            for n, text in enumerate(amounts, start=1)
        ]
        served.control("seed", {"deals": made})
        yield served


@pytest.mark.parametrize(
    ("kind", "name", "operator", "more", "ids"),
    [
        ("contacts", "firstname", "EQ", {"value": "ANN"}, "1"),
        ("contacts", "firstname", "NEQ", {"value": "ann"}, "23"),
        ("contacts", "firstname", "IN", {"values": ["ann", "bob"]}, "12"),
        ("contacts", "firstname", "IN", {"values": ["Ann"]}, ""),
        ("contacts", "firstname", "NOT_IN", {"values": ["ann"]}, "23"),
        ("contacts", "firstname", "CONTAINS_TOKEN", {"value": "ann"}, "13"),
        ("contacts", "firstname", "NOT_CONTAINS_TOKEN", {"value": "ann"}, "2"),
        ("contacts", "email", "CONTAINS_TOKEN", {"value": "*@acme.com"}, "12"),
        ("contacts", "email", "HAS_PROPERTY", {}, "123"),
        ("contacts", "email", "NOT_HAS_PROPERTY", {}, "4"),
        ("contacts", "email", "EQ", {"value": "Bob@Acme.com"}, "2"),
        ("contacts", "lifecyclestage", "EQ", {"value": "lead"}, "1"),
        ("contacts", "lifecyclestage", "EQ", {"value": "Lead"}, ""),
        ("contacts", "lastmodifieddate", "EQ", {"value": str(AT_MS)}, "1234"),
        ("contacts", "lastmodifieddate", "GTE", {"value": AT}, "1234"),
        ("contacts", "lastmodifieddate", "GT", {"value": str(AT_MS)}, ""),
        ("contacts", "hs_object_id", "GT", {"value": "2"}, "34"),
        ("contacts", "hs_object_id", "IN", {"values": ["2", "9"]}, "2"),
        ("deals", "amount", "GT", {"value": "9"}, "23"),
        ("deals", "amount", "LTE", {"value": 40}, "12"),
        ("deals", "amount", "BETWEEN", {"value": "5", "highValue": "40"}, "12"),
        ("deals", "closedate", "LT", {"value": "2026-03-01"}, "12"),
    ],
)
def test_an_operator(box: Box, kind: str, name: str, operator: str, more: dict[str, Any], ids: str) -> None:
    found = box.search(kind, {"propertyName": name, "operator": operator, **more})
    assert [item["id"] for item in found["results"]] == list(ids)
    assert found["total"] == len(ids)


def test_groups_are_alternatives_and_their_filters_are_not(box: Box) -> None:
    groups = [
        [("firstname", "EQ", "ann"), ("lifecyclestage", "EQ", "customer")],
        [("firstname", "EQ", "bob"), ("lifecyclestage", "EQ", "customer")],
        [("lastname", "EQ", "nobody")],
    ]
    body = [
        {"filters": [dict(zip(("propertyName", "operator", "value"), item, strict=True)) for item in group]}
        for group in groups
    ]
    found = box.call("POST", "/crm/v3/objects/contacts/search", {"filterGroups": body})
    assert [item["id"] for item in found["results"]] == ["2", "4"]


def test_free_text_sorts_and_default_properties(box: Box) -> None:
    found = box.search("contacts", query="acme.com", sorts=[{"propertyName": "firstname", "direction": "DESCENDING"}])
    assert [item["id"] for item in found["results"]] == ["2", "1"]
    expected = {"createdate", "email", "firstname", "hs_object_id", "lastmodifieddate", "lastname"}
    assert found["results"][0]["properties"].keys() == expected
    by_amount = box.search("deals", sorts=["amount"], properties=["amount"])["results"]
    assert [item["properties"]["amount"] for item in by_amount] == ["5", "40", "300.5", None]


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 201},
        {"sorts": ["email", "firstname"]},
        {"filterGroups": [{"filters": []}] * 6},
        {"filterGroups": [{"filters": [{"propertyName": "email", "operator": "HAS_PROPERTY"}] * 7}]},
        {"filterGroups": [{"filters": [{"propertyName": "nothing", "operator": "HAS_PROPERTY"}]}]},
        {"filterGroups": [{"filters": [{"propertyName": "email", "operator": "LIKE", "value": "x"}]}]},
        {"filterGroups": [{"filters": [{"propertyName": "email", "operator": "EQ"}]}]},
        {"filterGroups": [{"filters": [{"propertyName": "hs_lastmodifieddate", "operator": "GT", "value": "1"}]}]},
        {"filterGroups": [{"filters": [{"propertyName": "email", "operator": "HAS_PROPERTY", "value": "x"}]}]},
        {"query": "x" * 3_001},
        {"after": "x"},
    ],
)
def test_a_search_beyond_the_limits_is_refused(box: Box, body: dict[str, Any]) -> None:
    shown = box.call("POST", "/crm/v3/objects/contacts/search", body, 400)
    assert shown["category"] == "VALIDATION_ERROR"


def test_results_beyond_ten_thousand_are_out_of_reach_of_one_query() -> None:
    with running() as box:
        count = 10_050
        people = [{"id": str(n), "updatedAt": AT, "createdAt": AT} for n in range(1, count + 1)]
        box.control("seed", {"contacts": people})
        same = {"propertyName": "lastmodifieddate", "operator": "EQ", "value": str(AT_MS)}
        seen: list[str] = []
        after = "0"
        for _ in range(50):
            page = box.search("contacts", same, limit=200, after=after, sorts=["hs_object_id"])
            assert page["total"] == count
            seen += [item["id"] for item in page["results"]]
            after = page["paging"]["next"]["after"]
        assert after == "10000"
        body = {"filterGroups": [{"filters": [same]}], "limit": 200, "after": after}
        refused = box.call("POST", "/crm/v3/objects/contacts/search", body, 400)
        assert refused["message"] == "There was a problem with the request."
        rest = box.search(
            "contacts", same, {"propertyName": "hs_object_id", "operator": "GT", "value": seen[-1]}, limit=200
        )
        seen += [item["id"] for item in rest["results"]]
        assert seen == [person["id"] for person in people]


def test_a_lagging_index_holds_old_values_until_the_lag_is_over() -> None:
    with running(Options(index_lag_seconds=60)) as box:
        contact = box.create("contacts", email="a@example.com", city="Oslo")
        path = f"/crm/v3/objects/contacts/{contact}"
        assert box.search("contacts")["total"] == 0
        box.control("clock", {"advance_seconds": 60})
        assert box.search("contacts")["total"] == 1
        box.call("PATCH", path, {"properties": {"city": "Rome"}})
        oslo = {"propertyName": "city", "operator": "EQ", "value": "Oslo"}
        assert box.search("contacts", oslo, properties=["city"])["results"][0]["properties"]["city"] == "Oslo"
        assert box.read("contacts", contact, "city")["city"] == "Rome"
        box.call("DELETE", path, expect=204)
        assert box.search("contacts", oslo)["total"] == 1
        box.control("clock", {"advance_seconds": 60})
        assert box.search("contacts")["total"] == 0


CITIES = ["Oslo", "oslo", "Rome", None]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(CITIES), st.booleans()), max_size=20),
    wanted=st.sampled_from(["oslo", "rome"]),
)
def test_indexes_agree_with_a_look_at_every_record(
    steps: list[tuple[int, str | None, bool]], wanted: str, empty: Box
) -> None:
    """A search by equality (hash index) and by time (ordered index) finds what the records say, after any changes."""
    for item in empty.call("GET", "/crm/v3/objects/contacts?limit=100")["results"]:
        empty.call("DELETE", f"/crm/v3/objects/contacts/{item['id']}", expect=204)
    ids = [empty.create("contacts", lastname=f"L{n}") for n in range(6)]
    for number, city, gone in steps:
        empty.search("contacts", {"propertyName": "city", "operator": "EQ", "value": wanted})
        if gone:
            empty.call("DELETE", f"/crm/v3/objects/contacts/{ids[number]}", expect=204)
        else:
            empty.http.patch(f"/crm/v3/objects/contacts/{ids[number]}", json={"properties": {"city": city or ""}})
    live = empty.call("GET", "/crm/v3/objects/contacts?limit=100&properties=city")["results"]
    expected = {item["id"] for item in live if (item["properties"]["city"] or "").lower() == wanted}
    city_filter = {"propertyName": "city", "operator": "EQ", "value": wanted}
    assert {item["id"] for item in empty.search("contacts", city_filter, limit=200)["results"]} == expected
    times = sorted(item["updatedAt"] for item in live)
    for at in times[:1] + times[-1:]:
        since = {"propertyName": "lastmodifieddate", "operator": "GTE", "value": at}
        found = {item["id"] for item in empty.search("contacts", since, limit=200)["results"]}
        assert found == {item["id"] for item in live if _ms(item["updatedAt"]) >= _ms(at)}


def _ms(text: str) -> str:
    return text if "." in text else text.replace("Z", ".000Z")


@pytest.fixture(scope="module")
def empty() -> Iterator[Box]:
    with running() as served:
        yield served
