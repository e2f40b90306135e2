"""Wiring: from a configuration to an open hub. What a worker hosts is put together in hub/edge/assembly.py."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import stamina
import structlog

from connectors.kit.tokens import TokenStore
from connectors.registry import CONNECTORS
from hub.config import Config, load
from hub.config.loading import loads
from hub.config.models import Audit
from hub.drift import Threshold
from hub.edge import embedded, tokens
from hub.edge.credentials import Credentials
from hub.model import Model
from streams import budgets
from streams.calling import bounded
from streams.context import Context
from streams.faults import INFRASTRUCTURE
from streams.log import open_log
from streams.registry import Codec, open_registry
from streams.steward import OBJECT, SYSTEM
from streams.topics import STATIC, Topic, changes_topic, golden_topic, notices_topic

MANIFESTS = {name: manifest for name, (manifest, _) in CONNECTORS.items()}
_SCHEMA_LOCK = 0x68756201
CLOSE_SECONDS = 10.0
POOL = 24

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Hub:
    """An open hub: everything the commands and the web need."""

    config: Config
    context: Context
    state_url: str
    log_url: str


@asynccontextmanager
async def open_hub(
    config: Config,
    *,
    data_dir: Path = embedded.DEFAULT_DATA_DIR,
    connect: bool = True,
    env: Mapping[str, str] = os.environ,
    patience: float = 0.0,
) -> AsyncIterator[Hub]:
    """Open state, log, codec and (with `connect`) every connector; close them all at the end.

    Starts the embedded PostgreSQL where the configuration asks for it. Waits up to `patience` seconds for a database or
    a log that does not answer yet.
    """
    async with AsyncExitStack() as stack:
        attempts = None if patience else 1
        async for attempt in stamina.retry_context(
            INFRASTRUCTURE, attempts=attempts, timeout=patience or None, wait_max=2.0
        ):
            with attempt:
                async with AsyncExitStack() as opening:
                    hub = await _open(config, data_dir, connect, env, opening)
                    stack.push_async_exit(opening.pop_all())
        yield hub


async def _open(config: Config, data_dir: Path, connect: bool, env: Mapping[str, str], stack: AsyncExitStack) -> Hub:
    state_url = await _state(config, data_dir, stack)
    log_url = state_url if config.log == "embedded" else config.log
    credentials = Credentials(config, env, await stack.enter_async_context(budgets.shared(state_url)))
    connectors = {s: credentials.make(s) for s, system in config.systems.items() if system.objects and connect}
    standing = sum(len(connector.streams()) for connector in connectors.values())  # each may hold its stream's lock
    pool = await asyncpg.create_pool(state_url, min_size=1, max_size=POOL + standing, command_timeout=120)
    stack.push_async_callback(pool.close)
    await _prepare_state(pool)
    events = open_log(log_url, pool)
    stack.push_async_callback(events.close)
    registry = open_registry(env.get("HUB_SCHEMA_REGISTRY"), pool)
    stack.push_async_callback(registry.close)
    await events.ensure_topics(topics(config))
    codec = await Codec.prepare(registry)
    context = Context(
        config.model, pool, events, codec, connectors, config.patience, credentials, config.watch, data_dir,
        config.deployment, model_reader(config.path),
    )  # fmt: skip
    context.most_records = int(env.get("HUB_WHATIF_RECORDS") or context.most_records)
    stack.push_async_callback(_close, context)
    if connect:
        credentials.give(connectors, tokens.store(config, pool, data_dir, env))
    return Hub(config, context, state_url, log_url)


def topics(config: Config) -> list[Topic]:
    """Every topic that this configuration uses."""
    changes = [changes_topic(s, o) for s, o in config.model.mappings] + [changes_topic(SYSTEM, OBJECT)]
    return [*STATIC, *changes, *map(notices_topic, config.systems), *map(golden_topic, config.entities)]


def read_config(path: Path, env: Mapping[str, str] = os.environ) -> Config:
    """The configuration in a file. Raises ConfigError with every problem."""
    return load(path, MANIFESTS, env)


def model_reader(path: Path) -> Callable[[dict[str, Any]], Model]:
    """Reads the model of a deployed version's document; files are found beside the present one. Where its log and its state
    were does not matter. Raises ConfigError."""

    def load_model(document: dict[str, Any]) -> Model:
        kept = {name: said for name, said in document.items() if name not in ("log", "state", "token_key")}
        return loads(orjson.dumps(kept).decode(), MANIFESTS, {}, path).model

    return load_model


def read_model(path: Path) -> Model:
    """The model of the configuration in a file, for a process that does nothing but fold."""
    return read_config(path).model


async def _state(config: Config, data_dir: Path, stack: AsyncExitStack) -> str:
    if config.state != "embedded":
        return config.state
    server = await embedded.start_async(data_dir)
    stack.callback(server.leave)
    return await server.create("hub")


@asynccontextmanager
async def stored_tokens(
    config: Config, data_dir: Path = embedded.DEFAULT_DATA_DIR, env: Mapping[str, str] = os.environ
) -> AsyncIterator[TokenStore | None]:
    """The store of tokens alone, with the state it is in; None where no system is authorized by OAuth."""
    if not tokens.clients(config, env):
        yield None
        return
    async with AsyncExitStack() as stack:
        pool = await asyncpg.create_pool(await _state(config, data_dir, stack), min_size=1, command_timeout=120)
        stack.push_async_callback(pool.close)
        await _prepare_state(pool)
        yield tokens.store(config, pool, data_dir, env)


async def _prepare_state(pool: asyncpg.Pool) -> None:
    """Create what is missing, unless this very schema was created before: even `if not exists` takes locks that would
    wait for, and deadlock with, the transactions of a hub at work."""
    sql = files("streams").joinpath("state.sql").read_text()
    mark = hashlib.blake2b(sql.encode(), digest_size=16).hexdigest()
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("select pg_advisory_xact_lock($1)", _SCHEMA_LOCK)
        if await conn.fetchval("select obj_description(to_regnamespace('hub'), 'pg_namespace')") == mark:
            return
        await conn.execute("set local client_min_messages = warning")
        await conn.execute(sql)
        await conn.execute(f"comment on schema hub is '{mark}'")


async def _close(context: Context) -> None:
    """Close every connector; one that hangs or breaks keeps none of the others from it."""
    closing = (bounded(c.close(), CLOSE_SECONDS, f"closing {s}") for s, c in context.connectors.items())
    for outcome in await asyncio.gather(*closing, return_exceptions=True):
        if isinstance(outcome, BaseException):
            log.warning("a connector did not close", error=f"{type(outcome).__name__}: {outcome}")


def threshold_of(config: Config, system: str) -> Threshold:
    """From how many deletes of a system on a person is asked."""
    said = (config.systems[system].audit if system in config.systems else None) or Audit()
    return Threshold(said.wait_records, said.wait_percent / 100)
