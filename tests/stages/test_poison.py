"""What cannot be processed is parked, whole and with its reason, and everything else in its batch goes on."""

import struct
from dataclasses import replace
from typing import Any

import pytest

from hub.change import Change
from hub.entity import Field
from hub.event import record
from hub.rules import Rule
from streams.context import now
from tests.stages.model import CONTACT, model
from tests.stages.support import Stages, assert_balanced, make


def event(hub: Stages, change: Change) -> bytes:
    """A change as it stands on the log."""
    return hub.context.codec.encode("event", record(change, now()).to_avro())


def poisons(hub: Stages) -> dict[str, bytes | None]:
    """Values that no stage can process, by what is wrong with them."""
    good = event(hub, hub.change("crm", "contacts", "p", email="p@example.com"))
    names = {"event_id": "e", "system": "crm", "object": "contacts", "external_id": "1"}
    return {
        "garbage": b"\xff\xfegarbage",
        "empty": b"",
        "another schema": hub.context.codec.encode("decision", {**names, "unsaid": [], "echo": False}),
        "tombstone": None,
        "wrong magic": b"\x01" + good[1:],
        "unknown schema": good[:1] + struct.pack(">I", 999_999) + good[5:],
        "truncated": good[: len(good) // 2],
        "trailing": good + b"more",
        "no json": good.replace(b'{"email"', b'<"email"'),
        "not an object": good.replace(b'{"email":"p@example.com"}', b'["email","p@example.com"]'),
    }


async def test_poison_is_parked_and_the_rest_goes_on(hub: Stages) -> None:
    bad = poisons(hub)
    for name, value in bad.items():
        await hub.append(hub.change("crm", "contacts", f"before {name}", name="N", email=f"{len(name)}@example.com"))
        await hub.raw("crm", "contacts", name, value)
        await hub.append(hub.change("crm", "contacts", f"after {name}", name="N"))
    await hub.run()
    parked = await hub.parked()
    assert sorted(row["payload"] for row in parked) == sorted(value or b"" for value in bad.values())
    assert all(row["reason"] for row in parked)
    for name in bad:
        assert (await hub.values("crm", "contacts", f"before {name}"))["name"] == "N"
        assert (await hub.values("crm", "contacts", f"after {name}"))["name"] == "N"
    ledger = await hub.ledger()
    assert ledger.parked == len(bad)
    assert_balanced(ledger)
    assert not (await hub.replay()).differences


async def test_parked_records_are_delivered_again_without_effect(hub: Stages) -> None:
    await hub.raw("crm", "contacts", "1", b"garbage")
    await hub.append(hub.change("crm", "contacts", "1", name="N"))
    await hub.run()
    before = await hub.state()
    hub.read.clear()
    await hub.run()
    assert await hub.state() == before
    assert len(await hub.parked()) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "A\x00nn"),
        ("name", "\ud800"),
        ("name", "x" * 100_000),
        ("name", {"not": "text"}),
        ("city", ["a", {"b": None}]),
        ("tags", [1, None, "a\x00b"]),
        ("tags", {"a": 1}),
        ("consent", 7),
        ("consent", {"status": ["in"]}),
        ("consent", {"status": "in", "at": "tomorrow"}),
        ("consent", {"status": "in", "at": "9999-12-31T23:59:59-14:00"}),
        ("email", "a\x00@example.com"),
        ("email", "@"),
        ("phone", "9" * 1_000),
        ("phone", True),
        ("revenue", "1e400"),
        ("revenue", "NaN"),
        ("revenue", 10**400),
        ("revenue", [1]),
        ("domain", "http://" + "a." * 400 + "com"),
    ],
)
async def test_a_strange_value_is_invalid_and_harms_nothing(hub: Stages, name: str, value: Any) -> None:
    object_ = "companies" if name in ("revenue", "domain") else "contacts"
    other = "companies" if object_ == "contacts" else "contacts"
    strange = Change("crm", object_, "odd", {"name": "Fine", name: value} if name != "name" else {name: value}, at=1)
    await hub.append(strange, hub.change("crm", other, "even", name="Fine"))
    await hub.run()
    assert not await hub.parked(), (await hub.parked())[0]["reason"]
    assert (await hub.values("crm", other, "even"))["name"] == "Fine"
    if name != "name":
        assert (await hub.values("crm", object_, "odd"))["name"] == "Fine"
    assert_balanced(await hub.ledger())
    assert not (await hub.replay()).differences


async def test_a_nul_in_an_external_id_is_parked(hub: Stages) -> None:
    await hub.append(
        hub.change("crm", "contacts", "o\x00dd", name="Odd"), hub.change("crm", "contacts", "even", name="Even")
    )
    await hub.run()
    assert len(await hub.parked()) == 1
    assert (await hub.values("crm", "contacts", "even"))["name"] == "Even"
    assert_balanced(await hub.ledger())
    assert not (await hub.replay()).differences


async def test_a_rule_that_fails_costs_its_field_and_nothing_else(hub: Stages) -> None:
    def breaks(claims: list[dict[str, Any]]) -> Any:
        raise RuntimeError("a bug in the user's function")

    fields = {
        **CONTACT.fields,
        "city": Field("city", "text", Rule("python", function=breaks)),
        "label": Field("label", "text", Rule("expression", expression="tags[7]")),
    }
    other = await make(hub.context.pool, model(replace(CONTACT, fields=fields)))
    await other.crm("1", email="a@example.com", name="Ann", city="Bonn", tags="a")
    assert await other.values("crm", "contacts", "1") == {"email": "a@example.com", "name": "Ann", "tags": ["a"]}
    assert not await other.parked()
