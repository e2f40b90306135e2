"""Credentials: the systems' settings as their connectors got them, and as references resolve now."""

from collections.abc import Mapping

import orjson

from connectors.kit.budget import Budgets, using
from connectors.kit.connector import Connector
from connectors.kit.tokens import TokenStore
from connectors.registry import CONNECTORS
from hub.config import Config
from hub.edge import tokens
from hub.errors import ConfigError


class Credentials:
    """Makes connectors that draw from these budgets, and remembers with what. Secrets are held in memory only."""

    def __init__(self, config: Config, env: Mapping[str, str], budgets: Budgets) -> None:
        self._config = config
        self._env = env
        self._budgets = budgets
        self._used: dict[str, bytes] = {}
        self._tokens: TokenStore | None = None

    def make(self, system: str) -> Connector:
        """The system's connector, from its settings as they are now. Raises ConfigError for what is not set."""
        settings = self._config.resolve(system, self._env)
        made = self._config.systems[system]
        self._used[system] = _plain(settings)
        with using(self._budgets):
            connector = CONNECTORS[made.connector][1](system, settings, made.objects)
        if self._tokens is not None:
            tokens.give({system: connector}, self._tokens)
        return connector

    def give(self, connectors: Mapping[str, Connector], store: TokenStore) -> None:
        """Let these connectors, and all that are made from here on, find their tokens in this store."""
        self._tokens = store
        tokens.give(connectors, store)

    def used(self, system: str) -> bytes:
        """The settings that its connector has."""
        return self._used[system]

    def now(self, system: str) -> bytes | None:
        """The settings that it would get now; None where a reference leads nowhere."""
        try:
            return _plain(self._config.resolve(system, self._env))
        except ConfigError:
            return None


def _plain(settings: Mapping[str, object]) -> bytes:
    return orjson.dumps(dict(settings), option=orjson.OPT_SORT_KEYS, default=str)
