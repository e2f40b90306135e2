"""The batch endpoints of CRM records: read, create, update, upsert and archive up to 100 at once.

One wrong input refuses the whole batch, unless every input has an `objectWriteTraceId`: then the rest is done and the
answer is 207 with the errors. Records that do not exist never refuse a batch; they are listed in a 207.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from connectors.hubspot.sandbox.errors import ApiError, duplicate_ids, invalid, some_not_found
from connectors.hubspot.sandbox.http import Context, Reply, Router, bearer
from connectors.hubspot.sandbox.objects import BASES, plan_associations, reading, relate_all, remove, writing
from connectors.hubspot.sandbox.records import check_values
from connectors.hubspot.sandbox.schema import ObjectType
from connectors.hubspot.sandbox.shapes import (
    BatchCreate,
    BatchRead,
    BatchRefs,
    BatchUpdate,
    CreateInput,
    UpdateInput,
    batch_reply,
    check_size,
    history,
    show,
    show_all,
    traced,
)
from connectors.hubspot.sandbox.store import Record

Commit = Callable[[], dict[str, Any]]


def add_routes(router: Router) -> None:
    """Serve the endpoints."""
    for base in BASES:
        router.add("POST", f"{base}/batch/read", read, bearer(reading))
        router.add("POST", f"{base}/batch/create", create, bearer(writing))
        router.add("POST", f"{base}/batch/update", update, bearer(writing))
        router.add("POST", f"{base}/batch/upsert", upsert, bearer(writing))
        router.add("POST", f"{base}/batch/archive", archive, bearer(writing))


def read(context: Context) -> Reply:
    """POST batch/read: those that exist, and the ids of those that do not."""
    account, kind, given, started = context.account, context.kind(), context.read(BatchRead), context.account.now()
    check_size(given.inputs, 50 if given.properties_with_history else 100)
    names = given.properties or [*kind.defaults, *given.properties_with_history]
    results, missing = [], []
    for record_id in dict.fromkeys(ref.id for ref in given.inputs):
        record = account.records.find(kind, record_id, given.id_property, context.flag("archived"))
        if record is None:
            missing.append(record_id)
        else:
            versions = history(record, given.properties_with_history)
            results.append(show(account, record, names, propertiesWithHistory=versions))
    errors = [some_not_found(kind.singular, missing).in_batch()] if missing else []
    return batch_reply(account, started, results, errors)


def create(context: Context) -> Reply:
    """POST batch/create: new records with associations."""
    account, kind, given, started = context.account, context.kind(), context.read(BatchCreate), context.account.now()
    check_size(given.inputs)
    taken: set[str] = set()

    def plan(item: CreateInput) -> Commit:
        cleaned = check_values(account.records, kind, item.properties, None, taken)
        planned = plan_associations(account, kind, item.associations)

        def commit() -> dict[str, Any]:
            record = account.records.create(kind, cleaned, account.integration)
            relate_all(account, record, planned)
            return show_all(record, objectWriteTraceId=item.object_write_trace_id)

        return commit

    results, errors = _run(given.inputs, plan, _all_traced(given.inputs))
    return batch_reply(account, started, results, errors, 201)


def update(context: Context) -> Reply:
    """POST batch/update: other values for records that exist."""
    account, kind, given, started = context.account, context.kind(), context.read(BatchUpdate), context.account.now()
    _check_ids(given.inputs)
    found = [(item, account.records.find(kind, item.id, item.id_property)) for item in given.inputs]
    present = {item.id: record for item, record in found if record is not None}
    inputs = [item for item, record in found if record is not None]
    taken: set[str] = set()

    def plan(item: UpdateInput) -> Commit:
        return _plan_update(context, present[item.id], item, taken)

    results, errors = _run(inputs, plan, _all_traced(given.inputs))
    return batch_reply(account, started, results, errors + _missing(kind, found))


def upsert(context: Context) -> Reply:
    """POST batch/upsert: by a unique property, other values for what exists and new records for the rest."""
    account, kind, given, started = context.account, context.kind(), context.read(BatchUpdate), context.account.now()
    _check_ids(given.inputs)
    if len({item.id_property for item in given.inputs}) > 1:
        raise invalid("All inputs of an upsert must have the same idProperty")
    found = [(item, account.records.find(kind, item.id, item.id_property)) for item in given.inputs]
    by_email = any(item.id_property == "email" for item in given.inputs) and kind.name == "contacts"
    taken: set[str] = set()
    present = {item.id: record for item, record in found}

    def plan(item: UpdateInput) -> Commit:
        record = present[item.id]
        if record is not None:
            commit = _plan_update(context, record, item, taken)
            return lambda: commit() | {"new": False}
        properties = {str(item.id_property): item.id} | item.properties
        cleaned = check_values(account.records, kind, properties, None, taken)

        def made() -> dict[str, Any]:
            record = account.records.create(kind, cleaned, account.integration)
            return show_all(record, objectWriteTraceId=item.object_write_trace_id, new=True)

        return made

    absent = [(item, record) for item, record in found if record is None and item.id_property is None]
    inputs = [item for item in given.inputs if all(item is not other for other, _ in absent)]
    results, errors = _run(inputs, plan, _all_traced(given.inputs) and not by_email)
    return batch_reply(account, started, results, errors + _missing(kind, absent))


def archive(context: Context) -> Reply:
    """POST batch/archive: what is not there is no error."""
    account, kind, given = context.account, context.kind(), context.read(BatchRefs)
    check_size(given.inputs)
    for ref in given.inputs:
        record = account.records.find(kind, ref.id)
        if record is not None:
            remove(account, record)
    return 204, None


def _plan_update(context: Context, record: Record, item: UpdateInput, taken: set[str]) -> Commit:
    account = context.account
    cleaned = check_values(account.records, record.kind, item.properties, record, taken)

    def commit() -> dict[str, Any]:
        account.records.update(record, cleaned, account.integration)
        return show(account, record, item.properties, objectWriteTraceId=item.object_write_trace_id)

    return commit


def _run(inputs: Iterable[Any], plan: Callable[[Any], Commit], partial: bool) -> tuple[list[Any], list[dict[str, Any]]]:
    """Check every input before any is carried out; a wrong one is an error entry if `partial`, else it is raised."""
    commits: list[Commit] = []
    errors: list[dict[str, Any]] = []
    for item in inputs:
        try:
            commits.append(plan(item))
        except ApiError as error:
            if not partial:
                raise
            errors.append(traced(error, item.object_write_trace_id))
    return [commit() for commit in commits], errors


def _all_traced(inputs: Iterable[CreateInput | UpdateInput]) -> bool:
    return all(item.object_write_trace_id for item in inputs)


def _check_ids(inputs: list[UpdateInput]) -> None:
    check_size(inputs)
    seen: set[tuple[str | None, str]] = set()
    twice: list[str] = []
    for item in inputs:
        key = item.id_property, item.id.lower()
        if key in seen:
            twice.append(item.id)
        seen.add(key)
    if twice:
        raise duplicate_ids(twice)


def _missing(kind: ObjectType, found: Sequence[tuple[UpdateInput, Record | None]]) -> list[dict[str, Any]]:
    """One error for all that do not exist, or one for each where trace ids tell them apart."""
    absent = [item for item, record in found if record is None]
    if not absent:
        return []
    if all(item.object_write_trace_id for item in absent):
        return [traced(some_not_found(kind.singular, [item.id]), item.object_write_trace_id) for item in absent]
    return [some_not_found(kind.singular, [item.id for item in absent]).in_batch()]
