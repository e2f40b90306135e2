"""Configuration: hub.yaml, read and checked as a whole. Pure but for reading the file; it connects to nothing.

`load` gives a Config or raises ConfigError with every problem at once, each with file:line:column and a suggestion.
Secrets stay references (`${NAME}`, `file:path`) until `Config.resolve`.
"""

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path as File
from typing import Any

import orjson
import phonenumbers

from hub.config.entities import build, canonical, merged
from hub.config.manifest import Manifests
from hub.config.mappings import Draft, check_distinct, complete, drafts
from hub.config.models import Audit, Root, Watch
from hub.config.rules import Known
from hub.config.secrets import UnresolvedError, referenced, resolve
from hub.config.settings import check_settings, resolved
from hub.config.shape import shape
from hub.config.source import Source, closest, read, shown
from hub.entity import Entity
from hub.errors import ConfigError, Problem
from hub.mapping import FieldMap, ObjectMap
from hub.model import Model
from hub.patience import Patience
from hub.projection import STEWARD

LOGS = ("embedded", "postgresql://", "postgres://", "kafka://")
STATES = ("embedded", "postgresql://", "postgres://")


@dataclass(frozen=True, slots=True)
class SystemConfig:
    """One configured system; its settings still hold references, not secrets."""

    name: str
    connector: str
    settings: Mapping[str, Any]
    objects: Mapping[str, ObjectMap]
    audit: Audit | None = None


@dataclass(frozen=True)
class Config:
    """A valid configuration.

    log, state   "embedded" or a URL, with references resolved: print them only through `hidden` of hub.config.secrets
    token_key    references of the keys that seal stored tokens, newest first; see `token_keys`
    version      identifies everything that influences the fold: entities, rules and mappings
    warnings     what works, but is probably not meant
    """

    path: File
    version: str
    systems: Mapping[str, SystemConfig]
    entities: Mapping[str, Entity]
    manifests: Manifests = field(repr=False)
    log: str = field(default="embedded", repr=False)
    state: str = field(default="embedded", repr=False)
    token_key: tuple[str, ...] = ()
    phone_region: str = "US"
    patience: Patience = field(default_factory=Patience)
    watch: Watch = field(default_factory=Watch)
    warnings: tuple[Problem, ...] = ()
    source: Source = field(default_factory=lambda: Source("hub.yaml"), repr=False)

    @cached_property
    def deployment(self) -> str:
        """Identifies all that matters to what was decided and what is written: `version`, and where records go. Addresses,
        limits, patience and audits do not count: they may change at any start."""
        written = [_written(mapping) for mapping in self.model.mappings.values()]
        systems = [(name, system.connector) for name, system in self.systems.items()]
        return _digest([self.version, systems, written])

    @cached_property
    def document(self) -> dict[str, Any]:
        """What is written in the file, without its comments. Secrets are in it by reference only, or loading would have
        refused it."""
        document: dict[str, Any] = orjson.loads(orjson.dumps(self.source.data, option=orjson.OPT_NON_STR_KEYS))
        return document

    def mappings(self, entity: str) -> list[ObjectMap]:
        """Every object, of any system, that holds records of the entity; in the order of the file."""
        return [m for system in self.systems.values() for m in system.objects.values() if m.entity.name == entity]

    @cached_property
    def model(self) -> Model:
        """The entities and mappings as the stages use them."""
        mappings = {(s.name, name): m for s in self.systems.values() for name, m in s.objects.items()}
        return Model(self.entities, mappings, self.version)

    def resolve(self, system: str, env: Mapping[str, str] = os.environ) -> dict[str, Any]:
        """The system's settings, defaults added and secrets resolved. Raises ConfigError naming what is not set."""
        settings, problems = self._resolved(system, env)
        if problems:
            raise ConfigError(problems)
        return settings

    def token_keys(self, env: Mapping[str, str] = os.environ) -> list[str]:
        """The keys that seal stored tokens, resolved: the configured ones, else HUB_TOKEN_KEY's; empty where there is
        none. Raises ConfigError naming what is not set."""
        given = self.token_key or (("${HUB_TOKEN_KEY}",) if env.get("HUB_TOKEN_KEY") else ())
        try:
            return [str(resolve(reference, env, self.path.parent)) for reference in given]
        except UnresolvedError as error:
            raise ConfigError([_unresolved(self.source, ("token_key",), str(error))]) from None

    def unresolved(self, env: Mapping[str, str] = os.environ) -> list[Problem]:
        """Every reference, in any system, to a variable that is not set or a file that cannot be read."""
        return [problem for system in self.systems for problem in self._resolved(system, env)[1]]

    def _resolved(self, system: str, env: Mapping[str, str]) -> tuple[dict[str, Any], list[Problem]]:
        config = self.systems[system]
        manifest = self.manifests[config.connector]
        settings, reasons = resolved(system, config.settings, manifest, env, self.path.parent)
        return settings, [_unresolved(self.source, ("systems", system, key), why) for key, why in reasons.items()]


def load(path: File | str, manifests: Manifests, env: Mapping[str, str] = os.environ) -> Config:
    """The configuration of a file. Raises ConfigError with all problems of it."""
    path = File(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        suggestion = "hub init --from postgresql://... writes one" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError([Problem(str(path), f"cannot be read: {reason}", suggestion)]) from None
    return loads(text, manifests, env, path)


def loads(
    text: str, manifests: Manifests, env: Mapping[str, str] = os.environ, path: File | str = "hub.yaml"
) -> Config:
    """`load` of a text; `path` names it in problems, and files are found relative to it."""
    path = File(path)
    source = read(text, str(path))
    root = shape(source, Root)
    log, state = (_place(source, key, getattr(root, key), env, path.parent) for key in ("log", "state"))
    if root.phone_region not in phonenumbers.SUPPORTED_REGIONS:
        what = f"{shown(root.phone_region)} is not a region"
        source.problem(("phone_region",), what, "two capital letters of ISO 3166, as US, GB or DE")
    if not all(referenced(key) for key in root.token_key):
        mend = "token_key: ${HUB_TOKEN_KEY}, or file:/path/of/a/file"
        source.problem(("token_key",), "token_key is a secret and must not be written here", mend)
    found = _drafts(source, root, manifests)
    with _importable(path.parent):
        entities = _entities(source, root, found)
    objects = [complete(source, d, entities[d.entity], found, root.phone_region) for d in found]
    check_distinct(source, objects)
    source.refuse()
    return Config(
        path=path,
        version=_digest([entity.version for _, entity in sorted(entities.items())]),
        systems={name: _system(name, said.connector, root, objects) for name, said in root.systems.items()},
        entities=entities,
        manifests=manifests,
        log=log,
        state=state,
        token_key=tuple(root.token_key),
        phone_region=root.phone_region,
        patience=Patience(**root.patience.model_dump()),
        watch=root.watch,
        warnings=tuple(source.warnings),
        source=source,
    )


def _place(source: Source, key: str, value: str, env: Mapping[str, str], directory: File) -> str:
    """Where the log or the state is kept, with its references resolved."""
    known = LOGS if key == "log" else STATES
    if "://" in value and not (referenced(value) or value.startswith("kafka://")):
        source.problem((key,), f"{key} must not hold a password", f"{key}: ${{HUB_{key.upper()}_URL}}")
        return value
    try:
        place = str(resolve(value, env, directory))
    except UnresolvedError as error:
        source.problems.append(_unresolved(source, (key,), str(error)))
        return value
    if place != "embedded" and not place.startswith(known[1:]):
        what = f"{key} is none of {', '.join(known)}" if place != value else f"{key}: {shown(value)} is not known"
        source.problem((key,), what, closest(value, known))
    return place


def _drafts(source: Source, root: Root, manifests: Manifests) -> list[Draft]:
    found: list[Draft] = []
    names = list(dict.fromkeys((*canonical(), *root.entities)))
    for name, said in root.systems.items():
        if name == STEWARD:
            source.problem(("systems", name), f"{name} is the hub's own name", "give the system another", key=True)
        manifest = manifests.get(said.connector)
        if manifest is None:
            what = f"the connector {shown(said.connector)} is not known"
            source.problem(("systems", name, "connector"), what, closest(said.connector, manifests))
            continue
        check_settings(source, name, said.model_extra or {}, manifest)
        found += drafts(source, name, said, manifest, names)
    return found


def _entities(source: Source, root: Root, found: Sequence[Draft]) -> dict[str, Entity]:
    """The entities that any object holds, and those that hub.yaml speaks of."""
    names = dict.fromkeys((*root.entities, *(draft.entity for draft in found)))
    every = tuple(dict.fromkeys((*canonical(), *root.entities)))
    entities = {}
    for name in names:
        model = merged(name, root.entities.get(name))
        known = Known(tuple(root.systems), _claimants(found, name), every)
        mapped = [_described(draft) for draft in found if draft.entity == name]
        version = _digest([name, model.model_dump(), root.phone_region, mapped])
        entities[name] = build(source, name, model, known, version)
    return entities


def _claimants(found: Sequence[Draft], entity: str) -> dict[str, list[str]]:
    """By field, the systems that say something of it, in the order of the file."""
    claimants: dict[str, list[str]] = {}
    for draft in found:
        if draft.entity != entity:
            continue
        usual = draft.usual.constants if draft.usual else {}
        said = [name for name, entry in draft.fields.items() if entry.direction != "out"]
        for name in (*said, *usual, *draft.model.constants):
            systems = claimants.setdefault(name, [])
            if draft.system not in systems:
                systems.append(draft.system)
    return claimants


def _described(draft: Draft) -> list[Any]:
    """What of a mapping influences the claims that are read through it."""
    usual = dict(draft.usual.constants) if draft.usual else {}
    fields = [_described_field(entry, draft) for entry in draft.fields.values()]
    return [draft.system, draft.object, usual | draft.model.constants, fields]


def _described_field(entry: FieldMap, draft: Draft) -> list[Any]:
    own = draft.model.fields.get(entry.name)
    codec = own.codec if own else entry.codec is not None
    return [entry.name, entry.natives, entry.direction, entry.object, entry.identifies, dict(entry.options), codec]


def _written(mapping: ObjectMap) -> list[Any]:
    """What of a mapping decides which records are written there, besides what influences claims."""
    fields = [(field.name, field.direction, field.unique) for field in mapping.fields]
    where = [mapping.system, mapping.object, mapping.entity.name, mapping.create, mapping.on_delete, mapping.when]
    return [*where, mapping.marketing, mapping.requires, mapping.constants, fields]


def _system(name: str, connector: str, root: Root, objects: Sequence[ObjectMap]) -> SystemConfig:
    mine = {mapping.object: mapping for mapping in objects if mapping.system == name}
    said = root.systems[name]
    return SystemConfig(name, connector, dict(said.model_extra or {}), mine, said.audit)


def _digest(parts: Any) -> str:
    return hashlib.blake2b(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS, default=str), digest_size=8).hexdigest()


def _unresolved(source: Source, path: tuple[str, ...], why: str) -> Problem:
    return Problem(source.where(path), f"{path[-1]}: {why}", "export it, or put it into the environment of the service")


@contextmanager
def _importable(directory: File) -> Iterator[None]:
    """Modules that stand beside hub.yaml can be named in `python` rules."""
    sys.path.insert(0, str(directory.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(directory.resolve()))
