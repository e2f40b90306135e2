"""Invariants: what a person expects of every golden record of an entity, in the language of expression rules.

`phone is not null`, `email is null or lower(email) == email`, `revenue >= 0`, `not deleted`. Names are the entity's fields and
`deleted`; an unknown field is null. Decimals compare as numbers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from simpleeval import EvalWithCompoundTypes

from hub.config.expressions import check
from hub.config.source import Source
from hub.entity import Entity
from hub.errors import Reject
from hub.projection import Golden
from hub.rules import EXPRESSION_ERRORS, FUNCTIONS, Known
from hub.values import Value

WORDS: Mapping[str, Value] = {"null": None, "true": True, "false": False}
QUOTED = re.compile(r"""('[^']*'|"[^"]*")""")


@dataclass(frozen=True, slots=True)
class Invariant:
    """An expression over the values of one golden record."""

    text: str
    entity: Entity

    def holds(self, golden: Golden | None) -> bool:
        """Whether it holds: always of what is not there, or deleted, unless it speaks of `deleted`; never where the
        expression cannot be evaluated, such as for an order between a number and nothing."""
        if golden is None or (golden.deleted and not re.search(r"\bdeleted\b", self.text)):
            return True
        values = {
            name: self._plain(name, value) for name, value in golden.values().items() if name in self.entity.fields
        }
        names = Known({**values, **WORDS, "deleted": golden.deleted})
        try:
            return bool(EvalWithCompoundTypes(names=names, functions={**FUNCTIONS}).eval(self.text))
        except EXPRESSION_ERRORS:
            return False

    def _plain(self, name: str, value: Value) -> Value:
        return Decimal(value) if self.entity.fields[name].kind == "decimal" and value is not None else value


def parse(text: str, entity: Entity) -> Invariant:
    """The invariant that a person wrote. Raises Reject for what is no expression, or names what the entity has not."""
    parts = QUOTED.split(text.strip())
    plain = "".join(p if n % 2 else re.sub(r"\bnull\b", "None", p, flags=re.I) for n, p in enumerate(parts))
    source = Source("invariant")
    check(source, (), plain, [*entity.fields, *WORDS, "deleted"])
    if source.problems:
        raise Reject("; ".join(str(problem) for problem in source.problems), "invariant")
    return Invariant(plain, entity)
