"""Bulk decoding: many framed values of one schema become a table of columns at once.

The bodies of values written with the hub's own schema are laid behind each other as one block of an Avro object container,
which polars decodes natively. Values written with an older schema are decoded one by one, and join the table. A value that
is longer or shorter than its schema says would shift what follows: so each row is held against the key of its record, and
where one does not fit, all are decoded one by one.
"""

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import polars as pl

from schemas import wire
from schemas.wire import Schema
from streams.records import Record
from streams.registry import Codec

_SYNC = b"\x00" * 16
_FRAME = 5  # the magic byte and the schema's id
Columns = Mapping[str, Any]
"""Column -> polars type."""
KEYS = {
    "event": pl.col("external_id"),
    "identity": pl.col("golden_id"),
    "decision": pl.concat_str("system", "object", "external_id", separator="/"),
}
"""What the key of a record on the log is, by the name of its schema."""


async def table(codec: Codec, name: str, records: Sequence[Record], columns: Columns) -> pl.DataFrame:
    """These columns of the data in the records' values, which must all be of the named schema, with `offset` (of the
    record) and in their order. Raises WireError for a value that cannot be decoded."""
    values = [record.value or b"" for record in records]
    heads = {value[:_FRAME] for value in values}
    await codec.learn(heads)
    own, schema = codec.written(name)
    if heads == {wire.head(own)}:
        return _at_once(codec, name, schema, records, columns)
    mine = [r for r in records if (r.value or b"").startswith(wire.head(own))]
    others = [r for r in records if not (r.value or b"").startswith(wire.head(own))]
    parts = [_one_by_one(codec, others, columns)] if others else []
    parts += [_at_once(codec, name, schema, mine, columns)] if mine else []
    if not parts:
        return pl.DataFrame(schema={**columns, "offset": pl.Int64})
    return pl.concat(parts).sort("offset")


def _at_once(codec: Codec, name: str, schema: Schema, records: Sequence[Record], columns: Columns) -> pl.DataFrame:
    bodies = [r.value[_FRAME:] for r in records if r.value]
    try:
        with BytesIO(_container(schema, bodies)) as block:
            found = pl.read_avro(block)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        found = pl.DataFrame()
    if found.height != len(records) or not _fit(found.select(KEYS[name]).to_series(), records):
        return _one_by_one(codec, records, columns)  # which says what is wrong with which
    offsets = pl.Series("offset", [r.offset for r in records], dtype=pl.Int64)
    return found.select(pl.col(n).cast(kind) for n, kind in columns.items()).with_columns(offsets)


def _fit(keys: pl.Series, records: Sequence[Record]) -> bool:
    return keys.cast(pl.Binary).to_list() == [record.key for record in records]


def _one_by_one(codec: Codec, records: Sequence[Record], columns: Columns) -> pl.DataFrame:
    data = [codec.decode(r.value)[1] | {"offset": r.offset} for r in records]
    rows = [{n: row[n] for n in (*columns, "offset")} for row in data]
    return pl.DataFrame(rows, schema={**columns, "offset": pl.Int64})


def _container(schema: Schema, bodies: Sequence[bytes]) -> bytes:
    """An object container file (Avro 1.11, "Object Container Files") with one block."""
    fields = [{k: v for k, v in field.items() if k in ("name", "type")} for field in schema["fields"]]
    plain = json.dumps({"type": "record", "name": schema["name"], "fields": fields}).encode()
    block = b"".join(bodies)
    meta = _text(b"avro.schema") + _text(plain) + _text(b"avro.codec") + _text(b"null")
    head = b"Obj\x01" + _long(2) + meta + _long(0) + _SYNC
    return head + _long(len(bodies)) + _long(len(block)) + block + _SYNC


def _text(content: bytes) -> bytes:
    return _long(len(content)) + content


def _long(number: int) -> bytes:
    """A number, not negative, as Avro writes it: zigzag, seven bits a byte."""
    rest, out = number << 1, bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest])
