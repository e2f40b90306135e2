"""The hub's whole work judged by an independent computation of what it must come to."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from hub.edge.embedded import Embedded
from hub.edge.kafka_local import Broker
from tests.e2e import alike
from tests.e2e.systems import Systems, hub_on, settled, show, systems_on


async def test_everything_ends_as_the_oracle_says_also_after_edits_everywhere(systems: Systems) -> None:
    async with hub_on(systems) as (hub, _):
        await settled(hub, systems)
        assert (problems := await systems.problems()) == [], show(problems)
        await edit_everywhere(systems)
        await settled(hub, systems)
        assert (problems := await systems.problems()) == [], show(problems)


async def edit_everywhere(systems: Systems) -> None:
    """Edits of every kind in all three systems, without waiting for the hub between them."""
    friends = iter(systems.friends)
    # One field, edited in one system.
    await systems.crm_edit("contacts", next(friends).crm, first_name="Wilhelmina", city="Genève")
    await systems.hubspot_edit("contacts", next(friends).hubspot, jobtitle="Head of Nothing", phone="(415) 555-0142")
    someone = next(friends)
    await systems.mailchimp_edit(someone.email, "tag", {"tags": ["vip"]}, tags=["vip"])
    # The same field in two systems: by rank, and by recency.
    someone = next(friends)
    await systems.hubspot_edit("contacts", someone.hubspot, firstname="Lower", phone="+1 415 555 0150")
    await systems.crm_edit("contacts", someone.crm, first_name="Higher", phone="+1 415 555 0151")
    someone = next(friends)
    await systems.crm_edit("contacts", someone.crm, job_title="Ignored", phone="(415) 555-0152")
    await systems.hubspot_edit("contacts", someone.hubspot, jobtitle="Chosen", phone="415.555.0153")
    # Made empty: where the rule knows another value, and where the newest word counts.
    someone = next(friends)
    await systems.crm_edit("contacts", someone.crm, first_name=None, phone=None)
    # Consent: out in Mailchimp, out in the CRM, out and in again.
    someone = next(friends)
    await systems.mailchimp_edit(someone.email, "unsubscribe", {"status": "unsubscribed"})
    someone = next(friends)
    await systems.crm_edit("contacts", someone.crm, email_consent="out", consent_at=datetime.now(UTC))
    someone = next(friends)
    await systems.mailchimp_edit(someone.email, "unsubscribe", {"status": "unsubscribed"})
    # Another address.
    someone = next(friends)
    await systems.crm_edit("contacts", someone.crm, email="renamed@friends.example")
    # Gone.
    await systems.crm_delete("contacts", next(friends).crm)
    await systems.hubspot_archive("contacts", next(friends).hubspot)
    # New, in each.
    opted = {"email_consent": "in", "consent_at": datetime.now(UTC)}
    await systems.crm_insert("contacts", email="new@crm.example", first_name="Neo", last_name="Crm", **opted)
    await systems.crm_insert("companies", name="Novel Goods", domain="novelgoods.example", employees=7)
    new = {"email": "new@hubspot.example", "firstname": "Neo", "lastname": "Hub", "lifecyclestage": "lead"}
    await systems.hubspot_create("contacts", **new)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    fields = {"email_address": "new@mailchimp.example", "status": "subscribed", "timestamp_opt": now, "tags": None,
              "FNAME": "Neo", "LNAME": "Chimp"}  # fmt: skip
    await systems.mailchimp_edit(
        "new@mailchimp.example", "subscribe", fields, merge_fields={"FNAME": "Neo", "LNAME": "Chimp"}
    )


@pytest.mark.kafka
async def test_both_logs_come_to_the_same(postgres: Embedded, broker: Broker, tmp_path: Path) -> None:
    runs = []
    now = datetime.now(UTC)
    for log in ("embedded", broker.url):
        async with systems_on(postgres, tmp_path, log=log, now=now) as systems, hub_on(systems) as (hub, _):
            await settled(hub, systems)
            runs.append((await alike.golden(hub, systems), await alike.held(systems)))
            if log != "embedded":
                await edit_everywhere(systems)
                await settled(hub, systems)
                assert (problems := await systems.problems()) == [], show(problems)
    (here, held_here), (there, held_there) = runs
    assert sum(here.values()) > 100
    assert (here - there, there - here) == ({}, {})
    assert (held_here - held_there, held_there - held_here) == ({}, {})
