"""Writing: find before create, compare before update, batches of at most 100, and one receipt for each write."""

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.hubspot.api import Api, Json
from connectors.hubspot.find import Finder
from connectors.hubspot.links import Links, links_of
from connectors.hubspot.objects import ASSOCIATIONS, HUB_ID
from connectors.hubspot.outcome import Fault, Outcome, attempt, receipt_of
from connectors.hubspot.records import Reader, Reading, order
from hub.change import Change
from hub.mapping import decode
from hub.receipt import Applied, Deferred, Receipt, Refused, Unchanged
from hub.values import Value
from hub.write import Write

SOON = 0.5


class Target:
    """Delivers writes of one object. What concerns all of them is raised: Retry, AuthError."""

    def __init__(self, api: Api, reader: Reader) -> None:
        self._api = api
        self._reader = reader
        self._finder = Finder(api, reader)
        self._links = Links(api)

    async def deliver(self, writes: Sequence[Write]) -> list[Receipt]:
        """One receipt for each write, in their order; creates first, then updates, then deletes."""
        receipts: dict[int, Receipt] = {}
        for op, handle in (("create", self._create), ("update", self._update), ("delete", self._delete)):
            places = [place for place, write in enumerate(writes) if write.op == op]
            if places:
                some = [writes[place] for place in places]
                receipts |= dict(zip(places, await handle(some[0].object, some), strict=True))
        return [receipts[place] for place in range(len(writes))]

    async def _create(self, object_: str, writes: Sequence[Write]) -> list[Receipt]:
        """Find, then upsert by the hub's own id: a repetition after a lost answer meets the same record."""
        found = await self._finder.find(object_, writes)
        inputs = [_creation(write) for write in writes if write.golden_id not in found]
        outcome = await attempt(inputs, self._sender(object_, "upsert"), _hub_id)
        conflicts = await self._finder.conflicting(object_, writes, outcome.faults)
        created = [(w, str(outcome.records[w.golden_id]["id"])) for w in writes if w.golden_id in outcome.records]
        unlinked = await self._links.write(object_, created, {})
        known = {**conflicts, **found}
        return [
            known.get(w.golden_id)
            or await self._answered(w, outcome.records.get(w.golden_id), outcome.faults.get(w.golden_id), unlinked)
            for w in writes
        ]

    async def _update(self, object_: str, writes: Sequence[Write]) -> list[Receipt]:
        """Compare what is held now with what was believed, write where nobody edited meanwhile."""
        now = await self._reader.read(object_, [_id(w) for w in writes], "read")
        settled = {_id(w): receipt for w in writes if (receipt := _before(w, now))}
        due = [w for w in writes if _id(w) not in settled]
        inputs = [_update_input(w) for w in due if _properties(w)]
        outcome = await attempt(inputs, self._sender(object_, "update"), lambda record: str(record["id"]))
        pairs = [(w, _id(w)) for w in due if _id(w) not in outcome.faults]
        held = {_id(w): _state(now, _id(w)).fields for w in due}
        unlinked = await self._links.write(object_, pairs, held)
        return [settled.get(_id(w)) or await self._updated(w, outcome, now, unlinked) for w in writes]

    async def _delete(self, object_: str, writes: Sequence[Write]) -> list[Receipt]:
        """Archive; what is archived already, or was merged away, is as it should be."""
        now = await self._reader.read(object_, [_id(w) for w in writes], "read")
        settled = {_id(w): receipt for w in writes if w.expected and (receipt := _before(w, now, gone_is_done=True))}
        absent = {_id(w): Unchanged(_id(w)) for w in writes if _id(w) in (*now.missing, *now.moved)}
        due = [w for w in writes if _id(w) not in settled and _id(w) not in absent]
        inputs = [{"id": _id(w), "objectWriteTraceId": _id(w)} for w in due]
        outcome = await attempt(inputs, self._archive(object_), lambda record: str(record["id"]))
        return [settled.get(_id(w)) or absent.get(_id(w)) or _deleted(w, outcome) for w in writes]

    def _sender(self, object_: str, verb: str) -> Any:
        async def send(inputs: Sequence[Json]) -> Json:
            return await self._api.write(object_, verb, inputs)

        return send

    def _archive(self, object_: str) -> Any:
        async def send(inputs: Sequence[Json]) -> Json:
            await self._api.write(object_, "archive", [{"id": i["id"]} for i in inputs])
            return {}

        return send

    async def _updated(self, write: Write, outcome: Outcome, now: Reading, unlinked: Mapping[str, Fault]) -> Receipt:
        if _properties(write):
            record, fault = outcome.records.get(_id(write)), outcome.faults.get(_id(write))
            return await self._answered(write, record, fault, unlinked)
        if (refused := unlinked.get(_id(write))) is not None:
            return Refused(f"not associated: {refused.message}", "association")
        return Applied(_id(write), _linked(write), _state(now, _id(write)).version or 0)

    async def _answered(
        self, write: Write, record: Json | None, fault: Fault | None, unlinked: Mapping[str, Fault]
    ) -> Receipt:
        if record is None or fault is not None:
            return receipt_of(fault)
        id_ = str(record["id"])
        if id_ not in unlinked:
            held = {n: v for n, v in (record.get("properties") or {}).items() if n in write.natives}
            return Applied(id_, held | _linked(write), order(record))
        # The record is there, its association is not: what is there is captured, and the rest planned again.
        reading = await self._reader.read(write.object, [id_], "read")
        return Deferred(f"not associated: {unlinked[id_].message}", found=tuple(reading.changes()))


def _before(write: Write, now: Reading, gone_is_done: bool = False) -> Receipt | None:
    """The receipt that the record's present state decides already, if it does."""
    id_ = _id(write)
    if id_ in now.moved:
        return Deferred("merged meanwhile", SOON, now.found[now.moved[id_]])
    if id_ in now.missing:
        return Unchanged(id_) if gone_is_done else Refused("the record is archived or deleted", "gone")
    state = _state(now, id_)
    held = decode(write.mapping, state.fields).values
    if write.op == "update" and all(_agree(held.get(name), value) for name, value in write.values.items()):
        return Unchanged(id_, state.version or 0)
    if any(name in held and not _agree(held[name], believed) for name, believed in write.expected.items()):
        return Deferred("edited meanwhile", SOON, now.found[id_])
    return None


def _agree(held: Value, believed: Value) -> bool:
    """Whether a value held is the one believed; of several references any will do, the order says nothing."""
    if isinstance(held, Mapping) and isinstance(believed, Mapping) and "id" in held:
        return believed.get("id") in (held["id"], *held.get("also", ()))
    return bool(held == believed)


def _state(now: Reading, id_: str) -> Change:
    return now.found[id_][-1]


def _id(write: Write) -> str:
    return str(write.external_id)


def _hub_id(record: Json) -> str:
    return str((record.get("properties") or {}).get(HUB_ID))


def _properties(write: Write) -> dict[str, str]:
    """The properties to write as text; an empty one clears."""
    plain = {name: value for name, value in write.natives.items() if not name.startswith(ASSOCIATIONS)}
    return {name: "" if value is None else str(value) for name, value in plain.items()}


def _creation(write: Write) -> Json:
    known = {name: value for name, value in _properties(write).items() if value}
    return {"id": write.golden_id, "idProperty": HUB_ID, "objectWriteTraceId": write.golden_id,
            "properties": known | {HUB_ID: write.golden_id}}  # fmt: skip


def _update_input(write: Write) -> Json:
    return {"id": _id(write), "objectWriteTraceId": _id(write), "properties": _properties(write)}


def _linked(write: Write) -> dict[str, Any]:
    """The associations as they are after the write, as far as it speaks of them."""
    return {ASSOCIATIONS + to: [id_] if id_ else [] for to, id_ in links_of(write).items()}


def _deleted(write: Write, outcome: Outcome) -> Receipt:
    fault = outcome.faults.get(_id(write))
    return Applied(_id(write)) if fault is None else receipt_of(fault)
