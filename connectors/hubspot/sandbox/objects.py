"""The endpoints of single CRM records: list, create, read, change, archive, search, merge, delete for privacy."""

from __future__ import annotations

from connectors.hubspot.sandbox.account import Account
from connectors.hubspot.sandbox.errors import ApiError, invalid
from connectors.hubspot.sandbox.http import Context, Reply, Router, bearer
from connectors.hubspot.sandbox.links import Definition
from connectors.hubspot.sandbox.queries import SearchRequest, parse
from connectors.hubspot.sandbox.records import check_values
from connectors.hubspot.sandbox.schema import ObjectType
from connectors.hubspot.sandbox.shapes import (
    AssociationInput,
    CreateInput,
    EraseInput,
    MergeInput,
    ObjectInput,
    associations,
    history,
    show,
    show_all,
)
from connectors.hubspot.sandbox.store import Record

MAX_LIST, MAX_LIST_WITH_HISTORY = 100, 50
BASES = ("/crm/v3/objects/{type}", "/crm/objects/{version:str}/{type}")
"""The same endpoints under a number and under a date (2025-09, 2026-03, 2026-09)."""

Planned = list[tuple[Record, Definition]]


def reading(context: Context) -> list[str]:
    """The scope to read a type."""
    return [f"crm.objects.{context.kind().scope}.read"]


def writing(context: Context) -> list[str]:
    """The scope to write a type."""
    return [f"crm.objects.{context.kind().scope}.write"]


def add_routes(router: Router) -> None:
    """Serve the endpoints."""
    read, write = bearer(reading), bearer(writing)
    for base in BASES:
        router.add("POST", f"{base}/search", search, bearer(reading, search=True))
        router.add("POST", f"{base}/merge", merge, write)
        router.add("POST", f"{base}/gdpr-delete", erase, write)
        router.add("GET", base, list_page, read)
        router.add("POST", base, create, write)
        router.add("GET", f"{base}/{{id}}", read_one, read)
        router.add("PATCH", f"{base}/{{id}}", update, write)
        router.add("DELETE", f"{base}/{{id}}", archive, write)


def list_page(context: Context) -> Reply:
    """GET: a page of records in order of id."""
    with_history = context.listed("propertiesWithHistory")
    limit = context.number("limit", 10, MAX_LIST_WITH_HISTORY if with_history else MAX_LIST)
    after = context.query.get("after") or "0"
    if not after.isdecimal():
        raise invalid(f"Invalid paging token: {after}", after=[after])
    table = context.account.records.table(context.kind())
    found = table.page(int(after), limit + 1, context.flag("archived"))
    shown = {"results": [_answer(context, record) for record in found[:limit]]}
    if len(found) <= limit:
        return 200, shown
    last = found[limit - 1].id
    query = "&".join(f"{name}={value}" for name, value in context.query.multi_items() if name != "after")
    link = f"{context.url}?{query}&after={last}" if query else f"{context.url}?after={last}"
    return 200, shown | {"paging": {"next": {"after": last, "link": link}}}


def read_one(context: Context) -> Reply:
    """GET one: by id or by a unique property."""
    by, archived = context.query.get("idProperty"), context.flag("archived")
    record = context.account.records.get(context.kind(), context.path["id"], by, archived)
    return 200, _answer(context, record)


def _answer(context: Context, record: Record) -> dict[str, object]:
    account, with_history = context.account, context.listed("propertiesWithHistory")
    names = context.listed("properties") or [*record.kind.defaults, *with_history]
    return show(
        account,
        record,
        names,
        propertiesWithHistory=history(record, with_history),
        associations=associations(account, record, context.listed("associations")),
    )


def create(context: Context) -> Reply:
    """POST: a new record, with associations."""
    account, kind, given = context.account, context.kind(), context.read(CreateInput)
    cleaned = check_values(account.records, kind, given.properties, None, set())
    planned = plan_associations(account, kind, given.associations)
    record = account.records.create(kind, cleaned, account.integration)
    relate_all(account, record, planned)
    return 201, show_all(record, objectWriteTraceId=given.object_write_trace_id)


def plan_associations(account: Account, kind: ObjectType, given: list[AssociationInput] | None) -> Planned:
    """The records and types that a new record is to be associated with; ApiError 400 for those that are not there.

    The type's number tells the other end's object type.
    """
    planned: Planned = []
    for item in given or ():
        for wanted in item.types:
            end, definition = _end_of(account, kind, wanted.spec)
            target = account.records.find(end, item.to.id)
            if target is None:
                context = {
                    "INVALID_OBJECT_IDS": [f"{end.singular}={item.to.id} is not valid"],
                    "objectId": [item.to.id],
                    "objectType": [end.singular],
                }
                raise ApiError(400, "One or more associations are invalid", "VALIDATION_ERROR", context=context)
            planned.append((target, definition))
    return planned


def _end_of(account: Account, kind: ObjectType, spec: tuple[str, int]) -> tuple[ObjectType, Definition]:
    for end in dict.fromkeys(account.kinds.values()):
        for definition in account.relations.links.definitions.between(kind.type_id, end.type_id):
            if definition.spec == spec:
                return end, definition
    shown = f"{spec[0]}={spec[1]}"
    raise ApiError(
        400,
        "One or more associations are invalid",
        "VALIDATION_ERROR",
        context={
            "associationSpec": [shown],
            "INVALID_ASSOCIATION_TYPE_ID": [f"{shown} is not a valid association definition id"],
        },
    )


def relate_all(account: Account, record: Record, planned: Planned) -> None:
    """Make planned associations."""
    for target, definition in planned:
        account.relations.relate(record, target, definition, account.integration)


def update(context: Context) -> Reply:
    """PATCH: other values; answers the properties that were sent."""
    account, kind, given = context.account, context.kind(), context.read(ObjectInput)
    record = account.records.get(kind, context.path["id"], context.query.get("idProperty"))
    cleaned = check_values(account.records, kind, given.properties, record, set())
    account.records.update(record, cleaned, account.integration)
    return 200, show(account, record, given.properties)


def archive(context: Context) -> Reply:
    """DELETE: to the archive; a record that is there already is no error."""
    account, kind = context.account, context.kind()
    record = account.records.find(kind, context.path["id"])
    if record is None:
        account.records.get(kind, context.path["id"], archived=True)
    else:
        remove(account, record)
    return 204, None


def remove(account: Account, record: Record) -> None:
    """Archive a record together with its associations."""
    account.relations.detach(record)
    account.records.archive(record, account.integration)


def search(context: Context) -> Reply:
    """POST search: a page of what the index holds."""
    account, kind = context.account, context.kind()
    request = context.read(SearchRequest)
    query = parse(request)
    found = account.records.table(kind).index.search(query, account.now())
    end = query.after + query.limit
    names = request.properties or kind.defaults
    records = (
        Record(kind, str(item.id), item.properties, item.created, item.updated) for item in found[query.after : end]
    )
    shown = {"total": len(found), "results": [show(account, record, names) for record in records]}
    return 200, shown | ({"paging": {"next": {"after": str(end)}}} if end < len(found) else {})


def merge(context: Context) -> Reply:
    """POST merge: a new record that both old ids lead to."""
    account, kind, given = context.account, context.kind(), context.read(MergeInput)
    primary = account.records.get(kind, str(given.primary_object_id))
    other = account.records.get(kind, str(given.object_id_to_merge))
    if primary is other:
        raise invalid("Cannot merge an object with itself", objectIdToMerge=[other.id])
    return 200, show_all(account.relations.merge(primary, other, account.integration))


def erase(context: Context) -> Reply:
    """POST gdpr-delete: forget a contact; an address that no contact has is blocked all the same."""
    account, kind, given = context.account, context.kind(), context.read(EraseInput)
    if kind.name != "contacts":
        raise ApiError(404, "resource not found", "OBJECT_NOT_FOUND")
    record = account.records.find(kind, str(given.object_id), given.id_property)
    if record is not None:
        account.relations.detach(record)
        account.records.erase(record, account.integration)
    elif given.id_property == "email":
        account.records.blocked.add(str(given.object_id).strip().lower())
    else:
        account.records.get(kind, str(given.object_id))
    return 204, None
