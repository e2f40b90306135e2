"""HubSpot: contacts, companies, deals and activities, read by polling and webhooks, written in batches.

Facts about the vendor, with their sources, are in NOTES.md.
"""

import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from connectors.hubspot.api import BATCH, VENDOR, Api
from connectors.hubspot.fetch import fetch
from connectors.hubspot.objects import CODECS, DIALECT, OBJECTS
from connectors.hubspot.records import Layout, Reader, layout
from connectors.hubspot.scan import Scan
from connectors.hubspot.setup import judge, provision
from connectors.hubspot.source import Source
from connectors.hubspot.target import Target
from connectors.hubspot.webhooks import Webhooks
from connectors.kit.allowance import Limit
from connectors.kit.auth import Credentials, bearer
from connectors.kit.budget import Budget, Budgets, inherited, local
from connectors.kit.client import Client
from connectors.kit.connector import Checkpoint, Finding, Limits, Manifest, Page, Request, Setting, Stream
from connectors.kit.granted import Granted
from connectors.kit.http import Http
from connectors.kit.oauth import client
from connectors.kit.tokens import MemoryTokens, TokenStore
from hub.change import Change, Notice
from hub.errors import ConfigError, HubError, Problem, Unauthorized
from hub.mapping import ObjectMap
from hub.receipt import Receipt
from hub.write import Write

SCOPES = "oauth " + " ".join(
    f"crm.{part}.{name}.{verb}"
    for part in ("objects", "schemas")
    for name in ("contacts", "companies", "deals")
    for verb in ("read", "write")
)
AUTHORIZE = "https://app.hubspot.com/oauth/authorize"
REDIRECT = "http://localhost:8765/callback"  # HubSpot takes no IP address


def authorization(system: str, settings: Mapping[str, Any]) -> Client | None:
    """The app as an OAuth client; None where a token is configured."""
    if settings.get("access_token"):
        return None
    if not settings.get("client_id"):
        mend = "set access_token; or client_id and client_secret, and authorize the app with `hub auth`"
        raise ConfigError([Problem(f"systems.{system}", "no credentials", mend)])
    usual = Client(
        system,
        "authorization_code",
        f"{str(settings['base_url']).rstrip('/')}/oauth/v3/token",
        "",
        authorize_url=str(settings["authorize_url"]),
    )
    return client(settings, usual, needs=("client_secret",))


MANIFEST = Manifest(
    name="hubspot",
    title="HubSpot",
    settings=(
        Setting("access_token", "token of a private app or service key", secret=True, unless="client_id"),
        Setting("client_secret", "secret of the app, which signs its webhooks", secret=True, required=False),
        Setting("client_id", "OAuth: id of the app; `hub auth` authorizes it", required=False),
        Setting("refresh_token", "OAuth: refresh token of an installation made elsewhere", secret=True, required=False),
        Setting("scopes", "OAuth: the scopes of the app, separated by spaces", required=False, default=SCOPES),
        Setting("redirect_uri", "OAuth: registered with the app", required=False, default=REDIRECT),
        Setting("authorize_url", "OAuth: where a person authorizes the app", required=False, default=AUTHORIZE),
        Setting("portal_id", "the account; webhooks and tokens of another one are refused", required=False),
        Setting("base_url", "where the API is", required=False, default="https://api.hubapi.com"),
        Setting("calls_per_10_seconds", "100 for Free and Starter accounts, 0 for no limit", False, False, 190),
        Setting("searches_per_second", "limit of the search endpoints, 0 for no limit", False, False, 5),
        Setting("calls_per_day", "the day's calls, where HubSpot does not tell; 0 for no limit", False, False, 0),
        Setting("time_zone", "the account's: its day of calls begins at midnight there", required=False, default="UTC"),
        Setting("index_lag_seconds", "how late the search may show a change", required=False, default=60),
        Setting("deletes_seconds", "seconds between looks into the recycling bin", required=False, default=300),
        Setting("poll_seconds", "seconds between polls of one object", required=False, default=5),
    ),
    objects=OBJECTS,
    auth="bearer",
    oauth=authorization,
    webhooks="hubspot-v3",
    # HubSpot limits no calls at once; so many let 190 calls of a second each pass.
    limits=Limits(batch=BATCH, calls=190, per_seconds=10.0, concurrency=20),
    dialect=DIALECT,
    codecs=CODECS,
    api_version="CRM v3, associations v4 (supported until 2027-03-30)",
    clocked=True,
)


class HubSpot:
    """One HubSpot account."""

    manifest = MANIFEST

    def __init__(self, system: str, settings: Mapping[str, Any], mappings: Mapping[str, ObjectMap]) -> None:
        defaults = {setting.name: setting.default for setting in MANIFEST.settings}
        self.system = system
        self._settings = defaults | {name: value for name, value in settings.items() if value is not None}
        self._secret = str(self._settings["client_secret"] or "")
        self._portal = str(self._settings["portal_id"] or "")
        self._mappings = mappings
        self._layouts = {object_: layout(mapping) for object_, mapping in mappings.items()}
        self._webhooks = Webhooks(system, self._secret, self._portal, self._layouts)
        self.ignored: Mapping[str, int] = self._webhooks.ignored
        """How many webhook events of each type concerned nothing that is mapped."""
        self.tokens: TokenStore = MemoryTokens()
        _known_zone(system, str(self._settings["time_zone"]))
        self._budgets = inherited()
        self._wires: Wires | None = None

    async def open(self) -> None:
        """Connect, and make the properties that the hub needs there. Idempotent."""
        await provision(self._connected().api, self._mappings)

    async def close(self) -> None:
        """Release everything."""
        if self._wires is not None:
            await self._wires.http.aclose()
            self._wires = None

    async def check(self) -> list[Finding]:
        """Prove the token, the account, and each mapped object; say what is missing and what to do."""
        try:
            api = self._connected().api
            portal = str((await api.account()).get("portalId"))
        except HubError as error:
            mend = "" if isinstance(error, Unauthorized) else "check access_token and its scopes"
            return [Finding(False, str(error), mend)]
        right = self._portal in ("", portal)
        account = Finding(right, f"HubSpot account {portal}", "" if right else f"portal_id says {self._portal}")
        told = "webhooks are verified" if self._secret else "no client_secret: changes are learned by polling alone"
        webhooks = Finding(True, told)
        return [account, webhooks, *await judge(api, self._mappings)]

    def streams(self) -> Sequence[Stream]:
        """One stream for each mapped object."""
        seconds = float(self._settings["poll_seconds"])
        return [Stream(object_, (object_,), seconds) for object_ in self._mappings]

    def poll(self, stream: str, checkpoint: Checkpoint | None) -> AsyncGenerator[Page, None]:
        """See connectors.hubspot.source."""
        return self._connected().sources[stream].poll(checkpoint)

    def scanner(self, object_: str) -> Scan:
        """See connectors.hubspot.scan."""
        wires = self._connected()
        return Scan(wires.api, wires.reader, object_, float(self._settings["index_lag_seconds"]))

    def snapshot(self, stream: str, object_: str, checkpoint: Checkpoint | None) -> AsyncGenerator[Page, None]:
        """See `Connector.snapshot`. Each record has the time of its last change, whenever it is read."""
        return self._connected().sources[object_].snapshot(checkpoint)

    async def receive(self, request: Request) -> list[Notice]:
        """See connectors.hubspot.webhooks."""
        return self._webhooks.receive(request)

    async def fetch(self, notices: Sequence[Notice]) -> list[Change]:
        """See connectors.hubspot.fetch."""
        return await fetch(self._connected().reader, notices)

    async def deliver(self, writes: Sequence[Write]) -> list[Receipt]:
        """See connectors.hubspot.target."""
        return await self._connected().target.deliver(writes)

    def _connected(self) -> "Wires":
        """The parts, made in the event loop that uses them."""
        if self._wires is None:
            self._wires = _wires(self.system, self._settings, self._layouts, self._budgets or local(), self.tokens)
        return self._wires


@dataclass(frozen=True, slots=True)
class Wires:
    """What a connected connector is made of."""

    http: Http
    api: Api
    reader: Reader
    target: Target
    sources: Mapping[str, Source]


def _wires(
    system: str, settings: Mapping[str, Any], layouts: Mapping[str, Layout], budgets: Budgets, tokens: TokenStore
) -> Wires:
    budget, searches = _drawn(settings, budgets)
    http = Http(system, str(settings["base_url"]), _credentials(system, settings, budget, tokens), budget, VENDOR)
    api = Api(http, searches)
    reader = Reader(system, api, layouts)
    lag, bin_every = float(settings["index_lag_seconds"]), float(settings["deletes_seconds"])
    sources = {object_: Source(api, reader, known, lag, bin_every) for object_, known in layouts.items()}
    return Wires(http, api, reader, Target(api, reader), sources)


def _drawn(settings: Mapping[str, Any], budgets: Budgets) -> tuple[Budget, Budget]:
    """The budget of all calls, which HubSpot counts by app and account, and that of searches, counted by account."""
    app = _name(settings, "access_token" if settings.get("access_token") else "client_id", "portal_id")
    account = _name(settings, "portal_id") if settings.get("portal_id") else app
    limits, calls = MANIFEST.limits, int(settings["calls_per_10_seconds"])
    daily, zone = int(settings["calls_per_day"]), str(settings["time_zone"])
    limit = Limit(calls, limits.per_seconds, limits.concurrency, daily, zone)
    searches = Limit(int(settings["searches_per_second"]), 1.0, limits.concurrency)
    return budgets.of(app, limit), budgets.of(f"{account}/search", searches)


def _known_zone(system: str, zone: str) -> None:
    try:
        datetime.now(UTC if zone == "UTC" else ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError):  # the latter where it is no name, or that of a directory
        problem = f"no time zone is called {zone!r} on this machine"
        raise ConfigError([Problem(f"systems.{system}.time_zone", problem, "a name like Europe/Berlin")]) from None


def _name(settings: Mapping[str, Any], *keys: str) -> str:
    """A name for a budget that gives no secret away."""
    known = [str(settings.get(key) or "") for key in ("base_url", *keys)]
    return "hubspot/" + hashlib.blake2b("\0".join(known).encode(), digest_size=8).hexdigest()


def _credentials(system: str, settings: Mapping[str, Any], budget: Budget, tokens: TokenStore) -> Credentials:
    if (app := authorization(system, settings)) is None:
        return bearer(str(settings["access_token"]))
    return Granted(app, tokens, budget)
