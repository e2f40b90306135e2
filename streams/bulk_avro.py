"""Bulk decoding: many framed values of one schema become a table of columns at once.

Values written with the hub's own schema are laid behind each other as one block of an Avro object container, which polars
decodes natively; the head that names the schema is a field of its own there. Values written with an older schema are decoded
one by one, and join the table. A value that is longer or shorter than its schema says would shift what follows: so each row
is held against the key of its record, and where one does not fit, all are decoded one by one.
"""

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import polars as pl

from schemas import wire
from schemas.wire import Schema
from streams.records import Block, Record, block_of
from streams.registry import Codec

_SYNC = b"\x00" * 16
Columns = Mapping[str, Any]
"""Column -> polars type."""
KEYS = {
    "event": pl.col("external_id"),
    "identity": pl.col("golden_id"),
    "decision": pl.concat_str("system", "object", "external_id", separator="/"),
}
"""What the key of a record on the log is, by the name of its schema."""


def head(codec: Codec, name: str) -> bytes:
    """How the values begin that can be decoded at once."""
    return wire.head(codec.written(name)[0])


def at_once(codec: Codec, name: str, blocks: Sequence[Block], columns: Columns) -> pl.DataFrame | None:
    """These columns of the data in blocks of values, which must begin with `head`; None where they cannot be decoded so."""
    try:
        with BytesIO(_container(codec.written(name)[1], len(head(codec, name)), blocks)) as file:
            found = pl.read_avro(file, columns=list(columns))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    keys = [key for block in blocks for key in block.keys]
    if found.height != len(keys) or not _fit(found.select(KEYS[name]).to_series(), keys):
        return None
    return found.select(pl.col(n).cast(kind) for n, kind in columns.items())


async def table(codec: Codec, name: str, records: Sequence[Record], columns: Columns) -> pl.DataFrame:
    """These columns of the data in the records' values, which must all be of the named schema, in the records' order. Raises
    WireError for a value that cannot be decoded."""
    await codec.learn(record.value for record in records)
    own, places, parts = head(codec, name), list[int](), [pl.DataFrame(schema=columns)]
    for alike in (True, False):
        some = [(n, r) for n, r in enumerate(records) if (r.value or b"").startswith(own) is alike]
        places += [n for n, _ in some]
        parts.append(_decoded(codec, name, [r for _, r in some], columns, alike))
    return pl.concat(parts).with_columns(pl.Series("_place", places, dtype=pl.Int64)).sort("_place").drop("_place")


def _decoded(codec: Codec, name: str, records: Sequence[Record], columns: Columns, alike: bool) -> pl.DataFrame:
    block = block_of(records, head(codec, name)) if alike else None
    found = at_once(codec, name, [block], columns) if block else None
    return _one_by_one(codec, records, columns) if found is None else found  # which says what is wrong with which


def _fit(keys: pl.Series, expected: Sequence[bytes]) -> bool:
    return keys.cast(pl.Binary).to_list() == expected


def _one_by_one(codec: Codec, records: Sequence[Record], columns: Columns) -> pl.DataFrame:
    data = [codec.decode(record.value)[1] for record in records]
    return pl.DataFrame([{n: row[n] for n in columns} for row in data], schema=columns)


def _container(schema: Schema, headed: int, blocks: Sequence[Block]) -> bytes:
    """An object container file (Avro 1.11, "Object Container Files") of values with heads of so many bytes."""
    fields = [{"name": "_head", "type": {"type": "fixed", "name": "Head", "size": headed}}]
    fields += [{k: v for k, v in field.items() if k in ("name", "type")} for field in schema["fields"]]
    plain = json.dumps({"type": "record", "name": schema["name"], "fields": fields}).encode()
    meta = _text(b"avro.schema") + _text(plain) + _text(b"avro.codec") + _text(b"null")
    parts = [b"Obj\x01", _long(2), meta, _long(0), _SYNC]
    for block in blocks:
        parts += [_long(len(block.keys)), _long(len(block.values)), block.values, _SYNC]
    return b"".join(parts)


def _text(content: bytes) -> bytes:
    return _long(len(content)) + content


def _long(number: int) -> bytes:
    """A number, not negative, as Avro writes it: zigzag, seven bits a byte."""
    rest, out = number << 1, bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest])
