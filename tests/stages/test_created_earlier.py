"""A create that was made by a try of which no answer came, and is tried again when it would say something else."""

from dataclasses import replace

import pytest

from hub.change import Change
from hub.receipt import Deferred
from hub.write import Write
from tests.stages.conftest import hub
from tests.stages.support import Stages, assert_balanced

__all__ = ["hub"]
LOST = Deferred("no answer", 0.0)


async def tried(hub: Stages, **known: str) -> tuple[Write, Change]:
    """The create whose answer was lost, and what its record holds: by then the golden record says something else."""
    await hub.shop("1", name="Ann", city="Bonn", **known)
    (first,) = (w for p in await hub.deliver("crm", LOST) for w in p.writes)
    assert first.op == "create"
    await hub.shop("1", name="Ann", city="Berlin", **known)
    at = next(hub.clock)
    return first, Change("crm", "contacts", "900", dict(first.natives), version=at, at=at)


async def found_again(hub: Stages, made: Change) -> None:
    """The next try finds the record that the first one made."""
    (prepared,) = await hub.deliver("crm", Deferred("made otherwise", 0.0, (replace(made, channel="read"),), "900"))
    assert [w.op for w in prepared.writes] == ["create"]
    await hub.run()


async def check_the_rest_is_written(hub: Stages) -> None:
    """What the first try did not say yet is written to the record that it made, once."""
    await hub.run()
    (prepared,) = await hub.deliver("crm")
    assert [(w.op, w.external_id, dict(w.values)) for w in prepared.writes] == [("update", "900", {"city": "Berlin"})]
    await hub.run()
    assert not [w for p in await hub.deliver("crm") for w in p.writes]
    assert (await hub.values("crm", "contacts", "900"))["city"] == "Berlin"
    assert len(await hub.goldens()) == 1
    assert_balanced(await hub.ledger())


@pytest.mark.parametrize("known", [{"email": "ann@example.com"}, {}], ids=["matched", "unmatched"])
@pytest.mark.parametrize("told", [False, True])
async def test_what_changed_between_two_tries_of_a_create_is_written(
    hub: Stages, told: bool, known: dict[str, str]
) -> None:
    """Whether the system tells of the record besides, marked as the hub's own, or not."""
    first, made = await tried(hub, **known)
    await found_again(hub, made)
    if told:
        await hub.tell(replace(made, intent=first.key))
    await check_the_rest_is_written(hub)


async def test_what_is_told_of_a_create_that_was_tried_twice_is_what_the_first_try_said(hub: Stages) -> None:
    """The system tells of the record before any try was answered: it holds what the first said, not what the second would."""
    first, made = await tried(hub, email="ann@example.com")
    await hub.deliver("crm", LOST)
    await hub.tell(replace(made, intent=first.key))
    await check_the_rest_is_written(hub)


async def test_who_edits_between_two_tries_is_heard(hub: Stages) -> None:
    """The record that a first try made was edited there before the second found it: that is an edit like any other."""
    _, made = await tried(hub, email="ann@example.com")
    await found_again(hub, replace(made, fields={**made.fields, "name": "Anna"}))
    assert (await hub.values("crm", "contacts", "900"))["name"] == "Anna"
    await check_the_rest_is_written(hub)
