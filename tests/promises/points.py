"""Every point at which a hub waits for its store, its log or a vendor, counted; and a hub killed at any one of them.

A hub that was killed makes no more calls: whatever it still tries ends at once, and its connections break, so that what
was not committed never was. A call can be killed before it took effect, or after, when its answer is lost.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx
import pytest

from streams.log import KafkaLog

LOG = ("append", "read", "ends")
STATEMENTS = ("execute", "executemany", "fetch", "fetchrow", "fetchval", "copy_records_to_table")


class Killed(BaseException):
    """The hub's process ends here."""


@dataclass
class Points:
    """Counts the calls of a hub, while `on`, and kills it at call number `at`, or at one whose name begins with `match`:
    before that takes effect, or `after` it. With `only` no other calls are counted than those whose name begins so.
    Within a transaction a call takes effect with the commit, so only what lasts by itself is killed afterwards."""

    vendors: dict[str, httpx.ASGITransport]
    at: int = 0
    match: str = ""
    only: str = ""
    after: bool = False
    on: bool = False
    dead: bool = False
    names: list[str] = field(default_factory=list)
    connections: set[asyncpg.Connection] = field(default_factory=set)

    def aim(self, at: int, match: str, after: bool) -> None:
        """Count anew, and kill at this call."""
        self.names.clear()
        self.at, self.match, self.after, self.on = at, match, after, True

    async def pass_(self, name: str, lasts: bool, call: Callable[[], Awaitable[Any]]) -> Any:
        """One call. Raises Killed where it is the one, and for every call of a hub that was killed."""
        if not self.on:
            return await call()
        if self.dead:
            raise Killed
        if not name.startswith(self.only):
            return await call()
        self.names.append(name)
        meant = len(self.names) == self.at or (self.match and name.startswith(self.match))
        if not meant or (self.after and not lasts):
            return await call()
        if self.after:
            await call()
        self.dead = True
        raise Killed

    def bury(self) -> None:
        """Break what the dead hub had open; the next one may live."""
        for connection in self.connections:
            connection.terminate()
        self.connections.clear()
        self.on, self.dead = False, False


@contextmanager
def counted(points: Points) -> Iterator[Points]:
    """The calls of asyncpg, httpx and Kafka go by these points; HTTP reaches the vendors in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name in LOG:
            patch.setattr(KafkaLog, name, _logged(points, name, getattr(KafkaLog, name)))
        for name in STATEMENTS:
            patch.setattr(asyncpg.Connection, name, _statement(points, name, getattr(asyncpg.Connection, name)))
        made = httpx.create_ssl_context()  # takes longer than all the rest of a start, and no call needs it here
        patch.setattr(httpx._transports.default, "create_ssl_context", lambda **_: made)
        patch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", _request(points))
        yield points


def _statement(points: Points, name: str, real: Any) -> Any:
    async def call(self: asyncpg.Connection, *args: Any, **kwargs: Any) -> Any:
        if points.on:
            points.connections.add(self)
        what = " ".join(str(args[0]).split()) if args else ""
        lasts = not self.is_in_transaction() or what.startswith("COMMIT")
        return await points.pass_(f"{name} {what[:60]}", lasts, lambda: real(self, *args, **kwargs))

    return call


def _logged(points: Points, name: str, real: Any) -> Any:
    async def call(self: KafkaLog, *args: Any) -> Any:
        return await points.pass_(f"log {name}", True, lambda: real(self, *args))

    return call


def _request(points: Points) -> Any:
    async def call(_: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        vendor = points.vendors[request.url.host]
        name = f"{request.method} {request.url.host}{request.url.path}"
        return await points.pass_(name, True, lambda: vendor.handle_async_request(request))

    return call
