"""What the tests of OAuth share: an authorization server, a person's browser, a client, and a process of the hub's."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import asyncpg
import httpx

from connectors.kit.allowance import Limit
from connectors.kit.authorize import authorize
from connectors.kit.budget import Budget
from connectors.kit.client import Client
from connectors.kit.granted import Granted
from connectors.kit.http import Http
from connectors.kit.sandbox import serve
from connectors.kit.sandbox.authority import Registration
from connectors.kit.sandbox.authorizing import create_app
from connectors.kit.tokens import Token, TokenStore
from streams.sealing import Seal
from streams.tokens import PostgresTokens

APP = Registration()
KEY = "only-for-tests-only-for-tests-only-for-tests"
TOKEN_CALL = "POST /token"


def client(url: str, **more: Any) -> Client:
    """The hub's registration at a sandbox."""
    usual = Client("vendor", "authorization_code", f"{url}/token", APP.client_id, APP.client_secret)
    loopback = {"authorize_url": f"{url}/authorize", "redirect_uri": "http://127.0.0.1:0/callback"}
    return replace(usual, **loopback, **more)


@dataclass
class Vendor:
    """A served sandbox."""

    url: str
    http: httpx.AsyncClient

    async def control(self, name: str, body: Any) -> Any:
        """Call the control API."""
        return (await self.http.post(f"/_sandbox/{name}", json=body)).raise_for_status().json()

    async def register(self, **more: Any) -> None:
        """Set the server up otherwise than usual."""
        await self.control("seed", more)

    async def revoke(self) -> None:
        """Remove the app, as a person does at the vendor."""
        await self.control("edit", {"action": "revoke"})

    async def fault(self, *faults: dict[str, Any]) -> None:
        """Arm faults."""
        await self.control("faults", list(faults))

    async def later(self, seconds: float) -> None:
        """Move the vendor's clock."""
        await self.control("clock", {"advance_seconds": seconds})

    async def calls(self, path: str = "/token") -> list[dict[str, Any]]:
        """The calls of a path so far."""
        body = (await self.http.get("/_sandbox/requests")).json()
        return [call for call in body["requests"] if call["path"] == path]

    async def good(self, header: str) -> bool:
        """Whether the vendor takes a header."""
        return (await self.http.get("/things", headers={"Authorization": header})).status_code == 200


@asynccontextmanager
async def vendor() -> AsyncIterator[Vendor]:
    """A fresh authorization server on a real socket."""
    async with (
        serve(create_app()) as running,
        httpx.AsyncClient(base_url=running.url, timeout=30, trust_env=False) as http,
    ):
        yield Vendor(running.url, http)


def browser(change: Callable[[str], str] = lambda url: url) -> Callable[[str], None]:
    """A person who opens the URL; `change` is what somebody in between makes of each address."""
    going: set[asyncio.Task[None]] = set()

    async def go(url: str) -> None:
        async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
            answer = await http.get(change(url))
            if answer.is_redirect:
                await http.get(change(answer.headers["location"]))

    def show(url: str) -> None:
        going.add(asyncio.create_task(go(url)))

    return show


async def authorized(vendor: Vendor, store: TokenStore) -> Token:
    """The token that a person's consent gives, stored."""
    return await authorize(client(vendor.url), store, browser(), 20)


async def stale(store: TokenStore, token: Token) -> None:
    """Store the token once more as one that is due for replacement."""
    assert await store.swap("vendor", replace(token, renew_at=0.0, expires_at=1.0), token.generation)


async def tables(pool: asyncpg.Pool) -> None:
    """The state's tables."""
    await pool.execute(files("streams").joinpath("state.sql").read_text())


def stored(pool: asyncpg.Pool, *keys: str) -> PostgresTokens:
    """The store on a pool."""
    return PostgresTokens(pool, Seal(keys or (KEY,)))


def granted(vendor: Vendor, store: TokenStore, clock: Callable[[], float] | None = None, **more: Any) -> Granted:
    """Credentials like those of a hub's process."""
    made = client(vendor.url, **more)
    return (
        Granted(made, store, Budget(limit=Limit(concurrency=100)), clock)
        if clock
        else Granted(made, store, Budget(limit=Limit(concurrency=100)))
    )


@asynccontextmanager
async def caller(vendor: Vendor, credentials: Granted) -> AsyncIterator[Http]:
    """A client of the vendor's API."""
    http = Http("vendor", vendor.url, credentials, Budget(limit=Limit(concurrency=100)))
    yield http
    await http.aclose()


class Worker:
    """A process that asks for the header once, when told to."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child

    async def go(self) -> str:
        """Tell it, and wait for its end: the header, or the error in words; "" where it was killed."""
        out, _ = await asyncio.wait_for(self._child.communicate(b"go\n"), 60)
        return out.decode().strip()


async def worker(database: str, vendor: Vendor, mutation: str = "") -> Worker:
    """A process that is ready."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.oauth.worker", database, vendor.url, mutation,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    line = await asyncio.wait_for(child.stdout.readline(), 60)
    assert line == b"ready\n", line
    return Worker(child)
