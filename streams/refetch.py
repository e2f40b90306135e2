"""Refetch: notices of webhooks -> changes. The record a notice speaks of is read as it is now, and captured."""

from collections.abc import Sequence

import orjson

from hub.change import Notice
from hub.errors import HubError, Reject
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
        notices = [self._decode(record) for record in records]
        try:
            changes = await (await self.context.connector(self.system)).fetch(notices)
        except Reject:
            raise
        except HubError as error:
            raise ConnectionError(str(error)) from error
        return await to_records(self.context, changes), 0

    def _decode(self, record: Record) -> Notice:
        datum = self.context.codec.decode(record.value or b"")[1]
        return Notice(
            datum["system"],
            datum["object"],
            datum["external_id"],
            datum["kind"],
            datum["at"],
            orjson.loads(datum["data"]),
        )


async def take(context: Context, notices: Sequence[Notice], trace: str | None = None) -> None:
    """Make notices durable; returns when they are, and only then may the webhook be answered."""
    observed = now()
    records = [
        NewRecord(
            notices_topic(n.system).name,
            n.external_id.encode(),
            context.codec.encode(
                "notice",
                {
                    "system": n.system, "object": n.object, "external_id": n.external_id, "kind": n.kind, "at": n.at,
                    "observed_at": observed, "data": orjson.dumps(dict(n.data)), "trace": trace,
                },
            ),
        )
        for n in notices
    ]  # fmt: skip
    await context.log.append(records)
