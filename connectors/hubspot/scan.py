"""Reading an object completely, and looking at single records: what an audit needs, and deletes that nobody told.

A privacy deletion leaves no trace but a webhook, and the recycling bin forgets after 90 days. So a record that is in no
list any more is asked for by itself: gone is what neither the batch nor the single endpoint finds, nor the recycling bin.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from connectors.hubspot.api import Api
from connectors.hubspot.records import Reader
from connectors.hubspot.source import following
from connectors.kit.http import Refusal
from hub.change import Change

CHANNEL = "audit"


@dataclass(frozen=True, slots=True)
class Scan:
    """One object; see connectors.kit.connector.Scanner."""

    api: Api
    reader: Reader
    object: str
    settle_seconds: float

    async def listing(self) -> AsyncGenerator[Sequence[Change], None]:
        """All live records in the order of their ids, from the database."""
        after = ""
        while True:
            body, _ = await self.api.page(self.object, self.reader.layouts[self.object].asked, after)
            found = await self.reader.flatten(self.object, body.get("results", []), CHANNEL)
            yield [changes[-1] for changes in found.values()]
            after = following(body)
            if not after:
                return

    async def total(self) -> int:
        """How many live records there are, by the search, which lags by `settle_seconds`."""
        return await self.api.count(self.object)

    async def look(self, ids: Sequence[str]) -> list[Change]:
        """The records of these ids: found, merged into another, in the recycling bin, or gone for good."""
        reading = await self.reader.read(self.object, ids, CHANNEL)
        archived = await self.reader.archived(self.object, reading.missing, CHANNEL) if reading.missing else {}
        erased = [i for i in reading.missing if i not in archived and not await self.exists(i)]
        gone = [Change(self.reader.system, self.object, i, op="delete", channel=CHANNEL) for i in erased]
        return [*reading.changes(), *archived.values(), *gone]

    async def exists(self, id_: str) -> bool:
        """Whether a live record is answered for this id, by the endpoint of single records."""
        try:
            await self.api.http.read("GET", "/crm/v3/objects/{object}/{id}", {"object": self.object, "id": id_})
        except Refusal as refusal:
            if refusal.answer.status == 404:
                return False
            raise
        return True
