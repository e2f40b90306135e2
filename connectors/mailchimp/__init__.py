"""Mailchimp: audience members both ways, campaign activity in; and a sandbox of its API."""
