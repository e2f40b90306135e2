"""The connectors there are: one line each."""

import connectors.hubspot.connector as hubspot
import connectors.mailchimp.connector as mailchimp
import connectors.postgresql.connector as postgresql
from connectors.kit.connector import Factory, Manifest

CONNECTORS: dict[str, tuple[Manifest, Factory]] = {
    "hubspot": (hubspot.MANIFEST, hubspot.HubSpot),
    "mailchimp": (mailchimp.MANIFEST, mailchimp.Mailchimp),
    "postgresql": (postgresql.MANIFEST, postgresql.PostgreSQL),
}
