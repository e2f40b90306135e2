"""Tables: golden records as rows of Parquet or CSV, with one column per field, exact.

Types by the field's: decimal is decimal128(38, 10), integer int64, boolean, timestamp with UTC in microseconds, date; tags are
a list; consent is a struct of status and at, a reference of system, object and id; all else is text. In CSV, lists are
JSON, and a struct is a column per part (`consent.status`). A null is *known to be empty*; fields that nobody knows are null,
too, and listed in the column `_unknown`.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from hub.entity import Entity, Field
from hub.errors import Reject
from hub.projection import Golden
from hub.values import Value

FORMATS = ("parquet", "csv")
ROWS = 5_000
"""Rows that are in memory at once, and of one row group."""
PRECISION, SCALE = 38, 10
TIME = pa.timestamp("us", tz="UTC")
TEXT = pa.string()
PARTS: dict[str, tuple[tuple[str, pa.DataType], ...]] = {
    "consent": (("status", TEXT), ("at", TIME)),
    "ref": (("system", TEXT), ("object", TEXT), ("id", TEXT)),
}
TYPES: dict[str, pa.DataType] = {
    "decimal": pa.decimal128(PRECISION, SCALE), "integer": pa.int64(), "boolean": pa.bool_(), "timestamp": TIME,
    "date": pa.date32(), "tags": pa.list_(TEXT), **{kind: pa.struct(list(parts)) for kind, parts in PARTS.items()},
}  # fmt: skip
ENDS = (("_unknown", pa.list_(TEXT)), ("_deleted", pa.bool_()))


async def write(path: Path, format_: str, entity: Entity, goldens: AsyncIterator[Golden]) -> int:
    """Write golden records to a file that appears when it is whole, readable by its owner alone; returns how many. Raises
    Reject for a value that its column cannot hold exactly."""
    schema = (_parquet if format_ == "parquet" else _csv)(entity)
    partial = path.with_name(f".{path.name}.partial")
    partial.touch(mode=0o600)
    count = 0
    try:
        with _writer(partial, format_, schema) as writer:
            async for rows in _chunks(goldens):
                writer.write_table(_table(rows, format_, entity, schema))
                count += len(rows)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def _parquet(entity: Entity) -> pa.Schema:
    columns = [(name, TYPES.get(field.kind, TEXT)) for name, field in sorted(entity.fields.items())]
    return pa.schema([("golden_id", TEXT), *columns, *ENDS])


def _csv(entity: Entity) -> pa.Schema:
    columns: list[tuple[str, pa.DataType]] = []
    for name, field in sorted(entity.fields.items()):
        parts = [(f"{name}.{part}", type_) for part, type_ in PARTS.get(field.kind, ())]
        columns += parts or [(name, TEXT if field.kind == "tags" else TYPES.get(field.kind, TEXT))]
    return pa.schema([("golden_id", TEXT), *columns, ("_unknown", TEXT), ("_deleted", pa.bool_())])


def _writer(path: Path, format_: str, schema: pa.Schema) -> Any:
    if format_ == "parquet":
        return pa.parquet.ParquetWriter(path, schema, compression="zstd")
    return pa.csv.CSVWriter(path, schema)


async def _chunks(goldens: AsyncIterator[Golden]) -> AsyncIterator[Sequence[Golden]]:
    rows: list[Golden] = []
    async for golden in goldens:
        rows.append(golden)
        if len(rows) == ROWS:
            yield rows
            rows = []
    if rows:
        yield rows


def _table(rows: Sequence[Golden], format_: str, entity: Entity, schema: pa.Schema) -> pa.Table:
    flat = format_ == "csv"
    made = [_row(golden, entity, flat) for golden in rows]
    columns = [_column(field, [row.get(field.name) for row in made], rows) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _column(field: pa.Field, values: list[Any], rows: Sequence[Golden]) -> pa.Array:
    try:
        return pa.array(values, field.type)
    except (pa.ArrowException, OverflowError):
        broken = next(r.golden_id for r, v in zip(rows, values, strict=True) if not _fits(field, v))
        raise Reject(f"{field.name} of {broken} does not fit {field.type} exactly", "value") from None


def _fits(field: pa.Field, value: Any) -> bool:
    try:
        pa.array([value], field.type)
    except (pa.ArrowException, OverflowError):
        return False
    return True


def _row(golden: Golden, entity: Entity, flat: bool) -> dict[str, Any]:
    values = golden.values()
    unknown = sorted(entity.fields.keys() - values.keys())
    row: dict[str, Any] = {"golden_id": golden.golden_id, "_deleted": golden.deleted}
    row["_unknown"] = orjson.dumps(unknown).decode() if flat else unknown
    for name, field in entity.fields.items():
        cell = _cell(field, values.get(name))
        if flat and field.kind in PARTS:
            row |= {f"{name}.{part}": (cell or {}).get(part) for part, _ in PARTS[field.kind]}
        else:
            row[name] = orjson.dumps(cell).decode() if flat and isinstance(cell, list) else cell
    return row


def _cell(field: Field, value: Value) -> Any:
    """A canonical value as its column takes it."""
    if value is None:
        return None
    if field.kind == "decimal":
        return Decimal(value)
    if field.kind == "date":
        return date.fromisoformat(value)
    if field.kind == "timestamp":
        return _time(value)
    if field.kind == "consent":
        return {"status": value["status"], "at": _time(value["at"])}
    if field.kind == "ref":
        return {part: value[part] for part, _ in PARTS["ref"]}
    return orjson.dumps(value).decode() if field.kind == "json" and not isinstance(value, str) else value


def _time(timestamp: str | None) -> datetime | None:
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")) if timestamp else None


def columns(entity: Entity, format_: str) -> dict[str, str]:
    """Column name -> type."""
    return {field.name: str(field.type) for field in (_parquet if format_ == "parquet" else _csv)(entity)}
