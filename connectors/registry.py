"""The connectors there are: one line each."""

from connectors.hubspot import connector as hubspot
from connectors.kit.connector import Factory, Manifest
from connectors.mailchimp import connector as mailchimp
from connectors.postgresql import connector as postgresql

CONNECTORS: dict[str, tuple[Manifest, Factory]] = {
    "hubspot": (hubspot.MANIFEST, hubspot.HubSpot),
    "mailchimp": (mailchimp.MANIFEST, mailchimp.Mailchimp),
    "postgresql": (postgresql.MANIFEST, postgresql.PostgreSQL),
}
