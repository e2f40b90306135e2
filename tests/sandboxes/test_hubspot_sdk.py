"""HubSpot's official client talks to the sandbox; its typed models accept every answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hubspot.crm.associations.v4 as associations
import hubspot.crm.companies as companies
import hubspot.crm.contacts as contacts
import hubspot.crm.deals as deals
import hubspot.crm.objects.notes as notes
import hubspot.crm.pipelines as pipelines
import hubspot.crm.properties as properties
import pytest
from hubspot.utils.objects import fetch_all

from tests.sandboxes.hubspot_support import Box, running


@pytest.fixture
def box() -> Iterator[Box]:
    with running() as served:
        yield served


@pytest.fixture
def sdk(box: Box) -> Any:
    return box.sdk()


def test_a_contact_is_created_read_changed_and_archived(sdk: Any) -> None:
    api = sdk.crm.contacts.basic_api
    given = {"email": " Ada@Example.COM", "firstname": " Ada ", "lastname": "Lovelace"}
    made = api.create(contacts.SimplePublicObjectInputForCreate(properties=given, associations=[]))
    assert made.properties["email"] == "ada@example.com"
    assert made.properties["firstname"] == "Ada"
    assert made.properties["hs_object_id"] == made.id
    read = api.get_by_id(made.id, properties=["email", "phone", "no_such_property"], properties_with_history=["email"])
    assert read.properties["phone"] is None
    assert "no_such_property" not in read.properties
    assert [version.value for version in read.properties_with_history["email"]] == ["ada@example.com"]
    changed = api.update(made.id, contacts.SimplePublicObjectInput(properties={"phone": "+44 1"}))
    assert changed.properties["phone"] == "+44 1"
    assert api.get_by_id("ADA@example.com", id_property="email").id == made.id
    api.archive(made.id)
    api.archive(made.id)
    with pytest.raises(contacts.ApiException) as gone:
        api.get_by_id(made.id)
    assert gone.value.status == 404
    assert api.get_by_id(made.id, archived=True).archived_at is not None


def test_an_address_is_unique_and_the_conflict_names_the_holder(sdk: Any) -> None:
    api = sdk.crm.contacts.basic_api
    one = api.create(contacts.SimplePublicObjectInputForCreate(properties={"email": "a@example.com"}, associations=[]))
    other = api.create(contacts.SimplePublicObjectInputForCreate(properties={"lastname": "B"}, associations=[]))
    for attempt in (
        lambda: api.create(
            contacts.SimplePublicObjectInputForCreate(properties={"email": "A@Example.com"}, associations=[])
        ),
        lambda: api.update(other.id, contacts.SimplePublicObjectInput(properties={"email": "a@example.com"})),
    ):
        with pytest.raises(contacts.ApiException) as refused:
            attempt()
        assert refused.value.status == 409
        assert f"Contact already exists. Existing ID: {one.id}" in refused.value.body
        assert '"category":"CONFLICT"' in refused.value.body
    api.archive(one.id)
    api.update(other.id, contacts.SimplePublicObjectInput(properties={"email": "a@example.com"}))
    assert api.get_by_id("a@example.com", id_property="email").id == other.id


def test_pages_hold_every_record_once(sdk: Any, box: Box) -> None:
    box.control("seed", {"contacts": [{"id": str(n), "properties": {"lastname": f"L{n}"}} for n in range(1, 251)]})
    found = fetch_all(sdk.crm.contacts.basic_api)
    assert [item.id for item in found] == [str(n) for n in range(1, 251)]
    page = sdk.crm.contacts.basic_api.get_page(limit=100, after="200")
    assert len(page.results) == 50
    assert page.paging is None
    with pytest.raises(contacts.ApiException) as refused:
        sdk.crm.contacts.basic_api.get_page(limit=101)
    assert refused.value.status == 400


def test_batches_create_read_update_upsert_and_archive(sdk: Any) -> None:
    api = sdk.crm.contacts.batch_api
    inputs = [
        contacts.SimplePublicObjectBatchInputForCreate(properties={"email": f"p{n}@example.com"}, associations=[])
        for n in range(3)
    ]
    made = api.create(contacts.BatchInputSimplePublicObjectBatchInputForCreate(inputs=inputs))
    ids = [item.id for item in made.results]
    wanted = [contacts.SimplePublicObjectId(id=text) for text in (*ids, "999")]
    read = api.read(
        contacts.BatchReadInputSimplePublicObjectId(inputs=wanted, properties=["email"], properties_with_history=[])
    )
    assert read.num_errors == 1
    assert read.errors[0].category == "OBJECT_NOT_FOUND"
    assert read.errors[0].context == {"ids": ["999"]}
    assert {item.id for item in read.results} == set(ids)
    update = contacts.SimplePublicObjectBatchInput(id=ids[0], properties={"city": "London"})
    changed = api.update(contacts.BatchInputSimplePublicObjectBatchInput(inputs=[update]))
    assert changed.results[0].properties["city"] == "London"
    both = [
        contacts.SimplePublicObjectBatchInputUpsert(
            id=address, id_property="email", properties={"city": "Paris"}, object_write_trace_id=address
        )
        for address in ("p0@example.com", "new@example.com")
    ]
    upserted = api.upsert(contacts.BatchInputSimplePublicObjectBatchInputUpsert(inputs=both))
    assert [(item.new, item.id == ids[0]) for item in upserted.results] == [(False, True), (True, False)]
    api.archive(
        contacts.BatchInputSimplePublicObjectId(inputs=[contacts.SimplePublicObjectId(id=text) for text in ids])
    )
    assert [item.id for item in sdk.crm.contacts.basic_api.get_page().results] == [upserted.results[1].id]


def test_companies_and_deals_have_their_types(sdk: Any) -> None:
    company = sdk.crm.companies.basic_api.create(
        companies.SimplePublicObjectInputForCreate(
            properties={"name": "Acme", "domain": "https://www.Acme.com/about", "industry": "COMPUTER_SOFTWARE"},
            associations=[],
        )
    )
    assert company.properties["domain"] == "acme.com"
    target = deals.PublicObjectId(id=company.id)
    kind = deals.AssociationSpec(association_category="HUBSPOT_DEFINED", association_type_id=341)
    deal = sdk.crm.deals.basic_api.create(
        deals.SimplePublicObjectInputForCreate(
            properties={"dealname": "Big", "amount": "1500.50", "dealstage": "closedwon", "closedate": "2026-03-01"},
            associations=[deals.PublicAssociationsForObject(to=target, types=[kind])],
        )
    )
    assert deal.properties["amount"] == "1500.50"
    assert deal.properties["closedate"] == "2026-03-01T00:00:00Z"
    assert deal.properties["hs_is_closed_won"] == "true"
    read = sdk.crm.deals.basic_api.get_by_id(deal.id, associations=["companies"])
    types = {(item.id, item.type) for item in read.associations["companies"].results}
    assert types == {(company.id, "deal_to_company"), (company.id, "deal_to_company_unlabeled")}
    with pytest.raises(deals.ApiException) as refused:
        sdk.crm.deals.basic_api.update(deal.id, deals.SimplePublicObjectInput(properties={"dealstage": "nowhere"}))
    assert "nowhere is not a valid pipeline stage ID" in refused.value.body


def test_a_search_filters_sorts_and_pages(sdk: Any, box: Box) -> None:
    seeded = [{"id": str(n), "properties": {"city": "Oslo" if n % 2 else "Rome"}} for n in range(1, 31)]
    box.control("seed", {"contacts": seeded})
    group = contacts.FilterGroup(filters=[contacts.Filter(property_name="city", operator="EQ", value="oslo")])
    request = contacts.PublicObjectSearchRequest(
        filter_groups=[group], sorts=["-hs_object_id"], properties=["city"], limit=10, after="0"
    )
    page = sdk.crm.contacts.search_api.do_search(request)
    assert page.total == 15
    assert [item.id for item in page.results] == [str(n) for n in range(29, 9, -2)]
    request.after = page.paging.next.after
    rest = sdk.crm.contacts.search_api.do_search(request)
    assert [item.id for item in rest.results] == ["9", "7", "5", "3", "1"]
    assert rest.paging is None


def test_a_merge_makes_a_new_record_that_both_ids_lead_to(sdk: Any, box: Box) -> None:
    company = box.create("companies", name="Acme")
    one = box.create("contacts", email="a@example.com", firstname="A", lifecyclestage="customer")
    other = box.create("contacts", email="b@example.com", phone="1", lifecyclestage="lead")
    sdk.crm.associations.v4.basic_api.create_default("contacts", other, "companies", company)
    merge = contacts.PublicMergeInput(primary_object_id=one, object_id_to_merge=other)
    made = sdk.crm.contacts.basic_api.merge(merge)
    assert made.id not in (one, other)
    assert made.properties["email"] == "a@example.com"
    assert made.properties["hs_additional_emails"] == "b@example.com"
    assert made.properties["phone"] == "1"
    assert made.properties["lifecyclestage"] == "customer"
    assert made.properties["hs_merged_object_ids"] == f"{one};{other}"
    for key, by in ((one, None), (other, None), ("b@example.com", "email")):
        more = {"id_property": by} if by else {}
        assert sdk.crm.contacts.basic_api.get_by_id(key, **more).id == made.id
    assert [item.id for item in sdk.crm.contacts.basic_api.get_page().results] == [made.id]
    assert box.read("contacts", made.id, "associatedcompanyid")["associatedcompanyid"] == company


def test_engagements_are_associated_when_they_are_made(sdk: Any, box: Box) -> None:
    contact = box.create("contacts", email="a@example.com")
    to = notes.PublicAssociationsForObject(
        to=notes.PublicObjectId(id=contact),
        types=[notes.AssociationSpec(association_category="HUBSPOT_DEFINED", association_type_id=202)],
    )
    given = {"hs_timestamp": "1772323200000", "hs_note_body": "Called"}
    made = sdk.crm.objects.notes.basic_api.create(
        notes.SimplePublicObjectInputForCreate(properties=given, associations=[to])
    )
    assert made.properties["hs_timestamp"] == "2026-03-01T00:00:00Z"
    read = sdk.crm.objects.notes.basic_api.get_by_id(made.id, associations=["contacts"])
    assert [(item.id, item.type) for item in read.associations["contacts"].results] == [(contact, "note_to_contact")]
    assert box.read("contacts", contact, "num_notes")["num_notes"] == "1"
    with pytest.raises(notes.ApiException) as refused:
        sdk.crm.objects.notes.basic_api.create(
            notes.SimplePublicObjectInputForCreate(properties={"hs_note_body": "x"}, associations=[])
        )
    assert "Error creating NOTE. Some required properties were not set." in refused.value.body


@pytest.mark.parametrize("kind", ["calls", "emails", "meetings", "tasks"])
def test_every_engagement_type_is_served(sdk: Any, kind: str) -> None:
    api = getattr(sdk.crm.objects, kind)
    module = __import__(f"hubspot.crm.objects.{kind}", fromlist=["x"])
    given = {"hs_timestamp": "2026-03-01T10:00:00.000Z"}
    made = api.basic_api.create(module.SimplePublicObjectInputForCreate(properties=given, associations=[]))
    assert api.basic_api.get_by_id(made.id, properties=["hs_timestamp"]).properties["hs_timestamp"].startswith("2026")
    assert api.search_api.do_search(module.PublicObjectSearchRequest(limit=5)).total == 1
    api.basic_api.archive(made.id)
    assert api.basic_api.get_page().results == []


def test_associations_of_version_four(sdk: Any, box: Box) -> None:
    contact = box.create("contacts", email="a@example.com")
    first, second = box.create("companies", name="One"), box.create("companies", name="Two")
    api = sdk.crm.associations.v4
    api.basic_api.create_default("contacts", contact, "companies", first)
    labelled = api.basic_api.create(
        "contacts",
        contact,
        "companies",
        second,
        [associations.AssociationSpec(association_category="HUBSPOT_DEFINED", association_type_id=1)],
    )
    assert labelled.labels == ["Primary"]
    page = api.basic_api.get_page("contacts", contact, "companies")
    shown = {item.to_object_id: {kind.type_id for kind in item.association_types} for item in page.results}
    assert shown == {first: {279}, second: {1, 279}}
    assert box.read("contacts", contact, "associatedcompanyid")["associatedcompanyid"] == second
    api.basic_api.archive("contacts", contact, "companies", first)
    ids = [associations.PublicFetchAssociationsBatchRequest(id=text) for text in (first, second)]
    read = api.batch_api.get_page(
        "companies", "contacts", associations.BatchInputPublicFetchAssociationsBatchRequest(ids)
    )
    assert [item._from.id for item in read.results] == [second]
    assert read.errors[0].sub_category == "crm.associations.NO_ASSOCIATIONS_FOUND"


def test_batches_of_associations(sdk: Any, box: Box) -> None:
    deal = box.create("deals", dealname="Big")
    people = [box.create("contacts", email=f"p{n}@example.com") for n in range(2)]
    spec = associations.AssociationSpec(association_category="HUBSPOT_DEFINED", association_type_id=3)
    inputs = [
        associations.PublicAssociationMultiPost(
            types=[spec], _from=associations.PublicObjectId(id=deal), to=associations.PublicObjectId(id=person)
        )
        for person in (*people, "999")
    ]
    api = sdk.crm.associations.v4.batch_api
    made = api.create("deals", "contacts", associations.BatchInputPublicAssociationMultiPost(inputs=inputs))
    assert [item.to_object_id for item in made.results] == people
    assert made.errors[0].message == "One or more associations are invalid"
    pair = associations.PublicDefaultAssociationMultiPost(
        _from=associations.PublicObjectId(id=people[0]), to=associations.PublicObjectId(id=deal)
    )
    default = api.create_default("contacts", "deals", associations.BatchInputPublicDefaultAssociationMultiPost([pair]))
    assert {item.association_spec.association_type_id for item in default.results} == {3, 4}
    gone = associations.PublicAssociationMultiArchive(
        _from=associations.PublicObjectId(id=deal), to=[associations.PublicObjectId(id=people[0])]
    )
    api.archive("deals", "contacts", associations.BatchInputPublicAssociationMultiArchive(inputs=[gone]))
    page = sdk.crm.associations.v4.basic_api.get_page("deals", deal, "contacts")
    assert [item.to_object_id for item in page.results] == people[1:]
    assert box.read("deals", deal, "num_associated_contacts")["num_associated_contacts"] == "1"


def test_properties_pipelines_and_owners(sdk: Any) -> None:
    core = sdk.crm.properties.core_api
    defined = {item.name: item for item in core.get_all("contacts").results}
    assert defined["email"].has_unique_value
    assert defined["lastmodifieddate"].modification_metadata.read_only_value
    made = core.create(
        "companies",
        properties.PropertyCreate(
            name="external_id",
            label="External id",
            type="string",
            field_type="text",
            group_name="companyinformation",
            has_unique_value=True,
        ),
    )
    assert made.has_unique_value
    with pytest.raises(properties.ApiException) as refused:
        core.get_by_name("companies", "nothing")
    assert refused.value.status == 404
    assert sdk.crm.properties.groups_api.get_all("deals").results[0].name == "dealinformation"
    stages = sdk.crm.pipelines.pipelines_api.get_by_id("deals", "default").stages
    assert [item.id for item in stages][-2:] == ["closedwon", "closedlost"]
    assert sdk.crm.pipelines.pipelines_api.get_all("deals").results[0].label == "Sales Pipeline"
    with pytest.raises(pipelines.ApiException):
        sdk.crm.pipelines.pipelines_api.get_by_id("deals", "nothing")
    owners = sdk.crm.owners.owners_api.get_page().results
    assert sdk.crm.owners.owners_api.get_by_id(int(owners[0].id)).email == owners[0].email


def test_a_contact_is_erased_for_privacy(sdk: Any, box: Box) -> None:
    contact = box.create("contacts", email="a@example.com")
    sdk.crm.contacts.basic_api.purge(contacts.PublicGdprDeleteInput(object_id="a@example.com", id_property="email"))
    with pytest.raises(contacts.ApiException) as gone:
        sdk.crm.contacts.basic_api.get_by_id(contact, archived=True)
    assert gone.value.status == 404
    given = contacts.SimplePublicObjectInputForCreate(properties={"email": "a@example.com"}, associations=[])
    with pytest.raises(contacts.ApiException) as refused:
        sdk.crm.contacts.basic_api.create(given)
    assert refused.value.status == 400
