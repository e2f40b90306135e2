"""Find before create: what a create was already, and which record it would double."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import asyncpg

from connectors.postgresql.catalogue import quote
from connectors.postgresql.mapped import Mapped
from hub.change import Change
from hub.identity import Key, match_keys
from hub.mapping import FieldMap, decode
from hub.write import Write

CREATED = "SELECT key, external_id, version FROM hub_sync.created WHERE key = ANY($1::text[])"
MAX_FOUND = 1000


@dataclass(slots=True)
class Doubles:
    """What was found for the creates of one call.

    created   by idempotency key: the record that an earlier try made, and its version
    stale     by idempotency key: what it made, which is no more
    records   by match key (field, value): the record that has it
    taken     match keys of creates of this call
    """

    created: dict[str, tuple[str, int]] = field(default_factory=dict)
    stale: dict[str, str] = field(default_factory=dict)
    records: dict[Key, Change] = field(default_factory=dict)
    taken: set[Key] = field(default_factory=set)

    def of(self, write: Write) -> Change | None:
        """The record that this create would double."""
        return next((self.records[key] for key in keys(write) if key in self.records), None)

    def take(self, write: Write) -> bool:
        """Whether no other create of this call has the same keys."""
        mine = set(keys(write))
        free = not mine & self.taken
        self.taken |= mine
        return free


def keys(write: Write) -> list[Key]:
    """The exact keys by which a write's record would be known as one that is there."""
    return list(match_keys(write.mapping.entity, write.values))


async def find(conn: asyncpg.Connection, mapped: Mapped, creates: Sequence[Write], clock: str) -> Doubles:
    """Look up all creates of a call with one query per match field."""
    found = Doubles()
    if creates:
        await _tried(conn, mapped, creates, found)
        for name in mapped.mapping.entity.match:
            entry = _searchable(mapped, name)
            if entry is not None:
                await _matching(conn, mapped, entry, creates, clock, found)
    return found


async def _tried(conn: asyncpg.Connection, mapped: Mapped, creates: Sequence[Write], found: Doubles) -> None:
    for row in await conn.fetch(CREATED, [write.key for write in creates]):
        exists = f"SELECT true FROM {mapped.table.sql} WHERE {mapped.where()}"  # noqa: S608 - quoted names
        if await conn.fetchval(exists, *mapped.key_of(row["external_id"])):
            found.created[row["key"]] = (row["external_id"], row["version"])
        else:
            found.stale[row["key"]] = row["external_id"]


def _searchable(mapped: Mapped, name: str) -> FieldMap | None:
    """A match field that one column holds as it is."""
    entries = (f for f in mapped.mapping.fields if f.name == name and not f.codec and len(f.natives) == 1)
    return next(entries, None)


async def _matching(
    conn: asyncpg.Connection, mapped: Mapped, entry: FieldMap, creates: Iterable[Write], clock: str, found: Doubles
) -> None:
    """Candidates by lower case (which an index may serve), then compared as the hub reads them.

    The rows are locked, so that no change of them can be on its way that is not in what was read.
    """
    wanted = {key for write in creates for key in keys(write) if key[0] == entry.name}
    spellings = sorted({s for _, value in wanted for s in _spellings(mapped.mapping.kind(entry.name), value)})
    if not spellings:
        return
    query = (
        f"SELECT {mapped.selection(clock)} FROM {mapped.table.sql} t"  # noqa: S608 - quoted names
        f" WHERE lower({quote(entry.natives[0])}::text) = ANY($1::text[]) ORDER BY {mapped.order()}"
        f" LIMIT {MAX_FOUND} FOR SHARE"
    )
    for row in await conn.fetch(query, spellings):
        change = mapped.read(dict(row), "read")
        value = decode(mapped.mapping, change.fields).values.get(entry.name)
        if change.op == "upsert" and isinstance(value, str) and (entry.name, value.casefold()[:512]) in wanted:
            found.records.setdefault((entry.name, value.casefold()[:512]), change)


def _spellings(kind: str, value: str) -> list[str]:
    """How the value may stand in the database, in lower case."""
    if kind != "domain":
        return [value]
    hosts = (value, f"www.{value}")
    return [f"{scheme}{host}{slash}" for scheme in ("", "http://", "https://") for host in hosts for slash in ("", "/")]
