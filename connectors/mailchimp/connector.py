"""Mailchimp: the members of one audience, both ways, and what they did with campaigns.

Marketing API 3.0. Limits, gotchas and the source of each fact are in NOTES.md beside this file.
"""

import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from connectors.kit.allowance import Limit
from connectors.kit.auth import basic
from connectors.kit.budget import inherited, local
from connectors.kit.connector import (
    Checkpoint,
    Finding,
    Limits,
    Manifest,
    ObjectSpec,
    Page,
    Request,
    Setting,
    Stream,
)
from connectors.kit.granted import Granted
from connectors.kit.http import Http
from connectors.kit.tokens import MemoryTokens, TokenStore
from connectors.mailchimp import login, scan, webhooks
from connectors.mailchimp.activity import Activity
from connectors.mailchimp.audience import VENDOR, Audience
from connectors.mailchimp.login import LOGIN, REDIRECT
from connectors.mailchimp.members import CONSENT
from connectors.mailchimp.members_scan import MembersScan
from connectors.mailchimp.provision import Provision, hook_url
from connectors.mailchimp.target import Target
from hub.change import Change, Notice
from hub.errors import ConfigError, Problem, Reject
from hub.mapping import FieldMap, ObjectMap
from hub.receipt import Receipt
from hub.write import Write

MANIFEST = Manifest(
    name="mailchimp",
    title="Mailchimp Marketing",
    auth="basic",
    oauth=login.authorization,
    webhooks="url-secret",
    api_version="3.0",
    clocked=True,
    settings=(
        Setting("api_key", "API key of the account", secret=True, unless="client_id"),
        Setting("list_id", "id of the audience"),
        Setting("client_id", "OAuth: id of the app; `hub auth` authorizes it", required=False),
        Setting("client_secret", "OAuth: secret of the app", secret=True, required=False),
        Setting("redirect_uri", "OAuth: registered with the app", required=False, default=REDIRECT),
        Setting("login_url", "OAuth: where the app is authorized", required=False, default=LOGIN),
        Setting("server", "data centre, as in the key's ending (us19)", required=False),
        Setting("base_url", "the API's address, where it is not the vendor's own", required=False),
        Setting("webhook_url", "public address of the hub's webhook, to be registered there", required=False),
        Setting("webhook_secret", "secret in that address (its query's `secret`)", secret=True, required=False),
        Setting("signing_secret", "secret of X-Mailchimp-Signature, where signed", secret=True, required=False),
        Setting(
            "resubscribe", "pending: ask those who opted out there to confirm; never", required=False, default="never"
        ),
        Setting("unarchive", "whether archived members may be brought back", required=False, default=False),
        Setting("provision", "whether missing merge fields are created", required=False, default=True),
        Setting("sweep_hours", "how often all members are read again; 0 for never", required=False, default=24),
        Setting("activity_days", "for how long a campaign's activity is followed", required=False, default=30),
    ),
    objects=(
        ObjectSpec(
            name="members",
            entity="contact",
            marketing=True,
            requires=("email",),
            fields=(
                FieldMap("email", ("email_address",), unique=True),
                FieldMap("first_name", ("FNAME",)),
                FieldMap("last_name", ("LNAME",)),
                FieldMap("phone", ("PHONE",)),
                FieldMap("consent", ("status", "timestamp_opt", "last_changed"), codec=CONSENT),
                FieldMap("tags", ("tags",)),
            ),
        ),
        ObjectSpec(
            name="activity",
            entity="engagement",
            create=False,
            constants={"kind": "email"},
            fields=(
                FieldMap("subject", ("subject",), direction="in"),
                FieldMap("body", ("detail",), direction="in"),
                FieldMap("occurred_at", ("occurred_at",), direction="in"),
                FieldMap("status", ("action",), direction="in"),
                FieldMap("contact", ("contact_id",), direction="in", object="members"),
            ),
        ),
    ),
    # The vendor allows 10 connections at once per account; two are left to others.
    limits=Limits(batch=50, concurrency=8),
    dialect={"phone": lambda value: str(value).replace(";ext=", " ext. ")},
    codecs={"mailchimp_consent": CONSENT},
)

# The vendor itself gives up after 120 s; pages of 1,000 members may take half a minute.
TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a connected connector works with, all on one audience."""

    audience: Audience
    activity: Activity
    provision: Provision
    target: Target


class Mailchimp:
    """One audience of one account."""

    manifest = MANIFEST

    def __init__(self, name: str, settings: Mapping[str, Any], mappings: Mapping[str, ObjectMap]) -> None:
        defaults = {setting.name: setting.default for setting in MANIFEST.settings}
        given = {key: value for key, value in settings.items() if value is not None}
        self._settings: dict[str, Any] = {**defaults, **given}
        self._budgets = inherited()
        self._name = name
        self._mappings = mappings
        self.tokens: TokenStore = MemoryTokens()
        self._base_url = _base_url(name, self._settings)

    @cached_property
    def _parts(self) -> _Parts:
        """Made at the first call, inside the event loop whose budget it shares."""
        given = self._settings
        account = f"mailchimp/{hashlib.blake2b(_whose(self._name, given).encode(), digest_size=8).hexdigest()}"
        budget = (self._budgets or local()).of(account, Limit(concurrency=MANIFEST.limits.concurrency))
        app = login.authorization(self._name, given)
        key = Granted(app, self.tokens, budget) if app else basic("hub", str(given["api_key"]))
        http = Http(self._name, self._base_url, key, budget, VENDOR, TIMEOUT_SECONDS)
        audience = Audience(self._name, http, str(given["list_id"]))
        hook = hook_url(given["webhook_url"] or "", given["webhook_secret"] or "")
        return _Parts(
            audience,
            Activity(audience, int(given["activity_days"])),
            Provision(audience, self._mappings.get("members"), hook),
            Target(audience, given["resubscribe"], bool(given["unarchive"])),
        )

    async def open(self) -> None:
        """Create the merge fields that the mapping writes, and register the webhook; both only where missing."""
        if self._settings["provision"]:
            await self._parts.provision.merge_fields()
        await self._parts.provision.webhook()

    async def close(self) -> None:
        """Close every connection; a later call opens new ones."""
        if "_parts" in self.__dict__:
            await self._parts.audience.http.aclose()
            del self._parts

    async def check(self) -> list[Finding]:
        """Whether the key, the audience, the mapped merge fields and the webhook are there."""
        return await self._parts.provision.check()

    def streams(self) -> Sequence[Stream]:
        """Members every few seconds; activity every minute, as each poll of it costs a call per recent campaign."""
        seconds = {"members": 5.0, "activity": 60.0}
        return [Stream(name, (name,), every) for name, every in seconds.items() if name in self._mappings]

    def poll(self, stream: str, checkpoint: Checkpoint | None) -> AsyncGenerator[Page, None]:
        """Members changed, or activity done, since the checkpoint."""
        if stream == "activity":
            return self._parts.activity.poll(checkpoint)
        return scan.poll(self._parts.audience, checkpoint or {}, float(self._settings["sweep_hours"]) * 3600)

    def scanner(self, object_: str) -> MembersScan:
        """The members; activity is known by reports only, which cannot be read completely."""
        if object_ != "members":
            raise Reject(f"{self._name}: {object_} cannot be read completely, so it cannot be audited", "scan")
        return MembersScan(self._parts.audience)

    def snapshot(self, stream: str, object_: str, checkpoint: Checkpoint | None) -> AsyncGenerator[Page, None]:
        """See `Connector.snapshot`: a poll from the beginning with a checkpoint of its own."""
        if stream == "activity":
            return self._parts.activity.poll(checkpoint)
        return scan.poll(self._parts.audience, checkpoint or {}, 0.0)

    async def receive(self, request: Request) -> list[Notice]:
        """The notice of a webhook. Raises Reject for a wrong secret or signature, or a body that is none."""
        webhooks.verify(request, self._settings["webhook_secret"] or "", self._settings["signing_secret"] or "")
        return webhooks.notices(self._name, str(self._settings["list_id"]), request)

    async def fetch(self, notices: Sequence[Notice]) -> list[Change]:
        """The members and the activity that notices speak of, as they are now."""
        wanted = [notice for notice in notices if notice.object in self._mappings]
        return await webhooks.fetch(self._parts.audience, self._parts.activity, wanted)

    async def deliver(self, writes: Sequence[Write]) -> list[Receipt]:
        """Write members; activity is only read."""
        return await self._parts.target.deliver(writes)


def _whose(name: str, settings: Mapping[str, Any]) -> str:
    """What tells one account from another."""
    return str(settings["api_key"] or f"{name}/{settings['client_id']}")


def _base_url(name: str, settings: Mapping[str, Any]) -> str:
    """The API's address. The data centre is the ending of the key, unless `server` names it; of an OAuth token the
    authorization told it."""
    if settings["base_url"]:
        return str(settings["base_url"]).rstrip("/").removesuffix("/3.0") + "/3.0"
    if not (settings["api_key"] or settings["server"]):
        return login.UNKNOWN
    server = settings["server"] or str(settings["api_key"]).rpartition("-")[2]
    if not str(server).isalnum() or server == settings["api_key"]:
        problem = "the data centre is not known: the key has no ending like -us19"
        raise ConfigError([Problem(f"systems.{name}.api_key", problem, "set server")])
    return f"https://{server}.api.mailchimp.com/3.0"
