"""Bad input at each entry: a hub behind one real connector, a vendor whose answers are tampered with, and what is checked."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors.kit.connector import Connector
from connectors.kit.sandbox import serve
from hub.mapping import ObjectMap
from hub.model import Model
from streams.capture import Capture
from tests.connectors import hubspot_support as hubspot
from tests.connectors import mailchimp_support as mailchimp
from tests.stages.support import Stages, assert_balanced, make


@dataclass
class Tampering:
    """An application whose answers have some bytes replaced by others on their way out."""

    app: ASGIApp
    replace: dict[bytes, bytes] = field(default_factory=dict)
    whole: tuple[bytes, str] | None = None
    """A body and its content encoding, given instead of every page."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, and tamper with the answer to vendor calls."""
        if scope["type"] != "http" or "_sandbox" in scope["path"]:
            await self.app(scope, receive, send)
            return
        scope = {**scope, "headers": [(n, v) for n, v in scope["headers"] if n != b"accept-encoding"]}
        start: Message = {}
        body = bytearray()

        async def hold(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
            else:
                body.extend(message.get("body", b""))

        await self.app(scope, receive, hold)
        content, encoding = self.whole or (self._tampered(bytes(body)), "")
        headers = [(n, v) for n, v in start["headers"] if n not in (b"content-length", b"content-encoding")]
        headers += [(b"content-length", str(len(content)).encode())]
        headers += [(b"content-encoding", encoding.encode())] if encoding else []
        await send({**start, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _tampered(self, body: bytes) -> bytes:
        for old, new in self.replace.items():
            body = body.replace(old, new)
        return body


async def hub_on(pool: asyncpg.Pool, connector: Connector, mappings: Mapping[str, ObjectMap]) -> Stages:
    """A hub that reads this connector."""
    maps = {(m.system, m.object): m for m in mappings.values()}
    hub = await make(pool, Model({m.entity.name: m.entity for m in maps.values()}, maps, "v1"))
    hub.context.connectors = {next(iter(maps))[0]: connector}
    return hub


async def read(hub: Stages, stream: str) -> int:
    """Poll a stream to its end and process what it gave; how many changes there were."""
    system, connector = next(iter(hub.context.connectors.items()))
    found = next(one for one in connector.streams() if one.name == stream)
    captured = await Capture(hub.context, system, found).step()
    await hub.run()
    return captured


@asynccontextmanager
async def tampered_hubspot(pool: asyncpg.Pool) -> AsyncIterator[tuple[Stages, Tampering, hubspot.Rig]]:
    """A hub on a HubSpot whose answers may be tampered with."""
    app = Tampering(hubspot.create_app(None))
    async with serve(app) as running, httpx.AsyncClient(base_url=running.url, timeout=30) as control:
        rig = hubspot.Rig(running.url, control, control, {})
        await rig.seed(token=hubspot.TOKEN)
        hub = await hub_on(pool, rig.connector, hubspot.mappings(["contacts", "deals"]))
        try:
            yield hub, app, rig
        finally:
            await rig.connector.close()


@asynccontextmanager
async def tampered_mailchimp(pool: asyncpg.Pool) -> AsyncIterator[tuple[Stages, Tampering, mailchimp.Rig]]:
    """A hub on a Mailchimp whose answers may be tampered with."""
    app: Any = Tampering(mailchimp.create_app(api_key=mailchimp.KEY))
    async with (
        serve(app) as running,
        httpx.AsyncClient(base_url=f"{running.url}/_sandbox", timeout=30, trust_env=False) as control,
    ):
        rig = mailchimp.Rig(running.url, app, control, control, None)  # type: ignore[arg-type]
        rig.connector = rig.connect()
        await rig.seed()
        maps = mailchimp.mappings()
        hub = await hub_on(pool, rig.connector, {"members": maps["members"]})
        try:
            yield hub, app, rig
        finally:
            await rig.connector.close()


async def assert_arrived(hub: Stages, system: str, object_: str, ids: Iterable[str]) -> None:
    """The good ones: each has a golden record."""
    rows = await hub.context.pool.fetch(
        "select external_id from hub.record where system = $1 and object = $2", system, object_
    )
    missing = set(ids) - {row["external_id"] for row in rows}
    assert not missing, f"good {object_} that did not arrive beside the bad ones: {sorted(missing)}"


async def assert_parked(hub: Stages, reasons: Mapping[str, str]) -> None:
    """The bad ones: by a part of each one's reason how many are parked; and nothing else is."""
    rows = await hub.parked()
    told = [row["reason"] for row in rows]
    for mark, part in reasons.items():
        assert any(mark in reason and part in reason for reason in told), (
            f"nothing is parked for {mark}: {part}; {told}"
        )
    assert len(told) == len(reasons), f"parked besides: {told}"
    assert_balanced(await hub.ledger())


async def within(seconds: float, awaited: Any) -> Any:
    """What is awaited, or TimeoutError."""
    return await asyncio.wait_for(awaited, seconds)
