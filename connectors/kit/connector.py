"""The protocol between the hub and a system: streams of changes in, writes with receipts out."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from connectors.kit.client import Client
from connectors.kit.tokens import TokenStore
from hub.change import Change, Notice
from hub.mapping import Codec, FieldMap, ObjectMap
from hub.receipt import Receipt
from hub.values import Value
from hub.write import Write

Checkpoint = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ObjectSpec:
    """What a connector knows of one object before any configuration: the entity it usually is, and its usual fields."""

    name: str
    entity: str
    fields: tuple[FieldMap, ...] = ()
    constants: Mapping[str, Value] = field(default_factory=dict)
    marketing: bool = False
    requires: tuple[str, ...] = ()
    create: bool = True


@dataclass(frozen=True, slots=True)
class Setting:
    """One configuration key of a system. A secret is given by reference only (`${ENV}` or `file:`).

    `unless` names another setting in whose presence a required one may be left out.
    """

    name: str
    what: str
    secret: bool = False
    required: bool = True
    default: Any = None
    unless: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """The vendor's published limits: records per batch call, calls per seconds, calls at once."""

    batch: int = 1
    calls: int = 0
    per_seconds: float = 1.0
    concurrency: int = 4


@dataclass(frozen=True, slots=True)
class Manifest:
    """A system as data: everything that is not odd enough to need a function.

    `oauth` makes an OAuth client of a system's name and resolved settings, or None where they hold other credentials.
    Such a connector is `Authorized`. `clocked`: its versions, and the orders in its receipts, are times by its own clock,
    in microseconds since 1970.
    """

    name: str
    title: str
    settings: tuple[Setting, ...]
    objects: tuple[ObjectSpec, ...] = ()
    auth: Literal["none", "basic", "bearer", "oauth2", "dsn"] = "bearer"
    webhooks: Literal["none", "hubspot-v3", "url-secret"] = "none"
    limits: Limits = Limits()
    dialect: Mapping[str, Callable[[Value], Any]] = field(default_factory=dict)
    codecs: Mapping[str, Codec] = field(default_factory=dict)
    api_version: str = ""
    oauth: Callable[[str, Mapping[str, Any]], Client | None] | None = None
    clocked: bool = False


@dataclass(frozen=True, slots=True)
class Stream:
    """One thing to poll: its name is the key of its checkpoint; `seconds` between polls while nothing happens."""

    name: str
    objects: tuple[str, ...]
    seconds: float = 5.0


async def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Page:
    """Some changes and where to go on after them.

    checkpoint    resume here once the changes are durable; JSON values
    acknowledge   called after the changes and the checkpoint are durable (for a source that keeps what is not fetched)
    """

    changes: Sequence[Change]
    checkpoint: Checkpoint
    acknowledge: Callable[[], Awaitable[None]] = _nothing


@dataclass(frozen=True, slots=True)
class Request:
    """A webhook as received. `url` is the public URL including query, header names are lower case."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    received_at: float


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `hub check`: what was proven, or what is missing and what to do."""

    ok: bool
    what: str
    suggestion: str = ""


class Connector(Protocol):
    """One configured system. Errors are those of hub.errors: Retry, Hold, Reject, AuthError, Fatal."""

    manifest: Manifest

    async def open(self) -> None:
        """Acquire connections; provision what the hub itself needs there (a property, a slot). Idempotent."""

    async def close(self) -> None:
        """Release everything."""

    async def check(self) -> list[Finding]:
        """The least calls that prove credentials, scopes and objects. Never raises for what it reports."""

    def streams(self) -> Sequence[Stream]:
        """What to poll."""

    def poll(self, stream: str, checkpoint: Checkpoint | None) -> AsyncGenerator[Page, None]:
        """Pages from the checkpoint on, until nothing is left for now. From None: everything, from the beginning."""

    def snapshot(self, stream: str, object_: str, checkpoint: Checkpoint | None) -> AsyncGenerator[Page, None]:
        """Everything that one object of a stream holds now, in chunks, from the checkpoint on, while the stream is polled
        too; the end of the pages is the end of the snapshot. A row's version is never above that of what it may lack.
        Checkpoints are its own, not the poll's. Raises Retry where a chunk has to wait."""

    async def receive(self, request: Request) -> list[Notice]:
        """Verify and read a webhook. Raises Reject for a wrong signature, stale time or malformed body."""

    async def fetch(self, notices: Sequence[Notice]) -> list[Change]:
        """The records that notices speak of, as they are now (a deleted one as a delete)."""

    async def deliver(self, writes: Sequence[Write]) -> list[Receipt]:
        """Try writes of one object; one receipt each, in their order. Raises only what concerns all of them."""


@runtime_checkable
class Authorized(Protocol):
    """A connector that may be given its access by OAuth: it finds its token in `tokens`, set before its first call."""

    tokens: TokenStore


class Scanner(Protocol):
    """One object of a system, read completely, counted, or asked for single records. Errors as those of a Connector.

    settle_seconds   how late the system may show a change to those who poll it
    """

    @property
    def settle_seconds(self) -> float: ...

    def listing(self) -> AsyncGenerator[Sequence[Change], None]:
        """Every record as it is now, page by page; nothing that `total` does not count."""

    async def total(self) -> int:
        """How many records the system says there are. Raises Reject where it is known to show only some of them."""

    async def look(self, ids: Sequence[str]) -> list[Change]:
        """These records, asked for by id: a delete only for one that the system says is not there. One that was merged
        away is told by the merge."""


@runtime_checkable
class Scannable(Protocol):
    """A connector whose objects can be audited."""

    def scanner(self, object_: str) -> Scanner:
        """How to read this object. Raises Reject for one that the system cannot list completely."""


Factory = Callable[[str, Mapping[str, Any], Mapping[str, ObjectMap]], Connector]
"""(system name, settings with secrets resolved, object name -> mapping) -> the configured connector."""
