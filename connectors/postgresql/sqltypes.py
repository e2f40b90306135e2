"""Column types: how PostgreSQL's own text of a value becomes a JSON value, and how a JSON value is written as text.

Every value is read as the text that its type's output function gives (under UTC, ISO dates, hex bytea): that is what
the log carries, and `Type.text_of` makes a query give the same, so that a record looks the same however it was read.

| type | JSON value |
|---|---|
| boolean | true, false |
| smallint, integer, bigint, oid | number |
| numeric, money, real, double precision | string, digit for digit |
| timestamptz, timestamp | ISO 8601 with T, and Z where the type has a zone; BC, infinity, year 10000 as PostgreSQL has it |
| date, time, interval, uuid, enum, range, composite | string |
| json, jsonb | parsed; numbers with a fraction as strings |
| bytea | base64 |
| array | list, nested where it has several dimensions |
"""

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson

from connectors.postgresql.arrays import parse_array, render_array

QUERY = """
WITH RECURSIVE base (oid, root) AS (
    SELECT oid, oid FROM pg_type WHERE typtype <> 'd'
    UNION ALL
    SELECT t.oid, b.root FROM pg_type t JOIN base b ON t.typbasetype = b.oid WHERE t.typtype = 'd'
)
SELECT t.oid, quote_ident(n.nspname) || '.' || quote_ident(t.typname) AS sql, r.typname AS name,
       CASE WHEN r.typinput = 'array_in'::regproc THEN r.typelem ELSE 0::oid END AS element, r.typdelim::text AS delimiter
FROM pg_type t JOIN base b ON b.oid = t.oid JOIN pg_type r ON r.oid = b.root JOIN pg_namespace n ON n.oid = t.typnamespace
"""

INTEGERS = frozenset({"int2", "int4", "int8", "oid"})
TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)(\+00)?")


@dataclass(frozen=True, slots=True)
class Type:
    """A column's type. `name` is that of the type below all domains, `sql` is quoted and carries no length."""

    oid: int
    sql: str
    name: str
    element: "Type | None" = None
    delimiter: str = ","

    def read(self, text: str | None) -> Any:
        """The JSON value of PostgreSQL's text; None is NULL."""
        if text is None:
            return None
        if self.element is not None:
            return parse_array(text, self.element.read, self.delimiter)
        return READERS.get(self.name, str)(text)

    def write(self, value: Any) -> str | None:
        """Text that PostgreSQL reads as this type. Lists become `a;b` and consent its status where a type is plain."""
        if value is None:
            return None
        if self.element is not None:
            return render_array(value if isinstance(value, list) else [value], self.element.write, self.delimiter)
        if self.name in ("json", "jsonb"):
            return orjson.dumps(value).decode()
        return WRITERS.get(self.name, _plain)(value)

    def cast(self, parameter: str) -> str:
        """SQL for a text parameter as a value of this type. Without a length, so that too long a value is an error."""
        return f"{parameter}::text::{self.sql}"


def text_of(column: str) -> str:
    """SQL for the output text of a column. (A cast to text would differ: boolean, char(n); `IS NULL`: composites.)"""
    return f"CASE WHEN {column} IS DISTINCT FROM NULL THEN format('%s', {column}) END"


async def load_types(conn: asyncpg.Connection) -> dict[int, Type]:
    """All types of the database by oid."""
    rows = {row["oid"]: row for row in await conn.fetch(QUERY)}

    def build(oid: int) -> Type:
        row = rows[oid]
        element = build(row["element"]) if row["element"] in rows else None
        return Type(oid, row["sql"], row["name"], element, row["delimiter"])

    return {oid: build(oid) for oid in rows}


def _timestamp(text: str) -> str:
    match = TIMESTAMP.fullmatch(text)
    return f"{match[1]}T{match[2]}{'Z' if match[3] else ''}" if match else text


def _bytes(text: str) -> str:
    return base64.b64encode(bytes.fromhex(text.removeprefix("\\x"))).decode()


def _whole(text: str) -> int | str:
    number = int(text)
    return number if -(2**63) <= number < 2**63 else text


def _json(text: str) -> Any:
    return json.loads(text, parse_float=str, parse_int=_whole, parse_constant=str)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ";".join(map(_plain, value))
    if isinstance(value, Mapping):
        return str(value["status"]) if "status" in value else orjson.dumps(value).decode()
    return str(value)


def _truth(value: Any) -> str:
    return str(value["status"] == "in").lower() if isinstance(value, Mapping) and "status" in value else _plain(value)


def _hex(value: Any) -> str:
    return "\\x" + base64.b64decode(str(value), validate=True).hex()


READERS: dict[str, Callable[[str], Any]] = {
    "bool": lambda text: text == "t",
    **dict.fromkeys(INTEGERS, int),
    **dict.fromkeys(("timestamp", "timestamptz"), _timestamp),
    **dict.fromkeys(("json", "jsonb"), _json),
    "bytea": _bytes,
}
WRITERS: dict[str, Callable[[Any], str]] = {"bool": _truth, "bytea": _hex}
