"""A stateful stand-in of Mailchimp's API, built from the vendor's published description, never from the connector."""

from connectors.mailchimp.sandbox.app import API_KEY, create_app

__all__ = ["API_KEY", "create_app"]
