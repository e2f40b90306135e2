"""Two runs on the same first contents, made comparable: what a vendor or the hub numbers is named by what it is."""

from collections import Counter
from typing import Any

import orjson

from hub.edge.demo.data import World
from hub.edge.wiring import Hub
from tests import oracle
from tests.e2e.systems import Systems
from tests.oracle import Key
from tests.oracle_maps import MAPS, TYPES

Named = dict[Key, Any]


def names(first: World, after: World) -> Named:
    """Every record by a name that is the same in every run: its key if it was there at first, else what it says."""
    known = {record.key for record in oracle.records(first)}
    return {r.key: r.key if r.key in known else (*r.key[:2], _look(r)) for r in oracle.records(after)}


def _look(record: oracle.Record) -> str:
    entity, values = MAPS[record.key[:2]][0], oracle.read(record)
    plain = {name: value for name, value in values.items() if TYPES[entity][name] not in ("ref", "consent")}
    return repr(sorted((name, value) for name, value in plain.items() if value not in (None, [])))


async def held(systems: Systems) -> Counter[str]:
    """What the three systems hold, record by record."""
    after = await systems.now_held()
    named = names(systems.world, after)
    found: Counter[str] = Counter()
    for record in oracle.records(after):
        values = oracle.read(record)
        told = {n: _named(TYPES[MAPS[record.key[:2]][0]][n], v, named) for n, v in values.items()}
        found[repr((named[record.key], sorted(told.items())))] += 1
    return found


def _named(kind: str, value: Any, named: Named) -> str:
    """A value without what differs from run to run: numbers given by a vendor, and when it was told of an opt-out."""
    if kind == "ref":
        return repr(named.get(value)) if value else ""
    return repr(value[0] if kind == "consent" and value else value)


async def golden(hub: Hub, systems: Systems) -> Counter[str]:
    """The golden records: what each is, and its values; a reference is named by what it refers to."""
    named = names(systems.world, await systems.now_held())
    rows = await hub.context.pool.fetch("select system, object, external_id, golden_id from hub.record")
    home = {(r["system"], r["object"], r["external_id"]): r["golden_id"] for r in rows}
    things: dict[str, str] = {}
    for key, golden_id in home.items():
        if key in named:
            things[golden_id] = min(repr(named[key]), things.get(golden_id, "~"))
    rows = await hub.context.pool.fetch(
        "select golden_id, entity, fields, deleted from hub.golden where merged_into is null"
    )
    found: Counter[str] = Counter()
    for row in rows:
        fields = orjson.loads(row["fields"])
        values = sorted((name, _plain(stored[0], home, things)) for name, stored in fields.items())
        found[repr((things.get(row["golden_id"]), row["entity"], row["deleted"], values))] += 1
    return found


def _plain(value: Any, home: dict[Key, str], things: dict[str, str]) -> str:
    if isinstance(value, dict) and "object" in value:
        return things.get(home.get((value["system"], value["object"], value["id"]), ""), "nobody")
    return repr(value["status"] if isinstance(value, dict) and "status" in value else value)
