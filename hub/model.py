"""Model: the configured entities and mappings, as the stages use them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from hub.entity import Entity
from hub.mapping import ObjectMap, writable


@dataclass(frozen=True)
class Model:
    """Entities by name and mappings by (system, object); `version` identifies what influences the fold."""

    entities: Mapping[str, Entity]
    mappings: Mapping[tuple[str, str], ObjectMap]
    version: str

    @cached_property
    def _targets(self) -> dict[str, dict[str, list[ObjectMap]]]:
        targets: dict[str, dict[str, list[ObjectMap]]] = {name: {} for name in self.entities}
        for mapping in self.mappings.values():
            if writable(mapping):
                targets[mapping.entity.name].setdefault(mapping.system, []).append(mapping)
        return targets

    def targets(self, entity: str) -> dict[str, list[ObjectMap]]:
        """Target system -> its objects that hold this entity and may be written."""
        return self._targets.get(entity, {})

    def mapping(self, system: str, object_: str) -> ObjectMap | None:
        """How an object of a system reads and writes, if it is configured."""
        return self.mappings.get((system, object_))

    @property
    def systems(self) -> list[str]:
        """The systems that have any object configured, in order."""
        return list(dict.fromkeys(system for system, _ in self.mappings))
