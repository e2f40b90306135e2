"""The sender of a sandbox's webhooks: batches, the vendor's retries with compressed waits, and injectable disorder."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

import httpx
import msgspec

Event = dict[str, Any]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class WebhookMode(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How deliveries go wrong. `duplicate` and `drop` are shares of events; all chance comes from `seed`."""

    duplicate: Share = 0.0
    drop: Share = 0.0
    delay_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    reorder: bool = False
    seed: int = 0


class WebhookSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where and how to deliver. No `url` means nowhere; no `secret` means the vendor's own default.

    `base_delay_seconds` is the wait before the first retry; each next one is twice as long, up to 64 times.
    """

    url: str | None = None
    secret: str | None = None
    mode: WebhookMode = WebhookMode()
    base_delay_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.05


Render = Callable[[list[Event], WebhookSettings, int], tuple[dict[str, str], bytes]]
"""Events, settings and the attempt's number from 0 -> the request's headers and body."""


@dataclass(order=True, slots=True)
class _Delivery:
    due: float
    order: float
    number: int
    attempt: int = field(compare=False)
    events: list[Event] = field(compare=False)


class _Queue:
    """Deliveries by when they are due; those of the first attempt are joined to batches."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._heap: list[_Delivery] = []
        self._wake = asyncio.Event()
        self._numbered = 0

    def push(self, delay: float, order: float, attempt: int, events: list[Event]) -> None:
        """Add a delivery that is due after a delay in seconds."""
        self._numbered += 1
        due = asyncio.get_running_loop().time() + delay
        heapq.heappush(self._heap, _Delivery(due, order, self._numbered, attempt, events))
        self._wake.set()

    async def next(self) -> _Delivery:
        """The first delivery, when it is due."""
        while True:
            self._wake.clear()
            wait = self._heap[0].due - asyncio.get_running_loop().time() if self._heap else None
            if wait is not None and wait <= 0:
                return self._take()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), wait)

    def _take(self) -> _Delivery:
        first = heapq.heappop(self._heap)
        now = asyncio.get_running_loop().time()
        while first.attempt == 0 and len(first.events) < self._batch and self._heap:
            following = self._heap[0]
            if following.due > now or following.attempt:
                break
            first.events.extend(heapq.heappop(self._heap).events)
        return first


class WebhookSender:
    """Posts events in the background, in order unless told otherwise.

    An event is `sent` when a POST with it is answered 2xx in time, `failed` when its retries are used up, `dropped` by
    the mode, and `overflowed` when more than `capacity` events wait. It must be offered events inside an event loop.
    """

    def __init__(
        self,
        render: Render,
        *,
        batch: int = 1,
        retries: int = 10,
        timeout_seconds: float = 5.0,
        capacity: int = 200_000,
    ) -> None:
        self._render, self._retries, self._capacity, self._timeout = render, retries, capacity, timeout_seconds
        self._settings = WebhookSettings()
        self._random = random.Random(0)
        self._queue = _Queue(batch)
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None
        self._counts = dict.fromkeys(("sent", "failed", "dropped", "duplicated", "overflowed", "attempts"), 0)

    @property
    def settings(self) -> WebhookSettings:
        """The settings in force."""
        return self._settings

    def configure(self, settings: WebhookSettings) -> None:
        """Take new settings; events that wait go to the new URL."""
        self._settings = settings
        self._random = random.Random(settings.mode.seed)

    def counts(self) -> dict[str, Any]:
        """Events by what became of them, POSTs made, and events pending."""
        return {"url": self._settings.url, "pending": self._waiting, **self._counts}

    def offer(self, events: Iterable[Event]) -> None:
        """Queue events for delivery as the mode says; without a URL they are forgotten, as by a vendor."""
        if self._settings.url is None:
            return
        for event in events:
            self._offer(event)
        if self._waiting and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run())

    def _offer(self, event: Event) -> None:
        mode = self._settings.mode
        if self._random.random() < mode.drop:
            self._counts["dropped"] += 1
            return
        copies = 2 if self._random.random() < mode.duplicate else 1
        self._counts["duplicated"] += copies - 1
        for _ in range(copies):
            if self._waiting >= self._capacity:
                self._counts["overflowed"] += 1
            else:
                self._push(mode.delay_seconds, 0, [event])

    def _push(self, delay: float, attempt: int, events: list[Event]) -> None:
        # A shuffled event waits up to a quarter of a second more, so that it can fall behind a later one.
        shuffled = self._random.random() if self._settings.mode.reorder else 0.0
        self._queue.push(delay + shuffled / 4, shuffled, attempt, events)
        self._waiting += len(events)

    async def aclose(self) -> None:
        """Stop; what is pending stays undelivered."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        async with httpx.AsyncClient(timeout=self._timeout, trust_env=False) as client:
            while True:
                await self._post(client, await self._queue.next())

    async def _post(self, client: httpx.AsyncClient, delivery: _Delivery) -> None:
        settings = self._settings
        delivered = settings.url is not None and await self._attempt(client, settings, delivery)
        self._waiting -= len(delivery.events)
        if delivered:
            self._counts["sent"] += len(delivery.events)
        elif delivery.attempt >= self._retries:
            self._counts["failed"] += len(delivery.events)
        else:
            wait = settings.base_delay_seconds * 2 ** min(delivery.attempt, 6)
            self._push(wait, delivery.attempt + 1, delivery.events)

    async def _attempt(self, client: httpx.AsyncClient, settings: WebhookSettings, delivery: _Delivery) -> bool:
        headers, body = self._render(delivery.events, settings, delivery.attempt)
        self._counts["attempts"] += 1
        try:
            answer = await asyncio.wait_for(
                client.post(str(settings.url), headers=headers, content=body), self._timeout
            )
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
            return False
        return answer.is_success
