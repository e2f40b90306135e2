"""Refetch: notices of webhooks -> changes. The record a notice speaks of is read as it is now, and captured."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from connectors.kit.allowance import Priority
from connectors.kit.line import calling
from hub.change import Change, Notice
from hub.errors import HubError, Reject
from streams import metrics, tracing
from streams.batches import process
from streams.capture import to_records
from streams.context import Context, now
from streams.log_postgres import Connection
from streams.records import Batch, NewRecord, Record
from streams.topics import notices_topic

STAGE = "refetch"


class Refetch:
    """The handler of one system's refetch stage. A vendor that is down is waited for, like any other infrastructure."""

    def __init__(self, context: Context, system: str) -> None:
        self.context = context
        self.system = system

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
            with calling(Priority.REFETCH):
                return await (await self.context.connector(self.system)).fetch(notices)
        except Reject:
            raise
        except HubError as error:
            metrics.failed(STAGE, self.system, error)
            raise ConnectionError(str(error)) from error


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
                    "observed_at": observed, "data": orjson.dumps(dict(n.data)),
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
