"""What end-to-end runs under kill -9 brought to light, each as small as it can be."""

import asyncio

import asyncpg
import pytest

from hub.change import Change
from hub.decide import decide
from hub.edge import wiring
from hub.event import record
from hub.receipt import Applied, Held
from hub.view import Held as Field
from hub.view import settled
from hub.write import Intent
from streams.faults import Contention
from streams.finishing import fate
from streams.preparing import Due, Prepared
from streams.workspace import RecordState, lock_records, save_records

NOW = 1_800_000_000_000_000


def intent(key: str, **values: str) -> Intent:
    return Intent(key, "s", "o", "golden", "1", values)


def test_the_echo_of_an_older_write_does_not_stand_for_a_newer_one_that_is_open() -> None:
    """The newer one may never have been sent: its deliverer was killed."""
    view = {"name": Field("First", ours=True, written="First", order=5)}
    event = record(Change("s", "o", "1", {"name": "First"}, version=5, at=5), NOW)
    decision = decide(event, {"name": "First"}, view, [intent("second", name="Second")])
    assert decision.said == {}
    assert not settled(decision.view["name"], "Second")
    assert settled(decision.view["name"], "First")


def test_of_two_open_writes_each_knows_its_own_echo() -> None:
    view = {"name": Field("Zero")}
    opened = [intent("first", name="First"), intent("second", name="Second")]
    event = record(Change("s", "o", "1", {"name": "FIRST"}, version=5, at=5), NOW)
    decision = decide(event, {"name": "FIRST"}, view, opened)
    assert (decision.said, decision.echoed, decision.intents) == ({}, ("name",), ("first",))
    assert decision.view["name"].written == "First"


def test_a_mark_uses_up_the_write_that_it_names_and_no_other() -> None:
    view = {"name": Field("Zero"), "city": Field("Bonn")}
    opened = [intent("first", name="First"), intent("second", city="Rome")]
    event = record(Change("s", "o", "1", {"name": "First", "city": "Bonn"}, version=5, at=5, intent="first"), NOW)
    decision = decide(event, {"name": "First", "city": "Bonn"}, view, opened)
    assert (decision.said, decision.intents) == ({}, ("first",))
    assert not settled(decision.view["city"], "Rome")


def test_a_row_that_waits_for_a_reference_is_held_although_the_rest_was_written() -> None:
    prepared = Prepared(Due("t", "golden", "deal", 3, 1, None), 3, verdict=Held("contact_1"))
    decided = fate(prepared, [Applied("1")], 12)
    assert (decided.state, decided.outcome, decided.waits_for) == ("held", "held", "contact_1")


async def test_a_record_stored_by_two_at_once_is_stored_by_one_and_read_anew_by_the_other(
    hub_state: asyncpg.Pool,
) -> None:
    """The receipt of a create and the change that comes back from it: neither may overwrite the other."""
    id_ = ("s", "o", "1")
    async with hub_state.acquire() as one, hub_state.acquire() as other:
        late = one.transaction()
        await late.start()
        assert await lock_records(one, [id_]) == {}
        async with other.transaction():
            await save_records(
                other, [RecordState(id_, "thing", "thing_1", "thing_1", view={"name": Field("A", ours=True)})]
            )
        with pytest.raises(Contention):
            await save_records(one, [RecordState(id_, "thing", "thing_1", "thing_1")])
        await late.rollback()
        async with one.transaction():
            state = (await lock_records(one, [id_]))[id_]
            assert state.view["name"].ours
            state.last_event = "seen"
            await save_records(one, [state])
            assert (await lock_records(one, [id_]))[id_].last_event == "seen"


async def test_a_command_does_not_wait_for_the_transactions_of_a_hub_at_work(pool: asyncpg.Pool) -> None:
    """Opening the state a second time asks for no lock on its tables: it could be a deadlock."""
    await wiring._prepare_state(pool)
    async with pool.acquire() as busy, busy.transaction():
        await busy.execute("insert into hub.counter (name) values ('busy')")
        await busy.execute("lock table hub.write, hub.record, hub.event in row exclusive mode")
        async with asyncio.timeout(10.0):
            await wiring._prepare_state(pool)
        assert await pool.fetchval("select count(*) from hub.counter") == 0
