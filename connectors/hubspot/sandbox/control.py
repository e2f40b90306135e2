"""The sandbox's own doors: load an account, edit it as a person does, and look at all of it.

Loading refuses no values, so that an account can hold what older rules let in. Everything raises ValueError for input
that it cannot use.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec

from connectors.hubspot.sandbox.access import Limits, Token
from connectors.hubspot.sandbox.account import Account, Options, owner
from connectors.hubspot.sandbox.apps import SubscriptionInput
from connectors.hubspot.sandbox.derive import derived
from connectors.hubspot.sandbox.errors import ApiError
from connectors.hubspot.sandbox.links import HUBSPOT, USER, Spec
from connectors.hubspot.sandbox.records import check_values
from connectors.hubspot.sandbox.schema import ObjectType, pipeline, stage
from connectors.hubspot.sandbox.settings import PropertyInput, add_property
from connectors.hubspot.sandbox.shapes import show_all
from connectors.hubspot.sandbox.store import Actor, Record
from connectors.hubspot.sandbox.values import as_text, iso, parse_ms
from connectors.kit.sandbox.authority import Code, Line, Refresh, Registration

_SEED = Actor("IMPORT", "sandbox")


def seed(account: Account, body: Any) -> dict[str, int]:
    """Load everything the body has; answers how many of each."""
    if not isinstance(body, dict):
        raise ValueError("a seed is a JSON object")
    counts: dict[str, int] = {}
    settings = {name: load for name, load in _LOADERS.items() if name in body}
    for name, load in settings.items():
        counts[name] = load(account, body[name])
    for name in body.keys() - _LOADERS.keys() - {"associations"}:
        kind = _kind(account, name)
        for item in body[name]:
            _load_record(account, kind, item)
        counts[name] = len(body[name])
    for item in body.get("associations", ()):
        _load_association(account, item)
    return counts | {"associations": len(body.get("associations", ()))}


def _kind(account: Account, name: str) -> ObjectType:
    try:
        return account.records.kind(name)
    except ApiError as error:
        raise ValueError(error.message) from error


def _load_record(account: Account, kind: ObjectType, item: dict[str, Any]) -> None:
    records, now = account.records, account.now()
    record_id = str(item.get("id") or records.next_id())
    if not record_id.isdecimal() or records.table(kind).get(record_id) or (kind.type_id, record_id) in records.aliases:
        raise ValueError(f"{kind.name} {record_id!r} is not a number or is there already")
    records.last_id = max(records.last_id, int(record_id))
    given = {name: as_text(value) for name, value in item.get("properties", {}).items()}
    properties = {
        name: _stored(account, kind, name, value) for name, value in given.items() if value and name not in kind.system
    }
    unknown = properties.keys() - account.definitions[kind.type_id]
    if unknown:
        raise ValueError(f"{kind.name} has no property {', '.join(sorted(unknown))}")
    created = _instant(item.get("createdAt"), now)
    updated = _instant(item.get("updatedAt"), created)
    archived = updated if item.get("archived") else None
    record = Record(kind, record_id, derived(kind, properties, account.stages), created, updated, archived)
    record.remember(record.properties, updated, _SEED)
    records.table(kind).add(record, -(10**15))


def _stored(account: Account, kind: ObjectType, name: str, value: str) -> str:
    """The value as HubSpot would store it, or as it is where HubSpot would refuse it today."""
    try:
        return account.records.rules.clean(kind, {name: value}, {})[name]
    except ApiError:
        return value


def _instant(given: Any, default: int) -> int:
    at = default if given is None else parse_ms(str(given))
    if at is None:
        raise ValueError(f"{given!r} is not an instant")
    return at


def _load_association(account: Account, item: dict[str, Any]) -> None:
    start, end = _find(account, *item["from"]), _find(account, *item["to"])
    links = account.relations.links
    definition = links.definitions.default(start.kind, end.kind)
    if "typeId" in item:
        spec = Spec(USER if item.get("category") == USER else HUBSPOT, int(item["typeId"]))
        definition = links.definitions.find(start.kind.type_id, end.kind.type_id, spec)
    account.relations.load(start, end, definition)


def _find(account: Account, name: str, record_id: str | int) -> Record:
    found = account.records.find(_kind(account, name), str(record_id))
    if found is None:
        raise ValueError(f"there is no record {record_id} of {name}")
    return found


def _load_options(account: Account, given: dict[str, Any]) -> int:
    known = msgspec.to_builtins(account.options)
    account.configure(msgspec.convert(known | given, Options))
    return len(given)


def _load_token(account: Account, given: str) -> int:
    account.access.tokens = {given: Token()}
    account.options = msgspec.structs.replace(account.options, token=given)
    return 1


def _load_tokens(account: Account, given: dict[str, Any]) -> int:
    for token, grant in given.items():
        scopes = frozenset(grant["scopes"]) if grant.get("scopes") is not None else None
        expires = parse_ms(str(grant["expiresAt"])) if grant.get("expiresAt") else None
        account.access.tokens[token] = Token(scopes, expires, private=token.startswith("pat-"))
    return len(given)


def _load_refresh_tokens(account: Account, given: list[str]) -> int:
    account.access.authority.refresh_tokens.update({token: Refresh(Line()) for token in given})
    return len(given)


def _load_codes(account: Account, given: list[str]) -> int:
    account.access.authority.codes.update({code: Code(Line(), "", "", "plain", math.inf) for code in given})
    return len(given)


def _load_oauth(account: Account, given: dict[str, Any]) -> int:
    if given.pop("revoke", False):
        account.access.authority.revoke_all()
    known = msgspec.to_builtins(account.access.authority.registration)
    account.access.authority.registration = msgspec.convert(known | given, Registration)
    return len(given)


def _load_limits(account: Account, given: dict[str, Any]) -> int:
    account.access.limits = msgspec.convert(given, Limits)
    return 1


def _load_properties(account: Account, given: dict[str, list[dict[str, Any]]]) -> int:
    for name, listed in given.items():
        for item in listed:
            try:
                add_property(account, _kind(account, name), msgspec.convert(item, PropertyInput))
            except ApiError as error:
                raise ValueError(error.message) from error
    return sum(map(len, given.values()))


def _load_pipelines(account: Account, given: list[dict[str, Any]]) -> int:
    at = iso(account.now())
    for order, item in enumerate(given, start=len(account.pipelines)):
        stages = [
            stage(made["id"], made["label"], number, made["metadata"]["probability"], at)
            for number, made in enumerate(item["stages"])
        ]
        account.put_pipeline(pipeline(item["id"], item["label"], order, stages, at))
    return len(given)


def _load_custom(account: Account, given: list[dict[str, str]]) -> int:
    for item in given:
        account.put_custom_type(item["name"], item["objectTypeId"])
    return len(given)


def _load_owners(account: Account, given: list[dict[str, str]]) -> int:
    for item in given:
        names = item.get("firstName", ""), item.get("lastName", "")
        account.owners[item["id"]] = owner(item["id"], item["email"], *names, account.options.portal_id)
    return len(given)


def _load_subscriptions(account: Account, given: list[dict[str, Any]]) -> int:
    for item in given:
        wanted = msgspec.convert(item | {"active": item.get("active", True)}, SubscriptionInput)
        account.webhooks.subscribe(wanted.event_type, wanted.property_name, wanted.object_type_id, wanted.active)
    return len(given)


_LOADERS: dict[str, Callable[[Account, Any], int]] = {
    "app": _load_options,
    "token": _load_token,
    "tokens": _load_tokens,
    "refreshTokens": _load_refresh_tokens,
    "codes": _load_codes,
    "oauth": _load_oauth,
    "limits": _load_limits,
    "owners": _load_owners,
    "pipelines": _load_pipelines,
    "customObjects": _load_custom,
    "properties": _load_properties,
    "subscriptions": _load_subscriptions,
}


def edit(account: Account, body: Any) -> Any:
    """One edit as a user makes it, with its webhooks; answers the record as it is afterwards."""
    try:
        return _edit(account, body)
    except ApiError as error:
        raise ValueError(error.message) from error


def _edit(account: Account, body: dict[str, Any]) -> Any:
    kind, action = account.records.kind(body["object"]), body.get("action", "update")
    records, relations, person = account.records, account.relations, account.person
    if action == "create":
        cleaned = check_values(records, kind, body["properties"], None, set())
        return show_all(records.create(kind, cleaned, person))
    record = records.get(kind, str(body["id"]))
    match action:
        case "update":
            given = dict(body["properties"])
            # Only a contact's own click opts out; the API refuses to write it.
            own = {"hs_email_optout": as_text(given.pop("hs_email_optout"))} if "hs_email_optout" in given else {}
            records.update(record, check_values(records, kind, given, record, set()) | own, person)
        case "archive":
            relations.detach(record)
            records.archive(record, person)
        case "erase":
            relations.detach(record)
            records.erase(record, person)
        case "merge":
            return show_all(relations.merge(records.get(kind, str(body["into"])), record, person))
        case "associate":
            end = records.get(records.kind(body["to"][0]), str(body["to"][1]))
            relations.relate(record, end, relations.links.definitions.default(kind, end.kind), person)
        case "dissociate":
            relations.unrelate(record, records.get(records.kind(body["to"][0]), str(body["to"][1])), person)
        case _:
            raise ValueError(f"unknown action {action!r}")
    return show_all(record)


def state(account: Account) -> dict[str, Any]:
    """Everything there is, in a fixed order; no tokens or secrets."""
    names = {kind.type_id: kind.name for kind in account.kinds.values()}
    tables = account.records.tables
    return {
        "objects": {names[key]: [record.to_state() for record in tables[key].all()] for key in sorted(tables)},
        "merged": {f"{names[key]}/{old}": new for (key, old), new in sorted(account.records.aliases.items())},
        "associations": [
            {"from": [names[start[0]], start[1]], "to": [names[end[0]], end[1]], "typeId": spec.type_id}
            for start, end, spec in account.relations.links.all()
        ],
        "properties": {
            names[key]: [item.to_json() for item in known.values() if not item.hubspot_defined]
            for key, known in sorted(account.definitions.items())
        },
        "subscriptions": [item.to_json() for item in account.webhooks.subscriptions.values()],
    }
