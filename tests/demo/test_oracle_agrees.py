"""The oracle against real systems, and against the hub's own pure core."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from connectors.hubspot.sandbox import create_app as hubspot_app
from connectors.kit.sandbox import serve
from connectors.mailchimp.sandbox import create_app as mailchimp_app
from connectors.registry import CONNECTORS
from hub import config
from hub.edge.demo.data import NOW, load_crm, world
from hub.entity import Entity
from hub.event import Clock
from hub.fold import claims_of, fold
from hub.mapping import ObjectMap, decode
from hub.projection import Source, project
from tests.oracle import Record, expected, records
from tests.oracle_judge import contents
from tests.oracle_maps import MAPS, TYPES

ROOT = Path(__file__).parents[2]


async def test_what_real_systems_hold_reads_like_the_world_they_were_loaded_with(database: str) -> None:
    of = world(scale=0.2)
    conn = await asyncpg.connect(database)
    async with (
        serve(hubspot_app()) as hubspot,
        serve(mailchimp_app()) as mailchimp,
        httpx.AsyncClient(timeout=60) as http,
    ):
        await load_crm(conn, of)
        gone = {"id": "999", "properties": {"email": "gone@x.example"}, "archived": True}
        seed = of.hubspot | {"contacts": [*of.hubspot["contacts"], gone]}
        (await http.post(f"{hubspot.url}/_sandbox/seed", json=seed)).raise_for_status()
        (await http.post(f"{mailchimp.url}/_sandbox/seed", json=of.mailchimp | {"api_key": "k-us1"})).raise_for_status()
        there = await contents(conn, hubspot.url, mailchimp.url, "k-us1")
    await conn.close()
    of.mailchimp["campaigns"].clear()
    assert {thing.name: thing for thing in expected(there)} == {thing.name: thing for thing in expected(of)}


def _natives(record: Record) -> dict[str, Any]:
    """A record's native fields as its connector reports them: JSON, and associations by their object's name."""
    plain = json.loads(json.dumps(record.natives, default=_plain))
    return {f"associations.{name[1:]}" if name.startswith("@") else name: value for name, value in plain.items()}


def _plain(value: Any) -> str:
    assert isinstance(value, datetime | date | Decimal)
    return str(value) if isinstance(value, Decimal) else value.isoformat()


# The hub reads the world when all of it has happened.
OBSERVED = (NOW - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _source(mapping: ObjectMap, record: Record) -> Source:
    said = decode(mapping, _natives(record)).values
    heard = {field.name for field in mapping.fields if field.direction != "out"} | mapping.constants.keys()
    micros = (record.at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    values = {name: value for name, value in said.items() if name in heard and value is not None}
    claims = claims_of(values, micros, Clock(micros, OBSERVED, "/".join(record.key)))
    return Source(*record.key, fold({}, claims))


def _golden(entity: Entity, sources: list[Source]) -> dict[str, Any]:
    values = project("golden", entity, sources).golden.values()
    return {name: value["status"] if value and name == "consent" else value for name, value in values.items()}


def test_the_core_chooses_what_the_oracle_expects_for_the_whole_world() -> None:
    """Two independent computations from one meaning: where they differ, one of them is wrong."""
    model = config.load(
        ROOT / "hub" / "edge" / "demo" / "hub.yaml", {name: manifest for name, (manifest, _) in CONNECTORS.items()}
    ).model
    of = world()
    by_key = {record.key: record for record in records(of)}
    compared = 0
    for thing in expected(of):
        if thing.records[0][1] == "activity":
            continue
        sources = [_source(model.mappings[key[:2]], by_key[key]) for key in thing.records if key in by_key]
        golden = _golden(model.entities[thing.entity], sources)
        for name in TYPES[thing.entity]:
            if TYPES[thing.entity][name] != "ref":
                assert golden.get(name) in [*thing.values.get(name, [None]), thing.one(name) or None], (
                    thing.name,
                    name,
                )
                compared += 1
    assert compared > 20_000
    assert {MAPS[key[:2]][0] for key in by_key} == model.entities.keys()
