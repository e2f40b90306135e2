"""The HubSpot sandbox's webhooks: signatures that HubSpot's own client accepts, events, retries and disorder."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hubspot.webhooks as webhooks
import pytest
from hubspot.exceptions import InvalidSignatureTimestampError
from hubspot.utils.signature import Signature

from connectors.hubspot.sandbox import Options
from connectors.hubspot.sandbox.events import sign_v1, sign_v3
from tests.sandboxes.hubspot_support import Box, Receiver, receiving, running, until

ROOT = Path(__file__).resolve().parents[2]
VECTORS = Path(os.environ.get("HUB_SHARED", ROOT.parent / "shared")) / "specs/vectors/hubspot.json"
SECRET = Options().client_secret
CONTACTS = "/crm/v3/objects/contacts"


@pytest.fixture
def box() -> Iterator[Box]:
    with running() as served:
        yield served


@pytest.fixture
def hook() -> Iterator[tuple[Receiver, str]]:
    with receiving() as pair:
        yield pair


def idle(box: Box) -> bool:
    counts: dict[str, int] = box.call("GET", "/_sandbox/webhooks")
    return counts["pending"] == 0


def events(receiver: Receiver) -> list[dict[str, Any]]:
    return [event for _, body in receiver.requests for event in json.loads(body)]


def named(receiver: Receiver, name: str) -> list[dict[str, Any]]:
    return [event for event in events(receiver) if event["subscriptionType"] == name]


def test_signatures_are_those_of_the_vectors() -> None:
    if not VECTORS.exists():
        assert "CI" not in os.environ, f"{VECTORS} is missing"
        pytest.skip("the folder of vendors' descriptions is not beside the checkout; set HUB_SHARED")
    vectors = {item["scheme"]: item for item in json.loads(VECTORS.read_text())}
    one, three = vectors["v1"], vectors["v3"]
    assert sign_v1(one["secret"], one["body"].encode()) == one["signature"]
    given = three["secret"], three["method"], three["uri"], three["body"].encode(), three["timestamp_ms"]
    assert sign_v3(*given) == three["signature"]


def test_a_delivery_is_signed_as_the_official_client_expects(box: Box, hook: tuple[Receiver, str]) -> None:
    receiver, url = hook
    box.control("webhooks", {"url": url})
    box.create("contacts", email="ärger@example.com".replace("ä", "a"), firstname="Ünal")
    until(lambda: receiver.requests)
    headers, body = receiver.requests[0]
    more = {"http_uri": url, "http_method": "POST", "timestamp": headers["x-hubspot-request-timestamp"]}
    good = {"signature": headers["x-hubspot-signature-v3"], "signature_version": "v3", **more}
    assert Signature.is_valid(client_secret=SECRET, request_body=body.decode(), **good)
    assert not Signature.is_valid(client_secret=SECRET, request_body=body.decode() + " ", **good)
    assert not Signature.is_valid(client_secret="other", request_body=body.decode(), **good)
    with pytest.raises(InvalidSignatureTimestampError):
        Signature.is_valid(client_secret=SECRET, request_body=body.decode(), **(good | {"timestamp": "1564113600000"}))
    assert headers["x-hubspot-signature-version"] == "v1"
    assert Signature.is_valid(headers["x-hubspot-signature"], SECRET, body.decode(), signature_version="v1")


def test_events_of_a_life(box: Box, hook: tuple[Receiver, str]) -> None:
    receiver, url = hook
    box.control("webhooks", {"url": url})
    contact = box.create("contacts", email="a@example.com")
    box.control("edit", {"object": "contacts", "id": contact, "properties": {"city": "Oslo"}})
    other, company = box.create("contacts", email="b@example.com"), box.create("companies", name="Acme")
    box.call("PUT", f"/crm/v4/objects/contacts/{contact}/associations/default/companies/{company}")
    body = {"primaryObjectId": contact, "objectIdToMerge": other}
    merged = box.call("POST", f"{CONTACTS}/merge", body)["id"]
    box.call("DELETE", f"{CONTACTS}/{merged}", expect=204)
    until(lambda: named(receiver, "contact.deletion"))
    created = named(receiver, "contact.creation")[0]
    options = Options()
    assert {"eventId", "subscriptionId", "occurredAt"} <= created.keys()
    expected = {
        "portalId": options.portal_id,
        "appId": options.app_id,
        "attemptNumber": 0,
        "objectId": int(contact),
        "changeSource": "INTEGRATION",
        "changeFlag": "CREATED",
        "sourceId": str(options.app_id),
    }
    assert expected.items() <= created.items()
    city = next(item for item in named(receiver, "contact.propertyChange") if item["propertyName"] == "city")
    assert (city["propertyValue"], city["changeSource"], city["objectId"]) == ("Oslo", "CRM_UI", int(contact))
    assert city["sourceId"].startswith("userId:")
    change = named(receiver, "contact.associationChange")[0]
    assert (change["associationType"], change["associationRemoved"]) == ("CONTACT_TO_COMPANY", False)
    assert (change["fromObjectId"], change["toObjectId"]) == (int(contact), int(company))
    assert change["isPrimaryAssociation"] is True
    assert named(receiver, "company.associationChange")[0]["fromObjectId"] == int(company)
    merge = named(receiver, "contact.merge")[0]
    assert (merge["primaryObjectId"], merge["mergedObjectIds"]) == (int(contact), [int(other)])
    assert merge["newObjectId"] == int(merged)
    assert named(receiver, "contact.deletion")[0]["objectId"] == int(merged)


def test_an_erasure_is_told_twice(box: Box, hook: tuple[Receiver, str]) -> None:
    receiver, url = hook
    contact = box.create("contacts", email="a@example.com")
    box.control("webhooks", {"url": url})
    box.call("POST", f"{CONTACTS}/gdpr-delete", {"objectId": contact}, 204)
    until(lambda: named(receiver, "contact.privacyDeletion"))
    assert [item["subscriptionType"] for item in events(receiver)] == ["contact.deletion", "contact.privacyDeletion"]


def test_engagements_have_no_classic_events_and_seeds_have_none_at_all(box: Box, hook: tuple[Receiver, str]) -> None:
    receiver, url = hook
    box.control("webhooks", {"url": url})
    box.control("seed", {"contacts": [{"id": "1", "properties": {"email": "a@example.com"}}]})
    box.create("notes", hs_timestamp="2026-01-01")
    box.create("companies", name="Acme")
    until(lambda: named(receiver, "company.creation"))
    assert {item["subscriptionType"].partition(".")[0] for item in events(receiver)} == {"company"}


def test_subscriptions_through_the_official_client(box: Box, hook: tuple[Receiver, str]) -> None:
    receiver, url = hook
    options = Options()
    sdk = box.sdk(api_key=options.developer_key).webhooks
    throttling = webhooks.ThrottlingSettings(max_concurrent_requests=10)
    wanted = webhooks.SettingsChangeRequest(target_url=url, throttling=throttling)
    assert sdk.settings_api.configure(options.app_id, wanted).target_url == url
    requests = [
        webhooks.SubscriptionCreateRequest(event_type="contact.propertyChange", property_name="city", active=True),
        webhooks.SubscriptionCreateRequest(event_type="object.creation", object_type_id="0-46", active=True),
        webhooks.SubscriptionCreateRequest(event_type="contact.creation", active=False),
    ]
    made = [sdk.subscriptions_api.create(options.app_id, request) for request in requests]
    assert len(sdk.subscriptions_api.get_all(options.app_id).results) == 3
    box.create("contacts", email="a@example.com", city="Oslo")
    box.create("notes", hs_timestamp="2026-01-01")
    until(lambda: named(receiver, "object.creation"))
    assert named(receiver, "object.creation")[0]["objectTypeId"] == "0-46"
    shown = {(item["subscriptionType"], item.get("propertyName")) for item in events(receiver)}
    assert shown == {("contact.propertyChange", "city"), ("object.creation", None)}
    sdk.subscriptions_api.update(made[2].id, options.app_id, webhooks.SubscriptionPatchRequest(active=True))
    sdk.subscriptions_api.archive(made[0].id, options.app_id)
    box.create("contacts", email="b@example.com", city="Rome")
    until(lambda: named(receiver, "contact.creation"))
    assert [item["propertyValue"] for item in named(receiver, "contact.propertyChange")] == ["Oslo"]
    with pytest.raises(webhooks.ApiException) as refused:
        sdk.subscriptions_api.create(options.app_id, webhooks.SubscriptionCreateRequest(event_type="note.creation"))
    assert refused.value.status == 400
    with pytest.raises(webhooks.ApiException) as unauthenticated:
        box.sdk(api_key="wrong").webhooks.settings_api.get_all(options.app_id)
    assert unauthenticated.value.status == 401


def test_deliveries_hold_up_to_a_hundred_events_and_are_repeated_until_accepted(
    box: Box, hook: tuple[Receiver, str]
) -> None:
    receiver, url = hook
    receiver.statuses = [500, 404]
    box.control("webhooks", {"url": url, "base_delay_seconds": 0.01})
    box.call(
        "POST", f"{CONTACTS}/batch/create", {"inputs": [{"properties": {"lastname": f"L{n}"}} for n in range(100)]}, 201
    )
    until(lambda: idle(box))
    counts = box.call("GET", "/_sandbox/webhooks")
    assert (counts["sent"], counts["failed"], counts["attempts"]) == (200, 0, len(receiver.requests))
    sizes = [len(json.loads(body)) for _, body in receiver.requests]
    assert max(sizes) <= 100
    seen = [[event["eventId"] for event in json.loads(body)] for _, body in receiver.requests]
    attempts = [{event["attemptNumber"] for event in json.loads(body)} for _, body in receiver.requests]
    assert {1} in attempts
    first = seen[0]
    assert [attempts[n] for n, ids in enumerate(seen) if ids == first] in ([{0}, {1}], [{0}, {1}, {2}])
    assert len({event["eventId"] for event in events(receiver)}) == 200


def test_a_receiver_that_never_accepts_is_given_up_after_ten_retries(box: Box, hook: tuple[Receiver, str]) -> None:
    receiver, url = hook
    receiver.statuses = [503] * 50
    box.control("webhooks", {"url": url, "base_delay_seconds": 0})
    contact = box.create("companies", name="Acme")
    until(lambda: idle(box))
    numbers = [event["attemptNumber"] for event in named(receiver, "company.creation")]
    assert numbers == list(range(11))
    assert box.call("GET", "/_sandbox/webhooks")["failed"] == 2
    assert box.read("companies", contact)["hs_object_id"] == contact


def test_duplicates_losses_and_disorder_as_told(box: Box, hook: tuple[Receiver, str]) -> None:
    receiver, url = hook
    box.control("webhooks", {"url": url, "mode": {"duplicate": 1.0}})
    box.create("companies", name="A")
    until(lambda: idle(box))
    assert set(Counter(event["eventId"] for event in events(receiver)).values()) == {2}
    receiver.requests.clear()
    box.control("webhooks", {"url": url, "mode": {"drop": 1.0}})
    box.create("companies", name="B")
    assert box.call("GET", "/_sandbox/webhooks")["dropped"] == 2
    box.control("webhooks", {"url": url, "mode": {"reorder": True, "seed": 3, "delay_seconds": 0.05}})
    box.call(
        "POST", f"{CONTACTS}/batch/create", {"inputs": [{"properties": {"lastname": f"L{n}"}} for n in range(20)]}, 201
    )
    until(lambda: idle(box))
    order = [event["eventId"] for event in events(receiver)]
    assert len(order) == 40
    assert order != sorted(order)


def test_a_secret_of_ones_own(box: Box, hook: tuple[Receiver, str]) -> None:
    receiver, url = hook
    box.control("webhooks", {"url": url, "secret": "another"})
    box.create("companies", name="A")
    until(lambda: receiver.requests)
    headers, body = receiver.requests[0]
    timestamp = headers["x-hubspot-request-timestamp"]
    assert headers["x-hubspot-signature-v3"] == sign_v3("another", "POST", url, body, timestamp)
