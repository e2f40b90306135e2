"""Linking: give every record of a batch its golden id, and merge golden records that turn out to be one thing."""

from collections.abc import Iterable, Mapping, Sequence

from hub.entity import Entity
from hub.identity import IdentityEvent, Key, RecordId, golden_id, resolve, root, survivor
from streams.faults import Contention
from streams.log_postgres import Connection
from streams.reading import Reading
from streams.workspace import GoldenState, RecordState, owners


async def link(conn: Connection, readings: Sequence[Reading]) -> tuple[list[IdentityEvent], set[frozenset[str]]]:
    """Resolve the readings in order; returns the decisions and the pairs of golden ids that are one thing."""
    known = await _known_keys(conn, readings)
    minted = await _unused(conn, readings)
    return resolved(readings, known, minted, await _created(conn, readings))


def resolved(
    readings: Sequence[Reading],
    known: dict[tuple[str, Key], str],
    minted: Mapping[RecordId, str],
    created: Mapping[str | None, str],
) -> tuple[list[IdentityEvent], set[frozenset[str]]]:
    """The same, from what is stored: who has which key, an unused id for each unlinked record, what intents created."""
    decisions: list[IdentityEvent] = []
    same: set[frozenset[str]] = set()
    for reading in readings:
        entity, state = reading.mapping.entity, reading.state
        hits = [(key, known[entity.name, key]) for key in sorted(reading.keys) if (entity.name, key) in known]
        if reading.event.intent in created:
            hits.insert(0, (("intent", str(reading.event.intent)), created[reading.event.intent]))
        found = resolve(entity, state.id, state.golden_id or None, hits, minted.get(state.id, ""))
        if not state.golden_id:
            state.golden_id = state.home = found.golden_id
            reading.linked_now = True
            decisions.append(_linked(reading, "=".join(found.by) if found.by else "new"))
        if entity.merge == "auto":
            same.update(frozenset((state.golden_id, other)) for other in found.merges)
        for key in reading.keys:
            known.setdefault((entity.name, key), state.golden_id)
    return decisions, same


async def merge(conn: Connection, same: Iterable[frozenset[str]], readings: Sequence[Reading]) -> dict[str, str]:
    """Golden id -> the golden id it becomes part of, for each that does; what a person set apart stays apart, also
    inside of what it has become part of since."""
    made_of, apart = await _apart(conn, {one for group in same for one in group})
    into = united(same, made_of, apart)
    for reading in readings:
        reading.state.golden_id = into.get(reading.state.golden_id, reading.state.golden_id)
    return into


def united(
    same: Iterable[frozenset[str]], made_of: dict[str, frozenset[str]], apart: Sequence[tuple[str, str]]
) -> dict[str, str]:
    """The same, from what each golden record is made of and which pairs a person set apart."""
    into: dict[str, str] = {}
    for group in sorted(map(sorted, same)):
        roots = {root(into, one) for one in group}
        whole = frozenset[str]().union(*(made_of[root] for root in roots))
        if len(roots) < 2 or any({a, b} <= whole for a, b in apart):
            continue
        lives = survivor(roots)
        made_of[lives] = whole
        into |= {root: lives for root in roots if root != lives}
    return {loser: root(into, loser) for loser in into}


def merged(into: Mapping[str, str], goldens: Mapping[str, GoldenState], cause: str) -> list[IdentityEvent]:
    """The merges as events; marks the golden records that live on inside another. Call before they are stored."""
    for loser, lives in into.items():
        goldens[loser].merged_into = lives
    return [
        IdentityEvent("merge", loser, goldens[loser].entity, cause, into=lives, reason="shared key")
        for loser, lives in sorted(into.items())
    ]


async def claim_keys(
    conn: Connection,
    by_golden: Mapping[str, Sequence[RecordState]],
    entities: Mapping[str, Entity],
    readings: Sequence[Reading],
) -> None:
    """Make the match keys of these golden records those that their records hold; of a key that several hold which must
    not be merged, the first keeps it. Raises Contention when another worker has given one of the keys that the readings
    bring to another golden record meanwhile."""
    wanted = {
        (state.entity, *key): golden for golden, states in by_golden.items() for state in states for key in state.keys
    }
    rows = await _new_keys(conn, by_golden, wanted)
    taken = await conn.fetchval(
        "with given as (insert into hub.match_key (entity, kind, value, golden_id)"
        " select * from unnest($1::text[], $2::text[], $3::text[], $4::text[]) on conflict do nothing returning 1)"
        " select count(*) from given",
        *([row[i] for row in rows] for i in range(4)),
    )
    if taken != len(rows):
        brought = {(r.mapping.entity.name, *key) for r in readings for key in r.keys}
        await _check_shared(conn, {key: wanted[key] for key in wanted.keys() & brought}, entities)


async def _new_keys(
    conn: Connection, golden_ids: Iterable[str], wanted: Mapping[tuple[str, str, str], str]
) -> list[tuple[str, str, str, str]]:
    """Take away the keys that are held no longer; those wanted that none of these golden records has yet, in order."""
    held = await conn.fetch(
        "select entity, kind, value, golden_id from hub.match_key where golden_id = any($1)", list(golden_ids)
    )
    have = {(row[0], row[1], row[2]): row[3] for row in held}
    over = [key for key, golden in have.items() if wanted.get(key) != golden]
    if over:
        await conn.execute(
            "delete from hub.match_key m using unnest($1::text[], $2::text[], $3::text[]) as k (entity, kind, value)"
            " where (m.entity, m.kind, m.value) = (k.entity, k.kind, k.value) and m.golden_id = any($4)",
            *([key[i] for key in over] for i in range(3)), list(golden_ids),
        )  # fmt: skip
    return sorted((*key, golden) for key, golden in wanted.items() if have.get(key) != golden)


async def _check_shared(
    conn: Connection, wanted: Mapping[tuple[str, str, str], str], entities: Mapping[str, Entity]
) -> None:
    """Whether each key that another golden record has may be held by both."""
    rows = await conn.fetch(
        "select entity, kind, value, golden_id from hub.match_key"
        " join unnest($1::text[], $2::text[], $3::text[]) as k (entity, kind, value) using (entity, kind, value)",
        *([key[i] for key in wanted] for i in range(3)),
    )
    holders = [(r["entity"], r["golden_id"], wanted[r["entity"], r["kind"], r["value"]]) for r in rows]
    pairs = {(owner, mine) for entity, owner, mine in holders if owner != mine and entities[entity].merge == "auto"}
    made_of, apart = await _apart(conn, {one for pair in pairs for one in pair})
    for owner, mine in sorted(pairs):
        if not any({a, b} <= made_of[owner] | made_of[mine] for a, b in apart):
            raise Contention("a match key was given to another golden record meanwhile")


def _linked(reading: Reading, reason: str) -> IdentityEvent:
    state = reading.state
    return IdentityEvent("link", state.golden_id, state.entity, reading.event.event_id, state.id, reason=reason)


async def _known_keys(conn: Connection, readings: Sequence[Reading]) -> dict[tuple[str, Key], str]:
    by_entity: dict[str, set[Key]] = {}
    for reading in readings:
        by_entity.setdefault(reading.mapping.entity.name, set()).update(reading.keys)
    known: dict[tuple[str, Key], str] = {}
    for entity, keys in by_entity.items():
        known |= {(entity, key): golden for key, golden in (await owners(conn, entity, sorted(keys))).items()}
        named = [value for kind, value in keys if kind == "golden"]
        known |= {(entity, ("golden", name)): lives for name, lives in (await alive(conn, entity, named)).items()}
    return known


async def alive(conn: Connection, entity: str, named: Sequence[str]) -> dict[str, str]:
    """Of these golden ids those that exist -> the golden id that each lives under now."""
    if not named:
        return {}
    rows = await conn.fetch(
        "with recursive way (named, golden_id, merged_into) as ("
        " select golden_id, golden_id, merged_into from hub.golden where golden_id = any($1) and entity = $2"
        " union all select way.named, g.golden_id, g.merged_into from way join hub.golden g on g.golden_id = way.merged_into)"
        " select named, golden_id from way where merged_into is null",
        named, entity,
    )  # fmt: skip
    return {row["named"]: row["golden_id"] for row in rows}


async def _unused(conn: Connection, readings: Sequence[Reading]) -> dict[tuple[str, str, str], str]:
    """An id for each unlinked record that no golden record ever had."""
    minted = {r.state.id: golden_id(r.state.entity, r.state.id) for r in readings if not r.state.golden_id}
    generation = 1
    while minted:
        rows = await conn.fetch("select golden_id from hub.golden where golden_id = any($1)", list(minted.values()))
        used = {row["golden_id"] for row in rows}
        again = {record for record, id_ in minted.items() if id_ in used}
        if not again:
            break
        for record in again:
            entity = minted[record].rsplit("_", 1)[0]
            minted[record] = golden_id(entity, record, generation)
        generation += 1
    return minted


async def _created(conn: Connection, readings: Sequence[Reading]) -> dict[str | None, str]:
    """Intent -> golden id, for records that the hub created and that came back before the answer did."""
    marked = [r.event.intent for r in readings if r.event.intent and not r.state.golden_id]
    if not marked:
        return {}
    rows = await conn.fetch("select key, golden_id from hub.intent where key = any($1)", marked)
    return {row["key"]: row["golden_id"] for row in rows}


async def _apart(conn: Connection, ids: set[str]) -> tuple[dict[str, frozenset[str]], list[tuple[str, str]]]:
    """What each golden record is made of (its own id and those that its records had first), and the pairs set apart."""
    made_of = {id_: {id_} for id_ in ids}
    if not ids:
        return {}, []
    homes = await conn.fetch("select distinct golden_id, home from hub.record where golden_id = any($1)", sorted(ids))
    for row in homes:
        made_of[row["golden_id"]].add(row["home"])
    parts = sorted({part for parts in made_of.values() for part in parts})
    rows = await conn.fetch("select one, other from hub.apart where one = any($1) and other = any($1)", parts)
    return {id_: frozenset(parts) for id_, parts in made_of.items()}, [(r["one"], r["other"]) for r in rows]
