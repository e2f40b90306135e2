"""P3: what is parked keeps its place. Later events of its record go on, and what a person does about it is an event."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import asyncpg
import orjson
import pytest

from hub.edge import inquiry
from hub.errors import Reject
from hub.event import record
from hub.receipt import Refused
from hub.write import Write
from streams import batches, quarantine
from streams.context import now
from streams.position import Done
from streams.quarantine import Chosen, Said
from tests.promises.mutations import broken, mutation
from tests.promises.told import Vendor, scene
from tests.stages.support import Stages, assert_balanced

ANN = Said("ann", "looked into it")


@pytest.fixture
async def hub(pool: asyncpg.Pool) -> Stages:
    return (await scene(pool)).hub


async def park_between(hub: Stages, count: int) -> None:
    """Edits that cannot be processed, each with one before and one after of the same record."""
    for n in range(count):
        await hub.append(hub.change("crm", "contacts", f"c{n}", name="before", city="Bonn"))
        await hub.raw("crm", "contacts", f"c{n}", nul_name(hub, n))
        await hub.append(hub.change("crm", "contacts", f"c{n}", name="after"))


def nul_name(hub: Stages, n: int) -> bytes:
    """An edit that can be decoded, and that the state database refuses as a whole."""
    datum = record(hub.change("crm", "contacts", f"c{n}", name="middle", zip="53111"), now()).to_avro()
    return hub.context.codec.encode("event", {**datum, "event_id": datum["event_id"] + "\x00"})


async def check_later_events_go_on(hub: Stages, random: Random | None) -> None:
    """Beside parked events, the others of the same records are folded, in the order of their record."""
    await park_between(hub, 4)
    await hub.run(random)
    assert len(await hub.parked()) == 4
    for n in range(4):
        values = await hub.values("crm", "contacts", f"c{n}")
        assert (values["name"], values["city"]) == ("after", "Bonn"), values
    assert_balanced(await hub.ledger())
    assert not (await hub.replay()).differences


@pytest.mark.parametrize("seed", range(3))
async def test_later_events_of_a_record_go_on_beside_a_parked_one(hub: Stages, seed: int) -> None:
    await check_later_events_go_on(hub, Random(seed) if seed else None)


async def test_going_on_fails_when_a_batch_is_parked_whole(hub: Stages) -> None:
    async def whole(context: Any, stage: str, some: Any, work: Any, error: Exception) -> None:
        for batch in some:
            for one in batch.records:
                await batches.park(context, stage, one, error)

    with mutation(batches, "_isolate", whole), broken("no bisection"):
        await check_later_events_go_on(hub, None)


async def assert_whole(hub: Stages) -> None:
    """The ledger balances, and a replay gives the same."""
    assert_balanced(await hub.ledger())
    assert not (await hub.replay()).differences


async def test_parked_events_of_one_cause_are_tried_again_together(hub: Stages) -> None:
    await park_between(hub, 3)
    await hub.run()
    (fingerprint,) = {row["fingerprint"] for row in await hub.parked()}
    count = await quarantine.retry(hub.context, Chosen(fingerprint=fingerprint), ANN)
    assert (count, await hub.parked()) == (3, [])
    await hub.run()
    assert len(await hub.parked()) == 3, "the cause was not mended"
    assert (await hub.ledger()).parked == 3
    await assert_whole(hub)


async def test_what_cannot_be_read_cannot_be_edited_and_is_discarded(hub: Stages) -> None:
    await hub.append(hub.change("crm", "contacts", "c1", name="before"))
    bad = record(hub.change("crm", "contacts", "c1", name="middle", zip="53111"), now()).to_avro()
    value = hub.context.codec.encode("event", {**bad, "payload": b"<xml/>"})
    await hub.append(hub.change("crm", "contacts", "c1", name="after"))
    await hub.raw("crm", "contacts", "c1", value)
    await hub.run()
    (row,) = await hub.parked()
    with pytest.raises(Reject, match="cannot be read"):
        await quarantine.edit(hub.context, str(row["id"]), {"name": "x"}, ANN)
    assert await quarantine.discard(hub.context, Chosen([str(row["id"])]), ANN) == 1
    assert await hub.parked() == []
    await hub.run()
    assert (await hub.ledger()).parked == 1, "it is on the log, and came to nothing"
    await assert_whole(hub)


async def check_an_edit_is_an_event(hub: Stages) -> None:
    """A corrected change is on the log, with its author beside it; later changes still count more; replay gives the same."""
    await hub.append(hub.change("crm", "contacts", "c1", name="before"))
    middle = hub.change("crm", "contacts", "c1", name="middle", city="Bnn")
    await hub.append(hub.change("crm", "contacts", "c1", name="after"))
    with mutation(batches, "position", Refusing(batches.position, {"middle"})):
        await hub.append(middle)
        await hub.run()
    (row,) = await hub.parked()
    name = str(row["id"])
    shown = await inquiry.parked_one(hub.context, name)
    assert shown["content"]["payload"] == {"city": "Bnn", "name": "middle"}
    await quarantine.edit(hub.context, name, {"city": "Bonn"}, ANN)
    await hub.run()
    values = await hub.values("crm", "contacts", "c1")
    assert (values["name"], values["city"]) == ("after", "Bonn"), values
    assert await hub.parked() == []
    ledger = await hub.ledger()
    assert (ledger.parked, ledger.unaccounted) == (0, 0), ledger
    assert not (await hub.replay()).differences, "a replay gives something else"
    orders = await orders_of(hub)
    assert [(o["action"], o["author"], o["fields"]) for o in orders] == [("edit", "ann", {"city": "Bonn"})]


class Refusing:
    """Positions that cannot be advanced past certain contents: a fault of the stage, which is mended later."""

    def __init__(self, real: Any, words: set[str]) -> None:
        self.real, self.words = real, words

    async def fresh(self, conn: Any, stage: str, batches: Any) -> Any:
        """As the real one."""
        return await self.real.fresh(conn, stage, batches)

    async def advance(self, conn: Any, stage: str, done: Sequence[Done]) -> None:
        """Breaks on the words, unless what holds them is being parked."""
        going = [record.value or b"" for one in done if not one.parked for record in one.records]
        if any(word.encode() in value for value in going for word in self.words):
            raise ArithmeticError("a bug of this stage")
        await self.real.advance(conn, stage, done)


async def orders_of(hub: Stages) -> list[dict[str, Any]]:
    """What persons did, as it stands on the log."""
    topic, found = "hub.changes.hub.stewardship", []
    for (_, partition), end in (await hub.context.log.ends([topic])).items():
        for one in await hub.context.log.read(topic, partition, 0, end + 1):
            found.append(orjson.loads(hub.context.codec.decode(one.value)[1]["payload"]))
    return found


async def test_an_edit_is_an_event_with_its_author(hub: Stages) -> None:
    await check_an_edit_is_an_event(hub)


async def test_the_edit_fails_where_replay_takes_the_parked_one_too(hub: Stages) -> None:
    """A dead letter that names no place lets the replay fold what was parked as well."""
    real = batches.dead_letter

    def nowhere(context: Any, stage: str, one: Any, reason: str) -> Any:
        return real(context, "another stage", one, reason)

    with mutation(batches, "dead_letter", nowhere), broken("the parked one is folded by replay"):
        await check_an_edit_is_an_event(hub)


async def refuse(writes: Sequence[Write]) -> Any:
    return [Refused(f"value '{n}' of record {w.golden_id} is bad") for n, w in enumerate(writes)]


async def test_refused_writes_are_grouped_shown_retried_and_discarded(
    pool: asyncpg.Pool, figures: Callable[..., None]
) -> None:
    shop = Vendor("shop", batch=10, behave=refuse)
    stage = await scene(pool, shop)
    ids = await stage.people(12)
    await stage.round(stage.deliverer("shop"))
    listed = [p for p in await inquiry.parked(stage.context) if p["kind"] == "write"]
    assert len(listed) == 12
    one = await inquiry.parked_one(stage.context, f"shop/{ids[0]}")
    assert one["content"][0]["name"] == "Name 0"
    assert await quarantine.retry(stage.context, Chosen([f"shop/{ids[0]}"]), ANN) == 1
    await stage.round(stage.deliverer("shop"))
    assert len(shop.calls) == 3
    assert await stage.queue("shop") == {"parked": 12}
    assert await quarantine.discard(stage.context, Chosen([f"shop/{i}" for i in ids[1:]]), ANN) == 11
    await stage.hub.run()
    assert await stage.queue("shop") == {"parked": 1}
    assert await stage.outcomes(ids[1], "shop") == ["filtered"]
    assert {o["action"] for o in await orders_of(stage.hub)} == {"retry", "discard"}
    assert not await stage.hub.parked(), "the orders themselves are well"
    await stage.rename(1, "Another")
    assert (await stage.queue("shop")) == {"parked": 1, "due": 1}, "a later change is written, as ever"
    await assert_whole(stage.hub)
    figures("P3", refused=12, discarded=11)


def test_a_cause_has_one_fingerprint() -> None:
    one = batches.fingerprint("value 'a@example.com' of record contact_0838e97f1eb2afd2b201 is bad")
    assert one == batches.fingerprint("value 'b@example.com' of record contact_97f1eb2afd2b20183ec0 is bad")
    assert one != batches.fingerprint("value 'a@example.com' of record contact_0838e97f1eb2afd2b201 is missing")
