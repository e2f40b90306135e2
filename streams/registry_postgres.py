"""The hub's own schema registry: a table in its database, and ids that only this hub gives out."""

import hashlib
import json

import asyncpg

from schemas.compatibility import require_compatible
from schemas.wire import Schema, UnknownSchemaError
from streams.log_postgres import set_up


class TableRegistry:
    """The hub's own registry: a table in its database. The pool stays the caller's to close."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def register(self, subject: str, schema: Schema) -> int:
        """Insert the schema as the next version unless the subject has it; one registration at a time."""
        text = json.dumps(schema, sort_keys=True)
        fingerprint = hashlib.sha256(text.encode()).hexdigest()
        async with self._pool.acquire() as conn, conn.transaction():
            await set_up(conn)
            known = await conn.fetch(
                "select id, fingerprint, schema from hub_log.schema where subject = $1 order by version", subject
            )
            for row in known:
                if row["fingerprint"] == fingerprint:
                    return int(row["id"])
            require_compatible(subject, schema, [json.loads(row["schema"]) for row in known])
            return int(
                await conn.fetchval(
                    "insert into hub_log.schema (subject, version, fingerprint, schema) values ($1, $2, $3, $4)"
                    " returning id",
                    subject,
                    len(known) + 1,
                    fingerprint,
                    text,
                )
            )

    async def schema(self, schema_id: int) -> Schema:
        """Look the schema up."""
        text = await self._pool.fetchval("select schema from hub_log.schema where id = $1::bigint", schema_id)
        if text is None:
            raise UnknownSchemaError(f"no schema has the id {schema_id}")
        return dict(json.loads(text))

    async def close(self) -> None:
        """Nothing to release."""
