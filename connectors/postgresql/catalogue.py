"""The catalogue: which tables a database has, with columns, types, keys and sizes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from connectors.postgresql.session import connect

QUERY = """
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind, greatest(c.reltuples, 0)::bigint AS rows,
       c.relreplident::text AS replica, coalesce(obj_description(c.oid, 'pg_class'), '') AS comment,
       (SELECT coalesce(json_agg(json_build_object(
            'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'type_oid', a.atttypid::bigint,
            'nullable', NOT a.attnotnull, 'generated', a.attgenerated, 'identity', a.attidentity <> '',
            'default', a.atthasdef, 'comment', coalesce(col_description(c.oid, a.attnum), ''),
            'labels', (SELECT coalesce(json_agg(e.enumlabel ORDER BY e.enumsortorder), '[]')
                       FROM pg_enum e WHERE e.enumtypid = a.atttypid)) ORDER BY a.attnum), '[]')
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
       (SELECT coalesce(json_agg(json_build_object(
            'primary', i.indisprimary, 'replica', i.indisreplident, 'immediate', i.indimmediate, 'columns',
            (SELECT json_agg(a.attname ORDER BY k.n) FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, n)
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum WHERE k.n <= i.indnkeyatts))
            ORDER BY i.indexrelid), '[]')
        FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
         AND i.indexprs IS NULL) AS indexes,
       (SELECT coalesce(json_agg(json_build_object(
            'schema', fn.nspname, 'table', f.relname,
            'columns', (SELECT json_agg(a.attname ORDER BY k.n) FROM unnest(x.conkey) WITH ORDINALITY k (attnum, n)
                        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum),
            'references', (SELECT json_agg(a.attname ORDER BY k.n) FROM unnest(x.confkey) WITH ORDINALITY k (attnum, n)
                           JOIN pg_attribute a ON a.attrelid = x.confrelid AND a.attnum = k.attnum))
            ORDER BY x.conname), '[]')
        FROM pg_constraint x JOIN pg_class f ON f.oid = x.confrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace
        WHERE x.conrelid = c.oid AND x.contype = 'f' AND x.conparentid = 0) AS foreign_keys
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND ($1::text[] IS NOT NULL OR NOT c.relispartition)
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'hub_sync', 'hub_outbox') AND n.nspname !~ '^pg_'
  AND ($1::text[] IS NULL OR n.nspname || '.' || c.relname = ANY($1))
ORDER BY n.nspname, c.relname
"""


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `type` is as in CREATE TABLE; `generated` is "" (no), "s" (stored) or "v" (virtual); `labels`: an enum's."""

    name: str
    type: str
    type_oid: int
    nullable: bool
    generated: str
    identity: bool
    default: bool
    comment: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns that refer to the columns `references` of another table."""

    columns: tuple[str, ...]
    schema: str
    table: str
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table or partitioned table.

    primary_key   its columns, empty where there is none
    unique        column sets that are unique at once (not deferred), the primary key among them
    replica       columns that the log carries of a deleted row (the replica identity); None where none are
    rows          the planner's estimate; 0 where it was never analysed
    """

    schema: str
    name: str
    kind: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    unique: tuple[tuple[str, ...], ...]
    foreign_keys: tuple[ForeignKey, ...]
    replica: tuple[str, ...] | None
    rows: int
    comment: str = ""

    @property
    def full_name(self) -> str:
        """`schema.table`, for people and for configuration."""
        return f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        """The quoted name."""
        return f"{quote(self.schema)}.{quote(self.name)}"

    def column(self, name: str) -> Column | None:
        """The column of that name."""
        return next((column for column in self.columns if column.name == name), None)


async def catalogue(url: str) -> list[Table]:
    """The tables of a database that an application made; partitions are left out, their root stands for them.

    Raises AuthError, Retry or ConfigError (see hub.errors).
    """
    conn = await connect(url)
    try:
        return await read_tables(conn)
    finally:
        await conn.close()


async def read_tables(conn: asyncpg.Connection, names: Sequence[str] | None = None) -> list[Table]:
    """The named tables (`schema.table`), or all."""
    return [_table(dict(row)) for row in await conn.fetch(QUERY, list(names) if names is not None else None)]


def quote(name: str) -> str:
    """An identifier as SQL, whatever it contains."""
    return '"' + name.replace('"', '""') + '"'


def _table(row: Mapping[str, Any]) -> Table:
    columns = tuple(Column(**{**c, "labels": tuple(c["labels"])}) for c in json.loads(row["columns"]))
    indexes = json.loads(row["indexes"])
    primary = next((tuple(i["columns"]) for i in indexes if i["primary"]), ())
    return Table(
        schema=row["schema"],
        name=row["name"],
        kind="partitioned table" if row["kind"] == "p" else "table",
        columns=columns,
        primary_key=primary,
        unique=tuple(tuple(i["columns"]) for i in indexes if i["immediate"]),
        foreign_keys=tuple(
            ForeignKey(tuple(f["columns"]), f["schema"], f["table"], tuple(f["references"]))
            for f in json.loads(row["foreign_keys"])
        ),
        replica=_replica(row["replica"], columns, indexes),
        rows=row["rows"],
        comment=row["comment"],
    )


def _replica(kind: str, columns: tuple[Column, ...], indexes: list[dict[str, Any]]) -> tuple[str, ...] | None:
    if kind == "f":
        return tuple(column.name for column in columns)
    wanted = "replica" if kind == "i" else "primary"
    if kind == "n":
        return None
    return next((tuple(i["columns"]) for i in indexes if i[wanted] and i["immediate"]), None)
