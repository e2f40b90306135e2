"""History: a golden record and every system's view of it at any instant, and all that made it what it is. JSON data."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from hub.edge import inquiry
from hub.edge.inquiry import Json
from hub.errors import Reject
from hub.event import Event
from hub.projection import GoldenField, Projected
from hub.values import EPOCH, Value, moment
from streams import past, steward
from streams.context import Context, now
from streams.past import Past, Step, Then

ACTORS = ("hs_updated_by_user_id", "updated_by", "modified_by", "last_modified_by", "changed_by")
"""Native fields by which systems tell who changed a record, where they are among those that are read."""
MICROSECOND = 1_000_000


def instant(at: str) -> int | None:
    """Microseconds since 1970 of an instant as a person writes it (ISO 8601; UTC where it names no zone); None where it is
    none, and so may be an event's id."""
    try:
        said = datetime.fromisoformat(at.strip().replace("Z", "+00:00"))
    except ValueError:
        return None
    since = (said if said.tzinfo else said.replace(tzinfo=UTC)) - EPOCH
    return (since.days * 86_400 + since.seconds) * MICROSECOND + since.microseconds


async def find(context: Context, entity: str, name: str, limit: int | None = None) -> tuple[Past, str]:
    """The past of the thing that `name` means, and the golden id that it names: a golden id names itself, also where it was
    merged since; a record the golden id that it was linked to first. Raises Reject; with the code `too-long` where the thing
    has more than `limit` steps."""
    if entity not in context.model.entities:
        raise Reject(f"no entity {entity!r}; there are {', '.join(sorted(context.model.entities))}", "unknown")
    named = await inquiry.named(context, entity, name)
    thing = await past.load(context, named[0])
    if others := set(named) - thing.ids:
        raise Reject(f"{name!r} means several: {', '.join(sorted({named[0], *others})[:5])}", "ambiguous")
    if limit is not None and len(thing.steps) > limit:
        raise Reject(f"{len(thing.steps)} steps, more than {limit}: ask by the command", "too-long")
    return thing, named[0]


def steps_until(thing: Past, at: str | None) -> int:
    """How many of a thing's steps count at an instant, or up to and with an event. Raises Reject."""
    if at is None:
        return len(thing.steps)
    micros = instant(at)
    if micros is None:
        return thing.after(at)
    if micros > now():
        raise Reject(f"{at} is in the future", "instant")
    return thing.upto(micros)


async def show(context: Context, entity: str, name: str, at: str | None, limit: int | None = None) -> Json:
    """The golden record with provenance and what every system held, as the hub had it at an instant or after an event; after
    everything without one."""
    thing, named = await find(context, entity, name, limit)
    count = steps_until(thing, at)
    then = await past.fold(context, thing, count)
    golden_id = then.root(named)
    made = then.golden(golden_id)
    if made is None:
        first = moment(thing.steps[0].at) if thing.steps else "never"
        raise Reject(f"{golden_id} was not known then; its first event was processed at {first}", "unknown")
    return {
        "golden_id": golden_id,
        "entity": entity,
        "at": at,
        "after": step_told(thing.steps[count - 1]) if count else None,
        "configuration": then.configuration,
        "deleted": made.golden.deleted,
        "fields": {name: inquiry.field_told(f) for name, f in made.golden.fields.items()},
        "records": [_holds(then, member.id) for member in then.members(golden_id) if member.id[0] != steward.SYSTEM],
        "problems": list(made.problems),
    }


def step_told(step: Step) -> Json:
    """When a step was, and what it was."""
    return {"processed": step.number, "processed_at": moment(step.at), "kind": step.kind, "id": step.id}


def _holds(then: Then, id_: tuple[str, str, str]) -> Json:
    state = then.sights.get(id_)
    held = sorted(state.view.items()) if state else []
    return {
        "system": id_[0], "object": id_[1], "external_id": id_[2], "gone": bool(state and state.gone),
        "holds": {name: one.value for name, one in held if not name.startswith("_")},
    }  # fmt: skip


async def history(context: Context, entity: str, name: str, limit: int | None = None) -> list[Json]:
    """Everything that happened to a thing, in the order in which the hub processed it: what was said by whom through which
    channel, what was written, links, merges and unmerges, configurations that were deployed where they changed something, and
    what each changed in the golden records concerned.

    `limit` bounds the steps, as in `find`."""
    thing, _ = await find(context, entity, name, limit)
    told = await past.read(context, thing.steps)
    then = past.begin(context, thing)
    lines, before = [], dict[str, Projected]()
    for n, step in enumerate(thing.steps):
        if n % past.TURN == 0:
            await asyncio.sleep(0)  # others have a turn
        said = told.get(step.place) if step.place else None
        then.take(step, said)
        after = goldens(then)
        line = step_told(step) | told_of(thing, step, said)
        line |= {"links": _links(thing, step), "changes": _changes(before, after)}
        if step.deployed is None or line["changes"] or line["links"] or _regrouped(thing, step):
            lines.append(line)
        before = after
    return lines


def _regrouped(thing: Past, deployment: Step) -> bool:
    """Whether a deployment moved, merged or set apart records of the thing: steps behind it tell what."""
    return any(step.id == deployment.id and step is not deployment for step in thing.steps)


def goldens(then: Then) -> dict[str, Projected]:
    """Every golden record that the thing consisted of then."""
    roots = sorted({then.root(id_) for id_ in then.past.ids})
    return {root: made for root in roots if (made := then.golden(root)) is not None}


def told_of(thing: Past, step: Step, said: Any) -> Json:
    """What a step was, by what stands on the log."""
    place = {"payload": "{}/{}@{}".format(*step.place)} if step.place else {}
    if step.kind in ("merge", "unmerge"):
        return {"event_id": step.id, "golden_id": step.golden_id, "into": step.into, "reason": step.reason}
    if step.kind == "move":
        return {"golden_id": step.golden_id, "record": "/".join(step.record or ()), "reason": step.reason}
    if step.deployed is not None:
        names = ("version", "former", "author", "reason")
        return {name: getattr(step.deployed, name) for name in names}
    if isinstance(said, Event):
        return {**event_told(thing, said), **place}
    return {**(_receipt(said) if said else {"removed": True}), **place}


def event_told(thing: Past, event: Event) -> Json:
    """An event as it stands on the log, with what it did not claim (the hub's own, or only touched along)."""
    decided = ((id_, thing.decided.get((event.event_id, id_))) for id_ in (event.external_id, *event.merged))
    unsaid = {id_: sorted(some[0][1]) for id_, some in decided if some}
    return {
        "event_id": event.event_id, "system": event.system, "object": event.object, "external_id": event.external_id,
        "op": event.op,
        "at": moment(event.at), "observed_at": moment(event.observed_at), "channel": event.channel,
        "author": author(event), "fields": event.fields(), "merged": list(event.merged), "unsaid": unsaid,
    }  # fmt: skip


def author(event: Event) -> Value:
    """Who changed it, where the source tells; None where it does not."""
    natives = event.fields()
    names = ("author",) if event.system == steward.SYSTEM else ACTORS
    return next((natives[name] for name in names if natives.get(name) not in (None, "")), None)


def _receipt(said: Mapping[str, Any]) -> Json:
    names = ("object", "external_id", "golden_id", "version", "op", "outcome", "reason")
    values = {name: orjson.loads(said[name]) for name in ("written", "stored")}
    return {"system": said["target"], **{name: said[name] for name in names}, **values, "at": moment(said["at"])}


def _links(thing: Past, step: Step) -> list[Json]:
    """The records that were linked at this step."""
    return [
        {"system": id_[0], "object": id_[1], "external_id": id_[2], "golden_id": thing.homes[id_]}
        for id_, number in thing.linked.items()
        if number == step.number and step.kind in ("event", "receipt", "deployment")
    ]


def _changes(before: Mapping[str, Projected], after: Mapping[str, Projected]) -> list[Json]:
    """What became otherwise: golden records that came, went or changed, with their fields before and after. A side that
    is not there was not known."""
    changes = []
    for golden_id in sorted(before.keys() | after.keys()):
        old, new = before.get(golden_id), after.get(golden_id)
        fields = _fields(old.golden.values() if old else {}, new.golden.values() if new else {})
        what = "begins" if old is None else "ends" if new is None else _deletion(old, new)
        if what or fields:
            changes.append({"golden_id": golden_id, "what": what or "changes", "fields": fields if new else {}})
    return changes


def _deletion(old: Projected, new: Projected) -> str:
    if old.golden.deleted == new.golden.deleted:
        return ""
    return "deleted" if new.golden.deleted else "restored"


def _fields(old: Mapping[str, Value], new: Mapping[str, Value]) -> dict[str, Json]:
    sides = {name: _sides(name, old, new) for name in sorted(old.keys() | new.keys())}
    return {name: sides[name] for name in sides if (name in old, old.get(name)) != (name in new, new.get(name))}


def _sides(name: str, old: Mapping[str, Value], new: Mapping[str, Value]) -> Json:
    before = {"before": old[name]} if name in old else {}
    return before | ({"after": new[name]} if name in new else {})


async def document(context: Context, entity: str, name: str) -> Json:
    """A record's whole history as one document: shape in schemas/record_history.json."""
    thing, named = await find(context, entity, name)
    then = await past.fold(context, thing, len(thing.steps))
    lines = await history(context, entity, name)
    return {
        "format": "hub.record-history",
        "version": 1,
        "entity": entity,
        "golden_id": then.root(named),
        "golden_ids": sorted(thing.ids),
        "configuration": then.configuration,
        "golden": {id_: _golden(made) for id_, made in goldens(then).items()},
        "records": [_holds(then, id_) | {"golden_id": then.root(home)} for id_, home in sorted(thing.homes.items())],
        "steps": lines,
    }


def _golden(made: Projected) -> Json:
    fields: Mapping[str, GoldenField] = made.golden.fields
    return {"deleted": made.golden.deleted, "fields": {name: inquiry.field_told(f) for name, f in fields.items()}}


def write(found: Json, path: Path) -> None:
    """Write a document to a file that its owner alone can read."""
    path.touch(mode=0o600)
    path.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")
