"""What the hub needs in an audience: the merge fields it writes, the webhook it listens to, and the check of both."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlencode, urlsplit

import structlog

from connectors.kit.connector import Finding
from connectors.kit.http import Refusal
from connectors.mailchimp.audience import Audience
from connectors.mailchimp.members import OWN
from hub.errors import HubError, Retry, Unauthorized
from hub.mapping import ObjectMap, writable

LIST = "/lists/{list}"
FIELDS = LIST + "/merge-fields"
HOOKS = LIST + "/webhooks"
COUNT = 1000
TYPES = {"phone": "phone", "date": "date", "decimal": "number", "integer": "number", "url": "url"}
EVENTS = dict.fromkeys(("subscribe", "unsubscribe", "profile", "cleaned", "upemail", "campaign"), True)
# What is written through the API is read by polling, or each write of the hub would come back as a webhook too.
SOURCES = {"user": True, "admin": True, "api": False}

log = structlog.get_logger(__name__)


class Provision:
    """Sets up and checks one audience; `hook` is the public URL of the webhook with its secret, or empty."""

    def __init__(self, audience: Audience, mapping: ObjectMap | None, hook: str) -> None:
        self._audience = audience
        self._mapping = mapping
        self._hook = hook
        self._path = audience.path()

    async def merge_fields(self) -> None:
        """Create the merge fields that the mapping writes and the audience lacks."""
        present = await self._tags()
        for tag, kind in merge_tags(self._mapping, written=True).items():
            if tag not in present:
                await self._create(tag, TYPES.get(kind, "text"))

    async def webhook(self) -> None:
        """Register the webhook, or correct it. The vendor calls its URL at once, so the hub must be reachable there;
        where that fails the hub polls, and `check` says so."""
        if not self._hook:
            return
        wanted = {"url": self._hook, "events": EVENTS, "sources": SOURCES}
        try:
            there = await self._registered()
            if there is None:
                await self._audience.http.call("POST", HOOKS, self._path, json=wanted)
            elif any(there.get(name) != value for name, value in wanted.items()):
                path = {**self._path, "webhook": str(there["id"])}
                await self._audience.http.call("PATCH", HOOKS + "/{webhook}", path, json=wanted)
        except (Refusal, Retry) as error:  # what the vendor says of it may repeat the URL, and so the secret
            log.warning("webhook not registered", system=self._audience.system, error=type(error).__name__)

    async def check(self) -> list[Finding]:
        """The least calls that prove the key, the audience, the merge fields and the webhook."""
        findings: list[Finding] = []
        try:
            await self._audience.http.read("GET", "/ping")
            findings.append(Finding(True, "the credentials are accepted"))
            findings.append(await self._list())
            findings += unknown(merge_tags(self._mapping), await self._tags())
            findings += [await self._hooked()] if self._hook else []
        except HubError as error:
            mend = "" if isinstance(error, Unauthorized) else "see api_key, server and list_id"
            findings.append(Finding(False, str(error), mend))
        return findings

    async def _list(self) -> Finding:
        fields = {"fields": "id,name,stats.member_count"}
        audience = (await self._audience.http.read("GET", LIST, self._path, params=fields)).json()
        return Finding(True, f"audience {audience['name']!r}: {audience['stats']['member_count']} subscribed members")

    async def _hooked(self) -> Finding:
        there = await self._registered()
        if there and there.get("url") == self._hook and there.get("events") == EVENTS:
            return Finding(True, "the webhook is registered")
        suggestion = "start the hub where webhook_url reaches it; until then changes arrive by polling"
        return Finding(False, "the webhook is not registered", suggestion)

    async def _tags(self) -> set[str]:
        params = {"count": COUNT, "fields": "merge_fields.tag"}
        answer = await self._audience.http.read("GET", FIELDS, self._path, params=params)
        return {str(field["tag"]) for field in answer.json()["merge_fields"]}

    async def _create(self, tag: str, kind: str) -> None:
        wanted = {"tag": tag, "name": tag.replace("_", " ").capitalize(), "type": kind, "public": False}
        try:
            await self._audience.http.call("POST", FIELDS, self._path, json=wanted)
        except Refusal:
            if tag not in await self._tags():  # else another worker was first
                raise

    async def _registered(self) -> Mapping[str, Any] | None:
        """The webhook at our place, be it with another secret."""
        hooks = (await self._audience.http.read("GET", HOOKS, self._path)).json()["webhooks"]
        return next((hook for hook in hooks if _place(hook["url"]) == _place(self._hook)), None)


def merge_tags(mapping: ObjectMap | None, written: bool = False) -> dict[str, str]:
    """The merge fields of a mapping, with the type of the canonical field; with `written`, only those written to."""
    if mapping is None:
        return {}
    entries = writable(mapping) if written else mapping.fields
    return {native: mapping.kind(entry.name) for entry in entries for native in entry.natives if native not in OWN}


def unknown(wanted: Iterable[str], present: set[str]) -> list[Finding]:
    """One finding per merge field that the audience lacks, with the name that may have been meant."""
    return [
        Finding(False, f"the audience has no merge field {tag!r}", _suggestion(tag, present))
        for tag in wanted
        if tag not in present
    ]


def _suggestion(tag: str, present: set[str]) -> str:
    near = get_close_matches(tag.upper(), sorted(present | OWN), n=1) or get_close_matches(tag, sorted(OWN), n=1)
    return f"did you mean {near[0]}?" if near else "create it there, or set provision"


def hook_url(url: str, secret: str) -> str:
    """The public URL of the webhook with the secret in its query."""
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode({'secret': secret})}" if url and secret else url


def _place(url: str) -> tuple[str, str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc, parts.path
