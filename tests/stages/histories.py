"""Random histories of three systems: what their users, a steward and the networks between may do."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from hub.change import Change
from hub.values import moment
from streams import steward
from tests.stages.support import SECOND, START, Stages

SYSTEMS = (("crm", "contacts"), ("shop", "customers"), ("news", "members"))
NAMES = ("Ann", "ann ", "Otto", "Eva", None)
EMAILS = ("ann@example.com", "otto@example.com", "eva@example.com", "info@example.com", "broken@", None)


@dataclass(slots=True)
class History:
    """Draws what happens next. Everything follows from the seed."""

    random: Random
    hub: Stages
    seen: list[Change]

    async def happen(self) -> None:
        """One thing happens; it reaches the log, and mostly the stages."""
        action = self.random.choices(ACTIONS, WEIGHTS)[0]
        await action(self)
        if self.random.random() < 0.4:
            await self.hub.run(self.random)

    async def edit(self) -> None:
        """Somebody creates or edits a record, or touches it."""
        system, object_ = self.random.choice(SYSTEMS)
        fields = {name: draw(self.random) for name, draw in FIELDS.items() if self.random.random() < 0.35}
        if system != "shop":
            fields.pop("crm_id", None)
        await self._append(self.hub.change(system, object_, self._id(), **fields))

    async def firm(self) -> None:
        """A company, and who works there."""
        number = self._id()
        await self._append(
            self.hub.change(
                "crm", "companies", number, name=f"Firm {number}", domain=f"firm{self.random.randint(0, 2)}.example.com"
            ),
            self.hub.change("crm", "contacts", self._id(), company_id=number),
        )

    async def delete(self) -> None:
        """A record is deleted, seen or not."""
        system, object_ = self.random.choice(SYSTEMS)
        await self._append(replace(self.hub.change(system, object_, self._id()), op="delete"))

    async def vendor_merge(self) -> None:
        """A vendor merges records of its own."""
        into, merged = self.random.sample(["1", "2", "3", "4", "5"], 2)
        await self._append(replace(self.hub.change("shop", "customers", into), op="merge", merged=(merged,)))

    async def duplicate(self) -> None:
        """An old change is captured once more, by another channel; or it comes again with other content."""
        if self.seen:
            change = replace(self.random.choice(self.seen), channel="webhook")
            if self.random.random() < 0.3 and change.op == "upsert":
                change = replace(change, fields={**change.fields, "city": "Other"})
            await self.hub.append(change)

    async def late(self) -> None:
        """A change from the past arrives only now."""
        at = START + self.random.randint(0, 20) * SECOND + 7
        await self._append(Change("crm", "contacts", self._id(), {"name": "Late", "city": "Past"}, version=at, at=at))

    async def decide(self) -> None:
        """A steward decides about some golden record, alive or merged."""
        rows = await self.hub.context.pool.fetch("select golden_id from hub.golden order by 1")
        if not rows:
            return
        fields = self.random.choice(
            [
                {"action": "pin", "field": self.random.choice(("city", "name")), "value": "Pinned"},
                {"action": "unpin", "field": self.random.choice(("city", "name"))},
                {"action": "keep", "field": "tier"},
                {"action": "unmerge"},
                {"action": "unmerge"},
            ]
        )
        golden_id = str(self.random.choice(rows)["golden_id"])
        said = {"author": "ann", "reason": "because", **fields}
        at = next(self.hub.clock)
        await self.hub.append(Change(steward.SYSTEM, steward.OBJECT, golden_id, said, at=at, channel="steward"))

    async def deliver(self) -> None:
        """A target is brought in line; some of what was written comes back."""
        target = self.random.choice(("crm", "shop", "news"))
        for prepared in await self.hub.deliver(target):
            for write in prepared.writes:
                if write.op != "delete" and self.random.random() < 0.7:
                    external_id = write.external_id or f"{target}-{write.golden_id}"
                    intent = write.key if self.random.random() < 0.5 else None
                    back = self.hub.change(write.target, write.object, external_id, **write.natives)
                    await self._append(replace(back, intent=intent))

    async def redeliver(self) -> None:
        """The log delivers again what was handled already."""
        self.hub.read = {key: self.random.randint(0, upto) for key, upto in self.hub.read.items()}

    async def poison(self) -> None:
        """Something unreadable gets on the log."""
        await self.hub.raw("shop", "customers", self._id(), self.random.randbytes(self.random.randint(0, 9)))

    async def _append(self, *changes: Change) -> None:
        self.seen += changes
        await self.hub.append(*changes)

    def _id(self) -> str:
        return str(self.random.randint(1, 5))


def _consent(random: Random) -> Any:
    status = random.choice(("in", "out", None))
    at = random.choice((None, moment(START + random.randint(0, 50) * SECOND)))
    return status and {"status": status, "at": at}


FIELDS: dict[str, Callable[[Random], Any]] = {
    "email": lambda random: random.choice(EMAILS),
    "name": lambda random: random.choice(NAMES),
    "city": lambda random: random.choice(("Bonn", "Berlin", "", None)),
    "zip": lambda random: random.choice(("53111", "10115")),
    "phone": lambda random: random.choice(("+4930123456", "030", "x", None)),
    "tier": lambda random: random.choice(("gold", "silver", None)),
    "lifecycle": lambda random: random.choice(("lead", "Lead", "customer")),
    "tags": lambda random: random.choice(("a;b", "b", ["c"], None)),
    "consent": _consent,
    "crm_id": lambda random: str(random.randint(1, 5)),
}
ACTIONS = (
    History.edit, History.firm, History.delete, History.vendor_merge, History.duplicate, History.late,
    History.decide, History.deliver, History.redeliver, History.poison,
)  # fmt: skip
WEIGHTS = (30, 3, 4, 2, 5, 3, 6, 6, 2, 1)


async def live(hub: Stages, seed: int, length: int) -> None:
    """A history from its beginning to a state in which all was processed."""
    history = History(Random(seed), hub, [])
    for _ in range(length):
        await history.happen()
    await hub.run(history.random)
