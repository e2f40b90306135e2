"""The endpoints around records: properties and their groups, pipelines, owners, account information."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from connectors.hubspot.sandbox.account import Account
from connectors.hubspot.sandbox.errors import ApiError, invalid
from connectors.hubspot.sandbox.http import Context, Reply, Router, bearer
from connectors.hubspot.sandbox.schema import ObjectType, Property, pipeline, stage
from connectors.hubspot.sandbox.shapes import batch_reply, check_size
from connectors.hubspot.sandbox.tables import GROUPS
from connectors.hubspot.sandbox.values import iso

PROPERTIES, PIPELINES = "/crm/v3/properties/{type}", "/crm/v3/pipelines/{type}"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")


class _Option(msgspec.Struct, rename="camel"):
    label: str
    value: str
    hidden: bool = False
    display_order: int = -1
    description: str = ""


class PropertyInput(msgspec.Struct, rename="camel"):
    """The body that creates a property."""

    name: str
    label: str
    group_name: str
    type: Literal["string", "number", "date", "datetime", "enumeration", "bool"]
    field_type: Literal[
        "textarea",
        "text",
        "date",
        "file",
        "number",
        "select",
        "radio",
        "checkbox",
        "booleancheckbox",
        "calculation_equation",
        "html",
        "phonenumber",
    ]
    description: str = ""
    options: list[_Option] = []
    has_unique_value: bool = False
    hidden: bool = False
    form_field: bool = False
    display_order: int = -1


class _PropertyUpdate(msgspec.Struct, rename="camel"):
    label: str | None = None
    description: str | None = None
    group_name: str | None = None
    options: list[_Option] | None = None
    hidden: bool | None = None
    form_field: bool | None = None
    display_order: int | None = None


class _PropertyBatch(msgspec.Struct):
    inputs: list[PropertyInput]


class _Name(msgspec.Struct):
    name: str


class _NameBatch(msgspec.Struct):
    inputs: list[_Name]


class _Group(msgspec.Struct, rename="camel"):
    name: str
    label: str
    display_order: int = -1


class _Stage(msgspec.Struct, rename="camel"):
    label: str
    display_order: int
    metadata: dict[str, str] = {}
    stage_id: str | None = None


class _Pipeline(msgspec.Struct, rename="camel"):
    label: str
    display_order: int
    stages: list[_Stage]
    pipeline_id: str | None = None


def _schema(verb: str) -> Any:
    return bearer(
        lambda context: [f"crm.schemas.{context.kind().scope}.{verb}", f"crm.objects.{context.kind().scope}.{verb}"]
    )


def add_routes(router: Router) -> None:
    """Serve the endpoints."""
    read, write = _schema("read"), _schema("write")
    router.add("GET", PROPERTIES, list_properties, read)
    router.add("POST", PROPERTIES, make_property, write)
    router.add("POST", f"{PROPERTIES}/batch/create", make_properties, write)
    router.add("POST", f"{PROPERTIES}/batch/read", read_properties, read)
    router.add("GET", f"{PROPERTIES}/groups", list_groups, read)
    router.add("POST", f"{PROPERTIES}/groups", make_group, write)
    router.add("GET", f"{PROPERTIES}/{{name}}", read_property, read)
    router.add("PATCH", f"{PROPERTIES}/{{name}}", update_property, write)
    router.add("DELETE", f"{PROPERTIES}/{{name}}", archive_property, write)
    router.add("POST", f"{PROPERTIES}/batch/archive", archive_properties, write)
    router.add("GET", PIPELINES, list_pipelines, read)
    router.add("POST", PIPELINES, make_pipeline, write)
    router.add("GET", f"{PIPELINES}/{{id}}", read_pipeline, read)
    router.add("GET", f"{PIPELINES}/{{id}}/stages", list_stages, read)
    owners = bearer(lambda _: ["crm.objects.owners.read"])
    router.add("GET", "/crm/v3/owners", list_owners, owners)
    router.add("GET", "/crm/v3/owners/", list_owners, owners)
    router.add("GET", "/crm/v3/owners/{id}", read_owner, owners)
    router.add("GET", "/account-info/v3/details", details, bearer())
    router.add("GET", "/account-info/v3/api-usage/daily/private-apps", usage, bearer())


def list_properties(context: Context) -> Reply:
    """GET: all definitions of a type."""
    archived = context.flag("archived")
    found = context.account.definitions[context.kind().type_id].values()
    return 200, {"results": [item.to_json() for item in found if (item.archived_at is not None) == archived]}


def read_property(context: Context) -> Reply:
    """GET one definition."""
    return 200, _get(context, context.path["name"]).to_json()


def _get(context: Context, name: str) -> Property:
    found = context.account.definitions[context.kind().type_id].get(name)
    if found is None or (found.archived_at is not None) != context.flag("archived"):
        kind = context.kind()
        context_ = {"objectTypeId": [kind.type_id], "propertyName": [name]}
        raise ApiError(404, f"Property {name} does not exist", "OBJECT_NOT_FOUND", context=context_)
    return found


def read_properties(context: Context) -> Reply:
    """POST batch/read: several definitions; those that do not exist are errors in a 207."""
    account, started, given = context.account, context.account.now(), context.read(_NameBatch)
    check_size(given.inputs)
    results, errors = [], []
    for item in given.inputs:
        try:
            results.append(_get(context, item.name).to_json())
        except ApiError as error:
            errors.append(error.in_batch())
    return batch_reply(account, started, results, errors)


def make_property(context: Context) -> Reply:
    """POST: a property of the account's own."""
    return 201, add_property(context.account, context.kind(), context.read(PropertyInput)).to_json()


def make_properties(context: Context) -> Reply:
    """POST batch/create: several of them; those that cannot be made are errors in a 207."""
    account, started, given = context.account, context.account.now(), context.read(_PropertyBatch)
    check_size(given.inputs)
    results, errors = [], []
    for item in given.inputs:
        try:
            results.append(add_property(account, context.kind(), item).to_json())
        except ApiError as error:
            errors.append(error.in_batch())
    return batch_reply(account, started, results, errors, 201)


def add_property(account: Account, kind: ObjectType, given: PropertyInput) -> Property:
    """Make a property; ApiError 400 if the definition is wrong and 409 if there is one of that name."""
    if not _NAME.fullmatch(given.name):
        raise invalid(f"Property name {given.name} is not valid", name=[given.name])
    if given.group_name not in _groups(account, kind):
        raise invalid(f"group {given.group_name} does not exist", groupName=[given.group_name])
    if given.type == "enumeration" and not given.options:
        raise invalid("Enumeration properties must have options", name=[given.name])
    if given.has_unique_value and given.type not in ("string", "number"):
        raise invalid("Only string and number properties can have unique values", name=[given.name])
    listed = [msgspec.to_builtins(option) for option in given.options]
    if given.type == "bool" and not listed:
        listed = [
            {"label": label, "value": value, "description": "", "displayOrder": order, "hidden": False}
            for order, (label, value) in enumerate((("True", "true"), ("False", "false")))
        ]
    made = Property(
        given.name,
        given.label,
        given.type,
        given.field_type,
        given.group_name,
        given.description,
        listed,
        unique=given.has_unique_value,
        hubspot_defined=False,
        hidden=given.hidden,
        form_field=given.form_field,
        display_order=given.display_order,
        at=iso(account.now()),
    )
    account.put_property(kind, made)
    return made


def update_property(context: Context) -> Reply:
    """PATCH: another label, description, group, options or place."""
    found, given = _own(context, context.path["name"]), context.read(_PropertyUpdate)
    if given.group_name is not None and given.group_name not in _groups(context.account, context.kind()):
        raise invalid(f"group {given.group_name} does not exist", groupName=[given.group_name])
    for field, value in msgspec.to_builtins(given).items():
        name = {"groupName": "group", "formField": "form_field", "displayOrder": "display_order"}.get(field, field)
        if value is not None:
            setattr(found, name, value)
    found.values = frozenset(option["value"] for option in found.options)
    return 200, found.to_json()


def archive_property(context: Context) -> Reply:
    """DELETE: to the archive; HubSpot's own cannot go there."""
    _own(context, context.path["name"]).archived_at = iso(context.account.now())
    return 204, None


def archive_properties(context: Context) -> Reply:
    """POST batch/archive: several of them to the archive."""
    for found in [_own(context, item.name) for item in context.read(_NameBatch).inputs]:
        found.archived_at = iso(context.account.now())
    return 204, None


def _own(context: Context, name: str) -> Property:
    """A property of the account's own; ApiError 400 for one of HubSpot's."""
    found = _get(context, name)
    if found.hubspot_defined:
        raise invalid(f"{name} is a HubSpot defined property and cannot be changed", name=[name])
    return found


def _groups(account: Account, kind: ObjectType) -> dict[str, dict[str, Any]]:
    name, label = GROUPS.get(kind.type_id, ("custom", "Information"))
    first = {"name": name, "label": label, "displayOrder": 0, "archived": False}
    return {name: first} | account.groups[kind.type_id]


def list_groups(context: Context) -> Reply:
    """GET: the groups of a type's properties."""
    return 200, {"results": list(_groups(context.account, context.kind()).values())}


def make_group(context: Context) -> Reply:
    """POST: a group of the account's own."""
    given, kind = context.read(_Group), context.kind()
    if given.name in _groups(context.account, kind):
        raise ApiError(409, f"A group named '{given.name}' already exists.", "OBJECT_ALREADY_EXISTS")
    made = msgspec.to_builtins(given) | {"archived": False}
    context.account.groups[kind.type_id][given.name] = made
    return 201, made


def _pipelines(context: Context) -> dict[str, dict[str, Any]]:
    return context.account.pipelines if context.kind().name == "deals" else {}


def list_pipelines(context: Context) -> Reply:
    """GET: the pipelines of a type; only deals have any here."""
    return 200, {"results": list(_pipelines(context).values())}


def read_pipeline(context: Context) -> Reply:
    """GET one pipeline."""
    found = _pipelines(context).get(context.path["id"])
    if found is None:
        raise ApiError(404, "resource not found", "OBJECT_NOT_FOUND", context={"pipelineId": [context.path["id"]]})
    return 200, found


def list_stages(context: Context) -> Reply:
    """GET: the stages of a pipeline."""
    return 200, {"results": read_pipeline(context)[1]["stages"]}


def make_pipeline(context: Context) -> Reply:
    """POST: a pipeline for deals."""
    account, given = context.account, context.read(_Pipeline)
    if context.kind().name != "deals":
        raise invalid(f"{context.kind().singular} does not have pipelines")
    at = iso(account.now())
    stages = [_stage(account, item, at) for item in given.stages]
    made = pipeline(given.pipeline_id or account.records.next_id(), given.label, given.display_order, stages, at)
    account.put_pipeline(made)
    return 201, made


def _stage(account: Account, given: _Stage, at: str) -> dict[str, Any]:
    probability = given.metadata.get("probability")
    if probability is None:
        raise invalid(f"Stage {given.label} must have a probability in its metadata")
    return stage(given.stage_id or account.records.next_id(), given.label, given.display_order, probability, at)


def list_owners(context: Context) -> Reply:
    """GET: the account's users, perhaps of one address."""
    email = context.query.get("email")
    found = sorted(context.account.owners.values(), key=lambda item: int(item["id"]))
    limit = context.number("limit", 100, 500)
    after = int(context.query.get("after") or 0)
    found = [item for item in found if int(item["id"]) > after and email in (None, item["email"])]
    shown: dict[str, Any] = {"results": found[:limit]}
    return 200, shown | ({"paging": {"next": {"after": found[limit - 1]["id"]}}} if len(found) > limit else {})


def read_owner(context: Context) -> Reply:
    """GET one user."""
    found = context.account.owners.get(context.path["id"])
    if found is None:
        raise ApiError(404, "resource not found", "OBJECT_NOT_FOUND")
    return 200, found


def details(context: Context) -> Reply:
    """GET: the account."""
    return 200, {
        "portalId": context.account.options.portal_id,
        "accountType": "DEVELOPER_TEST",
        "timeZone": "UTC",
        "companyCurrency": "USD",
        "additionalCurrencies": [],
        "utcOffset": "+00:00",
        "utcOffsetMilliseconds": 0,
        "uiDomain": "app.hubspot.com",
        "dataHostingLocation": "na1",
    }


def usage(context: Context) -> Reply:
    """GET: how many calls were made today."""
    account = context.account
    limit = account.access.limits.daily
    return 200, {
        "results": [
            {
                "name": "private-apps-api-calls-daily",
                "usageLimit": limit if limit is not None else 650_000,
                "currentUsage": account.access.calls_today(),
                "collectedAt": iso(account.now()),
                "fetchStatus": "SUCCESS",
                "resetsAt": iso((account.now() // 86_400_000 + 1) * 86_400_000),
            }
        ]
    }
