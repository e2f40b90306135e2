"""`hub init`: from an existing database to a commented hub.yaml that proposes what takes part and how.

Reads the catalogue and a sample of values; writes nothing to the database and no secret to the file. With `--json` the
command prints `Written.to_json()`:

    {"path": "hub.yaml", "objects": [{"object", "entity", "table", "key": [...], "fields": {canonical: [column]},
     "create": true, "read_only": false, "left": [column]}], "left": {table: reason}, "variables": [name]}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from connectors.postgresql.catalogue import Table, quote, read_tables
from connectors.postgresql.session import connect
from hub.config import loads
from hub.config.manifest import ManifestLike, Manifests
from hub.config.schema import json_schema
from hub.config.secrets import variables
from hub.config.source import closest, read
from hub.edge.initial.columns import Samples, kind_of
from hub.edge.initial.guess import Proposal, propose
from hub.edge.initial.render import Target, render
from hub.errors import ConfigError, Problem

SAMPLE_ROWS = 200
SAMPLE_CHARACTERS = 200
SAMPLE_TABLES = 500
SAMPLE_TIMEOUT_SECONDS = 5.0
SAMPLED = frozenset({"text", "enum"})
SOURCE = "postgresql"

VIEWS = """
SELECT n.nspname || '.' || c.relname AS name, c.relkind::text AS kind
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_'
ORDER BY 1
"""
NOT_TABLES = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


@dataclass(frozen=True, slots=True)
class Written:
    """What was proposed, and the file it was written to."""

    path: Path
    text: str
    proposal: Proposal
    variables: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The shape that the module's docstring shows."""
        objects = [
            {
                "object": p.object,
                "entity": p.entity,
                "table": p.table.full_name,
                "key": list(p.key),
                "fields": {entry.name: list(entry.columns) for entry in p.fields},
                "create": p.create,
                "read_only": p.read_only,
                "left": list(p.left),
            }
            for p in self.proposal.objects
        ]
        left = dict(self.proposal.left)
        return {"path": str(self.path), "objects": objects, "left": left, "variables": list(self.variables)}


async def init(
    url: str,
    path: Path | str = "hub.yaml",
    *,
    manifests: Manifests,
    to: Sequence[str] = (),
    system: str = "crm",
    force: bool = False,
) -> Written:
    """Write hub.yaml, and hub.schema.json beside it, for the database at `url`.

    `to` names connectors that its records shall reach. Raises ConfigError where the file exists already (unless `force`),
    a connector is unknown or nothing can be proposed; AuthError or Retry where the database cannot be read.
    """
    path = Path(path)
    _refuse(path, to, manifests, force)
    database, settings, tables, samples, others = await _look(url)
    targets = [manifests[name] for name in to]
    held = frozenset(spec.entity for manifest in targets for spec in manifest.objects) if targets else None
    proposal = propose(tables, samples, held)
    proposal = Proposal(proposal.objects, {**proposal.left, **others})
    if not proposal.objects:
        reasons = [f"{table}: {reason}" for table, reason in list(proposal.left.items())[:20]]
        raise ConfigError(
            [Problem(database, "no table was recognised", "; ".join(reasons) or "the role sees no tables")]
        )
    text = render(database, system, manifests[SOURCE], proposal, [_target(m, proposal) for m in targets], settings)
    loads(text, manifests, {}, path)  # what is proposed is valid, or this raises
    _write(path, text, json_schema(manifests))
    return Written(path, text, proposal, tuple(dict.fromkeys(variables(read(text, path.name).data))))


def show(written: Written, console: Console) -> None:
    """The proposal as a table, and what to do next."""
    grid = Grid("table", "object", "entity", "fields")
    for p in written.proposal.objects:
        fields = ", ".join(entry.name for entry in p.fields)
        grid.add_row(*(escape(cell) for cell in (p.table.full_name, p.object, p.entity, fields)))
    console.print(grid)
    if written.proposal.left:
        console.print(escape(f"Not proposed: {', '.join(written.proposal.left)} (the file says why)."))
    console.print(
        escape(f"Wrote {written.path}. Read it through, then export {', '.join(written.variables)} and run: hub check")
    )


def _refuse(path: Path, to: Sequence[str], manifests: Manifests, force: bool) -> None:
    if path.exists() and not force:
        raise ConfigError(
            [Problem(str(path), "exists already", "another name with --output, or --force to replace it")]
        )
    if unknown := [name for name in to if name not in manifests]:
        raise ConfigError(
            [Problem("--to", f"there is no connector {name}", closest(name, manifests)) for name in unknown]
        )
    if SOURCE in to:
        raise ConfigError([Problem("--to", f"{SOURCE} is where the records come from", "name the other systems")])


def _target(manifest: ManifestLike, proposal: Proposal) -> Target:
    """The objects of a target that hold a proposed entity."""
    specs = [spec for spec in manifest.objects if spec.entity in proposal.entities()]
    marketing = any(spec.marketing for spec in specs)
    return Target(manifest.name, manifest, tuple(spec.name for spec in specs), marketing)


Looked = tuple[str, dict[str, str], list[Table], dict[str, Samples], dict[str, str]]


async def _look(url: str) -> Looked:
    """Name, settings for the source, tables, samples by table, and what is no table, of a database."""
    conn = await connect(url)
    try:
        database = str(await conn.fetchval("SELECT current_database()"))
        tables = await read_tables(conn)
        samples = {table.full_name: await _sample(conn, table) for table in tables[:SAMPLE_TABLES]}
        others = {row["name"]: f"{NOT_TABLES[row['kind']]} reports no changes" for row in await conn.fetch(VIEWS)}
        return database, await _settings(conn), tables, samples, others
    finally:
        await conn.close()


async def _settings(conn: asyncpg.Connection) -> dict[str, str]:
    """How changes are captured: by logical decoding where the server allows it."""
    level = await conn.fetchval("SHOW wal_level")
    if level == "logical":
        return {"capture: logical": "from the write-ahead log"}
    why = (
        f"by triggers, for wal_level is {level}; logical costs the database less: ALTER SYSTEM SET wal_level = logical"
    )
    return {"capture: outbox": why}


async def _sample(conn: asyncpg.Connection, table: Table) -> Samples:
    """Some values of each column of text; none where the role may not read the table or it takes too long."""
    columns = [column.name for column in table.columns if kind_of(column) in SAMPLED]
    if not columns:
        return {}
    values = ", ".join(f"left({quote(name)}::text, {SAMPLE_CHARACTERS}) AS {quote(name)}" for name in columns)
    query = f"SELECT {values} FROM {table.sql} LIMIT {SAMPLE_ROWS}"  # noqa: S608  (quoted identifiers)
    try:
        rows = await conn.fetch(query, timeout=SAMPLE_TIMEOUT_SECONDS)
    except (asyncpg.PostgresError, TimeoutError):
        return {}
    return {name: [row[name] for row in rows if row[name] and row[name].strip()] for name in columns}


def _write(path: Path, text: str, schema: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    pretty = orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    path.with_name("hub.schema.json").write_bytes(pretty)
