"""Wiring: the composition root. From a configuration to an open hub, and from that to running workers."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import asyncpg
import stamina
import structlog

from connectors.kit.tokens import TokenStore
from connectors.registry import CONNECTORS
from hub.config import Config, load
from hub.config.models import Audit
from hub.drift import Threshold
from hub.edge import embedded, tokens
from hub.edge.credentials import Credentials
from hub.model import Model
from streams import budgets, plan, project, refetch, services
from streams.app import StageApp, Workers, stage_app
from streams.auditing import Plan
from streams.calling import bounded
from streams.capture import Capture
from streams.context import Context
from streams.deliver import Deliverer
from streams.faults import INFRASTRUCTURE
from streams.ledger import change_topics
from streams.log import open_log
from streams.registry import Codec, open_registry
from streams.services import Loop
from streams.steward import OBJECT, SYSTEM
from streams.topics import STATIC, Topic, changes_topic, golden_topic, notices_topic
from streams.watch import Watcher

MANIFESTS = {name: manifest for name, (manifest, _) in CONNECTORS.items()}
STAGES = ("capture", "refetch", "project", "plan", "deliver")
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
        config.deployment,
    )  # fmt: skip
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


@dataclass(slots=True)
class Worker:
    """The stages and services of one process, not started yet."""

    hub: Hub
    workers: Workers
    captures: list[Capture]
    deliverers: list[Deliverer]
    watcher: Watcher | None = None


def assemble(hub: Hub, stages: Sequence[str] = STAGES) -> Worker:
    """A worker that hosts these stages."""
    context = hub.context
    captures = [Capture(context, s, stream) for s, c in context.connectors.items() for stream in c.streams()]
    captures = captures if "capture" in stages else []
    targets = {target for entity in context.model.entities for target in context.model.targets(entity)}
    deliverers = [Deliverer(context, t) for t in sorted(targets)] if "deliver" in stages else []
    loops = services.capturing(captures) + (services.delivering(context, deliverers) if deliverers else [])
    loops += services.auditing(context, audit_plans(hub.config)) if captures else []
    watcher = Watcher(context) if captures else None
    loops += [services.gate(context), Loop("watch", watcher.forever)] if watcher else []
    loops += [services.upkeep(context), services.beating()]
    return Worker(hub, Workers(_apps(hub, stages), loops), captures, deliverers, watcher)


def audit_plans(config: Config) -> list[Plan]:
    """When each system is audited: where `audit` is configured, and where deletes are found by scans."""
    plans = []
    for name, system in config.systems.items():
        said = system.audit or Audit(hours=0)
        scans = [one for one, mapping in system.objects.items() if mapping.deletes == "scan"]
        hours = (said.hours * 3_600, said.scan_hours * 3_600)
        plans.append(Plan(name, list(system.objects), scans, said.sample, *hours, threshold_of(config, name)))
    return [plan for plan in plans if plan.scans or plan.sample_seconds]


def threshold_of(config: Config, system: str) -> Threshold:
    """From how many deletes of a system on a person is asked."""
    said = (config.systems[system].audit if system in config.systems else None) or Audit()
    return Threshold(said.wait_records, said.wait_percent / 100)


def _apps(hub: Hub, stages: Sequence[str]) -> list[StageApp]:
    context = hub.context
    apps = []
    if "project" in stages:
        apps.append(stage_app(project.STAGE, hub.log_url, change_topics(context), project.Project(context)))
    if "plan" in stages:
        golden = [golden_topic(entity).name for entity in context.model.entities]
        apps.append(stage_app(plan.STAGE, hub.log_url, golden, plan.Plan(context)))
    if "refetch" in stages:
        for system in context.connectors:
            handler = refetch.Refetch(context, system)
            apps.append(stage_app(f"{refetch.STAGE}-{system}", hub.log_url, [notices_topic(system).name], handler))
    return apps
