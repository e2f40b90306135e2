"""The publication: which tables' changes the log is read for.

Publishing a table without replica identity would make the application's own updates of it fail, so such a table is
refused here and never published.
"""

from collections.abc import Mapping

import asyncpg
import orjson

from connectors.kit.connector import Finding
from connectors.postgresql.catalogue import quote
from connectors.postgresql.mapped import Index, Mapped
from hub.errors import ConfigError, Fatal, Problem

PUBLICATION = """
SELECT puballtables, puballtables OR pubinsert AND pubupdate AND pubdelete AS complete, pubviaroot,
       to_jsonb(p) ->> 'pubgencols' AS generated
FROM pg_publication p WHERE pubname = $1
"""
MEMBERS = """
SELECT n.nspname || '.' || c.relname AS table, r.oid::bigint AS member
FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid JOIN pg_class c ON c.oid = r.prrelid
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = $1
UNION ALL
SELECT t.schemaname || '.' || t.tablename, p.oid::bigint
FROM pg_publication p JOIN pg_publication_tables t USING (pubname) WHERE p.pubname = $1 AND p.puballtables
"""


async def provision(conn: asyncpg.Connection, name: str, index: Index) -> None:
    """Make the publication list exactly the mapped tables. Raises ConfigError or Fatal."""
    _publishable(index)
    statements = await _statements(conn, name, index)
    if not statements:
        return
    try:
        async with conn.transaction():
            for statement in statements:
                await conn.execute(statement)
    except asyncpg.InsufficientPrivilegeError as error:
        run = "; ".join(statements)
        raise Fatal(f"{error.args[0]}. Let the owner of the tables run: {run};") from None


async def members(conn: asyncpg.Connection, name: str) -> Mapping[str, int]:
    """By table: a number that changes when it leaves the publication and comes back."""
    return {row["table"]: row["member"] for row in await conn.fetch(MEMBERS, name)}


async def note(conn: asyncpg.Connection, prefix: str, said: Mapping[str, str]) -> None:
    """Put a message into the log of the transaction at hand; it is gone if that is rolled back."""
    if said:
        text = orjson.dumps(said).decode()
        await conn.execute("SELECT pg_logical_emit_message(true, $1::text, $2::text)", prefix, text)


async def findings(conn: asyncpg.Connection, name: str, index: Index) -> list[Finding]:
    """Whether the server decodes its log and the publication is as it should be."""
    level = await conn.fetchval("SHOW wal_level")
    may = await conn.fetchval("SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user")
    missing = await _statements(conn, name, index)
    outbox = await conn.fetchval("SELECT to_regclass('hub_outbox.change') IS NOT NULL")
    forgotten = Finding(False, "triggers still fill an outbox that nobody reads", "DROP SCHEMA hub_outbox CASCADE")
    return [
        *([forgotten] if outbox else []),
        Finding(level == "logical", f"wal_level is {level}", "ALTER SYSTEM SET wal_level = logical, and restart"),
        Finding(bool(may), "the role may use replication slots", "ALTER ROLE ... REPLICATION"),
        Finding(True, f"publication {name} lists every mapped table")
        if not missing
        else Finding(True, f"publication {name} is to be changed by the first run", "; ".join(missing)),
    ]


async def _statements(conn: asyncpg.Connection, name: str, index: Index) -> list[str]:
    """What is missing for the publication to be right, as SQL."""
    wanted = {table: mapped[0].table.sql for table, mapped in sorted(index.tables.items())}
    options = {"publish_via_partition_root": "true"}
    if index.server >= 18:
        options["publish_generated_columns"] = "stored"
    if not wanted:
        return []
    row = await conn.fetchrow(PUBLICATION, name)
    rendered = ", ".join(f"{option} = {value}" for option, value in options.items())
    if row is None:
        return [f"CREATE PUBLICATION {quote(name)} FOR TABLE {', '.join(wanted.values())} WITH ({rendered})"]
    alter = f"ALTER PUBLICATION {quote(name)}"
    statements = []
    if not row["complete"]:
        statements.append(f"{alter} SET (publish = 'insert, update, delete, truncate')")
    if not row["pubviaroot"] or ("publish_generated_columns" in options and row["generated"] != "s"):
        statements.append(f"{alter} SET ({rendered})")
    if not row["puballtables"]:
        statements += _tables(alter, wanted, await members(conn, name))
    return statements


def _tables(alter: str, wanted: Mapping[str, str], published: Mapping[str, int]) -> list[str]:
    missing = [sql for table, sql in wanted.items() if table not in published]
    extra = [".".join(map(quote, table.split(".", 1))) for table in sorted(published) if table not in wanted]
    added = [f"{alter} ADD TABLE {', '.join(missing)}"] if missing else []
    return added + ([f"{alter} DROP TABLE {', '.join(extra)}"] if extra else [])


def _publishable(index: Index) -> None:
    problems = [p for mappeds in index.tables.values() for mapped in mappeds for p in _replica_problems(mapped)]
    if problems:
        raise ConfigError(problems)


def _replica_problems(mapped: Mapped) -> list[Problem]:
    table, where = mapped.table, f"{mapped.system}.{mapped.object}"
    if table.replica is None:
        what = f"{table.full_name} has no replica identity: publishing it would make its own updates fail"
        return [Problem(where, what, f"add a primary key, or ALTER TABLE {table.sql} REPLICA IDENTITY FULL")]
    if not set(mapped.key) <= set(table.replica):
        what = f"the log of {table.full_name} does not carry {', '.join(mapped.key)} of deleted rows"
        return [Problem(f"{where}.key", what, f"ALTER TABLE {table.sql} REPLICA IDENTITY FULL, or use its primary key")]
    return []
