"""What the tests of the HubSpot connector share: a connector on a served sandbox, mappings, writes and polls."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from ruamel.yaml import YAML

from connectors.hubspot.connector import MANIFEST, HubSpot
from connectors.hubspot.sandbox import Options, create_app
from connectors.kit.connector import Checkpoint, Page, Request
from connectors.kit.sandbox import serve
from connectors.kit.signing import hubspot_v3
from hub.change import Change
from hub.entity import Entity, Field
from hub.event import record
from hub.mapping import FieldMap, ObjectMap, encode
from hub.rules import Rule
from hub.write import Write

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "pat-na1-only-for-tests"
SECRET = "secret-only-for-tests"
PORTAL = "62515"
HOOK = "https://hub.example.com/webhooks/hubspot"


def entities() -> dict[str, Entity]:
    """The canonical entities, every field by the latest."""
    described = YAML(typ="safe").load(ROOT / "schemas" / "entities.yaml")["entities"]
    return {
        name: Entity(
            name,
            {f: Field(f, said["type"], Rule(), entity=said.get("entity", "")) for f, said in entity["fields"].items()},
            tuple(entity.get("match", ())),
        )
        for name, entity in described.items()
    }


def mappings(objects: Iterable[str] = ("contacts", "companies", "deals", "notes", "calls")) -> dict[str, ObjectMap]:
    """The manifest's usual mappings under the name "hubspot"."""
    known = entities()
    return {
        spec.name: ObjectMap(
            "hubspot",
            spec.name,
            known[spec.entity],
            spec.fields,
            constants=spec.constants,
            requires=spec.requires,
            dialect=MANIFEST.dialect,
        )
        for spec in MANIFEST.objects
        if spec.name in set(objects)
    }


def extended(mapping: ObjectMap, *more: FieldMap) -> ObjectMap:
    """A mapping with more fields."""
    return replace(mapping, fields=(*mapping.fields, *more))


@dataclass
class Rig:
    """A connector on a sandbox of its own; `control` talks to the sandbox's control API, `api` to the vendor's."""

    url: str
    control: httpx.AsyncClient
    api: httpx.AsyncClient
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.connector = self.connect(**self.settings)

    def connect(self, maps: Mapping[str, ObjectMap] | None = None, **settings: Any) -> HubSpot:
        """Another connector on the same sandbox."""
        given = {"access_token": TOKEN, "client_secret": SECRET, "base_url": self.url, "calls_per_10_seconds": 0,
                 "searches_per_second": 0, "portal_id": PORTAL}  # fmt: skip
        return HubSpot("hubspot", given | settings, maps if maps is not None else mappings())

    async def seed(self, **body: Any) -> None:
        """Load records."""
        (await self.control.post("/_sandbox/seed", json=body)).raise_for_status()

    async def edit(self, object_: str, id_: str, **more: Any) -> Any:
        """An edit by a person in HubSpot's own interface."""
        answer = await self.control.post("/_sandbox/edit", json={"object": object_, "id": id_, **more})
        return answer.raise_for_status().json()

    async def fault(self, *faults: dict[str, Any]) -> None:
        """Arm faults."""
        (await self.control.post("/_sandbox/faults", json=list(faults))).raise_for_status()

    async def calls(self, since: int = 0) -> list[dict[str, Any]]:
        """The journal of vendor calls."""
        body = (await self.control.get("/_sandbox/requests", params={"since": since})).raise_for_status().json()
        return body["requests"] if isinstance(body, dict) else body

    async def all_of(self, object_: str) -> list[dict[str, Any]]:
        """Every live record, by the vendor's own list."""
        found: list[dict[str, Any]] = []
        after = ""
        while True:
            names = "email,firstname,lastname,domain,name,dealname,hub_id,hub_consent,hub_consent_at,jobtitle"
            params = {"limit": 100, "properties": names} | ({"after": after} if after else {})
            body = (await self.api.get(f"/crm/v3/objects/{object_}", params=params)).raise_for_status().json()
            found += body["results"]
            after = body.get("paging", {}).get("next", {}).get("after", "")
            if not after:
                return found


@asynccontextmanager
async def rig(options: Options | None = None, **settings: Any) -> AsyncIterator[Rig]:
    """A sandbox on a real socket, with an opened connector."""
    app = create_app(options)
    async with serve(app) as running, httpx.AsyncClient(base_url=running.url, timeout=30) as control:
        seed = {"token": TOKEN, "app": {"clientSecret": SECRET, "portalId": int(PORTAL)}}
        (await control.post("/_sandbox/seed", json=seed)).raise_for_status()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=running.url, headers=headers, timeout=30) as api:
            made = Rig(running.url, control, api, settings)
            await made.connector.open()
            try:
                yield made
            finally:
                await made.connector.close()


async def pages(connector: HubSpot, stream: str, checkpoint: Checkpoint | None = None) -> list[Page]:
    """One poll to its end, each page acknowledged as the hub does."""
    got: list[Page] = []
    async for page in connector.poll(stream, checkpoint):
        got.append(page)
        await page.acknowledge()
    return got


def changes_of(some: Iterable[Page]) -> list[Change]:
    """All changes of pages."""
    return [change for page in some for change in page.changes]


def ids(some: Iterable[Change]) -> set[str]:
    """Event ids, as the log gives them."""
    return {record(change, 10**17).event_id for change in some}


def create(mapping: ObjectMap, golden: str, **values: Any) -> Write:
    """A create of one golden record."""
    return Write("hubspot", mapping.object, golden, 1, "create", mapping, None, values, encode(mapping, values))


def update(mapping: ObjectMap, golden: str, id_: str, expected: Mapping[str, Any], **values: Any) -> Write:
    """An update of one record."""
    return Write(
        "hubspot", mapping.object, golden, 2, "update", mapping, id_, values, encode(mapping, values), expected
    )


def delete(mapping: ObjectMap, golden: str, id_: str) -> Write:
    """A delete of one record."""
    return Write("hubspot", mapping.object, golden, 3, "delete", mapping, id_)


def signed(body: bytes, secret: str = SECRET, age: float = 0.0, url: str = HOOK) -> Request:
    """A webhook as HubSpot signs it, `age` seconds ago."""
    now = time.time()
    stamp = str(int((now - age) * 1000))
    headers = {
        "x-hubspot-request-timestamp": stamp,
        "x-hubspot-signature-v3": hubspot_v3(secret, "POST", url, body, stamp),
    }
    return Request("POST", url, headers, body, now)


def contact(id_: int | str, at: str = "2026-09-01T10:00:00Z", **properties: Any) -> dict[str, Any]:
    """A seeded contact."""
    base = {"email": f"c{id_}@example.com", "firstname": f"First{id_}", "lastname": "Last"}
    return {"id": str(id_), "properties": base | properties, "createdAt": at, "updatedAt": at}


def by_id(some: Sequence[Change]) -> dict[str, Change]:
    """The last upsert of each record."""
    return {c.external_id: c for c in some if c.op == "upsert"}
