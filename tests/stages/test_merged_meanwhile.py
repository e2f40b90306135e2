"""A golden record that becomes part of another while a write of it waits, or is under way: nothing comes twice, and what was
created belongs to the one that lives on."""

from hub.receipt import Applied
from streams import receipts
from streams.preparing import prepare
from streams.queue import lease
from tests.promises.mutations import broken, mutation
from tests.stages.support import Stages


async def merged(hub: Stages) -> None:
    """The shop's second customer turns out to be the CRM's first contact; nothing is planned yet."""
    await hub.append(hub.change("shop", "customers", "2", email="ann@example.com"))
    await hub.project()


async def begun(hub: Stages) -> None:
    """A contact and a customer, of whom nobody knows yet that they are one; the customer is to be created in the CRM."""
    await hub.crm("1", email="ann@example.com", name="Ann")
    await hub.shop("2", email="anna@example.com", name="Anna")


async def check_none_created_for_the_dead(hub: Stages) -> None:
    """Merged before its write is prepared: nothing is created for it."""
    await begun(hub)
    await merged(hub)
    written = [w for p in await hub.deliver("crm") for w in p.writes]
    assert not [w for w in written if w.op == "create"], "a record was created for a golden record that lives no more"


async def check_belongs_to_the_living(hub: Stages) -> None:
    """Merged while the write is under way: what it created belongs to the one that lives on."""
    await begun(hub)
    async with hub.context.pool.acquire() as conn:
        prepared = await prepare(conn, hub.context.model, await lease(conn, "crm", "test", 500))
    await merged(hub)
    done = [(p, [(w, Applied(w.external_id or "9", w.natives, 1)) for w in p.writes]) for p in prepared]
    await receipts.record(hub.context, "test", done)
    ids = {await hub.golden_of("crm", "contacts", number) for number in ("1", "9")}
    assert len(ids) == 1, f"what was created belongs to a golden record that lives no more: {ids}"


async def test_nothing_is_created_for_a_golden_record_that_lives_no_more(hub: Stages) -> None:
    await check_none_created_for_the_dead(hub)


async def test_what_was_created_belongs_to_the_one_that_lives_on(hub: Stages) -> None:
    await check_belongs_to_the_living(hub)


async def test_the_checks_fail_without(hub: Stages) -> None:
    async def nobody(*_: object) -> dict[str, str]:
        return {}

    with mutation(receipts, "alive", nobody), broken("what was created stays where it was begun"):
        await check_belongs_to_the_living(hub)
