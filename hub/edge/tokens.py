"""The systems that are authorized by OAuth, and the store of their tokens."""

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

import asyncpg

from connectors.kit.client import Client
from connectors.kit.connector import Authorized, Connector
from connectors.kit.tokens import MemoryTokens, TokenStore
from connectors.registry import CONNECTORS
from hub.config import Config
from hub.errors import ConfigError, Problem
from streams.sealing import Seal
from streams.tokens import PostgresTokens


def clients(config: Config, env: Mapping[str, str]) -> dict[str, Client]:
    """By system, the OAuth client that its settings make; systems with other credentials, or with references that lead
    nowhere, are left out."""
    found = {}
    for name, system in config.systems.items():
        oauth = CONNECTORS[system.connector][0].oauth
        try:
            made = oauth(name, config.resolve(name, env)) if oauth else None
        except ConfigError:
            continue
        if made is not None:
            found[name] = made
    return found


def store(config: Config, pool: asyncpg.Pool, data_dir: Path, env: Mapping[str, str]) -> TokenStore:
    """The store in the state database. Raises ConfigError where a system needs it and there is no key to seal with."""
    if not clients(config, env):
        return MemoryTokens()
    keys = config.token_keys(env) or ([_own_key(data_dir)] if config.state == "embedded" else [])
    try:
        return PostgresTokens(pool, Seal(keys))
    except ValueError as error:
        what = str(error) if keys else "there is no key to seal tokens with"
        mend = "set HUB_TOKEN_KEY to what `openssl rand -base64 32` gives, the same in every process"
        raise ConfigError([Problem(config.source.where(("token_key",)), what, mend)]) from None


def give(connectors: Mapping[str, Connector], tokens: TokenStore) -> None:
    """Let the connectors that may be authorized find their tokens in this store."""
    for connector in connectors.values():
        if isinstance(connector, Authorized):
            connector.tokens = tokens


def _own_key(data_dir: Path) -> str:
    """The key of the embedded state: a file beside its directory, so that a copy of the one does not hold the other."""
    directory = data_dir.expanduser().resolve()
    path = directory.with_name(f"{directory.name}.key")
    if not path.exists():
        with NamedTemporaryFile("w", dir=path.parent, prefix=path.name) as made:  # readable by its owner only
            made.write(secrets.token_urlsafe(32))
            made.flush()
            os.fsync(made.fileno())
            with suppress(FileExistsError):  # another process was first, and its key is whole
                os.link(made.name, path)
    return path.read_text().strip()
