"""Scope: which golden records a rebuild is about.

A golden record is rebuilt if an event in scope names it: one of the given system, that the hub saw within the given time,
about one of its records (or, for a steward's decision, about itself). It is rebuilt from all of its events, of all systems
and times; anything else would not be what it is. An entity limits what is read to the topics of that entity.
"""

from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from hub.model import Model
from streams.steward import OBJECT, SYSTEM
from streams.topics import changes_topic

FILES = 3  # how a rebuild's files are written; with another number a rebuild begins anew


@dataclass(frozen=True, slots=True)
class Scope:
    """Empty: everything. `since` and `until` are microseconds since 1970 UTC by when the hub saw an event; `until` itself
    is not in scope."""

    entity: str = ""
    system: str = ""
    since: int | None = None
    until: int | None = None

    @property
    def partial(self) -> bool:
        """Whether anything is left out."""
        return self != Scope()

    @property
    def by_event(self) -> bool:
        """Whether it depends on its events if a golden record is in scope."""
        return bool(self.system) or self.since is not None or self.until is not None

    def topics(self, model: Model) -> list[str]:
        """The change topics that hold every event of the golden records in scope."""
        mapped = (m for m in model.mappings.values() if self.entity in ("", m.entity.name))
        return [changes_topic(m.system, m.object).name for m in mapped] + [changes_topic(SYSTEM, OBJECT).name]

    def chooses(self) -> pl.Expr:
        """Which events name what is in scope."""
        chosen = pl.lit(value=True)
        if self.system:
            chosen &= pl.col("system") == self.system
        if self.since is not None:
            chosen &= pl.col("observed_at") >= self.since
        return chosen if self.until is None else chosen & (pl.col("observed_at") < self.until)

    def told(self, model: Model) -> dict[str, Any]:
        """What makes a rebuild the same one, if it is to go on."""
        return {**asdict(self), "model": model.version, "polars": pl.__version__, "files": FILES}
