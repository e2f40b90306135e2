"""Reading all members, and looking at single ones: what an audit needs, and deletes for good, of which nobody is told."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

from connectors.mailchimp.audience import Audience
from connectors.mailchimp.scan import SETTLE_SECONDS, Cursor, scan
from hub.change import Change

LIVING = ("subscribed", "unsubscribed", "cleaned", "pending", "transactional")


@dataclass(frozen=True, slots=True)
class MembersScan:
    """The members of one audience; see connectors.kit.connector.Scanner."""

    audience: Audience
    settle_seconds: float = SETTLE_SECONDS

    async def listing(self) -> AsyncGenerator[Sequence[Change], None]:
        """Every member that is not archived, by time of change: one that changes meanwhile is read once more."""
        async for changes, _ in scan(self.audience, Cursor()):
            yield [replace(change, channel="audit") for change in changes if change.op != "delete"]

    async def total(self) -> int:
        """How many members are not archived, as the vendor counts them by status."""
        return sum([await self.audience.count(status) for status in LIVING])

    async def look(self, ids: Sequence[str]) -> list[Change]:
        """The members with these contact ids. That nobody has the id any more means deleted for good."""
        found = {one: await self.audience.find(one, "audit") for one in ids}
        return [c or self._gone(one) for one, c in found.items()]

    def _gone(self, contact: str) -> Change:
        return Change(self.audience.system, "members", contact, op="delete", channel="audit")
