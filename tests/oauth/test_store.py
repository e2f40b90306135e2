"""The store: sealed at rest, bound to its row, and its keys can be changed."""

from collections.abc import Sequence

import asyncpg
import pytest

from connectors.kit.tokens import MemoryTokens, Token, TokenStore
from hub.errors import Unauthorized
from streams.sealing import Seal, UnsealedError
from streams.tokens import PostgresTokens
from tests.oauth.support import KEY, stored, tables
from tests.promises.mutations import broken, mutation

OTHER = "another-key-for-tests-another-key-for-tests"
TOKEN = Token("access-a1", "refresh-r1", 1e9, 2e9, "read", "https://eu.example.com", "seed1")


@pytest.fixture(params=["postgresql", "memory"])
async def store(request: pytest.FixtureRequest, pool: asyncpg.Pool) -> TokenStore:
    """Each store, empty."""
    await tables(pool)
    return stored(pool) if request.param == "postgresql" else MemoryTokens()


async def test_each_generation_follows_the_one_before(store: TokenStore) -> None:
    assert (await store.read("vendor"), await store.generation("vendor")) == (None, 0)
    assert not await store.swap("vendor", TOKEN, 1)
    assert await store.swap("vendor", TOKEN, 0)
    assert not await store.swap("vendor", Token("older"), 0)
    assert await store.swap("vendor", Token("newer"), 1)
    assert not await store.swap("vendor", Token("older"), 1)
    assert await store.swap("other", TOKEN, 0)
    newest, other = await store.read("vendor"), await store.read("other")
    assert newest == Token("newer", generation=2)
    assert other == Token("access-a1", "refresh-r1", 1e9, 2e9, "read", "https://eu.example.com", "seed1", 1)
    assert await store.generation("vendor") == 2


async def test_only_one_is_alone_with_a_system(store: TokenStore) -> None:
    inside: list[str] = []
    async with store.alone("vendor"), store.alone("other"):
        inside.append("both")
    with pytest.raises(ZeroDivisionError):
        async with store.alone("vendor"):
            inside.append(str(1 // 0))
    async with store.alone("vendor"):
        inside.append("again")
    assert inside == ["both", "again"]


async def check_sealed(pool: asyncpg.Pool) -> None:
    """Nothing in the table tells a token to who has no key, and none can be put elsewhere by who can write."""
    await tables(pool)
    store = stored(pool)
    await store.swap("vendor", TOKEN, 0)
    await store.swap("other", Token("access-b1"), 0)
    held = "\n".join(str(dict(row)) for row in await pool.fetch("select *, sealed::text as shown from hub.token"))
    assert "access-" not in held, "a token can be read in the table"
    assert "refresh-" not in held
    with pytest.raises(UnsealedError):
        Seal([OTHER]).open(await pool.fetchval("select sealed from hub.token where system = 'vendor'"))
    with pytest.raises(Unauthorized, match=r"cannot be opened.*`hub auth vendor`"):
        await stored(pool, OTHER).read("vendor")
    await pool.execute("update hub.token set sealed = (select sealed from hub.token where system = 'other')")
    with pytest.raises(Unauthorized, match="put there from elsewhere"):
        await store.read("vendor")


async def test_tokens_are_sealed(pool: asyncpg.Pool) -> None:
    await check_sealed(pool)


async def test_sealing_fails_without_a_seal(pool: asyncpg.Pool) -> None:
    def plain(_: Seal, data: bytes) -> bytes:
        return data

    with mutation(Seal, "close", plain), broken("no seal"):
        await check_sealed(pool)


async def check_keys_change(pool: asyncpg.Pool) -> None:
    """A new key is put before the old one; what is read is sealed anew; then the old key can go."""
    await tables(pool)
    await stored(pool, KEY).swap("vendor", TOKEN, 0)
    both = stored(pool, OTHER, KEY)
    assert (await both.read("vendor") or Token()).refresh == "refresh-r1"
    try:
        left = await stored(pool, OTHER).read("vendor")
    except Unauthorized as error:
        raise AssertionError(f"the old key is still needed: {error}") from None
    assert left == await both.read("vendor")
    assert left is not None
    assert left.generation == 1, "sealing anew is no new generation"


async def test_keys_can_be_changed(pool: asyncpg.Pool) -> None:
    await check_keys_change(pool)


async def test_changing_keys_fails_where_nothing_is_sealed_anew(pool: asyncpg.Pool) -> None:
    def never(_: Seal, sealed: bytes) -> bool:
        return False

    with mutation(Seal, "aged", never), broken("not sealed anew"):
        await check_keys_change(pool)


async def test_a_new_authorization_needs_no_old_key(pool: asyncpg.Pool) -> None:
    await tables(pool)
    await stored(pool, KEY).swap("vendor", TOKEN, 0)
    fresh = stored(pool, OTHER)
    assert await fresh.swap("vendor", Token("access-a2"), await fresh.generation("vendor"))
    assert await fresh.read("vendor") == Token("access-a2", generation=2)


@pytest.mark.parametrize("keys", [[], ["short"], [KEY, ""]])
def test_a_weak_key_is_refused(keys: Sequence[str]) -> None:
    with pytest.raises(ValueError, match="at least 32 characters"):
        Seal(keys)


async def test_a_store_shows_no_secret(pool: asyncpg.Pool) -> None:
    shown = f"{TOKEN!r} {PostgresTokens(pool, Seal([KEY]))!r} {MemoryTokens()!r}"
    assert all(secret not in shown for secret in ("access-a1", "refresh-r1", KEY))
