"""Set aside: what a system reported and the log cannot take. It is parked with its reason; the rest of its page goes on.

Parked under the stage `capture`, which has no place on the log: the place is made from the content, so that the same
report, read again, is the same row.
"""

import hashlib
from dataclasses import replace

import orjson

from hub.change import Change
from hub.event import canonical, plain
from hub.model import Model
from streams import metrics
from streams.batches import dead_letter, fingerprint
from streams.context import MAX_RECORD_BYTES, Context, emit, now
from streams.records import NewRecord, Record
from streams.topics import changes_topic, notices_topic

STAGE = "capture"
MAX_ID = 1_000
"""Bytes of an external id: it is part of keys, which databases bound."""
MAX_EVENT_BYTES = MAX_RECORD_BYTES - 16_384
"""A parked event is repeated on another topic, with its reason around it."""

Unfit = tuple[Change, str]
"""A change, and why the log cannot take it."""


def unfit(change: Change) -> str:
    """Why nothing can be done with a change; "" where it is fit."""
    if change.problem:
        return change.problem
    for id_ in (change.external_id, *change.merged):
        if not id_ or "\x00" in id_ or not _is_text(id_):
            return "the record's id is empty, or holds a NUL or half a character"
        if len(id_.encode()) > MAX_ID:
            return f"the record's id is longer than {MAX_ID} bytes"
    return ""


def _is_text(text: str) -> bool:
    try:
        return bool(text.encode() or True)
    except UnicodeEncodeError:
        return False


def mapped(model: Model, change: Change) -> Change:
    """The change without the fields that nothing reads."""
    mapping = model.mapping(change.system, change.object)
    wanted = {native for entry in mapping.fields for native in entry.natives} if mapping else set()
    return replace(change, fields={name: value for name, value in change.fields.items() if name in wanted})


async def set_aside(context: Context, changes: list[Unfit]) -> None:
    """Park these changes; returns when they are."""
    if not changes:
        return
    async with metrics.tally(), context.pool.acquire() as conn, conn.transaction():
        rows = [_row(change, reason) for change, reason in changes]
        letters = []
        for record, reason in rows:
            fresh = await conn.fetchval(
                'insert into hub.parked (stage, topic, partition, "offset", reason, fingerprint, payload)'
                " values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing returning true",
                STAGE, record.topic, record.partition, record.offset, reason, fingerprint(reason), record.value,
            )  # fmt: skip
            letters += [dead_letter(context, STAGE, record, reason)] if fresh else []
        for change, _ in changes:
            metrics.count(metrics.ERRORS, STAGE, change.system, "reject")
        await emit(context, conn, letters)


def _row(change: Change, reason: str) -> tuple[Record, str]:
    """The change as a record with a place of its own; the payload says all that was reported."""
    payload = canonical([change.external_id, change.op, change.fields])
    place = int.from_bytes(hashlib.blake2b(payload + reason.encode(), digest_size=7).digest())
    reason = f"{plain(change.external_id)[:100]}: {reason}".replace("\x00", "\\0")[:2_000]
    topic = changes_topic(change.system, change.object).name
    return Record(topic, -1, place, plain(change.external_id).encode()[:MAX_ID], payload, (), 0), reason


def asked_again(context: Context, topic: str, payload: bytes) -> NewRecord:
    """A notice by which the record of a parked report is fetched anew, and captured where it is fit now."""
    system, object_ = topic.removeprefix("hub.changes.").split(".", 1)
    external_id = str(orjson.loads(payload)[0])
    datum = {
        "system": system, "object": object_, "external_id": external_id, "kind": "retry", "at": None,
        "observed_at": now(), "data": b"{}", "trace": None,
    }  # fmt: skip
    return NewRecord(notices_topic(system).name, external_id.encode(), context.codec.encode("notice", datum))
