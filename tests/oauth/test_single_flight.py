"""However many tasks and processes need a new token at once, the vendor is asked once, and a crash costs no token that
the vendor would still honour."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from connectors.kit.granted import Granted
from connectors.kit.tokens import MemoryTokens, Token
from hub.errors import Retry, Unauthorized
from streams import tokens
from streams.tokens import PostgresTokens
from tests.e2e.systems import eventually
from tests.oauth.support import (
    TOKEN_CALL,
    Vendor,
    authorized,
    caller,
    granted,
    stale,
    stored,
    tables,
    vendor,
    worker,
)
from tests.oauth.worker import no_lock, spends_first
from tests.promises.mutations import broken, mutation


@pytest.fixture
async def shop() -> AsyncIterator[Vendor]:
    """A vendor whose refresh tokens are for one use."""
    async with vendor() as made:
        await made.register(rotate=True)
        yield made


@pytest.fixture
async def store(pool: asyncpg.Pool) -> PostgresTokens:
    """The store, empty."""
    await tables(pool)
    return stored(pool)


async def check_two_processes(database: str, shop: Vendor, store: PostgresTokens, mutated: str = "") -> None:
    """Two processes find the same token due at the same time."""
    await stale(store, await authorized(shop, store))
    before = len(await shop.calls())
    both = [await worker(database, shop, mutated) for _ in range(2)]
    await shop.fault({"kind": "slow", "seconds": 1.5, "times": 2, "match": TOKEN_CALL})
    headers = await asyncio.gather(*(one.go() for one in both))
    asked = len(await shop.calls()) - before
    assert asked == 1, f"the vendor was asked {asked} times"
    assert headers[0] == headers[1], "the processes hold different tokens"
    assert await shop.good(headers[0]), headers[0]


async def test_two_processes_refresh_once(database: str, shop: Vendor, store: PostgresTokens) -> None:
    await check_two_processes(database, shop, store)


async def test_two_processes_fails_without_the_lock(database: str, shop: Vendor, store: PostgresTokens) -> None:
    with broken("no lock"):
        await check_two_processes(database, shop, store, "no lock")


async def check_older_never_replaces_newer(shop: Vendor, store: PostgresTokens, pool: asyncpg.Pool) -> None:
    """A process loses its turn without noticing while the vendor is slow; another one takes it, and is faster."""
    await shop.register(rotate=True, graceSeconds=60)
    await stale(store, await authorized(shop, store))
    slow, fast = granted(shop, store), granted(shop, store)
    await shop.fault({"kind": "slow", "seconds": 1.0, "match": TOKEN_CALL})
    before = len(await shop.calls())
    late = asyncio.create_task(slow.header())
    await _until_locked(pool)
    await pool.execute(
        "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and pid <> pg_backend_pid()"
    )
    newer = await fast.header()
    kept = await late
    assert len(await shop.calls()) - before == 2
    token = await store.read("vendor")
    assert token is not None
    assert f"Bearer {token.access}" == newer, "an older answer took the place of a newer token"
    assert kept == newer, "the process that lost its turn goes on with its own token"


async def _until_locked(pool: asyncpg.Pool) -> None:
    await eventually(lambda: pool.fetchval("select count(*) > 0 from pg_locks where locktype = 'advisory'"), 20)
    await asyncio.sleep(0.2)  # for the call to leave


async def test_an_older_answer_never_replaces_a_newer_token(
    shop: Vendor, store: PostgresTokens, pool: asyncpg.Pool
) -> None:
    await check_older_never_replaces_newer(shop, store, pool)


async def test_an_older_answer_fails_without_comparing(shop: Vendor, store: PostgresTokens, pool: asyncpg.Pool) -> None:
    blind = tokens._UPDATE.replace(" and generation = $2 - 1", "")
    with mutation(tokens, "_UPDATE", blind), broken("no compare-and-swap"):
        await check_older_never_replaces_newer(shop, store, pool)


async def check_survives_a_kill(database: str, shop: Vendor, store: PostgresTokens, mutated: str = "killed") -> None:
    """Killed between the vendor's answer and the store, where the vendor honours the old token a while longer."""
    await shop.register(rotate=True, graceSeconds=60)
    await stale(store, await authorized(shop, store))
    dying = await worker(database, shop, mutated)
    before = len(await shop.calls())
    assert await dying.go() == "", "the process was not killed"
    assert [call["status"] for call in (await shop.calls())[before:]] == [200]
    try:
        header = await granted(shop, store).header()
    except Unauthorized as error:
        raise AssertionError(f"the token was lost with the process: {error}") from None
    assert await shop.good(header)


async def test_a_kill_between_answer_and_store_is_survived(database: str, shop: Vendor, store: PostgresTokens) -> None:
    await check_survives_a_kill(database, shop, store)


async def test_a_kill_fails_where_the_token_is_spent_before_it_is_exchanged(
    database: str, shop: Vendor, store: PostgresTokens
) -> None:
    with broken("spent first"):
        await check_survives_a_kill(database, shop, store, "killed, having spent")


async def test_a_kill_where_the_vendor_honours_nothing_old_names_the_command(
    database: str, shop: Vendor, store: PostgresTokens
) -> None:
    await stale(store, await authorized(shop, store))
    assert await (await worker(database, shop, "killed")).go() == ""
    await shop.later(1)
    credentials = granted(shop, store)
    before = len(await shop.calls())
    for _ in range(3):
        with pytest.raises(Unauthorized, match=r"invalid_grant.*run `hub auth vendor`"):
            await credentials.header()
    assert len(await shop.calls()) - before == 1, "a refused refresh token is not tried again"
    await authorized(shop, store)
    assert await shop.good(await credentials.header()), "new credentials are taken up by a running process"


async def check_lost_answer(shop: Vendor, store: PostgresTokens) -> None:
    """The vendor commits, and its answer is lost on the way."""
    await shop.register(rotate=True, graceSeconds=60)
    await stale(store, await authorized(shop, store))
    await shop.fault({"kind": "timeout_after_commit", "seconds": 0.1, "match": TOKEN_CALL})
    credentials = granted(shop, store)
    with pytest.raises(Retry):
        await credentials.header()
    try:
        assert await shop.good(await credentials.header())
    except Unauthorized as error:
        raise AssertionError(f"the token was lost with the answer: {error}") from None


async def test_a_lost_answer_is_asked_for_again(shop: Vendor, store: PostgresTokens) -> None:
    await check_lost_answer(shop, store)


async def test_a_lost_answer_fails_where_the_token_is_spent_before_it_is_exchanged(
    shop: Vendor, store: PostgresTokens
) -> None:
    with mutation(Granted, "_replaced", spends_first), broken("spent first"):
        await check_lost_answer(shop, store)


async def check_many_wait(shop: Vendor, credentials: Granted) -> None:
    """Fifty calls meet an expired token; each is refused or waits, and all go on with one new token."""
    await shop.later(1_801)
    before = len(await shop.calls())
    async with caller(shop, credentials) as http:
        ends = await asyncio.gather(*(http.call("GET", "/things") for _ in range(50)), return_exceptions=True)
    assert [end for end in ends if isinstance(end, BaseException)] == [], "calls failed"
    asked = len(await shop.calls()) - before
    assert asked == 1, f"the vendor was asked {asked} times"


async def test_many_calls_wait_for_one_refresh(shop: Vendor, store: PostgresTokens) -> None:
    await authorized(shop, store)
    credentials = granted(shop, store)
    assert await shop.good(await credentials.header())
    await check_many_wait(shop, credentials)


async def each_flies(self: Granted, refused: str) -> None:
    """Every caller makes its own attempt."""
    await self._newest(refused)


async def check_one_failure_for_all(shop: Vendor, credentials: Granted) -> None:
    """Where the token endpoint is down, those who wait share one attempt and its end."""
    await shop.fault({"kind": "status", "status": 503, "times": 50, "match": TOKEN_CALL})
    before = len(await shop.calls())
    ends = await asyncio.gather(*(credentials.header() for _ in range(5)), return_exceptions=True)
    assert {type(end) for end in ends} == {Retry}
    asked = len(await shop.calls()) - before
    assert asked == 1, f"the vendor was asked {asked} times"


async def test_those_who_wait_share_one_failure(shop: Vendor, store: PostgresTokens) -> None:
    await stale(store, await authorized(shop, store))
    await check_one_failure_for_all(shop, granted(shop, store))


async def test_sharing_fails_where_each_makes_its_own_attempt(shop: Vendor, store: PostgresTokens) -> None:
    await stale(store, await authorized(shop, store))
    with mutation(Granted, "_flown", each_flies), broken("no single flight"):
        await check_one_failure_for_all(shop, granted(shop, store))


async def test_many_calls_fails_without_lock_and_flight(shop: Vendor, store: PostgresTokens) -> None:
    await authorized(shop, store)
    credentials = granted(shop, store)
    await credentials.header()
    with (
        mutation(Granted, "_flown", each_flies),
        mutation(PostgresTokens, "alone", no_lock),
        broken("neither lock nor flight"),
    ):
        await check_many_wait(shop, credentials)


async def check_renewed_in_time(shop: Vendor) -> None:
    """By the hub's own clock, before the vendor has to refuse; where the vendor is down just then, the old one goes on."""
    store, now = MemoryTokens(), [0.0]
    token = await authorized(shop, store)
    assert token.expires_at is not None
    now[0] = token.expires_at - 61
    credentials = granted(shop, store, lambda: now[0])
    first = await credentials.header()
    now[0] = token.expires_at - 30
    await shop.fault({"kind": "status", "status": 500, "match": TOKEN_CALL})
    assert await credentials.header() == first, "a token that is still good is not given up"
    now[0] += 6
    second = await credentials.header()
    assert second != first, "the token was not replaced before its end"
    now[0] += 3_600
    await shop.fault({"kind": "status", "status": 500, "match": TOKEN_CALL})
    with pytest.raises(Retry):
        await credentials.header()


async def test_a_token_is_replaced_before_its_end(shop: Vendor) -> None:
    await check_renewed_in_time(shop)


async def test_replacing_in_time_fails_without_looking_at_the_clock(shop: Vendor) -> None:
    def timeless(_: Granted, token: Token, refused: str) -> bool:
        return bool(token.access) and f"Bearer {token.access}" != refused

    with mutation(Granted, "_good", timeless), broken("no clock"):
        await check_renewed_in_time(shop)


async def test_a_cancelled_caller_does_not_lose_the_answer(shop: Vendor, store: PostgresTokens) -> None:
    await stale(store, await authorized(shop, store))
    await shop.fault({"kind": "slow", "seconds": 0.5, "match": TOKEN_CALL})
    credentials = granted(shop, store)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(credentials.header(), 0.1)
    await credentials.aclose()
    token = await store.read("vendor")
    assert token is not None
    assert token.generation == 3, "the token that came after its caller had left was not stored"
    assert await shop.good(f"Bearer {token.access}")
