"""Two runs on the same first contents, made comparable: what a vendor or the hub numbers is named by what it is."""

from collections import Counter
from typing import Any

import orjson

from hub.edge.demo_data import World
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
        refs = {n: named.get(v) for n, v in values.items() if TYPES[MAPS[record.key[:2]][0]][n] == "ref" and v}
        found[repr((named[record.key], sorted((values | refs).items(), key=lambda item: item[0])))] += 1
    return found


async def golden(hub: Hub, systems: Systems) -> Counter[str]:
    """The golden records: which original records each joins, and its values."""
    named = names(systems.world, await systems.now_held())
    rows = await hub.context.pool.fetch(
        "select g.entity, g.fields, g.deleted, array_agg(array[r.system, r.object, r.external_id]) as records"
        " from hub.golden g join hub.record r using (golden_id) where g.merged_into is null group by g.golden_id"
    )
    found: Counter[str] = Counter()
    for row in rows:
        fields = {name: _plain(stored[0], named) for name, stored in orjson.loads(row["fields"]).items()}
        joined = sorted(repr(named.get(tuple(key), key[:2])) for key in row["records"] if key[0] == "crm")
        found[repr((row["entity"], row["deleted"], sorted(fields.items(), key=lambda item: item[0]), joined))] += 1
    return found


def _plain(value: Any, named: Named) -> Any:
    if isinstance(value, dict) and "object" in value:
        key = (value["system"], value["object"], value["id"])
        return named.get(key, key[:2])
    return value
