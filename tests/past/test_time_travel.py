"""Time travel: any golden record and what every system held, at any instant, as live had it."""

import os
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest

from hub.edge import history
from hub.errors import Reject
from hub.values import moment
from streams import past, past_index, sight
from streams.past import Past, Step, Then
from streams.topics import DECISIONS, RECEIPTS
from tests.past.snapshots import Instant, as_held, assert_as_live, instants, watch
from tests.promises.mutations import broken, mutation
from tests.stages.conftest import hub
from tests.stages.histories import live
from tests.stages.support import Stages, empty

__all__ = ["hub"]

LONG = os.environ.get("HUB_LONG") == "1"
LENGTH = 60
PAIRS = 100 if LONG else 60


async def check_any_instant(hub: Stages, seed: int, pairs: int) -> int:
    """A random history; then random pairs of golden record and instant, each as live had it."""
    one = await watch(await empty(hub))
    await live(one, seed, LENGTH)
    return await assert_as_live(one, await instants(one, Random(seed), pairs), seed)


async def test_any_golden_record_at_any_instant_is_as_live_had_it(
    hub: Stages, seeds: Callable[[int], Sequence[int]], figures: Callable[..., None]
) -> None:
    chosen = seeds(100 if LONG else 3)
    there = [await check_any_instant(hub, seed, PAIRS) for seed in chosen]
    assert sum(there) > PAIRS / 5 * len(chosen), "hardly any of the golden records was there at its instant"
    figures("P7", histories=len(chosen), instants=PAIRS * len(chosen), there=sum(there))


def by_the_vendors_clock(self: Past, at: int) -> int:
    """An instant that is not the one of processing."""
    return upto(self, at + 10_000)


def never_told(*_: Any) -> None:
    """What was written, or reported, is not seen."""


def unordered(known: Sequence[Step], row: Any) -> Step:
    """Merges count from the beginning."""
    return Step(0, 0, row["kind"], row["event_id"], None, row["golden_id"], row["into_id"])


def forgotten(context: Any, record: Any) -> None:
    """What was found not to be said is not indexed."""
    return None if record.topic == DECISIONS.name else indexed(context, record)


upto, indexed = Past.upto, past_index._row


@pytest.mark.parametrize(
    ("owner", "name", "instead"),
    [(Past, "upto", by_the_vendors_clock), (sight, "acknowledge", never_told), (sight, "see", never_told),
     (past, "_move", unordered), (Then, "root", lambda self, golden_id: golden_id), (past_index, "_row", forgotten)],
    ids=["instant", "receipts", "reports", "order of merges", "merges", "decisions"],
)  # fmt: skip
async def test_the_check_of_instants_fails_without(hub: Stages, owner: Any, name: str, instead: Any) -> None:
    with mutation(owner, name, instead), broken(name):
        for seed in range(6):
            await check_any_instant(hub, seed, PAIRS)


async def check_rebuilt(hub: Stages, seed: int) -> int:
    """The index that grew beside a history, in portions, is the one that is built from the topics afterwards."""
    one = await empty(hub)
    await live(one, seed, LENGTH // 2)
    await past_index.catch_up(one.context)
    await live(one, seed + 1, LENGTH // 2)
    await past_index.catch_up(one.context)
    grown = await rows(one)
    await past_index.rebuild(one.context)
    assert await rows(one) == grown, f"seed {seed}"
    return sum(map(len, grown))


async def rows(hub: Stages) -> list[list[tuple[Any, ...]]]:
    tables = ("hub.identity", "hub.decision", "hub.receipt", "hub.deployment", "hub.indexed")
    return [[tuple(row) for row in await hub.context.pool.fetch(f"select * from {t} order by 1, 2")] for t in tables]


async def test_the_index_is_the_same_after_a_rebuild(hub: Stages) -> None:
    assert await check_rebuilt(hub, 1) > 20


async def test_what_the_hub_cannot_have_written_is_not_indexed(hub: Stages) -> None:
    await hub.crm("1", email="ann@example.com")
    for value in (b"", b"\x00nonsense", None):
        await hub.context.log.append([past_index_record(value)])
    await past_index.catch_up(hub.context)
    await hub.crm("1", name="Ann")
    golden_id = await hub.golden_of("crm", "contacts", "1")
    assert len((await past.load(hub.context, golden_id)).steps) == 2


def past_index_record(value: bytes | None) -> Any:
    from streams.records import NewRecord

    return NewRecord(RECEIPTS.name, b"key", value)


async def test_a_record_before_and_after_a_merge(hub: Stages) -> None:
    await hub.crm("1", name="Ann", email="ann@example.com")
    await hub.shop("7", name="Anna")
    apart = await hub.golden_of("shop", "customers", "7")
    between = (await past.load(hub.context, apart)).steps[-1]
    await hub.shop("7", email="ann@example.com")
    lives = await hub.golden_of("shop", "customers", "7")
    now = await history.show(
        hub.context, "contact", "shop:7", moment((await past.load(hub.context, lives)).steps[-1].at)
    )
    then = await history.show(hub.context, "contact", "shop:7", between.id)
    assert (now["golden_id"], [r["system"] for r in now["records"]]) == (lives, ["crm", "shop"])
    assert (then["golden_id"], then["fields"]["name"]["value"]) == (apart, "Anna")
    assert [r["system"] for r in then["records"]] == ["shop"]
    told = await history.history(hub.context, "contact", "ann@example.com")
    assert [line["kind"] for line in told] == ["event", "event", "event", "merge"]
    (loser,) = {line["golden_id"] for line in told if line["kind"] == "merge"}
    (ended,) = [c for c in told[-1]["changes"] if c["what"] == "ends"]
    assert ended["golden_id"] == loser


async def test_what_cannot_be_asked_is_refused(hub: Stages) -> None:
    await hub.crm("1", email="ann@example.com")
    for at in ("2001-01-01", "2999-01-01", "no such event"):
        with pytest.raises(Reject):
            await history.show(hub.context, "contact", "ann@example.com", at)


async def test_an_instant_between_two_transactions_is_the_first(hub: Stages) -> None:
    await hub.crm("1", city="Bonn")
    await hub.crm("1", city="Berlin")
    golden_id = await hub.golden_of("crm", "contacts", "1")
    thing = await past.load(hub.context, golden_id)
    one = Instant(golden_id, thing.steps[1].at - 1)
    held = as_held(await past.fold(hub.context, thing, thing.upto(one.at)), golden_id)
    assert held is not None
    assert held["fields"]["city"][0] == "Bonn"
