"""No effect is doubled: however often anything is delivered, and wherever a worker is killed, each vendor is told once to
create a record and once to change it, and holds the same in the end.

The points at which the hub is killed are all calls to its store, its log and its vendors, one after the other: each call
of each action of a small story, before it took effect, and after, when its answer is lost.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from connectors.hubspot.find import Finder
from hub.edge.embedded import Embedded
from hub.event import Event, from_avro
from hub.receipt import Receipt
from hub.write import Write
from streams.ledger import balance
from streams.log_postgres import Connection
from streams.project import Project
from streams.records import Record
from tests.promises.mutations import broken, mutation
from tests.promises.small import Bench, Running, Story, effects, held, opened

ONCE = Counter({"hubspot upsert": 1, "hubspot update": 1, "mailchimp POST": 1, "mailchimp PATCH": 1})
HOLD = {
    "crm": [("Anna", "in")],
    "hubspot": [["Anna", "in", "2024-01-01T00:00:00Z"]],
    "mailchimp": [["Anna", "subscribed"]],
}


@dataclass
class Told:
    """What was counted of all stories."""

    stories: int = 0
    kills: int = 0
    calls: int = 0


async def check_once(bench: Bench, email: str) -> None:
    """One person's records are as in a single delivery, and so is what the vendors were told."""
    found, effect = await held(bench, email), await effects(bench, email)
    assert found == HOLD, f"{email}: {found}"
    assert effect == ONCE, f"{email}: the vendors took {dict(effect)}, not {dict(ONCE)}"


async def check_nothing_is_left(hub: Running) -> None:
    """Everything is accounted for, nothing waits and nothing was parked."""
    ledger = await balance(hub.stages.context)
    assert (ledger.unaccounted, ledger.parked, ledger.pending, ledger.waiting) == (0, 0, 0, 0), ledger


async def check_killed_everywhere(hub: Running) -> Told:
    """Story after story, the hub is killed one call later in each action, until no action has so many calls."""
    told = Told()
    for at in count(1):
        story = Story(hub, f"kill{at}@example.com", at)
        await story.tell()
        await check_once(hub.bench, story.email)
        told = Told(told.stories + 1, told.kills + story.kills, max(told.calls, story.longest))
        if not story.kills:
            break
    await check_nothing_is_left(hub)
    return told


async def check_answer_lost(hub: Running, call: str) -> None:
    """The hub is killed at a vendor's call of this name, in each action that makes it."""
    story = Story(hub, "lost@example.com", match=call)
    await story.tell()
    assert story.kills, f"{call} was never called"
    await check_once(hub.bench, story.email)
    await check_nothing_is_left(hub)


async def check_delivered(hub: Running, times: int) -> None:
    """Everything is delivered several times."""
    story = Story(hub, f"times{times}@example.com", times=times)
    await story.tell()
    await check_once(hub.bench, story.email)
    await check_nothing_is_left(hub)


async def test_killed_at_every_call(postgres: Embedded, tmp_path: Path, figures: Callable[..., None]) -> None:
    async with opened(postgres, tmp_path) as hub:
        told = await check_killed_everywhere(hub)
    assert told.kills > 200
    figures("P2", kills=told.kills, stories=told.stories, most_calls_of_an_action=told.calls, effects_doubled=0)


async def test_delivered_several_times(postgres: Embedded, tmp_path: Path, figures: Callable[..., None]) -> None:
    async with opened(postgres, tmp_path) as hub:
        for times in (1, 2, 5):
            await check_delivered(hub, times)
    figures("P2", deliveries="1, 2 and 5 times", effects_doubled=0)


async def everything_is_new(self: Project, conn: Connection, records: Sequence[Record]) -> list[tuple[Record, Event]]:
    await self.context.codec.learn(record.value for record in records)
    return [(r, from_avro(self.context.codec.decode(r.value or b"")[1])) for r in records]


async def find_nothing(self: Finder, object_: str, writes: Sequence[Write]) -> dict[str, Receipt]:
    return {}


UPSERT = "POST hubspot.test/crm/v3/objects/contacts/batch/upsert"


async def test_fails_without_knowing_events_again(postgres: Embedded, tmp_path: Path) -> None:
    async with opened(postgres, tmp_path) as hub:
        with mutation(Project, "_new_events", everything_is_new), broken("no event ids"):
            await check_delivered(hub, 2)


async def test_fails_without_find_before_create(postgres: Embedded, tmp_path: Path) -> None:
    async with opened(postgres, tmp_path) as hub:
        with mutation(Finder, "find", find_nothing), broken("no find before create"):
            await check_answer_lost(hub, UPSERT)
