"""Find before create: the record that a create would double, whether the hub made it or somebody else did.

Looked for by the hub's own id, then by unique properties (both from the database), then by the entity's match fields
that are not unique here (by the search, whose index lags). What is found is handed over to be captured and linked
first. Where capturing would not link it (a role's mailbox makes no two records one), a unique value that it holds is a
refusal, any other no reason not to create.
"""

from collections.abc import Mapping, Sequence

from connectors.hubspot.api import Api, existing_id
from connectors.hubspot.objects import HUB_ID
from connectors.hubspot.outcome import Fault
from connectors.hubspot.records import Reader
from hub.change import Change
from hub.identity import match_keys
from hub.mapping import FieldMap, decode
from hub.receipt import Deferred, Receipt, Refused
from hub.write import Write

FOUND = "found"


class Finder:
    """Finds records of one system."""

    def __init__(self, api: Api, reader: Reader) -> None:
        self._api = api
        self._reader = reader

    async def find(self, object_: str, writes: Sequence[Write]) -> dict[str, Receipt]:
        """Golden id -> the receipt of a create that must not be."""
        receipts: dict[str, Receipt] = {}
        by_hub_id = await self._by_property(object_, HUB_ID, {w.golden_id: w for w in writes})
        for golden_id, changes in by_hub_id.items():
            receipts[golden_id] = Deferred(FOUND, found=changes)
        for entry in _keys(writes):
            native = entry.natives[0]
            wanted = {
                str(w.natives[native]): w for w in writes if w.golden_id not in receipts and w.natives.get(native)
            }
            look = self._by_property if entry.unique else self._by_search
            for value, changes in (await look(object_, native, wanted)).items():
                if receipt := _found(wanted[value], changes, entry.unique):
                    receipts[wanted[value].golden_id] = receipt
        return receipts

    async def conflicting(
        self, object_: str, writes: Sequence[Write], faults: Mapping[str, Fault]
    ) -> dict[str, Receipt]:
        """Golden id -> the receipt of a create refused because another record has its unique value."""
        receipts: dict[str, Receipt] = {}
        for write in writes:
            fault = faults.get(write.golden_id)
            if fault is None or not fault.conflict:
                continue
            id_ = existing_id(fault.message)
            changes = tuple((await self._reader.read(object_, [id_], "read")).changes()) if id_ else ()
            receipts[write.golden_id] = _found(write, changes, unique=True) or Refused(fault.message, "duplicate")
        return receipts

    async def _by_property(
        self, object_: str, native: str, wanted: Mapping[str, Write]
    ) -> dict[str, tuple[Change, ...]]:
        """Wanted value -> the record that has it in a unique property."""
        asked = self._reader.layouts[object_].asked
        records = await self._api.read(object_, list(wanted), [*asked, native], native) if wanted else []
        return _by_value(await self._reader.flatten(object_, records, "read"), native, wanted)

    async def _by_search(self, object_: str, native: str, wanted: Mapping[str, Write]) -> dict[str, tuple[Change, ...]]:
        """Wanted value -> a record that has it; where there are several, the oldest."""
        if not wanted:
            return {}
        values = sorted({value.lower() for value in wanted})  # the operator takes lower case only
        filters = [{"propertyName": native, "operator": "IN", "values": values}]
        body, _ = await self._api.search(object_, filters, ["hs_object_id"], "hs_object_id")
        ids = [str(hit["id"]) for hit in body.get("results", [])]
        return _by_value((await self._reader.read(object_, ids, "read")).found, native, wanted)


def _keys(writes: Sequence[Write]) -> list[FieldMap]:
    """The fields by which a record may be known, unique ones first."""
    mapping = writes[0].mapping
    entries = [f for f in mapping.fields if not f.identifies and (f.unique or f.name in mapping.entity.match)]
    return sorted(entries, key=lambda f: not f.unique)


def _by_value(
    found: Mapping[str, tuple[Change, ...]], native: str, wanted: Mapping[str, Write]
) -> dict[str, tuple[Change, ...]]:
    spelled = {value.casefold(): value for value in wanted}
    by_value: dict[str, tuple[Change, ...]] = {}
    for id_ in sorted(found, key=int, reverse=True):
        held = str(found[id_][-1].fields.get(native) or "").strip().casefold()
        if held in spelled:
            by_value[spelled[held]] = found[id_]
    return by_value


def _found(write: Write, changes: tuple[Change, ...], unique: bool) -> Receipt | None:
    """What a found record means for a create; None where it need not keep it from being."""
    if changes and _linkable(write, changes[-1]):
        return Deferred(FOUND, found=changes)
    if unique:
        return Refused("another record has the same unique value", "duplicate")
    return None


def _linkable(write: Write, change: Change) -> bool:
    """Whether capturing the record would make it one with the golden record: by the hub's own id, or by a match key."""
    if change.fields.get(HUB_ID) == write.golden_id:
        return True
    entity = write.mapping.entity
    held = decode(write.mapping, change.fields).values
    return bool(set(match_keys(entity, held)) & set(match_keys(entity, write.values)))
