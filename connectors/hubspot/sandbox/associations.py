"""The associations endpoints, version 4: between two records, in batches, and the labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from connectors.hubspot.sandbox.account import Account
from connectors.hubspot.sandbox.errors import ApiError, invalid, not_found
from connectors.hubspot.sandbox.http import Context, Reply, Router, bearer
from connectors.hubspot.sandbox.links import Definition
from connectors.hubspot.sandbox.schema import ObjectType
from connectors.hubspot.sandbox.shapes import Ref, SpecInput, batch_reply, check_size
from connectors.hubspot.sandbox.store import Record

MAX_READ, MAX_WRITE, MAX_PAGE = 1_000, 2_000, 500
PAIR = "/crm/v4/associations/{from}/{to}"
ONE = "/crm/v4/objects/{from}/{id}/associations"


class _Pair(msgspec.Struct, rename={"start": "from"}):
    start: Ref
    to: Ref


class _LabelledPair(msgspec.Struct, rename={"start": "from"}):
    start: Ref
    to: Ref
    types: list[SpecInput]


class _Archive(msgspec.Struct, rename={"start": "from"}):
    start: Ref
    to: list[Ref]


class _Start(msgspec.Struct):
    given: str | int = msgspec.field(name="id")
    after: str | None = None


class _Label(msgspec.Struct, rename="camel"):
    label: str
    name: str
    inverse_label: str | None = None


class _Inputs(msgspec.Struct):
    inputs: list[Any]


def _scopes(verb: str) -> Callable[[Context], list[str]]:
    return lambda context: [f"crm.objects.{context.kind(end).scope}.{verb}" for end in ("from", "to")]


def add_routes(router: Router) -> None:
    """Serve the endpoints."""
    read, write = bearer(_scopes("read")), bearer(_scopes("write"))
    router.add("POST", f"{PAIR}/batch/read", batch_read, read)
    router.add("POST", f"{PAIR}/batch/create", batch_create, write)
    router.add("POST", f"{PAIR}/batch/associate/default", batch_default, write)
    router.add("POST", f"{PAIR}/batch/archive", batch_archive, write)
    router.add("POST", f"{PAIR}/batch/labels/archive", batch_labels_archive, write)
    router.add("GET", f"{PAIR}/labels", labels, read)
    router.add("POST", f"{PAIR}/labels", make_label, write)
    router.add("PUT", f"{ONE}/default/{{to}}/{{other}}", associate_default, write)
    router.add("GET", f"{ONE}/{{to}}", list_page, read)
    router.add("PUT", f"{ONE}/{{to}}/{{other}}", associate, write)
    router.add("DELETE", f"{ONE}/{{to}}/{{other}}", dissociate, write)


def _inputs(context: Context, shape: Any, most: int) -> list[Any]:
    given = context.read(_Inputs).inputs
    check_size(given, most)
    try:
        return msgspec.convert(given, list[shape], strict=False)
    except msgspec.ValidationError as error:
        raise invalid(f"Invalid input JSON on line 1, column 2: {error}") from error


def _record(account: Account, kind: ObjectType, record_id: str) -> Record:
    """A record; ApiError 400 in the words that associations have for one that is not there."""
    found = account.records.find(kind, record_id)
    if found is None:
        context = {"INVALID_OBJECT_IDS": [f"{kind.singular}={record_id} is not valid"]}
        raise ApiError(400, "One or more associations are invalid", "VALIDATION_ERROR", context=context)
    return found


def _targets(account: Account, start: Record, kind: ObjectType, after: str | None, limit: int) -> dict[str, Any]:
    """A page of what a record is associated with."""
    links, end = account.relations.links, (start.kind.type_id, start.id)
    others = [other for other in links.of(end, kind.type_id) if int(other) > int(after or 0)]
    shown: dict[str, Any] = {"to": [_target(account, start, kind, other) for other in others[:limit]]}
    if len(others) > limit:
        shown["paging"] = {"next": {"after": others[limit - 1]}}
    return shown


def _target(account: Account, start: Record, kind: ObjectType, other: str) -> dict[str, Any]:
    links, end = account.relations.links, (start.kind.type_id, start.id)
    specs = sorted(links.specs(end, (kind.type_id, other)))
    types = [links.definitions.find(end[0], kind.type_id, spec).to_json() for spec in specs]
    return {"toObjectId": other, "associationTypes": types}


def list_page(context: Context) -> Reply:
    """GET: what a record is associated with, of one type."""
    account, start = context.account, context.account.records.get(context.kind("from"), context.path["id"])
    limit = context.number("limit", MAX_PAGE, MAX_PAGE)
    page = _targets(account, start, context.kind("to"), context.query.get("after"), limit)
    return 200, {"results": page.pop("to")} | page


def batch_read(context: Context) -> Reply:
    """POST batch/read: what each of several records is associated with; those without any are errors in a 207."""
    account, started = context.account, context.account.now()
    kind, to = context.kind("from"), context.kind("to")
    results, errors = [], []
    for item in _inputs(context, _Start, MAX_READ):
        start = account.records.find(kind, str(item.given))
        page = _targets(account, start, to, item.after, MAX_PAGE) if start else {"to": []}
        if page["to"]:
            results.append({"from": {"id": str(item.given)}} | page)
        else:
            errors.append(_nothing(kind, to, str(item.given)).in_batch())
    return batch_reply(account, started, results, errors)


def _nothing(kind: ObjectType, to: ObjectType, record_id: str) -> ApiError:
    start, end = kind.singular.lower(), to.singular.lower()
    context = {"fromObjectId": [record_id], "fromObjectType": [start], "toObjectType": [end]}
    text = f"No {end} is associated with {start} {record_id}."
    sub_category = "crm.associations.NO_ASSOCIATIONS_FOUND"
    return ApiError(404, text, "OBJECT_NOT_FOUND", context=context, sub_category=sub_category)


def _each(context: Context, pairs: list[Any], act: Callable[[Record, Record, Any], Any], status: int) -> Reply:
    """Do something for each pair; pairs that are wrong are errors in a 207, the rest is done."""
    account, started = context.account, context.account.now()
    results: list[Any] = []
    errors: list[dict[str, Any]] = []
    for pair in pairs:
        try:
            start = _record(account, context.kind("from"), pair.start.id)
            results.append(act(start, _record(account, context.kind("to"), pair.to.id), pair))
        except ApiError as error:
            errors.append(error.in_batch())
    return batch_reply(account, started, results, errors, status)


def batch_create(context: Context) -> Reply:
    """POST batch/create: with the types that are given."""
    return _each(
        context,
        _inputs(context, _LabelledPair, MAX_WRITE),
        lambda start, end, pair: _label(context.account, start, end, pair.types),
        201,
    )


def batch_default(context: Context) -> Reply:
    """POST batch/associate/default: without labels; both directions are answered."""
    status, shown = _each(
        context,
        _inputs(context, _Pair, MAX_WRITE),
        lambda start, end, _: _unlabelled(context.account, start, end),
        200,
    )
    return status, shown | {"results": [line for lines in shown["results"] for line in lines]}


def batch_archive(context: Context) -> Reply:
    """POST batch/archive: take away all associations of pairs; what is not there is no error."""
    account = context.account
    for item in _inputs(context, _Archive, MAX_WRITE):
        start = account.records.find(context.kind("from"), item.start.id)
        for ref in item.to:
            end = account.records.find(context.kind("to"), ref.id)
            if start is not None and end is not None:
                account.relations.unrelate(start, end, account.integration)
    return 204, None


def batch_labels_archive(context: Context) -> Reply:
    """POST batch/labels/archive: take away some types of pairs."""
    account = context.account
    for item in _inputs(context, _LabelledPair, MAX_WRITE):
        start = account.records.find(context.kind("from"), item.start.id)
        end = account.records.find(context.kind("to"), item.to.id)
        if start is not None and end is not None:
            for wanted in item.types:
                account.relations.unrelate(start, end, account.integration, wanted.spec)
    return 204, None


def labels(context: Context) -> Reply:
    """GET labels: the types between two object types."""
    definitions = context.account.relations.links.definitions
    found = definitions.between(context.kind("from").type_id, context.kind("to").type_id)
    return 200, {"results": [definition.to_json() for definition in found]}


def make_label(context: Context) -> Reply:
    """POST labels: a type of the account's own."""
    given, definitions = context.read(_Label), context.account.relations.links.definitions
    start, end = context.kind("from").type_id, context.kind("to").type_id
    made = definitions.define(start, end, given.label, given.inverse_label or given.label)
    return 200, {"results": [definition.to_json() for definition in made]}


def _ends(context: Context) -> tuple[Record, Record]:
    records = context.account.records
    start = records.find(context.kind("from"), context.path["id"])
    end = records.find(context.kind("to"), context.path["other"])
    if start is None or end is None:
        raise not_found(context.path["id"] if start is None else context.path["other"])
    return start, end


def associate_default(context: Context) -> Reply:
    """PUT default: without a label."""
    started, (start, end) = context.account.now(), _ends(context)
    return batch_reply(context.account, started, _unlabelled(context.account, start, end), [])


def associate(context: Context) -> Reply:
    """PUT: with the types that the body lists."""
    start, end = _ends(context)
    return 201, _label(context.account, start, end, context.read(list[SpecInput]))


def dissociate(context: Context) -> Reply:
    """DELETE: take away all associations of two records; a pair without any is no error."""
    account = context.account
    start = account.records.find(context.kind("from"), context.path["id"])
    end = account.records.find(context.kind("to"), context.path["other"])
    if start is not None and end is not None:
        account.relations.unrelate(start, end, account.integration)
    return 204, None


def _label(account: Account, start: Record, end: Record, types: list[SpecInput]) -> dict[str, Any]:
    """Associate with every type, or with none if one of them is wrong."""
    definitions = account.relations.links.definitions
    found = [definitions.find(start.kind.type_id, end.kind.type_id, wanted.spec) for wanted in types]
    for definition in found:
        account.relations.relate(start, end, definition, account.integration)
    return {
        "fromObjectTypeId": start.kind.type_id,
        "fromObjectId": start.id,
        "toObjectTypeId": end.kind.type_id,
        "toObjectId": end.id,
        "labels": [definition.label for definition in found if definition.label],
    }


def _unlabelled(account: Account, start: Record, end: Record) -> list[dict[str, Any]]:
    definition = account.relations.links.definitions.default(start.kind, end.kind)
    account.relations.relate(start, end, definition, account.integration)
    return [_line(start, end, definition), _line(end, start, definition.turned())]


def _line(start: Record, end: Record, definition: Definition) -> dict[str, Any]:
    spec = {"associationCategory": definition.spec.category, "associationTypeId": definition.spec.type_id}
    return {"from": {"id": start.id}, "to": {"id": end.id}, "associationSpec": spec}
