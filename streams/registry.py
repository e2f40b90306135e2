"""Schemas on the log: the registry that gives them ids, and the codec that writes and reads values with them.

The registry is the hub's own table, or one that speaks the Confluent REST API. Subjects are the schemas' full names
(`hub.Event`), since many topics share one schema. Either way a schema is refused that cannot read what any earlier version
of its subject wrote.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.resources import files
from typing import Any, NamedTuple, Protocol

import asyncpg

from schemas import wire
from schemas.wire import Schema, UnknownSchemaError, WireError
from streams.registry_confluent import ConfluentRegistry
from streams.registry_postgres import TableRegistry

__all__ = [
    "Codec",
    "ConfluentRegistry",
    "Registry",
    "TableRegistry",
    "UnknownSchemaError",
    "WireError",
    "open_registry",
    "shipped_schemas",
    "subject_of",
]


class Registry(Protocol):
    """Gives schemas ids that never change."""

    async def register(self, subject: str, schema: Schema) -> int:
        """The id of the schema, new or not. Raises IncompatibleSchemaError."""

    async def schema(self, schema_id: int) -> Schema:
        """The schema with this id. Raises UnknownSchemaError."""

    async def close(self) -> None:
        """Release connections."""


def open_registry(url: str | None, pool: asyncpg.Pool) -> Registry:
    """The registry at an `http(s)://` address, or the hub's own table when there is none."""
    return ConfluentRegistry(url) if url else TableRegistry(pool)


class _Writer(NamedTuple):
    """A schema that values were written with, what the hub calls it, and how to read it."""

    name: str
    schema: Schema
    reader: Schema | None


def shipped_schemas() -> dict[str, Schema]:
    """The schemas that the hub ships, by file name without its ending: `event`, `golden`, …"""
    found = (path for path in files("schemas").iterdir() if path.name.endswith(".avsc"))
    return {path.name.removesuffix(".avsc"): json.loads(path.read_text()) for path in found}


def subject_of(schema: Schema) -> str:
    """The subject that a record schema is registered under: its full name."""
    return f"{schema['namespace']}.{schema['name']}" if schema.get("namespace") else str(schema["name"])


class Codec:
    """Encodes and decodes with schemas that a registry knows; made by `prepare`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._own: dict[str, tuple[int, Schema]] = {}
        self._names: dict[str, str] = {}
        self._writers: dict[int, _Writer] = {}

    @classmethod
    async def prepare(cls, registry: Registry, schemas: Mapping[str, Schema] | None = None) -> "Codec":
        """Register every schema (the shipped ones by default). Raises IncompatibleSchemaError."""
        self = cls(registry)
        for name, schema in sorted((shipped_schemas() if schemas is None else schemas).items()):
            subject, parsed = subject_of(schema), wire.parsed(schema)
            schema_id = await registry.register(subject, schema)
            self._own[name], self._names[subject] = (schema_id, parsed), name
            self._writers[schema_id] = _Writer(name, parsed, None)
        return self

    def encode(self, name: str, datum: dict[str, Any]) -> bytes:
        """A framed value of the named schema. Raises WireError when the datum does not fit it."""
        schema_id, schema = self._own[name]
        return wire.encode(schema_id, schema, datum)

    def written(self, name: str) -> tuple[int, Schema]:
        """The id and the schema that values of the named schema are written with."""
        return self._own[name]

    def decode(self, value: bytes | None) -> tuple[str, dict[str, Any]]:
        """The schema's name and the datum, as the hub's present schema sees it.

        Raises WireError; with reason `unknown schema id` when `learn` has not met the id or could not find it.
        """
        schema_id = wire.schema_id(value)
        if (writer := self._writers.get(schema_id)) is None or value is None:
            raise WireError("unknown schema id", f"{schema_id} is not one of the hub's schemas")
        return writer.name, wire.decode(value, writer.schema, writer.reader)

    async def learn(self, values: Iterable[bytes | None]) -> None:
        """Ask the registry for the schemas of these values that are not known yet: older versions, or another worker's.

        Values that are not framed, ids the registry does not know and schemas that are not the hub's are left for
        `decode` to refuse. Raises the registry's connection errors.
        """
        ids = set()
        for head in {value[: wire.HEAD_BYTES] for value in values if value}:
            with suppress(WireError):
                ids.add(wire.schema_id(head))
        for schema_id in sorted(ids - self._writers.keys()):
            with suppress(UnknownSchemaError):
                self._remember(schema_id, await self._registry.schema(schema_id))

    def _remember(self, schema_id: int, schema: Schema) -> None:
        name = self._names.get(subject_of(schema))
        if name is not None:
            self._writers[schema_id] = _Writer(name, wire.parsed(schema), self._own[name][1])
