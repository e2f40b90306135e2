"""Entity: the canonical shape of one kind of real-world thing, with its rules. Built from the configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from hub.rules import Rule

DeletePolicy = Literal["propagate", "detach", "ignore"]
PASSES = {"follow": 1, "expression": 2}


@dataclass(frozen=True, slots=True)
class Field:
    """One canonical field: its type (see hub.values), how its value is chosen, and for a reference, to what entity.

    `required` says of a reference that a record without it must not be written.
    """

    name: str
    kind: str
    rule: Rule
    entity: str = ""
    required: bool = False
    personal: bool = False


@dataclass(frozen=True)
class Entity:
    """One kind of thing.

    match       fields whose equal values make two records one thing
    merge       what happens when two golden records turn out to be one thing: merged, or a person is asked
    deletes     what a delete in a system means: propagate (delete everywhere), detach (the record leaves, its claims
                are withdrawn, it is not written again), ignore (its claims stay; it is written again)
    """

    name: str
    fields: Mapping[str, Field]
    match: tuple[str, ...] = ()
    merge: Literal["auto", "review"] = "auto"
    deletes: Mapping[str, DeletePolicy] = field(default_factory=dict)
    version: str = ""

    @cached_property
    def in_turn(self) -> tuple[Field, ...]:
        """The fields in the order in which they are chosen: plain rules first, then those that look at another field's
        choice, then expressions, each in configured order."""
        return tuple(sorted(self.fields.values(), key=lambda f: PASSES.get(f.rule.kind, 0)))

    def on_delete(self, system: str) -> DeletePolicy:
        """What a delete in `system` means; detach where the configuration is silent, for it destroys nothing."""
        return self.deletes.get(system, "detach")
