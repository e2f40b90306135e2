"""The web edge on a real socket: what is answered to good and bad webhooks, and what is durable by then."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import orjson
import pytest

from connectors.kit.signing import hubspot_v3
from hub.change import Change
from hub.config import loads
from hub.edge import running, web_past
from hub.edge.wiring import MANIFESTS, Hub, open_hub
from streams.capture import to_records
from streams.project import Project
from streams.records import Batch, Record, partition_of
from streams.topics import notices_topic
from tests.config.samples import HUBSPOT_ALONE
from tests.promises.mutations import mutation

SECRET = "only-for-tests"
EVENT = {
    "eventId": 1, "subscriptionId": 2, "portalId": 3, "occurredAt": 1_750_000_000_000,
    "subscriptionType": "contact.propertyChange", "attemptNumber": 0, "objectId": 77,
    "propertyName": "email", "propertyValue": "a@b.example",
}  # fmt: skip


@asynccontextmanager
async def served(database: str) -> AsyncIterator[tuple[Hub, str]]:
    """A hub that hosts no stage: webhooks and questions only."""
    env = {"STATE": database, "TOKEN": "t", "SECRET": SECRET}
    config = loads(HUBSPOT_ALONE, MANIFESTS, env, Path("hub.yaml"))
    async with open_hub(config, env=env) as hub, running.started(hub, (), port=0) as started:
        yield hub, started.url


async def post(url: str, body: bytes, *, secret: str = SECRET, at: float | None = None, system: str = "hubspot") -> int:
    """Send a webhook signed as HubSpot signs; the status of the answer."""
    target = f"{url}/webhooks/{system}"
    stamp = str(int((at or time.time()) * 1000))
    headers = {
        "X-HubSpot-Signature-v3": hubspot_v3(secret, "POST", target, body, stamp),
        "X-HubSpot-Request-Timestamp": stamp,
    }
    async with httpx.AsyncClient() as client:
        return (await client.post(target, content=body, headers=headers)).status_code


async def notices(hub: Hub) -> list[Record]:
    """Every notice on the log."""
    topic = notices_topic("hubspot").name
    ends = await hub.context.log.ends([topic])
    return [record for _, partition in ends for record in await hub.context.log.read(topic, partition, 0, 100)]


async def test_a_webhook_is_answered_when_its_notice_is_on_the_log(database: str) -> None:
    async with served(database) as (hub, url):
        assert await post(url, orjson.dumps([EVENT])) == 200
        (record,) = await notices(hub)
        datum = hub.context.codec.decode(record.value)[1]
        assert (datum["system"], datum["object"], datum["external_id"]) == ("hubspot", "contacts", "77")


@pytest.mark.parametrize(
    ("body", "how", "status"),
    [
        (orjson.dumps([EVENT]), {"secret": "another"}, 401),
        (orjson.dumps([EVENT]), {"at": time.time() - 3_600}, 401),
        (b"[{", {}, 400),
        (b'{"not": "a list"}', {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"x" * (3 * 1024 * 1024), {}, 413),
        (orjson.dumps([EVENT]), {"system": "nobody"}, 404),
    ],
    ids=["forged", "stale", "malformed", "not-a-list", "not-utf-8", "deep", "too-large", "unknown-system"],
)
async def test_what_is_refused_leaves_nothing_behind(
    database: str, body: bytes, how: dict[str, object], status: int
) -> None:
    async with served(database) as (hub, url):
        assert await post(url, body, **how) == status  # type: ignore[arg-type]
        assert await notices(hub) == []


async def test_without_the_log_the_vendor_is_asked_to_try_again(database: str) -> None:
    async with served(database) as (hub, url):
        await hub.context.pool.execute("alter table hub_log.record rename to away")
        assert await post(url, orjson.dumps([EVENT])) >= 500
        await hub.context.pool.execute("alter table hub_log.away rename to record")
        assert await notices(hub) == []
        assert await post(url, orjson.dumps([EVENT])) == 200
        assert len(await notices(hub)) == 1


async def test_the_past_is_answered_within_bounds(database: str) -> None:
    async with served(database) as (hub, url), httpx.AsyncClient(base_url=f"{url}/api/v1/contact") as client:
        change = Change("hubspot", "contacts", "77", {"email": "ann@example.com"}, version=1, at=1_750_000_000_000_000)
        records = await to_records(
            hub.context, [change, replace(change, fields={"email": "eva@example.com"}, version=2)]
        )
        await hub.context.log.append(records)
        partition = partition_of(b"77", 4)
        found = await hub.context.log.read(records[0].topic, partition, 0, 10)
        await Project(hub.context)([Batch(records[0].topic, partition, tuple(found))])
        told = (await client.get("/hubspot:77/history")).json()
        then = await client.get("/hubspot:77", params={"at": told[0]["id"]})
        now = await client.get("/hubspot:77")
        why = await client.get("/hubspot:77/why/email", params={"proof": True})
        values = [one.json()["fields"]["email"]["value"] for one in (then, now)]
        assert (len(told), values) == (2, ["ann@example.com", "eva@example.com"])
        assert (why.json()["value"], why.json()["proof"]["holds"]) == ("eva@example.com", True)
        for path, status in (("/nobody", 404), ("/hubspot:77?at=2999-01-01", 400), ("/hubspot:77/why/shoe_size", 404)):
            assert (await client.get(path)).status_code == status, path
        await assert_bounded(client)


async def assert_bounded(client: httpx.AsyncClient) -> None:
    """Of a record with more steps than the web application reads, the past is left to the commands."""
    with mutation(web_past, "STEPS", 1):
        for path in ("/hubspot:77/history", "/hubspot:77?at=2999-01-01", "/hubspot:77/why/email"):
            assert (await client.get(path)).status_code == 413, path
