"""The wire format of every value on the log: Confluent's framing around an Avro body. Pure; no registry is asked here.

A value is one zero byte, the schema's id as four bytes (big-endian), and the Avro binary encoding of the datum. Format
described by Confluent, "Wire format" in the Schema Registry documentation.
"""

import struct
from io import BytesIO
from typing import Any, Literal

from fastavro import parse_schema, schemaless_reader, schemaless_writer

Schema = dict[str, Any]
Reason = Literal[
    "empty", "wrong magic", "truncated", "unknown schema id", "undecodable", "trailing bytes", "unencodable"
]

_HEADER = struct.Struct(">bI")
_MAGIC = 0
HEAD_BYTES = _HEADER.size
"""How many bytes of a value tell the schema it was written with."""


class WireError(ValueError):
    """A value that cannot be read or written as it should. `reason` is one of a few words, the message says more."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class UnknownSchemaError(LookupError):
    """No registry knows a schema with this id."""


def parsed(schema: Schema) -> Schema:
    """The schema prepared for `encode` and `decode`. Raises WireError when it is no valid Avro schema."""
    try:
        return dict(parse_schema(schema, named_schemas={}))
    except Exception as error:
        raise WireError("undecodable", f"not an Avro schema: {error}") from error


def encode(schema_id: int, schema: Schema, datum: dict[str, Any]) -> bytes:
    """A framed value. Every field must be given or have a default, and no other; WireError says what is wrong."""
    body = BytesIO()
    body.write(_HEADER.pack(_MAGIC, schema_id))
    try:
        schemaless_writer(body, schema, datum, strict_allow_default=True)
    except Exception as error:
        raise WireError("unencodable", f"{type(error).__name__}: {error}") from error
    return body.getvalue()


def head(schema_id: int) -> bytes:
    """How every value begins that was written with the schema of this id."""
    return _HEADER.pack(_MAGIC, schema_id)


def schema_id(value: bytes | None) -> int:
    """The id of the schema a value was written with. Raises WireError for what is not framed."""
    if not value:
        raise WireError("empty", "no bytes at all")
    if value[0] != _MAGIC:
        raise WireError("wrong magic", f"the first byte is {value[0]}, not {_MAGIC}")
    if len(value) < _HEADER.size:
        raise WireError("truncated", f"{len(value)} bytes end inside the schema id")
    return int(_HEADER.unpack_from(value)[1])


def decode(value: bytes, writer: Schema, reader: Schema | None = None) -> dict[str, Any]:
    """The datum of a framed value written with `writer`, as `reader` sees it (None: as written)."""
    body = BytesIO(value)
    body.seek(_HEADER.size)
    try:
        datum = schemaless_reader(body, writer, reader)
    except EOFError as error:
        raise WireError("truncated", f"{len(value)} bytes end inside the datum") from error
    except Exception as error:
        raise WireError("undecodable", f"{type(error).__name__}: {error}") from error
    if left := len(value) - body.tell():
        raise WireError("trailing bytes", f"{left} bytes follow the datum")
    return dict(datum)
