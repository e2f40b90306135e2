"""P3: a later write of a record never passes an earlier one, unless it supersedes it; and bad records slow no others."""

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import asyncpg
import pytest

from hub.errors import Limited, Retry
from hub.receipt import Deferred, Held, Refused
from hub.write import Write
from streams import attempt, deliver, finishing, queue
from streams.preparing import Due, Prepared, prepare
from tests.promises.mutations import broken, mutation
from tests.promises.told import Scene, Vendor, scene
from tests.stages.support import empty

RECORDS, STEPS = 4, 30


def moody(random: Random, quiet: list[bool]) -> Callable[[Sequence[Write]], Any]:
    """A vendor of every mood, until it is told to be quiet."""

    async def behave(writes: Sequence[Write]) -> Any:
        if quiet or random.random() < 0.4:
            return None
        mood = random.choice([Retry("503"), Retry("later", 30.0), Limited("429", 5.0), ValueError("a bug"), None])
        await asyncio.sleep(0)
        if mood is not None:
            raise mood
        kinds = [Deferred("locked"), Deferred("locked", 3.0), Refused("bad value"), Held("contact_none")]
        return [random.choice(kinds) for _ in writes]

    return behave


async def run_history(stage: Scene, shop: Vendor, random: Random, quiet: list[bool]) -> None:
    """Edits, deliveries by two deliverers at once, and time, in an order drawn from the seed; then all is quiet."""
    await stage.people(RECORDS)
    both = (stage.deliverer("shop"), stage.deliverer("shop"))
    for step in range(STEPS):
        await stage.rename(random.randrange(RECORDS), f"Name {step} x")
        await asyncio.gather(*(stage.round(one) for one in both))
        if random.random() < 0.5:
            await stage.pass_time(random.choice([1.0, 20.0, 400.0]))
    quiet.append(True)
    await stage.pool.execute("update hub.write set state = 'due', due_at = now(), waits_for = null")
    for _ in range(4):
        await stage.pass_time(1_000.0)
        await stage.round(*both)


async def check_order(pool: asyncpg.Pool, seed: int) -> tuple[int, int]:
    """What was taken of each record has ascending versions, one write at a time, and ends as the golden record is."""
    random, quiet = Random(seed), list[bool]()
    shop = Vendor("shop", batch=random.choice([1, 3]), behave=moody(random, quiet))
    stage = await scene(pool, shop, attempts=4)
    stage.hub = await _anew(stage)
    await run_history(stage, shop, random, quiet)
    goldens = await stage.hub.goldens()
    for golden_id in shop.held:
        versions = [version for taken, version in shop.taken if taken == golden_id]
        assert versions == sorted(versions), f"seed {seed}: {golden_id} was written in the order {versions}"
        now = goldens[golden_id].values()["name"]
        assert shop.held[golden_id]["name"] == now, f"seed {seed}: {shop.held[golden_id]['name']!r} is not {now!r}"
    assert len(shop.held) == RECORDS, f"seed {seed}: {RECORDS - len(shop.held)} records did not arrive"
    assert not shop.twice, f"seed {seed}: two writes of one record at once"
    return len(shop.calls), len(shop.taken)


async def _anew(stage: Scene) -> Any:
    hub = await empty(stage.hub)
    async with stage.pool.acquire() as conn:
        for system in hub.context.model.systems:
            await queue.mark_primed(conn, system)
    return hub


async def test_order_per_record(
    pool: asyncpg.Pool, seeds: Callable[[int], Sequence[int]], figures: Callable[..., None]
) -> None:
    calls = taken = 0
    for seed in seeds(4):
        one = await check_order(pool, seed)
        calls, taken = calls + one[0], taken + one[1]
    figures("P3", histories=len(seeds(4)), calls=calls, taken=taken)


async def test_order_fails_when_a_retry_sends_what_failed_rather_than_what_is_true_now(pool: asyncpg.Pool) -> None:
    first: dict[str, Prepared] = {}

    async def remembered(conn: Any, model: Any, dues: Sequence[Due]) -> list[Prepared]:
        for prepared in await prepare(conn, model, dues):
            first.setdefault(prepared.due.golden_id, prepared)
        return [Prepared(d, d.version, first[d.golden_id].golden, first[d.golden_id].writes) for d in dues]

    with mutation(deliver, "prepare", remembered), broken("stale content"):
        await check_order(pool, 1)


async def check_one_at_a_time(pool: asyncpg.Pool) -> None:
    """Two deliverers, a slow vendor, an edit while a write is under way: the second write waits for the first."""
    gate = asyncio.Event()

    async def behave(writes: Sequence[Write]) -> None:
        if not gate.is_set():
            gate.set()
            await asyncio.sleep(0.5)

    shop = Vendor("shop", behave=behave)
    stage = await scene(pool, shop)
    (golden_id,) = await stage.people(1)
    slow = asyncio.create_task(stage.round(stage.deliverer("shop")))
    await gate.wait()
    await stage.rename(0, "Later")
    await stage.round(stage.deliverer("shop"))
    await slow
    await stage.round(stage.deliverer("shop"))
    assert shop.held[golden_id]["name"] == "Later", "the earlier write came after the later one"
    assert not shop.twice, "two writes of one record were under way at once"


async def test_a_write_waits_for_the_one_under_way(pool: asyncpg.Pool) -> None:
    await check_one_at_a_time(pool)


async def test_waiting_fails_without_leases(pool: asyncpg.Pool) -> None:
    async def unleased(conn: Any, target: str, token: str, limit: int, lane: Any = queue.Lane.any) -> list[Due]:
        await conn.execute("update hub.write set lease = null where target = $1", target)
        return await queue.lease(conn, target, token, limit, lane)

    with mutation(deliver, "lease", unleased), broken("no leases"):
        await check_one_at_a_time(pool)


async def test_a_newer_version_supersedes_a_parked_one(pool: asyncpg.Pool) -> None:
    bad = [True]

    async def behave(writes: Sequence[Write]) -> Any:
        return [Refused("no such name") for _ in writes] if bad else None

    shop = Vendor("shop", behave=behave)
    stage = await scene(pool, shop)
    (golden_id,) = await stage.people(1)
    await stage.round(stage.deliverer("shop"))
    assert await stage.queue("shop") == {"parked": 1}
    await stage.pass_time(100_000)
    await stage.round(stage.deliverer("shop"))
    assert len(shop.calls) == 1, "a parked write was tried again by itself"
    bad.clear()
    await stage.rename(0, "Better")
    await stage.round(stage.deliverer("shop"))
    assert shop.taken == [(golden_id, 2)], "the newer version was written, once, and alone"
    assert await stage.outcomes(golden_id, "shop") == ["superseded", "applied"]
    assert await stage.queue("shop") == {}


async def refused(writes: Sequence[Write]) -> Any:
    return [Refused("never")]


async def deferred(writes: Sequence[Write]) -> Any:
    return [Deferred("locked")]


async def failing(writes: Sequence[Write]) -> Any:
    raise Retry("500")


async def limited(writes: Sequence[Write]) -> Any:
    raise Limited("429")


async def buggy(writes: Sequence[Write]) -> Any:
    raise ValueError("a bug")


async def hanging(writes: Sequence[Write]) -> Any:
    await asyncio.Event().wait()


POISONS = (refused, deferred, failing, limited, buggy, hanging)
GOOD, POISON, ROWS, ROUNDS = 198, 2, 20, 8


async def good_taken(pool: asyncpg.Pool, poison: Any) -> int:
    """How many good records are taken in so many rounds of so many rows, beside 1 % that are not; a round is a second."""
    bad: set[str] = set()

    async def behave(writes: Sequence[Write]) -> Any:
        return await poison(writes) if poison and bad & {w.golden_id for w in writes} else None

    shop = Vendor("shop", behave=behave)
    stage = await scene(pool, shop, call_seconds=0.1, attempts=1_000)
    stage.hub = await _anew(stage)
    ids = await stage.people(GOOD + POISON)
    bad |= set(ids[:POISON])
    one = stage.deliverer("shop")
    with mutation(deliver, "ROWS", ROWS):
        for _ in range(ROUNDS):
            await stage.round(one)
            await stage.pass_time(1.0)
    return len(shop.applied - bad) if poison else len(shop.applied)


CLEAN: dict[None, int] = {}
"""The count without poison, measured once."""


async def check_throughput(pool: asyncpg.Pool, poison: Any) -> tuple[int, int]:
    """Good records keep at least 90 % of the rate that they have without poison."""
    if None not in CLEAN:
        CLEAN[None] = await good_taken(pool, None)
    clean, beside = CLEAN[None], await good_taken(pool, poison)
    assert beside >= 0.9 * clean, f"{poison.__name__}: {beside} good records beside poison, {clean} without"
    return clean, beside


@pytest.mark.parametrize("poison", POISONS, ids=lambda one: one.__name__)
async def test_one_percent_of_poison_leaves_the_others_their_rate(
    pool: asyncpg.Pool, poison: Any, figures: Callable[..., None]
) -> None:
    clean, beside = await check_throughput(pool, poison)
    figures("P3", poison=poison.__name__, rounds=ROUNDS, good_without=clean, good_beside=beside)


async def test_the_rate_fails_when_a_failure_stops_the_queue(pool: asyncpg.Pool) -> None:
    """A twin that takes any failed write for trouble of the whole target, and tries that one first until it succeeds."""

    async def stopping(self: attempt.Attempt, writes: Sequence[Write], error: Exception) -> Any:
        self.stop = True
        return await attempt.Attempt._limited(self, writes, Limited(str(error), -100_000.0))

    with (
        mutation(attempt, "HANDLERS", (((Exception,), stopping),)),
        mutation(finishing, "backoff", lambda n: 0.0),
        broken("a failure stops the queue"),
    ):
        await check_throughput(pool, failing)
