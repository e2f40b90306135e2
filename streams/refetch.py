"""Refetch: notices of webhooks -> changes. The record a notice speaks of is read as it is now, and captured."""

from collections.abc import Mapping, Sequence
from random import sample
from typing import Any

import orjson

from connectors.kit.allowance import Priority
from connectors.kit.line import calling
from hub.change import Change, Notice
from hub.errors import HubError, Reject, Retry
from hub.event import canonical
from streams import metrics, tracing
from streams.batches import process
from streams.capture import to_records
from streams.context import Context, now
from streams.log_postgres import Connection
from streams.records import Batch, NewRecord, Record
from streams.topics import notices_topic

STAGE = "refetch"


class Unfetchable(Exception):
    """Among these notices is one that cannot be fetched, while others can. Its record is read by the next poll."""


class Refetch:
    """The handler of one system's refetch stage. A vendor that is down is waited for, like any other infrastructure."""

    def __init__(self, context: Context, system: str) -> None:
        self.context = context
        self.system = system
        self._blamed: frozenset[str] = frozenset()  # what could not be fetched while others could: to be parked

    async def __call__(self, batches: list[Batch]) -> None:
        """Fetch the records of these notices, each once, and append their changes."""
        await process(self.context, f"{STAGE}-{self.system}", batches, self.work)

    async def work(self, conn: Connection, records: Sequence[Record]) -> tuple[list[NewRecord], int]:
        """What to append; position and outbox are one transaction, so a crash fetches again and loses nothing."""
        await self.context.codec.learn(record.value for record in records)
        data = [self.context.codec.decode(record.value or b"")[1] for record in records]
        traces = {(d["system"], d["object"], d["external_id"]): d["trace"] for d in data}
        with tracing.working(STAGE, traces.values(), {"hub.system": self.system}):
            changes = await self._fetch([_notice(datum) for datum in data])
        metrics.captured(changes)
        return await to_records(self.context, changes, traces), 0

    async def _fetch(self, notices: Sequence[Notice]) -> Sequence[Change]:
        try:
            return await self._read(notices)
        except Reject:
            raise
        except (HubError, TimeoutError) as error:
            metrics.failed(STAGE, self.system, error)
            if blamed := {notice.external_id for notice in notices} & self._blamed:
                self._blamed -= blamed if len(notices) == 1 else set()
                raise Unfetchable(str(error)) from error
            if isinstance(error, Retry | TimeoutError) and len(notices) > 1:
                self._blamed = await self._sift(notices, error)
                raise Unfetchable(str(error)) from error
            raise ConnectionError(str(error)) from error

    async def _read(self, notices: Sequence[Notice]) -> list[Change]:
        connector = await self.context.connector(self.system)
        with calling(Priority.REFETCH):
            return await self.context.bounded(connector.fetch(notices), f"fetching from {self.system}")

    async def _sift(self, notices: Sequence[Notice], error: Exception) -> frozenset[str]:
        """Is it the vendor, or one of these? Two of them, chosen at random, tell. Raises ConnectionError where it is the
        vendor, which is waited for; else the external ids of those that cannot be fetched while others can."""
        if await self._failing(sample(notices, 1)) and await self._failing(sample(notices, 1)):
            raise ConnectionError(str(error)) from error
        return frozenset(await self._failing(notices))

    async def _failing(self, notices: Sequence[Notice]) -> list[str]:
        try:
            await self._read(notices)
        except (Retry, TimeoutError):
            if len(notices) == 1:
                return [notices[0].external_id]
            middle = len(notices) // 2
            return await self._failing(notices[:middle]) + await self._failing(notices[middle:])
        return []


def _notice(datum: Mapping[str, Any]) -> Notice:
    return Notice(
        datum["system"],
        datum["object"],
        datum["external_id"],
        datum["kind"],
        datum["at"],
        orjson.loads(datum["data"]),
    )


async def take(context: Context, notices: Sequence[Notice], parent: str | None = None) -> None:
    """Make notices durable; returns when they are, and only then may the webhook be answered. `parent` is the
    traceparent that came with it."""
    observed = now()
    records = [
        NewRecord(
            notices_topic(n.system).name,
            n.external_id.encode(),
            context.codec.encode(
                "notice",
                {
                    "system": n.system, "object": n.object, "external_id": n.external_id, "kind": n.kind, "at": n.at,
                    "observed_at": observed, "data": canonical(dict(n.data)),
                    "trace": _trace(n, observed, parent) if tracing.on() else None,
                },
            ),
        )
        for n in notices
    ]  # fmt: skip
    await context.log.append(records)


def _trace(notice: Notice, observed: int, parent: str | None) -> str | None:
    attributes: tracing.Attributes = {"hub.system": notice.system, "hub.object": notice.object}
    return tracing.begin("webhook", attributes | {"hub.kind": notice.kind}, observed, parent)
