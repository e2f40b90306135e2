"""P10: trouble stays where it is. One bad record, target, source or connector, at full load, never stops another."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import asyncpg
import pytest

from hub.errors import Retry
from hub.receipt import Applied
from hub.write import Write
from streams import attempt, context, deliver, share
from tests.promises.mutations import broken, mutation
from tests.promises.told import Behaviour, Scene, Vendor, delivering, reached, scene

PEOPLE = 60


async def breaks(writes: Sequence[Write]) -> None:
    raise KeyError("a bug of the connector")


async def hangs(writes: Sequence[Write]) -> None:
    await asyncio.Event().wait()


async def hangs_on(writes: Sequence[Write]) -> None:
    """And bears its cancellation, some times."""
    for _ in range(3):
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


async def dawdles(writes: Sequence[Write]) -> None:
    await asyncio.sleep(0.15)


async def chatters(writes: Sequence[Write]) -> Any:
    return ["no receipt"]


async def miscounts(writes: Sequence[Write]) -> Any:
    return []


async def answers_nothing(writes: Sequence[Write]) -> Any:
    return 7


async def answers_what_cannot_be_kept(writes: Sequence[Write]) -> Any:
    return [Applied("a\x00b", {"name": object()}) for _ in writes]


async def answers_a_lot(writes: Sequence[Write]) -> Any:
    return [
        Applied(f"id-{w.golden_id}", {"name": "x" * 3_000_000, **{f"f{n}": "y" for n in range(5_000)}}) for w in writes
    ]


async def goes_away(writes: Sequence[Write]) -> None:
    raise ConnectionRefusedError("nobody listens")


BAD = (breaks, hangs, hangs_on, dawdles, chatters, miscounts, answers_nothing, answers_what_cannot_be_kept, answers_a_lot,
       goes_away)  # fmt: skip


async def check_the_others_go_on(pool: asyncpg.Pool, crm: Vendor, prepare: Any = None, seconds: float = 20.0) -> Scene:
    """With a CRM like this, every one of `PEOPLE` reaches the shop."""
    shop = Vendor("shop")
    stage = await scene(pool, crm, shop, call_seconds=0.2)
    await stage.people(PEOPLE)
    release = await prepare(stage) if prepare else None
    async with delivering(stage, "crm", "shop"):
        done = await reached(PEOPLE, lambda: len(shop.applied), seconds)
        if release:
            await release()
        assert done, f"only {len(shop.applied)} of {PEOPLE} reached the healthy target"
    assert crm.calls or crm.opening, "the bad target was not even tried"
    return stage


@pytest.mark.parametrize("behave", BAD, ids=lambda one: one.__name__)
async def test_a_bad_connector_stops_nobody(
    pool: asyncpg.Pool, behave: Behaviour, figures: Callable[..., None]
) -> None:
    crm = Vendor("crm", batch=5, behave=behave)
    stage = await check_the_others_go_on(pool, crm)
    waiting = sum((await stage.queue("crm")).values())
    ended = "select count(distinct golden_id) from hub.ledger where target = 'crm' and outcome is not null"
    assert waiting + await stage.pool.fetchval(ended) >= PEOPLE, "a write got lost"
    figures("P10", bad=behave.__name__, healthy_applied=PEOPLE, bad_calls=len(crm.calls))


async def test_going_on_fails_without_a_look_at_the_answer(pool: asyncpg.Pool) -> None:
    blind = mutation(attempt, "_checked", lambda writes, answers: answers)
    with blind, mutation(deliver, "BROKEN_SECONDS", 0.0), broken("no look at the answer"):
        await check_the_answers_are_judged(pool)


async def check_the_answers_are_judged(pool: asyncpg.Pool) -> None:
    """Every write that got garbage for an answer is parked as the connector's fault, alone."""
    crm = Vendor("crm", batch=5, behave=miscounts)
    stage = await scene(pool, crm)
    await stage.people(7)
    deliverer = stage.deliverer("crm")
    await stage.round(deliverer)
    codes = await stage.pool.fetch("select state, code from hub.write where target = 'crm'")
    assert [(r["state"], r["code"]) for r in codes] == [("parked", "connector")] * 7, [tuple(r) for r in codes]


async def test_garbage_is_parked_as_the_connectors_fault(pool: asyncpg.Pool) -> None:
    await check_the_answers_are_judged(pool)


async def opened_first(stage: Scene) -> Callable[[], Awaitable[None]]:
    """Somebody is at opening the CRM already, before anything is delivered."""
    opening = asyncio.create_task(stage.context.connector("crm"))
    await asyncio.sleep(0)

    async def release() -> None:
        opening.cancel()
        await asyncio.wait([opening])

    return release


async def test_a_system_that_hangs_when_it_is_opened_stops_nobody(pool: asyncpg.Pool) -> None:
    await check_the_others_go_on(pool, Vendor("crm", opening=partial(hangs, ())), opened_first)


async def test_going_on_fails_without_a_lock_for_each_system(pool: asyncpg.Pool) -> None:
    one = asyncio.Lock()
    with (
        mutation(context, "defaultdict", lambda _: defaultdict(lambda: one)),
        mutation(context, "bounded", unbounded),
        broken("one lock for all"),
    ):
        await check_the_others_go_on(pool, Vendor("crm", opening=partial(hangs, ())), opened_first, 3.0)


async def unbounded(work: Awaitable[Any], seconds: float, what: str) -> Any:
    """A call that is never cut off."""
    return await work


async def check_the_other_records_go_on(pool: asyncpg.Pool, seconds: float = 20.0) -> int:
    """Of one target, 8 records hang for ever, which is more than it takes calls at once."""
    hanging: set[str] = set()

    async def behave(writes: Sequence[Write]) -> None:
        if hanging & {write.golden_id for write in writes}:
            await hangs(writes)

    shop = Vendor("shop", behave=behave)
    stage = await scene(pool, shop, call_seconds=0.2)
    ids = await stage.people(PEOPLE)
    hanging |= set(ids[:8])
    async with delivering(stage, "shop"):
        done = await reached(len(ids) - 8, lambda: len(shop.applied), seconds)
        assert done, f"only {len(shop.applied)} of {len(ids) - 8} were written beside records that hang"
    return len(shop.calls)


async def test_records_that_hang_stop_no_others(pool: asyncpg.Pool, figures: Callable[..., None]) -> None:
    figures("P10", hanging_records=8, others_applied=PEOPLE - 8, calls=await check_the_other_records_go_on(pool))


async def test_records_going_on_fails_without_cutting_off(pool: asyncpg.Pool) -> None:
    with mutation(context, "bounded", unbounded), broken("no time-out"):
        await check_the_other_records_go_on(pool, seconds=3.0)


@asynccontextmanager
async def small_pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool with few more connections than one target may hold."""
    async with asyncpg.create_pool(database, min_size=1, max_size=7) as pool:
        yield pool


async def locked(url: str, stage: Scene) -> Callable[[], Awaitable[None]]:
    """Somebody keeps the CRM's circuit locked in the state database: whoever delivers to the CRM, in either lane, waits."""
    await stage.pool.execute(
        "update hub.write set failed_at = now() where target = 'crm' and golden_id ~ '[02468ace]$'"
    )
    conn = await asyncpg.connect(url)
    transaction = conn.transaction()
    await stage.pool.execute("insert into hub.breaker (target) values ('crm')")
    await transaction.start()
    await conn.execute("select from hub.breaker where target = 'crm' for update")

    async def release() -> None:
        await transaction.rollback()
        await conn.close()

    return release


async def check_connections_are_shared(database: str, seconds: float = 20.0) -> None:
    async with small_pool(database) as pool:
        await check_the_others_go_on(pool, Vendor("crm"), partial(locked, database), seconds)


async def test_a_target_whose_rows_are_locked_leaves_connections_to_others(database: str) -> None:
    await check_connections_are_shared(database)


async def test_leaving_connections_fails_without_a_share(database: str) -> None:
    with (
        mutation(share.Share, "place", nothing_held),
        mutation(share.Share, "connection", any_connection),
        broken("no share"),
    ):
        await check_connections_are_shared(database, seconds=3.0)


@asynccontextmanager
async def nothing_held(self: share.Share) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def any_connection(self: share.Share) -> AsyncIterator[Any]:
    async with self._pool.acquire() as conn:
        yield conn


async def check_a_bad_batch_is_sifted(pool: asyncpg.Pool) -> Vendor:
    """A record for which the vendor's server fails takes only itself along, out of batches of 20."""
    bad: set[str] = set()

    async def behave(writes: Sequence[Write]) -> None:
        if bad & {write.golden_id for write in writes}:
            raise Retry("500")

    shop = Vendor("shop", batch=20, behave=behave)
    stage = await scene(pool, shop)
    ids = await stage.people(PEOPLE)
    bad |= {ids[5], ids[25], ids[45]}
    for _ in range(2):
        await stage.round(stage.deliverer("shop"))
        await stage.pass_time(3600)
    assert len(shop.applied) == PEOPLE - 3, f"{PEOPLE - 3 - len(shop.applied)} good records wait with the bad ones"
    return shop


async def test_a_record_that_breaks_its_batch_takes_no_other_along(pool: asyncpg.Pool) -> None:
    await check_a_bad_batch_is_sifted(pool)


async def test_taking_no_other_along_fails_without_sifting(pool: asyncpg.Pool) -> None:
    async def all_fail(self: attempt.Attempt, writes: Sequence[Write], error: Exception) -> Any:
        return [attempt.Deferred(str(error), failure=attempt.Failure.outage) for _ in writes]

    handlers = tuple((k, all_fail if h is attempt.Attempt._outage else h) for k, h in attempt.HANDLERS)
    with mutation(attempt, "HANDLERS", handlers), broken("no sifting"):
        await check_a_bad_batch_is_sifted(pool)
