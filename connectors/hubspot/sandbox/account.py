"""One HubSpot account and one app in it: everything that the endpoints work on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from connectors.hubspot.sandbox.access import Access, Token
from connectors.hubspot.sandbox.errors import ApiError
from connectors.hubspot.sandbox.events import Webhooks
from connectors.hubspot.sandbox.links import Definitions, Links
from connectors.hubspot.sandbox.records import Records
from connectors.hubspot.sandbox.relations import Relations
from connectors.hubspot.sandbox.schema import (
    OBJECT_TYPES,
    PORTAL_CREATED,
    ObjectType,
    Property,
    default_pipeline,
    default_properties,
)
from connectors.hubspot.sandbox.store import Actor
from connectors.hubspot.sandbox.values import Rules
from connectors.kit.sandbox import Clock


class Options(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """What differs from account to account; seconds are real ones.

    `auto_associate` makes HubSpot associate a new contact with the company that has its address's domain.
    `reject_reserved` refuses addresses under reserved top-level domains such as `.test`, as HubSpot does.
    """

    token: str = "pat-na1-sandbox"  # noqa: S105 - a stand-in's token
    portal_id: int = 62515
    app_id: int = 54321
    client_id: str = "sandbox-client"
    client_secret: str = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"  # noqa: S105 - a stand-in's secret
    developer_key: str = "sandbox-developer-key"
    index_lag_seconds: float = 0.0
    auto_associate: bool = False
    reject_reserved: bool = False


@dataclass(slots=True)
class Account:
    """The state of the sandbox, put together by `open_account`."""

    options: Options
    clock: Clock
    now: Callable[[], int]
    access: Access
    kinds: dict[str, ObjectType]
    definitions: dict[str, dict[str, Property]]
    groups: dict[str, dict[str, dict[str, Any]]]
    pipelines: dict[str, dict[str, Any]]
    stages: dict[str, dict[str, Any]]
    owners: dict[str, dict[str, Any]]
    records: Records
    relations: Relations
    webhooks: Webhooks

    @property
    def integration(self) -> Actor:
        """The app, as a webhook names who made a change."""
        return Actor("INTEGRATION", str(self.options.app_id))

    @property
    def person(self) -> Actor:
        """A user, as a webhook names who made a change."""
        return Actor("CRM_UI", f"userId:{self.options.portal_id + 1}")

    def configure(self, options: Options) -> None:
        """Take other options, before records are put in."""
        self.options = options
        self.access.register(options.client_id, options.client_secret)
        self.access.tokens[options.token] = Token()
        for kind in set(self.kinds.values()):
            self.records.table(kind).index.lag_ms = round(options.index_lag_seconds * 1000)
        rules = self.records.rules
        self.records.rules = Rules(
            options.portal_id, rules.definitions, rules.stages, rules.owners, options.reject_reserved
        )
        actor = Actor("AUTO_ASSOCIATE", "")
        self.records.auto_associate = (
            (lambda contact: self.relations.associate_by_domain(contact, actor))
            if options.auto_associate
            else (lambda _: None)
        )

    def put_pipeline(self, pipeline: dict[str, Any]) -> None:
        """Add a pipeline or replace one."""
        self.pipelines[pipeline["id"]] = pipeline
        self.stages[pipeline["id"]] = {stage["id"]: stage for stage in pipeline["stages"]}

    def put_property(self, kind: ObjectType, definition: Property) -> None:
        """Add a property; ApiError 409 if there is one of that name."""
        known = self.definitions[kind.type_id].get(definition.name)
        if known is not None and known.archived_at is None:
            text = f"A property named '{definition.name}' already exists."
            raise ApiError(409, text, "OBJECT_ALREADY_EXISTS", context={"name": [definition.name]})
        self.definitions[kind.type_id][definition.name] = definition
        if definition.unique:
            self.records.table(kind).unique.setdefault(definition.name, {})

    def put_custom_type(self, name: str, type_id: str) -> ObjectType:
        """Add a custom object type."""
        kind = ObjectType(name, type_id, name.upper(), name, "hs_createdate", "hs_lastmodifieddate", scope="custom")
        self.kinds |= {name.lower(): kind, type_id: kind}
        self.definitions[type_id] = default_properties(type_id)
        self.groups[type_id] = {}
        return kind


def open_account(options: Options) -> Account:
    """An account with HubSpot's defaults and nothing in it."""
    clock = Clock()

    def now() -> int:
        return int(clock.now().timestamp() * 1000)

    kinds = {key: kind for kind in OBJECT_TYPES for key in _names(kind)}
    definitions = {kind.type_id: default_properties(kind.type_id) for kind in OBJECT_TYPES}
    stages: dict[str, dict[str, Any]] = {}
    owners = {owner["id"]: owner for owner in (_owner("101", "Ada", options), _owner("102", "Grace", options))}
    rules = Rules(options.portal_id, definitions, stages, owners)
    access = Access(options.client_id, options.client_secret, now)
    access.authority.registration.redirect_uris = ["http://localhost:0/callback"]  # IP addresses are not supported

    def app() -> tuple[int, int, str]:
        return account.options.portal_id, account.options.app_id, account.options.client_secret

    webhooks = Webhooks(app, definitions, now)
    records = Records(rules, kinds, now, webhooks.emit)
    relations = Relations(records, Links(Definitions(kinds)))
    groups: dict[str, dict[str, dict[str, Any]]] = {kind.type_id: {} for kind in OBJECT_TYPES}
    account = Account(
        options, clock, now, access, kinds, definitions, groups, {}, stages, owners, records, relations, webhooks
    )
    account.put_pipeline(default_pipeline())
    account.configure(options)
    return account


def _names(kind: ObjectType) -> set[str]:
    return {kind.name, kind.type_id, kind.label.removesuffix("_event"), kind.singular.lower()}


def _owner(owner_id: str, first_name: str, options: Options) -> dict[str, Any]:
    return owner(owner_id, f"{first_name.lower()}@example.com", first_name, "Owner", options.portal_id)


def owner(owner_id: str, email: str, first_name: str, last_name: str, base: int) -> dict[str, Any]:
    """An owner as the owners API shows one."""
    number = base + int(owner_id)
    times = {"createdAt": PORTAL_CREATED, "updatedAt": PORTAL_CREATED, "archived": False}
    names = {"id": owner_id, "email": email, "firstName": first_name, "lastName": last_name, "type": "PERSON"}
    return names | {"userId": number, "userIdIncludingInactive": number} | times
