"""Export: every golden record of an entity, as it is or as it was, into a file; in bounded memory."""

from collections.abc import AsyncIterator
from pathlib import Path

from hub.edge import tables
from hub.edge.history import instant
from hub.errors import Reject
from hub.projection import Golden, load
from streams import past, past_index
from streams.context import Context, now

PREFETCH = 500


async def export(context: Context, entity: str, format_: str, path: Path, at: str | None, deleted: bool) -> int:
    """Write a table (see `tables`) of an entity's golden records, those that are deleted only where asked; returns how many.
    With `at` as they were at that instant. Raises Reject."""
    if entity not in context.model.entities:
        raise Reject(f"no entity {entity!r}; there are {', '.join(sorted(context.model.entities))}", "unknown")
    if format_ not in tables.FORMATS:
        raise Reject(f"no format {format_!r}: {' or '.join(tables.FORMATS)}", "format")
    goldens = living(context, entity) if at is None else as_of(context, entity, _instant(at))
    chosen = (golden async for golden in goldens if deleted or not golden.deleted)
    return await tables.write(path, format_, context.model.entities[entity], chosen)


def _instant(at: str) -> int:
    micros = instant(at)
    if micros is None or micros > now():
        raise Reject(f"{at!r} is no instant of the past, such as 2026-11-01T12:00Z", "instant")
    return micros


async def living(context: Context, entity: str) -> AsyncIterator[Golden]:
    """The golden records as live has them."""
    async with context.pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        async for row in conn.cursor(LIVING, entity, prefetch=PREFETCH):
            yield load(row["golden_id"], entity, past.stored(row["fields"]), row["deleted"])


LIVING = """
select golden_id, fields, deleted from hub.golden where entity = $1 and merged_into is null order by golden_id
"""


async def as_of(context: Context, entity: str, at: int) -> AsyncIterator[Golden]:
    """The golden records that there were at an instant. One thing after the other is read and folded."""
    await past_index.catch_up(context)
    last = ""
    while rows := await context.pool.fetch(LINKED, entity, last, PREFETCH):
        for row in rows:
            last = row["golden_id"]
            thing = await past.load(context, last)
            then = await past.fold(context, thing, thing.upto(at))
            if (made := then.golden(last)) is not None:
                yield made.golden


LINKED = """
select distinct golden_id from hub.identity where kind = 'link' and entity = $1 and golden_id > $2
order by golden_id limit $3
"""
