"""Manifests in the shape that connectors have, small enough to read, and a configuration that uses all of the format."""

from typing import Any

from connectors.kit.connector import Manifest, ObjectSpec, Setting
from hub.errors import ConfigError, Problem
from hub.mapping import Codec, FieldMap

STATUS = Codec(
    lambda present: {"status": present.get("status"), "at": present.get("changed")} if present.get("status") else None,
    lambda value: {"status": "subscribed" if value and value["status"] == "in" else "unsubscribed"},
)

POSTGRESQL = Manifest(
    name="postgresql",
    title="PostgreSQL",
    settings=(
        Setting("url", "where the database is", secret=True),
        Setting("capture", "logical or outbox", required=False, default="logical"),
        Setting("batch", "rows per page", required=False, default=1000),
    ),
    auth="dsn",
)

HUBSPOT = Manifest(
    name="hubspot",
    title="HubSpot",
    settings=(
        Setting("token", "private app token", secret=True),
        Setting("base_url", "another address", required=False, default="https://api.example.com"),
        Setting("search_lag", "seconds", required=False, default=5.0),
        Setting("webhooks", "whether webhooks arrive", required=False, default=False),
    ),
    objects=(
        ObjectSpec(
            "contacts",
            "contact",
            (
                FieldMap("email", ("email",), unique=True),
                FieldMap("first_name", ("firstname",)),
                FieldMap("last_name", ("lastname",)),
                FieldMap("phone", ("phone",)),
                FieldMap("job_title", ("jobtitle",)),
                FieldMap("company", ("associations.companies",), object="companies"),
                FieldMap("hub_id", ("hub_id",), identifies="golden", unique=True),
            ),
        ),
        ObjectSpec("companies", "company", (FieldMap("name", ("name",)), FieldMap("domain", ("domain",)))),
        ObjectSpec(
            "deals",
            "deal",
            (
                FieldMap("name", ("dealname",)),
                FieldMap("amount", ("amount",)),
                FieldMap("stage", ("dealstage",)),
                FieldMap("close_date", ("closedate",)),
                FieldMap("contact", ("associations.contacts",), object="contacts"),
                FieldMap("company", ("associations.companies",), object="companies"),
            ),
        ),
        ObjectSpec("notes", "engagement", (FieldMap("body", ("hs_note_body",)),), constants={"kind": "note"}),
        ObjectSpec("calls", "engagement", (FieldMap("body", ("hs_call_body",)),), constants={"kind": "call"}),
    ),
    dialect={"integer": str},
)

MAILCHIMP = Manifest(
    name="mailchimp",
    title="Mailchimp",
    settings=(Setting("api_key", "API key", secret=True), Setting("list_id", "audience id")),
    objects=(
        ObjectSpec(
            "members",
            "contact",
            (
                FieldMap("email", ("email_address",), unique=True),
                FieldMap("first_name", ("FNAME",)),
                FieldMap("consent", ("status", "changed"), codec=STATUS),
                FieldMap("tags", ("tags",)),
            ),
            marketing=True,
            requires=("email",),
        ),
    ),
    codecs={"status": STATUS},
)

MANIFESTS = {manifest.name: manifest for manifest in (POSTGRESQL, HUBSPOT, MAILCHIMP)}

ENV = {"CRM_URL": "postgresql://hub:hunter2@db/crm", "HUBSPOT_TOKEN": "pat-hunter2", "MAILCHIMP_KEY": "hunter2-us1"}

FULL = """\
# yaml-language-server: $schema=./hub.schema.json
version: 1
log: embedded
state: postgresql://hub:${STATE_PASSWORD}@db/hub
phone_region: GB
systems:
  crm:
    connector: postgresql
    url: ${CRM_URL}
    objects:
      companies:
        entity: company
        table: public.companies
        key: id
        fields: {name: name, domain: website, employees: headcount}
      contacts:
        entity: contact
        table: public.contacts
        key: [region, id]
        fields:
          email: email
          first_name: {native: full_name, codec: {split_name: first}}
          last_name: {native: full_name, codec: {split_name: last}}
          phone: phone
          city: city
          country: country
          consent: {native: [email_consent, consent_at], codec: consent}
          lifecycle: {native: status, options: {L: lead, 2: customer}, direction: in}
          company: {native: company_id, object: companies}
          score: score
          spare_id: {native: mailchimp_id, identifies: mailchimp.members}
        when: "email is not None and country == 'DE'"
        on_delete: ignore
        create: false
        requires: [email]
  hubspot:
    connector: hubspot
    token: ${HUBSPOT_TOKEN}
    objects: [contacts, companies, notes, calls]
  mailchimp:
    connector: mailchimp
    api_key: ${MAILCHIMP_KEY}
    list_id: a1b2
    objects:
      members:
        fields: {tags: null, last_name: LNAME}
entities:
  contact:
    match: [email]
    merge: review
    delete: {crm: propagate, hubspot: detach}
    fields:
      email: {truth: [crm, hubspot, mailchimp]}
      phone: latest
      job_title: {truth: [hubspot], review: true}
      consent: {rule: strictest, opt_in_from: [crm, mailchimp]}
      country: {follow: city}
      full_name: {type: text, expression: "join(' ', first_name, last_name)"}
      greeting: {type: text, expression: "'Dear ' + full_name"}
      score: {type: integer, python: "tests.config.samples:highest"}
      company: {required: true}
"""


def highest(claims: list[dict[str, Any]]) -> Any:
    """A rule of the user's own."""
    return max((claim["value"] for claim in claims if claim["value"] is not None), default=None)


def problems(error: ConfigError) -> list[Problem]:
    """Without the file's name in front of the place."""
    return [Problem(p.where.removeprefix("hub.yaml:"), p.what, p.suggestion) for p in error.problems]


HUBSPOT_ALONE = """
version: 1
log: embedded
state: ${STATE}
systems:
  hubspot:
    connector: hubspot
    access_token: ${TOKEN}
    client_secret: ${SECRET}
    base_url: http://127.0.0.1:9
    objects: [contacts]
"""
"""A hub with one system, whose contacts are read; nobody answers at its address."""
