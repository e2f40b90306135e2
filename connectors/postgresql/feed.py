"""What both ways of capture promise: the log (`logical`) and the outbox (`outbox`)."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import asyncpg

from connectors.kit.connector import Finding
from connectors.postgresql.slot import SlotState
from hub.change import Change

Position = dict[str, Any]


async def nothing() -> None:
    """There is nothing to release."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some changes, the place behind them (JSON values), and what to call when both are durable."""

    changes: Sequence[Change]
    position: Position
    acknowledge: Callable[[], Awaitable[None]] = nothing


class Feed(Protocol):
    """A source of all committed changes from some moment on.

    stream    the stream's name
    clock     SQL for the version of this moment, in the unit of the changes' versions
    """

    stream: str
    clock: str

    async def provision(self, conn: asyncpg.Connection) -> None:
        """Make sure that changes of every mapped table are kept from now on. Idempotent."""

    async def members(self, conn: asyncpg.Connection) -> Mapping[str, int]:
        """By table: a number that is another one if the table was out of the feed meanwhile."""

    async def resume(self, position: Position | None) -> Position:
        """Check that everything behind `position` is still there, release what is before; None: begin now.

        Raises Fatal where changes were lost.
        """

    async def end(self) -> int:
        """Where the feed ends at this moment, for `passed`."""

    def passed(self, position: Position, end: int) -> bool:
        """Whether all that was committed before `end` was taken is behind `position`."""

    def batches(self, position: Position) -> AsyncGenerator[Batch, None]:
        """What was committed behind `position`, until nothing is left for now."""

    async def mark(self, conn: asyncpg.Connection, intents: Mapping[str, str]) -> None:
        """Mark changes of the transaction at hand as the hub's own: "object/external id" -> key."""

    async def slot_state(self) -> SlotState:
        """How that fares which the database keeps for us."""

    async def findings(self, conn: asyncpg.Connection) -> list[Finding]:
        """The feed's lines of `hub check`."""
