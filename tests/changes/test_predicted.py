"""What-if is exact: the writes that it shows are those that are delivered after the deployment, write by write."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from hub.errors import Reject
from hub.model import Model
from streams import applying, preparing, whatif
from streams.whatif import Outlook, Scope
from tests.changes.support import BASE, VARIANTS, Deployed, seen
from tests.promises.mutations import broken, mutation
from tests.stages.conftest import hub
from tests.stages.histories import live
from tests.stages.support import Stages, assert_balanced, empty

__all__ = ["hub"]

LONG = os.environ.get("HUB_LONG") == "1"


async def at_rest(hub: Stages, seed: int, length: int = 40) -> Deployed:
    """A hub after a history, with every target in line."""
    hub.context.model = BASE
    deployed = Deployed(await empty(hub))
    await deployed.adopt()
    await live(deployed.hub, seed, length)
    await deployed.deliver()
    return deployed


async def check_predicted_is_actual(deployed: Deployed, name: str, said: str) -> int:
    """The same writes, the same conflicts and the same golden values; how many writes there were."""
    new = VARIANTS.get(name, BASE)
    predicted = await deployed.whatif(new)
    before = await golden_values(deployed.hub)
    applied = await deployed.apply(new)
    assert told(predicted) == told(applied), f"{said}: seen one thing, done another"
    expected = before
    for change in predicted.fields:
        expected = expected | {(change.golden_id, change.field): change.after}
    gone = {g for g, into in predicted.regrouped.merged.items() if into} | predicted.ended
    wanted = {key: value for key, value in expected.items() if value is not None and key[0] not in gone}
    held = {key: value for key, value in (await golden_values(deployed.hub)).items() if value is not None}
    assert held == wanted, f"{said}: golden values are not those that were shown"
    await deployed.hub.plan()
    written = await deployed.deliver()
    assert written == seen(predicted.writes), f"{said}: written {written}, shown {seen(predicted.writes)}"
    assert_balanced(await deployed.hub.ledger())
    return len(written)


async def golden_values(hub: Stages) -> dict[tuple[str, str], object]:
    """(golden id, field) -> value, of all that live and are configured."""
    found = await hub.goldens()
    return {(g, n): v for g, one in found.items() for n, v in one.values().items()}


def told(outlook: Outlook) -> dict[str, object]:
    """An outlook's counts and conflicts."""
    opened = sorted((c.event_id, c.field, c.open) for c in outlook.opened)
    return {**whatif.summary(outlook), "opened": opened, "closed": sorted(row["id"] for row in outlook.closed)}


@pytest.mark.parametrize("name", VARIANTS)
async def test_what_is_shown_is_what_is_written(
    hub: Stages, name: str, seeds: Callable[[int], Sequence[int]], figures: Callable[..., None]
) -> None:
    writes = 0
    for seed in seeds(40 if LONG else 1):
        deployed = await at_rest(hub, seed)
        writes += await check_predicted_is_actual(deployed, name, f"seed {seed}, {name}")
        writes += await check_predicted_is_actual(deployed, "base", f"seed {seed}, {name} and back")
    figures("P7", predicted_writes=writes)


@dataclass(slots=True)
class Careless(Deployed):
    """Looks at what would change with a mechanism switched off; deploys as ever."""

    off: tuple[Any, str, Any] = (None, "", None)

    async def whatif(self, new: Model) -> Outlook:
        with mutation(*self.off):
            return await Deployed.whatif(self, new)


@pytest.mark.parametrize(
    ("what", "off", "variant"),
    [
        ("who has not opted in is written to", (preparing, "consented", lambda golden: True), "rules"),
        ("what is under review is written", (whatif, "_reviews", lambda state, found: set()), "review"),
        ("all fields are written", (preparing, "diff", lambda golden, m, view, primary=True: golden), "transform"),
    ],
)
async def test_the_check_fails(hub: Stages, what: str, off: tuple[Any, str, Any], variant: str) -> None:
    with broken(what):
        for seed in range(10):
            deployed = await at_rest(hub, seed)
            await check_predicted_is_actual(Careless(deployed.hub, off=off), variant, f"seed {seed}")


async def test_the_check_fails_where_nothing_is_queued(hub: Stages) -> None:
    with mutation(applying, "_bumped", lambda outlook: []), broken("nothing is queued"):
        for seed in range(10):
            await check_predicted_is_actual(await at_rest(hub, seed), "transform", f"seed {seed}")


async def test_a_sample_is_a_part_of_the_whole(hub: Stages) -> None:
    deployed = await at_rest(hub, 5, 80)
    new = VARIANTS["rules"]
    whole = await deployed.whatif(new)
    some = await whatif.whatif(hub.context, BASE, new, Scope(sample=2))
    assert some.looked_at == 2
    assert {(c.golden_id, c.field) for c in some.fields} <= {(c.golden_id, c.field) for c in whole.fields}
    again = await whatif.whatif(hub.context, BASE, new, Scope(sample=2))
    assert some.fields == again.fields
    half = await whatif.whatif(hub.context, BASE, new, Scope(sample=whole.looked_at // 2))
    ids = {change.golden_id for change in half.fields}
    updates = [w for w in whole.writes if w.golden_id in ids and w.op == "update"]
    assert updates, "the sample is one of which something is written"
    assert seen([w for w in half.writes if w.golden_id in ids and w.op == "update"]) == seen(updates)
    since = await hub.context.pool.fetchval("select max(observed_at) from hub.event")
    newest, older = (Scope(since=since), Scope(until=since))
    assert 0 < (await whatif.whatif(hub.context, BASE, new, newest)).looked_at < whole.looked_at
    assert 0 < (await whatif.whatif(hub.context, BASE, new, older)).looked_at <= whole.looked_at


async def check_bounded(hub: Stages) -> None:
    """More records than may be held in memory are refused; a part of them is looked at, and no more than that is read."""
    deployed = await at_rest(hub, 5, 80)
    records = await hub.context.pool.fetchval("select count(*) from hub.record")
    most = await hub.context.pool.fetchval("select count(*) from hub.record group by golden_id order by 1 desc limit 1")
    assert most < records / 2, "hardly any golden records"
    hub.context.most_records = most
    with pytest.raises(Reject, match="--sample"):
        await deployed.whatif(VARIANTS["rules"])
    assert await golden_values(hub), "a deployment is refused, too, before it does anything"
    with pytest.raises(Reject, match="HUB_WHATIF_RECORDS"):
        await deployed.apply(VARIANTS["rules"])
    read: list[int] = []
    project = whatif._project

    def counted(found: Outlook, state: Any, new: Model) -> Any:
        read.append(len(state.records))
        return project(found, state, new)

    with mutation(whatif, "_project", counted):
        await whatif.whatif(hub.context, BASE, VARIANTS["rules"], Scope(sample=1))
    assert read[0] <= most, "more than the sample was read"


async def test_memory_is_bounded(hub: Stages) -> None:
    await check_bounded(hub)


async def test_the_check_fails_where_a_sample_reads_everything(hub: Stages) -> None:
    async def everything(conn: Any, ids: Any) -> Any:
        return await whatif.every_record(conn)

    with mutation(whatif, "_records", everything), broken("a sample reads everything"):
        await check_bounded(hub)


async def test_a_what_if_changes_nothing(hub: Stages) -> None:
    deployed = await at_rest(hub, 7)
    before = await hub.state()
    assert not (await deployed.whatif(VARIANTS["transform"])).nothing
    assert await hub.state() == before
