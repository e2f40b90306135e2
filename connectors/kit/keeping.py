"""Keeping: where accounts' states are kept, by whoever shares them."""

import time
from typing import Protocol

from connectors.kit.allowance import Ask, Grant, Limit, State
from connectors.kit.turns import turn


class Keeper(Protocol):
    """Where accounts' states are kept."""

    async def turn(self, account: str, limit: Limit, ask: Ask) -> Grant:
        """Take a turn at an account's state (connectors.kit.turns). Raises where the state cannot be reached."""


class InProcess:
    """Keeps states in this process: for tools without a state database, and for tests."""

    def __init__(self) -> None:
        self._states: dict[str, State] = {}

    async def turn(self, account: str, limit: Limit, ask: Ask) -> Grant:
        """Take a turn; never fails."""
        return turn(self._states.setdefault(account, State()), limit, ask, time.time())
