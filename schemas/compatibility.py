"""Schema evolution: whether a new schema can read everything that its predecessors wrote (BACKWARD_TRANSITIVE).

The rules are Avro's own, checked by the `avro` package.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import avro.compatibility
import avro.errors
import avro.schema


class IncompatibleSchemaError(ValueError):
    """The new schema could not read all that is on the log."""


def problems(new: Mapping[str, Any], olds: Iterable[Mapping[str, Any]]) -> list[str]:
    """What data written with each of the older schemas the new one could not read; empty when it reads all.

    Versions are counted from 1 in the order given. Raises ValueError when a schema is not valid Avro.
    """
    reader = _parse(new)
    found = []
    for version, old in enumerate(olds, 1):
        result = avro.compatibility.ReaderWriterCompatibilityChecker().get_compatibility(reader, _parse(old))
        if result.compatibility is not avro.compatibility.SchemaCompatibilityType.compatible:
            found += [f"version {version}: {message}" for message in sorted(result.messages)]
    return found


def require_compatible(subject: str, new: Mapping[str, Any], olds: Iterable[Mapping[str, Any]]) -> None:
    """Raises IncompatibleSchemaError that lists every problem."""
    if found := problems(new, olds):
        raise IncompatibleSchemaError(f"schema {subject} cannot read what older versions wrote: {'; '.join(found)}")


def _parse(schema: Mapping[str, Any]) -> Any:
    try:
        return avro.schema.parse(json.dumps(schema))
    except avro.errors.AvroException as error:
        raise ValueError(f"not an Avro schema: {error}") from error
