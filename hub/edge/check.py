"""`hub check`: is the configuration right, can every system be reached, and who owns what.

Exit codes: 0 all is well (warnings may remain), 1 the configuration is right but a system, the log or the state cannot be
used as configured, 2 the configuration is wrong and nothing was connected to. With `--json` the command prints
`Checked.to_json()`:

    {"ok": bool, "exit_code": 0 | 1 | 2, "path": "hub.yaml", "version": "..." or null,
     "problems": [{"where", "what", "suggestion"}], "warnings": [the same],
     "systems": [{"name", "connector", "objects": [{"object", "entity", "reads", "writes", "creates", "fields": [name]}],
                  "owns": {entity: [field]}, "findings": [{"ok", "what", "suggestion"}]}],
     "rules": {entity: {field: rule}}, "places": [{"ok", "what", "suggestion"}]}
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from connectors.kit.connector import Authorized, Factory, Finding, Manifest
from connectors.kit.tokens import TokenStore
from hub.config import Config, SystemConfig, load
from hub.config.secrets import hidden
from hub.entity import Entity
from hub.errors import ConfigError, HubError, Problem
from hub.mapping import ObjectMap, writable
from streams.faults import INFRASTRUCTURE

Connectors = Mapping[str, tuple[Manifest, Factory]]
Tokens = Callable[[Config], AbstractAsyncContextManager[TokenStore | None]]

SECONDS = 60.0
UNREADABLE: tuple[type[BaseException], ...] = (*INFRASTRUCTURE, RuntimeError, ValueError, asyncpg.PostgresError)
SOUND, UNUSABLE, WRONG = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found. `findings` by system, and of the log and the state; none where nothing was connected to."""

    path: Path
    config: Config | None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    findings: Mapping[str, Sequence[Finding]] | None = None
    places: Sequence[Finding] = ()

    @property
    def exit_code(self) -> int:
        """0, 1 or 2, as the module's docstring says."""
        if self.problems or self.config is None:
            return WRONG
        told = [*self.places, *(finding for found in (self.findings or {}).values() for finding in found)]
        return SOUND if all(finding.ok for finding in told) else UNUSABLE

    def to_json(self) -> dict[str, Any]:
        """The shape that the module's docstring shows."""
        systems = self.config.systems.values() if self.config else ()
        return {
            "ok": self.exit_code == SOUND,
            "exit_code": self.exit_code,
            "path": str(self.path),
            "version": self.config.version if self.config else None,
            "problems": [asdict(problem) for problem in self.problems],
            "warnings": [asdict(problem) for problem in self.warnings],
            "systems": [self._system(system) for system in systems],
            "rules": {name: _rules(entity) for name, entity in (self.config.entities if self.config else {}).items()},
            "places": [asdict(finding) for finding in self.places],
        }

    def _system(self, system: SystemConfig) -> dict[str, Any]:
        assert self.config is not None, "a system comes from a configuration"
        return {
            "name": system.name,
            "connector": system.connector,
            "objects": [_object(mapping) for mapping in system.objects.values()],
            "owns": owns(self.config, system.name),
            "findings": [asdict(finding) for finding in (self.findings or {}).get(system.name, ())],
        }


async def check(
    path: Path | str,
    connectors: Connectors,
    *,
    offline: bool = False,
    env: Mapping[str, str] = os.environ,
    tokens: Tokens = lambda config: nullcontext(),
) -> Checked:
    """Check a configuration, and unless `offline` every system in it, with what `tokens` opens. Never raises for what it
    reports."""
    path = Path(path)
    try:
        config = load(path, {name: manifest for name, (manifest, _) in connectors.items()}, env)
    except ConfigError as error:
        return Checked(path, None, problems=tuple(error.problems))
    warnings = (*config.warnings, *_doubts(config))
    if offline:
        return Checked(path, config, warnings=(*warnings, *config.unresolved(env)))
    async with AsyncExitStack() as stack:
        store, trouble = await _opened(tokens(config), stack)
        reached = (_reach(config, system, connectors, env, store) for system in config.systems.values())
        found = await asyncio.gather(*reached)
    told = [trouble, *await asyncio.gather(_state(config.state), _log(config.log))]
    places = [finding for finding in told if finding]
    return Checked(path, config, (), warnings, dict(zip(config.systems, found, strict=True)), places)


def owns(config: Config, system: str) -> dict[str, list[str]]:
    """By entity, the fields for which a system is believed first."""
    owned = {
        name: [f.name for f in entity.fields.values() if f.rule.kind == "truth" and f.rule.systems[:1] == (system,)]
        for name, entity in config.entities.items()
    }
    return {name: fields for name, fields in owned.items() if fields}


def show(checked: Checked, console: Console) -> None:
    """What was found, for people."""
    for problem in checked.problems:
        console.print(f"[red]error[/red]    {escape(str(problem))}")
    for problem in checked.warnings:
        console.print(f"[yellow]warning[/yellow]  {escape(str(problem))}")
    if checked.config is None:
        return
    console.print(_flows(checked.config))
    for entity in checked.config.entities.values():
        others = [f"{name} {rule}" for name, rule in _rules(entity).items() if not rule.startswith("truth")]
        if others:
            console.print(escape(f"{entity.name}, decided otherwise: {', '.join(others)}"))
    for system, findings in (checked.findings or {}).items():
        _show_findings(system, findings, console)
    _show_findings("hub", checked.places, console)


def _show_findings(name: str, findings: Sequence[Finding], console: Console) -> None:
    for finding in findings:
        mark = "[green]ok[/green]      " if finding.ok else "[red]missing[/red] "
        mend = f" ({finding.suggestion})" if finding.suggestion and not finding.ok else ""
        console.print(f"{mark} {escape(f'{name}: {finding.what}{mend}')}")


def _flows(config: Config) -> Grid:
    """One row per object: what is read of it, what is written to it, and what its system owns."""
    grid = Grid("system", "object", "entity", "read", "written", "created", "owns")
    for system in config.systems.values():
        owned = owns(config, system.name)
        for mapping in system.objects.values():
            row = _object(mapping)
            mine = [name for name in row["fields"] if name in owned.get(mapping.entity.name, ())]
            flags = ("yes" if row[key] else "-" for key in ("reads", "writes", "creates"))
            grid.add_row(
                *map(escape, (system.name, mapping.object, mapping.entity.name, *flags, ", ".join(mine) or "-"))
            )
    return grid


def _object(mapping: ObjectMap) -> dict[str, Any]:
    writes = bool(writable(mapping))
    return {
        "object": mapping.object,
        "entity": mapping.entity.name,
        "reads": any(field.direction != "out" for field in mapping.fields),
        "writes": writes,
        "creates": writes and mapping.create,
        "fields": [field.name for field in mapping.fields if not field.identifies],
    }


def _rules(entity: Entity) -> dict[str, str]:
    return {name: str(field.rule) for name, field in entity.fields.items()}


async def _opened(
    opening: AbstractAsyncContextManager[TokenStore | None], stack: AsyncExitStack
) -> tuple[TokenStore | None, Finding | None]:
    """The store of tokens, or what is wrong with it."""
    try:
        return await stack.enter_async_context(opening), None
    except ConfigError as error:
        problem = error.problems[0]
        return None, Finding(False, f"{problem.where}: {problem.what}", problem.suggestion)
    except UNREADABLE as error:
        what = f"stored tokens cannot be read: {type(error).__name__}"
        return None, Finding(False, what, "look at state and token_key")


async def _reach(
    config: Config, system: SystemConfig, connectors: Connectors, env: Mapping[str, str], store: TokenStore | None
) -> Sequence[Finding]:
    """The least that proves a system usable. A connector's own check does not raise; what does is a finding as well."""
    try:
        settings = config.resolve(system.name, env)
    except ConfigError as error:
        return [Finding(False, f"{problem.where}: {problem.what}", problem.suggestion) for problem in error.problems]
    try:
        connector = connectors[system.connector][1](system.name, settings, system.objects)
        if store is not None and isinstance(connector, Authorized):
            connector.tokens = store
        try:
            async with asyncio.timeout(SECONDS):
                return await connector.check()
        finally:
            await connector.close()
    except TimeoutError:
        return [Finding(False, f"no answer within {SECONDS:.0f} seconds", "is the address right, and is it reachable?")]
    except HubError as error:
        return [Finding(False, str(error))]
    except Exception as error:  # its text could hold what the connector was given
        return [Finding(False, f"the check itself failed: {type(error).__name__}", "this is a fault of the connector")]


async def _state(state: str) -> Finding | None:
    if state == "embedded":
        return None
    try:
        conn = await asyncpg.connect(state, timeout=10)
        await conn.close()
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return Finding(
            False, f"the state at {hidden(state)} cannot be reached: {type(error).__name__}", "look at state"
        )
    return Finding(True, f"the state at {hidden(state)} can be reached")


async def _log(log: str) -> Finding | None:
    if not log.startswith("kafka://"):
        return None if log == "embedded" else await _state(log)
    client = AIOKafkaClient(bootstrap_servers=log.removeprefix("kafka://").strip("/"), request_timeout_ms=10_000)
    try:
        await client.bootstrap()
    except (KafkaError, OSError, ValueError) as error:
        return Finding(
            False, f"the log at {log} cannot be reached: {type(error).__name__}", "hub kafka up starts one here"
        )
    finally:
        await client.close()
    return Finding(True, f"the log at {log} can be reached")


def _doubts(config: Config) -> Iterable[Problem]:
    """What is valid, but will surprise."""
    for entity in config.entities.values():
        mappings = config.mappings(entity.name)
        systems = list(dict.fromkeys(mapping.system for mapping in mappings))
        where = config.source.where(("systems",), key=True)
        if len(systems) == 1:
            yield Problem(
                where, f"only {systems[0]} has {entity.name}: it flows nowhere", f"map {entity.name} elsewhere"
            )
        elif entity.match:
            yield from (_unmatched(config, entity, mapping) for mapping in mappings if not _matches(entity, mapping))
        marketing = next((mapping for mapping in mappings if mapping.marketing), None)
        if marketing and not any(_says(m, "consent") for m in mappings if m is not marketing):
            what = f"{marketing.system} gets nobody new, for no other system tells of consent"
            yield Problem(_place(config, marketing), what, "map consent in another system")


def _says(mapping: ObjectMap, field: str) -> bool:
    read = {entry.name for entry in mapping.fields if entry.direction != "out"}
    return field in read or field in mapping.constants


def _matches(entity: Entity, mapping: ObjectMap) -> bool:
    """Whether records of this object can be known as those of another system."""
    return any(_says(mapping, name) for name in entity.match) or any(entry.identifies for entry in mapping.fields)


def _unmatched(config: Config, entity: Entity, mapping: ObjectMap) -> Problem:
    what = f"nothing tells which {entity.name} of another system a record here is: each counts as a new one"
    return Problem(_place(config, mapping), what, f"map {' or '.join(entity.match)}, or an id with identifies")


def _place(config: Config, mapping: ObjectMap) -> str:
    return config.source.where(("systems", mapping.system, "objects", mapping.object), key=True)
