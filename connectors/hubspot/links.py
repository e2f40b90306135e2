"""Associations of written records: the one that a reference names is added, the one it named before is removed.

Others stay: a person may associate a contact with many companies, the hub speaks of one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.hubspot.api import BATCH, Api, Json
from connectors.hubspot.objects import ASSOCIATIONS
from connectors.hubspot.outcome import Fault, fault_of
from connectors.kit.http import Refusal
from hub.write import Write

Pair = tuple[str, str]


def links_of(write: Write) -> dict[str, str | None]:
    """What a write says of associations: other object -> id of its record, None for no association."""
    return {
        name.removeprefix(ASSOCIATIONS): None if value in (None, "") else str(value)
        for name, value in write.natives.items()
        if name.startswith(ASSOCIATIONS)
    }


class Links:
    """Writes associations, by the hundred."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def write(
        self, object_: str, written: Sequence[tuple[Write, str]], held: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Fault]:
        """Bring associations in line; `held` are the native fields before, by record id. Answers faults by record id."""
        add: dict[str, list[Pair]] = {}
        remove: dict[str, list[Pair]] = {}
        for write, id_ in written:
            for to, other in links_of(write).items():
                before = [str(i) for i in held.get(id_, {}).get(ASSOCIATIONS + to) or []]
                if other and other not in before:
                    add.setdefault(to, []).append((id_, other))
                stale = _believed(write, to) - {other}
                remove.setdefault(to, []).extend((id_, i) for i in before if i in stale)
        faults: dict[str, Fault] = {}
        for to, pairs in add.items():
            faults |= await self._each(object_, to, pairs, adding=True)
        for to, pairs in remove.items():
            faults |= await self._each(object_, to, [p for p in pairs if p[0] not in faults], adding=False)
        return faults

    async def _each(self, object_: str, to: str, pairs: Sequence[Pair], adding: bool) -> dict[str, Fault]:
        faults: dict[str, Fault] = {}
        for start in range(0, len(pairs), BATCH):
            faults |= await self._some(object_, to, pairs[start : start + BATCH], adding)
        return faults

    async def _some(self, object_: str, to: str, pairs: Sequence[Pair], adding: bool) -> dict[str, Fault]:
        """One batch; if refused as a whole or in part, one by one, for its errors do not reliably name the pair."""
        call = self._api.associate if adding else self._api.dissociate
        try:
            body = await call(object_, to, pairs)
        except Refusal as refusal:
            body = {"errors": [{"message": refusal.reason, "category": refusal.code}]}
        errors: list[Json] = body.get("errors") or []
        if errors and len(pairs) == 1:
            return {pairs[0][0]: fault_of(errors[0])}
        faults: dict[str, Fault] = {}
        for pair in pairs if errors else ():
            faults |= await self._some(object_, to, [pair], adding)
        return faults


def _believed(write: Write, to: str) -> set[str]:
    """The records that the hub believed to be associated in the fields that it writes now."""
    names = [f.name for f in write.mapping.fields if f.natives == (ASSOCIATIONS + to,)]
    believed = [write.expected.get(name) for name in names]
    return {str(value["id"]) for value in believed if isinstance(value, Mapping) and "id" in value}
