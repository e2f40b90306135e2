"""`hub check` for a database: what is proven and what is missing, with the least that proves it."""

import asyncpg

from connectors.kit.connector import Finding
from connectors.postgresql.feed import Feed
from connectors.postgresql.mapped import Index, Mapped
from connectors.postgresql.session import Session
from connectors.postgresql.target import denied
from hub.errors import ConfigError, HubError
from hub.mapping import writable

RIGHTS = """
SELECT has_table_privilege(c.oid, 'SELECT') AS may_select, has_table_privilege(c.oid, 'INSERT') AS may_insert,
       has_table_privilege(c.oid, 'UPDATE') AS may_update, has_table_privilege(c.oid, 'DELETE') AS may_delete
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2
"""


async def check(session: Session, index: Index, feed: Feed | None) -> list[Finding]:
    """Never raises for what it reports; changes nothing."""
    try:
        await session.open()
        async with session.connection() as conn:
            return await _findings(conn, index, feed)
    except ConfigError as error:
        return [Finding(False, f"{p.where}: {p.what}", p.suggestion) for p in error.problems]
    except HubError as error:
        return [Finding(False, str(error), "correct `url`, or start the database and let this host in")]


async def _findings(conn: asyncpg.Connection, index: Index, feed: Feed | None) -> list[Finding]:
    server = conn.get_server_version()
    role = await conn.fetchval("SELECT current_user")
    found = [Finding(True, f"connected to PostgreSQL {server.major}.{server.minor} as {role}")]
    await index.load(conn)
    for mapped in index.objects.values():
        found += await _rights(conn, mapped, role)
    creating = any(m.mapping.create and writable(m.mapping) for m in index.objects.values())
    if creating and (why := await denied(conn)):
        found.append(Finding(False, "records cannot be created", why))
    return found + (await feed.findings(conn) if feed else [])


async def _rights(conn: asyncpg.Connection, mapped: Mapped, role: str) -> list[Finding]:
    row = await conn.fetchrow(RIGHTS, mapped.table.schema, mapped.table.name)
    assert row is not None
    needed = ["select"]
    if writable(mapped.mapping):
        needed += ["update", *(["insert"] if mapped.mapping.create else [])]
        needed += ["delete"] if mapped.mapping.on_delete == "delete" and not mapped.soft else []
    missing = [right for right in needed if not row[f"may_{right}"]]
    if not missing:
        return [Finding(True, f"{mapped.object}: may {', '.join(needed)} in {mapped.table.full_name}")]
    grant = f'GRANT {", ".join(missing).upper()} ON {mapped.table.sql} TO "{role}"'
    return [Finding(False, f"{mapped.object}: may not {', '.join(missing)} in {mapped.table.full_name}", grant)]
