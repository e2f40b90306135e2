"""Records: HubSpot's answers as changes. One shape, whoever read the record and why, so that one state is one event."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from connectors.hubspot.api import Api, Json
from connectors.hubspot.objects import ASSOCIATIONS, HUB_ID
from hub.change import Change
from hub.mapping import ObjectMap
from hub.values import micros

# The first for every object; the second for contacts, which were merged long before the others: "id:millis;...".
UNKNOWN = 2**63
MERGED = ("hs_merged_object_ids", "hs_calculated_merged_vids")


@dataclass(frozen=True, slots=True)
class Layout:
    """What is read of one object: the mapped properties, and the objects whose associations are mapped."""

    object: str
    properties: tuple[str, ...]
    links: tuple[str, ...]

    @property
    def asked(self) -> tuple[str, ...]:
        """The properties to ask for: the mapped ones, and what tells a merge."""
        return (*self.properties, *MERGED)


def layout(mapping: ObjectMap) -> Layout:
    """The layout that a mapping needs; the hub's own id is always among it."""
    names = sorted({native for entry in mapping.fields for native in entry.natives} | {HUB_ID})
    links = tuple(n.removeprefix(ASSOCIATIONS) for n in names if n.startswith(ASSOCIATIONS))
    return Layout(mapping.object, tuple(n for n in names if not n.startswith(ASSOCIATIONS)), links)


@dataclass(frozen=True, slots=True)
class Reading:
    """What became of the ids asked for.

    found     by the id of the record: its state, preceded by its merge where it is the result of one
    moved     asked id -> id of the record it was merged into
    missing   asked ids that no live record has
    """

    found: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)
    moved: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def changes(self) -> list[Change]:
        """Everything found."""
        return [change for changes in self.found.values() for change in changes]


class Reader:
    """Reads records with their associations, always the same way."""

    def __init__(self, system: str, api: Api, layouts: Mapping[str, Layout]) -> None:
        self.system = system
        self.layouts = layouts
        self._api = api

    async def read(self, object_: str, ids: Sequence[str], channel: str) -> Reading:
        """The records of these ids as they are now."""
        asked = list(dict.fromkeys(ids))
        records = await self._api.read(object_, asked, self.layouts[object_].asked) if asked else []
        found = await self.flatten(object_, records, channel)
        moved = {old: change.external_id for changes in found.values() for change in changes for old in change.merged}
        lost = [i for i in asked if i not in found and i not in moved]
        if lost and found.keys() - set(asked) - set(moved.values()):
            moved |= await self._traced(object_, lost, found)
        missing = tuple(i for i in lost if i not in moved)
        return Reading(found, {old: new for old, new in moved.items() if old in asked}, missing)

    async def _traced(self, object_: str, lost: Sequence[str], found: dict[str, tuple[Change, ...]]) -> dict[str, str]:
        """Lost id -> the record it was answered as, where that does not tell its merges itself; put into `found`."""
        moved: dict[str, str] = {}
        for id_ in lost:
            for record in await self._api.read(object_, [id_], []):
                moved[id_] = new = str(record["id"])
                if new in found:
                    found[new] = (_merge(found[new][-1], (id_,), record), *found[new])
        return moved

    async def flatten(self, object_: str, records: Sequence[Json], channel: str) -> dict[str, tuple[Change, ...]]:
        """Records that were read with the layout's properties, completed by their associations."""
        by_id = {str(record["id"]): record for record in records}
        links = await self._links(object_, list(by_id))
        return {i: self._changes(object_, by_id[i], links[i], channel) for i in by_id}

    async def archived(self, object_: str, ids: Sequence[str], channel: str) -> dict[str, Change]:
        """Those of the ids that are in the recycling bin (HubSpot keeps them 90 days), as deletes."""
        records = await self._api.read(object_, ids, [], archived=True) if ids else []
        return {str(r["id"]): self.deleted(object_, r, channel) for r in records if r.get("archivedAt")}

    def deleted(self, object_: str, record: Json, channel: str) -> Change:
        """An archived record as a delete, at the time it was archived."""
        at = micros(record["archivedAt"])
        return Change(self.system, object_, str(record["id"]), op="delete", version=at, at=at, channel=channel)

    async def _links(self, object_: str, ids: list[str]) -> dict[str, dict[str, list[str]]]:
        links: dict[str, dict[str, list[str]]] = {i: {} for i in ids}
        for to in self.layouts[object_].links if ids else ():
            for owner, others in (await self._api.associated(object_, to, ids)).items():
                links.setdefault(owner, {})[to] = others
        return links

    def _changes(self, object_: str, record: Json, links: Mapping[str, list[str]], channel: str) -> tuple[Change, ...]:
        try:
            return self._read(object_, record, links, channel)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            told, why = {"record": record}, f"cannot be read: {type(error).__name__}: {error}"[:200]
            return (Change(self.system, object_, str(record["id"]), told, channel=channel, problem=why),)

    def _read(self, object_: str, record: Json, links: Mapping[str, list[str]], channel: str) -> tuple[Change, ...]:
        at = order(record)
        held = self.natives(object_, record, links)
        state = Change(self.system, object_, str(record["id"]), held, version=at, at=at, channel=channel)
        merged = _merged(record)
        if not merged:
            return (state,)
        return _merge(state, merged, record), state

    def natives(self, object_: str, record: Json, links: Mapping[str, list[str]]) -> dict[str, Any]:
        """The native fields of one record; a property that the answer leaves out stays unknown."""
        properties = record.get("properties") or {}
        held = {name: properties[name] for name in self.layouts[object_].properties if name in properties}
        return held | {ASSOCIATIONS + to: others for to, others in links.items()}


def known_order(record: Json) -> int:
    """As `order`; of a record that does not tell it, later than any, so that it is read."""
    try:
        return order(record)
    except (LookupError, TypeError, ValueError, AttributeError):
        return UNKNOWN


def order(record: Json) -> int:
    """When the record was last changed, by HubSpot's clock, in microseconds (it counts milliseconds)."""
    return micros(record["updatedAt"])


def _merge(state: Change, merged: tuple[str, ...], record: Json) -> Change:
    """The merge that made a record, dated by its creation, which no later edit moves: read again it is the same event."""
    return replace(state, fields={}, op="merge", version=None, at=micros(record["createdAt"]), merged=merged)


def _merged(record: Json) -> tuple[str, ...]:
    """Ids that were merged into the record. A merge makes a new record; formerly it kept one of the two."""
    told = [str((record.get("properties") or {}).get(name) or "") for name in MERGED]
    ids = {part.partition(":")[0].strip() for text in told for part in text.split(";")}
    return tuple(sorted(ids - {"", str(record["id"])}))
