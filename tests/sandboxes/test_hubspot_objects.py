"""The HubSpot sandbox's records: bodies, errors and what HubSpot does by itself, on the wire."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hubspot.crm.association_type import AssociationType
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.hubspot.sandbox import Options
from connectors.hubspot.sandbox.links import _DEFINED
from connectors.hubspot.sandbox.values import domain_of, iso, parse_ms
from tests.sandboxes.hubspot_support import Box, running

CONTACTS = "/crm/v3/objects/contacts"


@pytest.fixture
def box() -> Iterator[Box]:
    with running() as served:
        yield served


def refused(box: Box, method: str, path: str, body: Any, status: int = 400) -> dict[str, Any]:
    """The error body of a call, which has what HubSpot's description requires."""
    answer = box.http.request(method, path, json=body)
    shown: dict[str, Any] = answer.json()
    assert answer.status_code == status, shown
    assert {"status", "message", "correlationId", "category"} <= shown.keys()
    assert answer.headers["x-hubspot-correlation-id"] == shown["correlationId"]
    assert answer.headers["content-type"] == "application/json;charset=utf-8"
    return shown


@pytest.mark.parametrize(
    ("kind", "name", "value", "code"),
    [
        ("contacts", "email", "nobody", "INVALID_EMAIL"),
        ("contacts", "nothing", "x", "PROPERTY_DOESNT_EXIST"),
        ("contacts", "lastmodifieddate", "2026-01-01", "READ_ONLY_VALUE"),
        ("contacts", "lifecyclestage", "Lead", "INVALID_OPTION"),
        ("contacts", "hs_email_optout", "true", "READ_ONLY_VALUE"),
        ("contacts", "hubspot_owner_id", "7", "INVALID_OWNER_ID"),
        ("companies", "annualrevenue", "1,000", "INVALID_NUMBER"),
        ("companies", "numberofemployees", " 5", "INVALID_NUMBER"),
        ("companies", "industry", "Software", "INVALID_OPTION"),
        ("deals", "closedate", "soon", "INVALID_LONG"),
        ("deals", "pipeline", "nothing", "INVALID_OPTION"),
    ],
)
def test_a_value_is_refused_with_its_code(box: Box, kind: str, name: str, value: str, code: str) -> None:
    needed = {"contacts": {"lastname": "L"}, "companies": {"name": "N"}, "deals": {"dealname": "D"}}[kind]
    error = refused(box, "POST", f"/crm/v3/objects/{kind}", {"properties": needed | {name: value}})
    assert error["category"] == "VALIDATION_ERROR"
    (detail,) = error["errors"]
    assert (detail["code"], detail["context"]) == (code, {"propertyName": [name]})
    (result,) = orjson.loads(error["message"].removeprefix("Property values were not valid: "))
    assert (result["isValid"], result["error"], result["name"]) == (False, code, name)
    assert box.call("GET", f"/crm/v3/objects/{kind}")["results"] == []


def test_a_date_must_be_midnight(box: Box) -> None:
    definition = {"name": "since", "label": "Since", "type": "date", "fieldType": "date"}
    box.control("seed", {"properties": {"contacts": [definition | {"groupName": "contactinformation"}]}})
    contact = box.create("contacts", lastname="L", since="1772323200000")
    assert box.read("contacts", contact, "since")["since"] == "2026-03-01"
    error = refused(box, "PATCH", f"{CONTACTS}/{contact}", {"properties": {"since": "1579179660000"}})
    assert "1579179660000 is at 13:1:0.0 UTC, not midnight!" in error["message"]


def test_malformed_requests(box: Box) -> None:
    json = {"content-type": "application/json"}
    broken = box.http.post(CONTACTS, content=b"{", headers=json)
    assert (broken.status_code, broken.json()["category"]) == (400, "VALIDATION_ERROR")
    assert broken.json()["message"].startswith("Invalid input JSON on line 1, column 1")
    assert "required fields were not set: [properties]" in refused(box, "POST", CONTACTS, {})["message"]
    text = box.http.post(CONTACTS, content=b"{}", headers={"content-type": "text/plain"})
    assert text.status_code == 415
    assert refused(box, "GET", f"{CONTACTS}/999", None, 404)["message"] == "resource not found"
    assert refused(box, "GET", f"{CONTACTS}/abc", None, 404)["context"] == {"id": ["abc"]}
    assert refused(box, "DELETE", f"{CONTACTS}/999", None, 404)["category"] == "OBJECT_NOT_FOUND"
    unknown = refused(box, "GET", "/crm/v3/objects/widgets", None)
    assert unknown["message"] == "Unable to infer object type from: widgets"
    assert refused(box, "GET", "/crm/v9/nothing", None, 404)["message"] == "resource not found"
    assert box.http.put(CONTACTS).status_code == 405
    assert refused(box, "POST", CONTACTS, {"properties": {"phone": "1"}})["context"]["properties"]


def test_the_dated_paths_serve_the_same(box: Box) -> None:
    contact = box.create("contacts", lastname="L")
    dated = box.call("GET", f"/crm/objects/2026-03/contacts/{contact}")
    assert dated == box.call("GET", f"{CONTACTS}/{contact}")
    assert box.call("POST", "/crm/objects/2026-03/0-1/search", {})["total"] == 1


def test_a_large_answer_is_compressed(box: Box) -> None:
    box.control("seed", {"contacts": [{"id": str(n), "properties": {"lastname": "L"}} for n in range(1, 101)]})
    with box.http.stream("GET", f"{CONTACTS}?limit=100", headers={"accept-encoding": "gzip"}) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert len(orjson.loads(gzip.decompress(raw))["results"]) == 100


def test_lifecycle_goes_forward_only_until_it_is_cleared(box: Box) -> None:
    contact = box.create("contacts", lastname="L", lifecyclestage="customer")
    for wanted, kept in (("lead", "customer"), ("evangelist", "evangelist"), ("", None), ("lead", "lead")):
        box.call("PATCH", f"{CONTACTS}/{contact}", {"properties": {"lifecyclestage": wanted}})
        assert box.read("contacts", contact, "lifecyclestage")["lifecyclestage"] == kept


def test_the_same_value_again_changes_nothing(box: Box) -> None:
    contact = box.create("contacts", lastname="L")
    before = box.call("GET", f"{CONTACTS}/{contact}")
    box.call("PATCH", f"{CONTACTS}/{contact}", {"properties": {"lastname": " L "}})
    assert box.call("GET", f"{CONTACTS}/{contact}") == before


def test_one_wrong_input_refuses_a_batch_unless_inputs_are_traced(box: Box) -> None:
    box.create("contacts", email="taken@example.com")
    wrong = [{"properties": {"email": "ok@example.com"}}, {"properties": {"email": "taken@example.com"}}]
    error = refused(box, "POST", f"{CONTACTS}/batch/create", {"inputs": wrong}, 409)
    assert error["category"] == "CONFLICT"
    assert box.search("contacts")["total"] == 1
    traced = [item | {"objectWriteTraceId": f"t{n}"} for n, item in enumerate(wrong)]
    shown = box.call("POST", f"{CONTACTS}/batch/create", {"inputs": traced}, 207)
    assert [item["objectWriteTraceId"] for item in shown["results"]] == ["t0"]
    assert (shown["numErrors"], shown["status"]) == (1, "COMPLETE")
    (entry,) = shown["errors"]
    assert (entry["category"], entry["context"]) == ("CONFLICT", {"objectWriteTraceId": ["t1"]})
    assert {"errors", "links", "status", "message"} <= entry.keys()


def test_a_batch_update_names_what_does_not_exist(box: Box) -> None:
    contact = box.create("contacts", lastname="L")
    inputs = [{"id": text, "properties": {"city": "Rome"}} for text in (contact, "998", "999")]
    shown = box.call("POST", f"{CONTACTS}/batch/update", {"inputs": inputs}, 207)
    assert [item["id"] for item in shown["results"]] == [contact]
    assert [entry["context"] for entry in shown["errors"]] == [{"ids": ["998", "999"]}]
    traced = [item | {"objectWriteTraceId": f"t{n}"} for n, item in enumerate(inputs)]
    shown = box.call("POST", f"{CONTACTS}/batch/update", {"inputs": traced}, 207)
    assert [entry["context"]["objectWriteTraceId"] for entry in shown["errors"]] == [["t1"], ["t2"]]
    twice = [inputs[0], inputs[0]]
    error = refused(box, "POST", f"{CONTACTS}/batch/update", {"inputs": twice})
    assert error["message"] == f"Duplicate IDs found in batch input: [{contact}]. IDs must be unique"
    many = [{"properties": {"lastname": "L"}}] * 101
    assert "100" in refused(box, "POST", f"{CONTACTS}/batch/create", {"inputs": many})["message"]


def test_a_unique_property_of_the_account(box: Box) -> None:
    definition = {"name": "external_id", "label": "Id", "type": "string", "fieldType": "text", "hasUniqueValue": True}
    path = "/crm/v3/properties/companies"
    box.call("POST", path, definition | {"groupName": "companyinformation"}, 201)
    assert refused(box, "POST", path, definition | {"groupName": "companyinformation"}, 409)
    company = box.create("companies", name="Acme", external_id="C-1")
    error = refused(box, "POST", "/crm/v3/objects/companies", {"properties": {"name": "B", "external_id": "C-1"}})
    assert error["errors"][0]["code"] == "CONFLICTING_UNIQUE_VALUE"
    assert f"{company} already has that value" in error["message"]
    assert box.call("GET", "/crm/v3/objects/companies/C-1?idProperty=external_id")["id"] == company
    upsert = {
        "inputs": [{"id": text, "idProperty": "external_id", "properties": {"name": text}} for text in ("C-1", "C-2")]
    }
    shown = box.call("POST", "/crm/v3/objects/companies/batch/upsert", upsert)
    assert [item["new"] for item in shown["results"]] == [False, True]
    assert box.read("companies", shown["results"][1]["id"], "external_id")["external_id"] == "C-2"
    domain = {"inputs": [{"id": "acme.com", "idProperty": "domain", "properties": {}}]}
    error = refused(box, "POST", "/crm/v3/objects/companies/batch/upsert", domain)
    assert error["message"] == "Unable to perform update/upsert by non-unique 0-2 property domain"


def test_domains_are_not_unique(box: Box) -> None:
    one, two = (box.create("companies", name=name, domain="acme.com") for name in "AB")
    assert one != two
    assert box.search("companies", {"propertyName": "domain", "operator": "EQ", "value": "acme.com"})["total"] == 2


def test_associations_at_creation_must_be_good(box: Box) -> None:
    contact = box.create("contacts", lastname="L")
    path, note = "/crm/v3/objects/notes", {"hs_timestamp": "2026-01-01"}

    def body(record_id: str, type_id: int) -> dict[str, Any]:
        spec = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": type_id}
        return {"properties": note, "associations": [{"to": {"id": record_id}, "types": [spec]}]}

    assert refused(box, "POST", path, body("999", 202))["context"]["INVALID_OBJECT_IDS"] == ["CONTACT=999 is not valid"]
    assert "INVALID_ASSOCIATION_TYPE_ID" in refused(box, "POST", path, body(contact, 201))["context"]
    assert box.call("GET", path)["results"] == []
    box.call("POST", path, body(contact, 202), 201)


def test_association_types_are_those_of_the_official_client(box: Box) -> None:
    official = {number for name, number in vars(AssociationType).items() if name.isupper()}
    ours = {int(text) for row in _DEFINED.strip().splitlines() for text in row.split(" ", 4)[2:4]}
    assert ours - official == {449, 450, 451, 13, 14}
    words = {"contacts": "CONTACT", "companies": "COMPANY", "deals": "DEAL", "notes": "NOTE", "calls": "CALL"}
    words |= {"emails": "EMAIL", "meetings": "MEETING", "tasks": "TASK"}
    for row in _DEFINED.strip().splitlines():
        start, end, forth, back, *label = row.split(" ", 4)
        if start == end:
            continue
        prefix = "PRIMARY_" if label == ["Primary"] else ""
        assert getattr(AssociationType, f"{prefix}{words[start]}_TO_{words[end]}") == int(forth)
        assert getattr(AssociationType, f"{prefix}{words[end]}_TO_{words[start]}") == int(back)


def test_an_archived_record_takes_its_associations_along(box: Box) -> None:
    contact, company = box.create("contacts", lastname="L"), box.create("companies", name="Acme")
    box.call("PUT", f"/crm/v4/objects/contacts/{contact}/associations/default/companies/{company}")
    box.call("DELETE", f"/crm/v3/objects/companies/{company}", expect=204)
    assert box.call("GET", f"/crm/v4/objects/contacts/{contact}/associations/companies")["results"] == []
    assert box.read("contacts", contact, "associatedcompanyid")["associatedcompanyid"] is None
    assert box.call("GET", "/_sandbox/state")["associations"] == []


def test_labels_of_the_account(box: Box) -> None:
    path = "/crm/v4/associations/contacts/companies/labels"
    made = box.call("POST", path, {"label": "Billing", "name": "billing", "inverseLabel": "Billed"})["results"]
    contact, company = box.create("contacts", lastname="L"), box.create("companies", name="Acme")
    spec = [{"associationCategory": "USER_DEFINED", "associationTypeId": made[0]["typeId"]}]
    shown = box.call("PUT", f"/crm/v4/objects/contacts/{contact}/associations/companies/{company}", spec, 201)
    assert shown["labels"] == ["Billing"]
    back = box.call("GET", f"/crm/v4/objects/companies/{company}/associations/contacts")["results"]
    assert {item["label"] for item in back[0]["associationTypes"]} == {None, "Primary", "Billed"}
    assert {item["label"] for item in box.call("GET", path)["results"]} == {None, "Primary", "Billing"}


def test_a_new_contact_joins_the_company_of_its_domain(box: Box) -> None:
    with running(Options(auto_associate=True)) as other:
        company = other.create("companies", name="Acme", domain="acme.com")
        contact = other.create("contacts", email="a@acme.com")
        assert other.read("contacts", contact, "associatedcompanyid")["associatedcompanyid"] == company
    box.create("companies", name="Acme", domain="acme.com")
    contact = box.create("contacts", email="a@acme.com")
    assert box.read("contacts", contact, "associatedcompanyid")["associatedcompanyid"] is None


def test_custom_objects(box: Box) -> None:
    definition = {"name": "wheels", "label": "Wheels", "type": "number", "fieldType": "number", "groupName": "custom"}
    seed = {"customObjects": [{"name": "cars", "objectTypeId": "2-100"}], "properties": {"cars": [definition]}}
    box.control("seed", seed | {"cars": [{"id": "5", "properties": {"wheels": "4"}}]})
    contact = box.create("contacts", lastname="L")
    box.call("PUT", f"/crm/v4/objects/2-100/5/associations/default/contacts/{contact}")
    assert box.call("GET", "/crm/v3/objects/2-100/5?properties=wheels")["properties"]["wheels"] == "4"
    assert box.call("GET", f"/crm/v4/objects/contacts/{contact}/associations/cars")["results"][0]["toObjectId"] == "5"


def test_a_seed_is_read_back_and_a_bad_one_is_refused(box: Box) -> None:
    at = "2024-05-06T07:08:09.010Z"
    seed = {
        "contacts": [{"id": "101", "properties": {"email": "A@Example.com"}, "createdAt": at, "updatedAt": at}],
        "deals": [{"id": "1", "properties": {"dealname": "D", "amount": "10.50"}}],
        "associations": [{"from": ["deals", "1"], "to": ["contacts", "101"], "typeId": 3}],
    }
    assert box.control("seed", seed) == {"contacts": 1, "deals": 1, "associations": 1}
    shown = box.call("GET", f"{CONTACTS}/101?associations=deals")
    assert (shown["createdAt"], shown["updatedAt"], shown["properties"]["email"]) == (at, at, "a@example.com")
    assert shown["associations"] == {"deals": {"results": [{"id": "1", "type": "contact_to_deal"}]}}
    assert int(box.create("contacts", lastname="L")) > 101
    for bad in (
        {"contacts": [{"id": "101"}]},
        {"contacts": [{"id": "x"}]},
        {"widgets": []},
        {"contacts": [{"id": "7", "properties": {"nothing": "1"}}]},
        {"associations": [{"from": ["deals", "1"], "to": ["contacts", "9"]}]},
    ):
        assert "error" in box.call("POST", "/_sandbox/seed", bad, 400)


def test_two_sandboxes_with_the_same_calls_have_the_same_state() -> None:
    def run() -> Any:
        with running() as box:
            at = "2024-05-06T07:08:09.010Z"
            people = [{"id": str(n), "properties": {"lastname": "L"}, "createdAt": at} for n in (9, 10, 100)]
            box.control("seed", {"contacts": people, "companies": [{"id": "1", "createdAt": at}]})
            box.call("PUT", "/crm/v4/objects/contacts/9/associations/default/companies/1")
            state = box.call("GET", "/_sandbox/state")
            return state["associations"], [item["id"] for item in state["objects"]["contacts"]]

    assert run() == run()
    assert run()[1] == ["9", "10", "100"]


def test_edits_by_a_person(box: Box) -> None:
    edit = {"object": "contacts", "action": "create", "properties": {"email": "a@example.com"}}
    contact = box.control("edit", edit)["id"]
    box.control("edit", {"object": "contacts", "id": contact, "properties": {"city": "Oslo"}})
    shown = box.call("GET", f"{CONTACTS}/{contact}?propertiesWithHistory=city")
    assert shown["propertiesWithHistory"]["city"][0]["sourceType"] == "CRM_UI"
    other = box.create("contacts", email="b@example.com")
    made = box.control("edit", {"object": "contacts", "id": other, "action": "merge", "into": contact})
    assert made["properties"]["email"] == "a@example.com"
    box.control("edit", {"object": "contacts", "id": made["id"], "action": "archive"})
    assert box.search("contacts")["total"] == 0
    wrong = {"object": "contacts", "id": "1", "properties": {}}
    assert "resource not found" in box.call("POST", "/_sandbox/edit", wrong, 400)["error"]


def test_only_a_contact_opts_out(box: Box) -> None:
    contact = box.create("contacts", email="a@example.com")
    box.control("edit", {"object": "contacts", "id": contact, "properties": {"hs_email_optout": True}})
    assert box.read("contacts", contact, "hs_email_optout")["hs_email_optout"] == "true"


def test_properties_are_changed_and_archived(box: Box) -> None:
    path = "/crm/v3/properties/contacts"
    option = {"label": "Gold", "value": "gold", "hidden": False}
    definition = {"name": "tier", "label": "Tier", "type": "enumeration", "fieldType": "select", "options": [option]}
    box.call("POST", path, definition | {"groupName": "contactinformation"}, 201)
    contact = box.create("contacts", lastname="L", tier="gold")
    more = [option, option | {"label": "Silver", "value": "silver"}]
    assert len(box.call("PATCH", f"{path}/tier", {"options": more, "label": "Level"})["options"]) == 2
    box.call("PATCH", f"{CONTACTS}/{contact}", {"properties": {"tier": "silver"}})
    assert refused(box, "PATCH", f"{path}/email", {"label": "x"})
    box.call("POST", f"{path}/batch/archive", {"inputs": [{"name": "tier"}]}, 204)
    assert refused(box, "GET", f"{path}/tier", None, 404)
    assert refused(box, "PATCH", f"{CONTACTS}/{contact}", {"properties": {"tier": "gold"}})
    box.call("POST", path, definition | {"groupName": "contactinformation"}, 201)


def test_account_information(box: Box) -> None:
    assert box.call("GET", "/account-info/v3/details")["portalId"] == Options().portal_id
    assert box.call("GET", "/account-info/v3/api-usage/daily/private-apps")["results"][0]["fetchStatus"] == "SUCCESS"


@given(st.integers(min_value=0, max_value=4_102_444_800_000))
def test_an_instant_survives_being_written(milliseconds: int) -> None:
    assert parse_ms(iso(milliseconds)) == milliseconds
    assert parse_ms(str(milliseconds)) == milliseconds


@given(st.from_regex(r"[a-z]{1,8}\.[a-z]{2,3}", fullmatch=True), st.sampled_from(["", "http://", "HTTPS://www."]))
def test_a_domain_is_the_same_however_it_is_typed(domain: str, before: str) -> None:
    if not domain.startswith("www."):
        assert domain_of(f" {before}{domain.upper()}/path?x=1 ") == domain


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("cumd"), st.integers(0, 4), st.integers(0, 3)), max_size=25))
def test_addresses_stay_unique_whatever_happens(steps: list[tuple[str, int, int]]) -> None:
    """Creates, changes, merges and deletions in any order never leave one address with two contacts."""
    with running() as box:
        ids: list[str] = []
        for action, number, which in steps:
            address = {"properties": {"email": f"p{number}@example.com", "lastname": "L"}}
            chosen = ids[which % len(ids)] if ids else "1"
            match action:
                case "c":
                    answer = box.http.post(CONTACTS, json=address)
                    ids += [answer.json()["id"]] if answer.status_code == 201 else []
                case "u":
                    box.http.patch(f"{CONTACTS}/{chosen}", json=address)
                case "m":
                    box.http.post(
                        f"{CONTACTS}/merge", json={"primaryObjectId": chosen, "objectIdToMerge": ids[0] if ids else "2"}
                    )
                case _:
                    box.http.delete(f"{CONTACTS}/{chosen}")
        live = [
            item for item in box.call("GET", "/_sandbox/state")["objects"].get("contacts", ()) if not item["archived"]
        ]
        held = [
            address
            for item in live
            for address in (
                item["properties"].get("email"),
                *item["properties"].get("hs_additional_emails", "").split(";"),
            )
            if address
        ]
        assert len(held) == len(set(held))
        for address in held:
            assert box.http.get(f"{CONTACTS}/{address}?idProperty=email").status_code == 200
