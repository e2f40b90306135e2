"""A stateful stand-in of HubSpot's API, built from the vendor's published description, never from the connector."""

from connectors.hubspot.sandbox.app import Options, create_app

__all__ = ["Options", "create_app"]
