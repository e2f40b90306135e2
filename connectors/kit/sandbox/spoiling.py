"""Spoiling: lists that are answered with 200 and do not show everything, or miscount. What that looks like is the vendor's."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SPOILED = ("truncated", "empty", "miscounted", "narrowed")
"""The kinds of faults that spoil a list."""


@runtime_checkable
class Spoiling(Protocol):
    """A vendor's sandbox that has lists to spoil."""

    def spoil(self, fault: Any, body: Any) -> Any:
        """The JSON body of a list spoiled by a fault of SPOILED; any other body as it is."""
        ...


async def answer_spoiled(app: ASGIApp, vendor: object, fault: Any, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer as the application does, spoiled; without compression, so that the body can be read."""
    plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
    sent: list[Message] = []

    async def keep(message: Message) -> None:
        sent.append(message)

    await app({**scope, "headers": plain}, receive, keep)
    start, body = sent[0], b"".join(message.get("body", b"") for message in sent[1:])
    if start["status"] == 200 and isinstance(vendor, Spoiling):
        body = orjson.dumps(vendor.spoil(fault, orjson.loads(body)))
    headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
    await send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})
