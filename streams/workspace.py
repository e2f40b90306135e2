"""Workspace: the rows that one batch of events touches, in memory between load and save."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import asyncpg
import orjson

from hub import fold, view
from hub.fold import Claim
from hub.identity import Key, RecordId
from hub.projection import Source
from hub.view import Held
from hub.write import Intent
from streams.faults import Contention
from streams.log_postgres import Connection


@dataclass(slots=True)
class RecordState:
    """One record of one system: what it claims, what it holds, and the thing it belongs to ("" until resolved).

    `stored` says that it was read from the database, and so is locked.
    """

    id: RecordId
    entity: str
    golden_id: str = ""
    home: str = ""
    claims: dict[str, Claim] = field(default_factory=dict)
    view: dict[str, Held] = field(default_factory=dict)
    keys: frozenset[Key] = frozenset()
    gone: bool = False
    last_event: str = ""
    stored: bool = False

    @property
    def source(self) -> Source:
        """The record as the projection sees it."""
        return Source(*self.id, self.claims)


@dataclass(slots=True)
class GoldenState:
    """A golden record as stored; version 0 is one that does not exist yet."""

    golden_id: str
    entity: str
    version: int = 0
    fields: Mapping[str, list[Any]] = field(default_factory=dict)
    deleted: bool = False
    merged_into: str | None = None


_id = attrgetter("id")
RECORD_COLUMNS = "system, object, external_id, entity, golden_id, home, claims, view, keys, gone, last_event"


def _record(row: asyncpg.Record) -> RecordState:
    return RecordState(
        id=(row["system"], row["object"], row["external_id"]),
        entity=row["entity"],
        golden_id=row["golden_id"],
        home=row["home"],
        claims=fold.load(orjson.loads(row["claims"])),
        view=view.load(orjson.loads(row["view"])),
        keys=frozenset(_key(text) for text in row["keys"]),
        gone=row["gone"],
        last_event=row["last_event"],
        stored=True,
    )


def _key(text: str) -> Key:
    kind, _, value = text.partition("=")
    return (kind, value)


async def lock_records(conn: Connection, ids: Iterable[RecordId]) -> dict[RecordId, RecordState]:
    """The stored records among these, locked, in id order so that no two workers wait for each other."""
    wanted = sorted(set(ids))
    rows = await conn.fetch(
        f"select {RECORD_COLUMNS} from hub.record join unnest($1::text[], $2::text[], $3::text[])"  # noqa: S608
        " as k (system, object, external_id) using (system, object, external_id)"
        " order by system, object, external_id for update of record",
        *_columns(wanted),
    )
    return {state.id: state for state in map(_record, rows)}


async def peek_records(
    conn: Connection, system: str, object_: str, external_ids: Iterable[str]
) -> dict[str, RecordState]:
    """External id -> the stored record, as it is now; not locked."""
    rows = await conn.fetch(
        f"select {RECORD_COLUMNS} from hub.record where system = $1 and object = $2 and external_id = any($3)",  # noqa: S608
        system, object_, list(external_ids),
    )  # fmt: skip
    return {row["external_id"]: _record(row) for row in rows}


async def records_of(
    conn: Connection, golden_ids: Iterable[str], at_hand: Mapping[RecordId, RecordState] | None = None
) -> dict[str, list[RecordState]]:
    """Golden id -> its records, in id order. Those at hand, locked and stored by this transaction, are not read again."""
    wanted, at_hand = list(golden_ids), at_hand or {}
    columns = _columns(list(at_hand))
    rows = await conn.fetch(
        f"select {RECORD_COLUMNS} from hub.record where golden_id = any($1) and not exists"  # noqa: S608
        " (select from unnest($2::text[], $3::text[], $4::text[]) as k (s, o, e)"
        " where (s, o, e) = (system, object, external_id))"
        if at_hand
        else f"select {RECORD_COLUMNS} from hub.record where golden_id = any($1)",  # noqa: S608
        wanted, *(columns if at_hand else ()),
    )  # fmt: skip
    by_golden: dict[str, list[RecordState]] = {}
    for state in sorted((*map(_record, rows), *at_hand.values()), key=_id):
        by_golden.setdefault(state.golden_id, []).append(state)
    return by_golden


async def every_record(conn: Connection) -> dict[RecordId, RecordState]:
    """All records, in id order; of a million some gigabytes."""
    rows = await conn.fetch(f"select {RECORD_COLUMNS} from hub.record order by system, object, external_id")  # noqa: S608
    return {state.id: state for state in map(_record, rows)}


async def every_golden(conn: Connection, ids: Sequence[str] | None = None) -> dict[str, GoldenState]:
    """All golden records, those among them that live on inside another; with `ids` these, and what they live on inside."""
    rows = await conn.fetch(
        "select golden_id, entity, version, fields, deleted, merged_into from hub.golden order by 1"
        if ids is None
        else "with recursive way as (select * from hub.golden where golden_id = any($1) union all"
        " select g.* from hub.golden g join way on g.golden_id = way.merged_into)"
        " select distinct on (golden_id) golden_id, entity, version, fields, deleted, merged_into from way order by 1",
        *([] if ids is None else [list(ids)]),
    )
    return {row["golden_id"]: _golden(row) for row in rows}


async def lock_golden(conn: Connection, golden_ids: Iterable[str]) -> dict[str, GoldenState]:
    """The stored golden records among these, locked in id order."""
    rows = await conn.fetch(
        "select golden_id, entity, version, fields, deleted, merged_into from hub.golden"
        " where golden_id = any($1) order by golden_id for update",
        sorted(set(golden_ids)),
    )
    return {row["golden_id"]: _golden(row) for row in rows}


def _golden(row: asyncpg.Record) -> GoldenState:
    fields = orjson.loads(row["fields"])
    return GoldenState(row["golden_id"], row["entity"], row["version"], fields, row["deleted"], row["merged_into"])


async def owners(conn: Connection, entity: str, keys: Sequence[Key]) -> dict[Key, str]:
    """Which golden record each known match key belongs to."""
    rows = await conn.fetch(
        "select kind, value, golden_id from hub.match_key join unnest($2::text[], $3::text[]) as k (kind, value)"
        " using (kind, value) where entity = $1",
        entity, [k[0] for k in keys], [k[1] for k in keys],
    )  # fmt: skip
    return {(r["kind"], r["value"]): r["golden_id"] for r in rows}


async def intents_of(
    conn: Connection, ids: Sequence[RecordId], golden_ids: Sequence[str]
) -> dict[tuple[str, str], list[Intent]]:
    """Open intents: (system, "object/external id") for records that exist, (system, golden id) for creates."""
    if not await conn.fetchval("select exists (select from hub.intent)"):
        return {}
    rows = await conn.fetch(
        'select key, target, object, golden_id, external_id, "values" from hub.intent'
        " where (target, object, external_id) in (select * from unnest($1::text[], $2::text[], $3::text[]))"
        " or (external_id is null and golden_id = any($4))",
        *_columns(list(set(ids))), list(golden_ids),
    )  # fmt: skip
    found: dict[tuple[str, str], list[Intent]] = {}
    for r in rows:
        where = r["golden_id"] if r["external_id"] is None else f"{r['object']}/{r['external_id']}"
        intent = Intent(r["key"], r["target"], r["object"], r["golden_id"], r["external_id"], orjson.loads(r["values"]))
        found.setdefault((r["target"], where), []).append(intent)
    return found


async def save_records(conn: Connection, states: Sequence[RecordState]) -> None:
    """Store records, new or changed. Raises Contention where a new one has come to be meanwhile: what the receipt of its
    creation tells of it and what its capture tells would overwrite each other."""
    if new := sorted((s for s in states if not s.stored), key=_id):
        try:
            await conn.copy_records_to_table(
                "record", schema_name="hub", columns=RECORD_COLUMNS.split(", "), records=map(_row, new)
            )
        except asyncpg.UniqueViolationError:
            raise Contention("a record was stored by another worker meanwhile") from None
    if known := [s for s in states if s.stored]:
        await _save(conn, known, REPLACE)
    for state in new:
        state.stored = True


def _row(state: RecordState) -> tuple[Any, ...]:
    """In the order of RECORD_COLUMNS."""
    return (
        *state.id, state.entity, state.golden_id, state.home, _json(fold.dump(state.claims)), _json(view.dump(state.view)),
        _texts(state.keys), state.gone, state.last_event,
    )  # fmt: skip


def _texts(keys: Iterable[Key]) -> list[str]:
    return sorted([f"{kind}={value}" for kind, value in keys])


REPLACE = (
    "(system, object, external_id) do update set golden_id = excluded.golden_id, home = excluded.home,"
    " claims = excluded.claims, view = excluded.view, keys = excluded.keys, gone = excluded.gone,"
    " last_event = excluded.last_event"
)


async def replace_records(conn: Connection, states: Sequence[RecordState]) -> None:
    """Store records whatever is stored of them, their entity included."""
    if states:
        await _save(conn, states, f"{REPLACE}, entity = excluded.entity")


async def _save(conn: Connection, states: Sequence[RecordState], conflict: str) -> None:
    *before, keys, gone, last_event = zip(*map(_row, states), strict=True)
    await conn.execute(
        f"insert into hub.record ({RECORD_COLUMNS})"  # noqa: S608
        " select s, o, e, n, g, h, c, v, string_to_array(k, E'\\x1e'), d, l"
        " from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::json[], $8::json[],"
        " $9::text[], $10::bool[], $11::text[]) as t (s, o, e, n, g, h, c, v, k, d, l) order by s, o, e"
        f" on conflict {conflict}",
        *before,
        ["\x1e".join(texts) for texts in keys],
        gone,
        last_event,
    )


async def save_golden(conn: Connection, states: Sequence[GoldenState]) -> None:
    """Store golden records, new or changed."""
    await conn.execute(
        "insert into hub.golden (golden_id, entity, version, fields, deleted, merged_into)"
        " select * from unnest($1::text[], $2::text[], $3::bigint[], $4::jsonb[], $5::bool[], $6::text[])"
        " on conflict (golden_id) do update set version = excluded.version, fields = excluded.fields,"
        " deleted = excluded.deleted, merged_into = excluded.merged_into, updated_at = now()",
        [s.golden_id for s in states],
        [s.entity for s in states],
        [s.version for s in states],
        [orjson.dumps(s.fields).decode() for s in states],
        [s.deleted for s in states],
        [s.merged_into for s in states],
    )


def _columns(ids: Sequence[RecordId]) -> tuple[list[str], list[str], list[str]]:
    return ([i[0] for i in ids], [i[1] for i in ids], [i[2] for i in ids])


NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def _json(value: Any) -> str:
    """The same text for the same content. Raises ValueError where a text holds the character NUL, which the database has
    no place for."""
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    if "\\u0000" in text and NUL.search(text):
        raise ValueError("a text holds the character NUL, which cannot be stored")
    return text
