"""HubSpot: contacts, companies, deals and engagements, both ways; and a sandbox of its API."""
