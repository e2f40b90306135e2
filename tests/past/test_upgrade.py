"""A hub from before things had numbers: its past is told in the order in which it was stored, at the times of observation."""

from importlib.resources import files
from typing import Any

import orjson

from hub.edge import history
from streams import past
from streams.records import NewRecord
from streams.topics import RECEIPTS
from tests.stages.conftest import hub
from tests.stages.support import START, Stages

__all__ = ["hub"]

OLD = """
alter table hub.event drop column processed, drop column processed_at, drop column also;
drop table hub.indexed, hub.identity, hub.decision, hub.receipt, hub.deployment;
drop sequence hub.processed;
"""


async def before(hub: Stages) -> str:
    """A thing of three events and a merge, in a hub that is then as hubs were."""
    await hub.crm("1", email="ann@example.com", city="Bonn")
    await hub.shop("7", city="Berlin", email="ann@example.com")
    await hub.crm("1", city="Köln")
    await hub.context.pool.execute(OLD)
    await hub.context.pool.execute(files("streams").joinpath("state.sql").read_text())
    return await hub.golden_of("crm", "contacts", "1")


def receipt(hub: Stages, golden_id: str, at: int) -> NewRecord:
    """As receipts were: without a number."""
    values = orjson.dumps({"city": "Köln"})
    datum: dict[str, Any] = {
        "target": "shop", "object": "customers", "golden_id": golden_id, "version": 1, "op": "update", "external_id": "7",
        "key": "k", "outcome": "applied", "written": values, "stored": values, "order": 0, "reason": "", "at": at,
        "trace": None,
    }  # fmt: skip
    return NewRecord(RECEIPTS.name, golden_id.encode(), hub.context.codec.encode("receipt", datum))


async def test_the_past_of_an_older_hub_is_told(hub: Stages) -> None:
    golden_id = await before(hub)
    observed = await hub.context.pool.fetch("select event_id, observed_at from hub.event order by processed")
    thing = await past.load(hub.context, golden_id)
    events = [(step.id, step.at) for step in thing.steps if step.kind == "event"]
    assert events == [tuple(row) for row in observed]
    assert len(events) == 3
    cities = [
        (await history.show(hub.context, "contact", golden_id, id_))["fields"]["city"]["value"] for id_, _ in events
    ]
    assert cities == ["Bonn", "Bonn", "Köln"]


async def test_its_receipts_come_behind_what_was_processed_by_their_time(hub: Stages) -> None:
    golden_id = await before(hub)
    times = [row[0] for row in await hub.context.pool.fetch("select processed_at from hub.event order by processed")]
    await hub.context.log.append([receipt(hub, golden_id, times[1] + 1), receipt(hub, golden_id, START)])
    thing = await past.load(hub.context, golden_id)
    assert [step.kind for step in thing.steps] == ["receipt", "event", "event", "receipt", "event"]


async def test_what_comes_next_has_greater_numbers(hub: Stages) -> None:
    golden_id = await before(hub)
    await hub.shop("7", phone="+4930123456")
    thing = await past.load(hub.context, golden_id)
    numbers = [step.number for step in thing.steps]
    assert numbers == sorted(set(numbers))
    assert thing.steps[-1].at > thing.steps[-2].at
