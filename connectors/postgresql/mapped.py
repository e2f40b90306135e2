"""One mapped object: its table, its key, and how a row becomes a change. Every reader flattens rows here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any
from urllib.parse import unquote

import asyncpg

from connectors.postgresql.catalogue import Column, Table, quote, read_tables
from connectors.postgresql.sqltypes import Type, load_types, text_of
from hub.change import Change
from hub.errors import ConfigError, Problem
from hub.mapping import ObjectMap
from hub.values import InvalidValue, micros, parse

Texts = Mapping[str, str | None]
NOW = "now"
VERSION_COLUMN = "hub version"


@dataclass(frozen=True, slots=True)
class Mapped:
    """An object, its table, and the columns that make its external id.

    types   of the table's columns, by name
    soft    for rows that are marked instead of deleted: (column, value); value "now" stands for any time
    clock   the column in which the application keeps when a row was changed; "" where there is none
    columns captured columns: all but those that are computed when read, which no log carries
    """

    system: str
    mapping: ObjectMap
    table: Table
    key: tuple[str, ...]
    types: Mapping[str, Type]
    columns: tuple[str, ...]
    soft: tuple[str, Any] | None = None
    clock: str = ""

    @property
    def object(self) -> str:
        """The object's name."""
        return self.mapping.object

    def selection(self, clock: str = "") -> str:
        """SQL that selects every captured column as text, under its own name, and the version of `clock` if given."""
        columns = [f"{text_of(quote(name))} AS {quote(name)}" for name in self.columns]
        return ", ".join([*columns, *([f"{clock} AS {quote(VERSION_COLUMN)}"] if clock else [])])

    def where(self, first: int = 1) -> str:
        """SQL that names one row by its key, whose columns are the parameters from `first` on."""
        return " AND ".join(f"{quote(c)} = {self.types[c].cast(f'${first + n}')}" for n, c in enumerate(self.key))

    def order(self) -> str:
        """SQL of the key columns; of a table called `t`, for a bare name would be the column's text in `selection`."""
        return ", ".join(f"t.{quote(column)}" for column in self.key)

    def external_id(self, texts: Texts) -> str | None:
        """The key as text, several columns joined by `/` (then `/` and `%` in them are escaped); None if one is NULL."""
        parts = [texts.get(column) for column in self.key]
        if any(part is None for part in parts):
            return None
        if len(parts) == 1:
            return parts[0]
        return "/".join(str(part).replace("%", "%25").replace("/", "%2F") for part in parts)

    def key_of(self, external_id: str) -> list[str]:
        """The key columns' texts of an external id. Raises ValueError where it has another number of parts."""
        if len(self.key) == 1:
            return [external_id]
        parts = [unquote(part, errors="strict") for part in external_id.split("/")]
        if len(parts) != len(self.key):
            raise ValueError(f"{external_id!r} is not a key of {len(self.key)} columns")
        return parts

    def natives(self, texts: Mapping[str, Any], types: Mapping[str, Type] | None = None) -> dict[str, Any]:
        """The row's native fields. What is not in `texts` is unknown and stays absent."""
        types = types or self.types
        return {name: types[name].read(texts[name]) for name in texts if name in types and name != VERSION_COLUMN}

    def gone(self, natives: Mapping[str, Any]) -> bool:
        """Whether the row is marked as deleted."""
        if self.soft is None or self.soft[0] not in natives:
            return False
        value = natives[self.soft[0]]
        return value is not None if self.soft[1] == NOW else bool(value == self.soft[1])

    def change(self, external_id: str, natives: Mapping[str, Any] | None, **clock: Any) -> Change:
        """The row as a change; None for a row that is gone."""
        if natives is None or self.gone(natives):
            return Change(self.system, self.object, external_id, {}, "delete", **clock)
        return Change(self.system, self.object, external_id, natives, "upsert", **clock)

    def read(self, row: Mapping[str, Any], channel: str) -> Change:
        """A row selected with a clock as a change.

        Its version is a bound (see `snapshot`): two contents may share it, so it is not exact.
        """
        external_id = self.external_id(row)
        if external_id is None:
            raise ValueError(f"{self.table.full_name} has a row without key")
        natives = self.natives(row)
        return self.change(external_id, natives, version=row[VERSION_COLUMN], channel=channel, at=self._at(natives))

    def _at(self, natives: Mapping[str, Any]) -> int | None:
        try:
            return micros(parse("timestamp", natives.get(self.clock))) or None
        except InvalidValue:
            return None


@dataclass(slots=True)
class Index:
    """What is mapped, by object and by table, with all types of the database."""

    system: str
    mappings: Mapping[str, ObjectMap]
    objects: dict[str, Mapped] = field(default_factory=dict)
    tables: dict[str, list[Mapped]] = field(default_factory=dict)
    types: dict[int, Type] = field(default_factory=dict)
    server: int = 0

    async def load(self, conn: asyncpg.Connection) -> None:
        """Read the catalogue. Raises ConfigError where a mapping does not fit the database."""
        self.server = conn.get_server_version().major
        self.types = await load_types(conn)
        names = {name: table_name(mapping) for name, mapping in self.mappings.items()}
        tables = {table.full_name: table for table in await read_tables(conn, sorted(set(names.values())))}
        problems: list[Problem] = []
        objects: dict[str, Mapped] = {}
        for name, mapping in self.mappings.items():
            table = tables.get(names[name])
            if table is None:
                problems.append(_missing(mapping, names[name]))
            elif not (found := _problems(mapping, table, self.server)):
                objects[name] = _mapped(self.system, mapping, table, self.types, self.server)
            else:
                problems += found
        if problems:
            raise ConfigError(problems)
        self.objects = objects
        self.tables = {}
        for mapped in objects.values():
            self.tables.setdefault(mapped.table.full_name, []).append(mapped)


def table_name(mapping: ObjectMap) -> str:
    """`schema.table` of an object: its setting, by default the table of the object's name in schema public."""
    name = str(mapping.settings.get("table", mapping.object))
    return name if "." in name else f"public.{name}"


def captured(column: Column, server: int) -> bool:
    """Whether log, snapshot and answers all carry the column: the log leaves computed ones out (before 18: all such)."""
    return not column.generated or (column.generated == "s" and server >= 18)


def _mapped(system: str, mapping: ObjectMap, table: Table, types: Mapping[int, Type], server: int) -> Mapped:
    soft = next(iter(dict(mapping.settings.get("soft_delete") or {}).items()), None)
    return Mapped(
        system=system,
        mapping=mapping,
        table=table,
        key=_key(mapping, table),
        types={column.name: types[column.type_oid] for column in table.columns},
        columns=tuple(column.name for column in table.columns if captured(column, server)),
        soft=soft,
        clock=str(mapping.settings.get("clock") or ""),
    )


def _key(mapping: ObjectMap, table: Table) -> tuple[str, ...]:
    key = mapping.settings.get("key") or table.primary_key
    return (key,) if isinstance(key, str) else tuple(key)


def _missing(mapping: ObjectMap, name: str) -> Problem:
    where = f"{mapping.system}.{mapping.object}.table"
    return Problem(where, f"there is no table {name}, or the role may not see it", "correct `table`, or GRANT it")


def _problems(mapping: ObjectMap, table: Table, server: int) -> list[Problem]:
    """What is wrong with an object's table, key and columns."""
    where = f"{mapping.system}.{mapping.object}"
    known = {column.name for column in table.columns if captured(column, server)}
    soft = tuple(mapping.settings.get("soft_delete") or ())
    clock = {str(mapping.settings["clock"])} if mapping.settings.get("clock") else set()
    natives = sorted({n for f in mapping.fields for n in f.natives} | set(soft) | clock)
    problems = [
        Problem(f"{where}.fields", f"{table.full_name} has no column {n}", _nearest(n, known))
        for n in natives
        if n not in known
    ]
    return problems + _key_problems(f"{where}.key", _key(mapping, table), table)


def _key_problems(where: str, key: Sequence[str], table: Table) -> list[Problem]:
    if not key:
        return [Problem(where, f"{table.full_name} has no primary key", "name unique, non-null columns in `key`")]
    columns = [table.column(name) for name in key]
    if None in columns:
        return [Problem(where, f"{table.full_name} has no column {key[columns.index(None)]}")]
    if any(column is not None and column.nullable for column in columns):
        return [
            Problem(where, f"a column of {', '.join(key)} may be NULL", "ALTER TABLE ... ALTER COLUMN ... SET NOT NULL")
        ]
    if not any(set(unique) <= set(key) for unique in table.unique):
        return [
            Problem(
                where, f"{', '.join(key)} is not unique in {table.full_name}", "add a unique index, or name another key"
            )
        ]
    return []


def _nearest(name: str, known: set[str]) -> str:
    close = get_close_matches(name, known, 1)
    return f"did you mean {close[0]}?" if close else ""
