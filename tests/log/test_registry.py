"""Schemas get ids and are refused when they could not read what is already on the log; on both registries."""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
import uvicorn

from schemas.compatibility import IncompatibleSchemaError, problems
from schemas.wire import Schema, UnknownSchemaError, WireError
from streams.registry import Codec, ConfluentRegistry, Registry, TableRegistry, open_registry, shipped_schemas
from tests.log.registry_server import USER, Store, registry_app
from tests.log.support import until

ROOT = Path(__file__).parents[2]


def person(*more: Mapping[str, object]) -> Schema:
    """A schema with an id and whatever fields are added."""
    return {
        "type": "record",
        "name": "Person",
        "namespace": "test",
        "fields": [{"name": "id", "type": "string"}, *more],
    }


NAME = {"name": "name", "type": ["null", "string"], "default": None}
AGE = {"name": "age", "type": "int", "default": 0}
REQUIRED = {"name": "email", "type": "string"}


@asynccontextmanager
async def confluent(store: Store) -> AsyncIterator[str]:
    """The stand-in registry on a loopback port."""
    server = uvicorn.Server(uvicorn.Config(registry_app(store), port=0, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://{':'.join(USER)}@127.0.0.1:{port}"
    server.should_exit = True
    await serving


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture(params=["table", "confluent"])
async def registry(request: pytest.FixtureRequest, pool: asyncpg.Pool, store: Store) -> AsyncIterator[Registry]:
    if request.param == "table":
        yield TableRegistry(pool)
        return
    async with confluent(store) as url:
        registry = ConfluentRegistry(url)
        yield registry
        await registry.close()


async def test_a_schema_keeps_its_id_and_can_be_looked_up(registry: Registry) -> None:
    first = await registry.register("test.Person", person())
    assert await registry.register("test.Person", person()) == first
    second = await registry.register("test.Person", person(NAME))
    assert second != first
    assert await registry.register("test.Person", person()) == first
    assert await registry.schema(first) == person()
    assert await registry.schema(second) == person(NAME)


async def test_an_unknown_id_is_told_as_such(registry: Registry) -> None:
    await registry.register("test.Person", person())
    with pytest.raises(UnknownSchemaError):
        await registry.schema(4_711)


async def test_a_schema_that_cannot_read_the_last_version_is_refused(registry: Registry) -> None:
    await registry.register("test.Person", person())
    with pytest.raises(IncompatibleSchemaError, match="email"):
        await registry.register("test.Person", person(REQUIRED))


async def test_every_earlier_version_counts_not_only_the_last(registry: Registry) -> None:
    """`age` without a default reads version 2, which has it, but not version 1, which has not."""
    await registry.register("test.Person", person())
    await registry.register("test.Person", person(AGE))
    with pytest.raises(IncompatibleSchemaError, match="version 1"):
        await registry.register("test.Person", person({"name": "age", "type": "int"}))


async def test_workers_that_register_together_get_the_same_ids(pool: asyncpg.Pool) -> None:
    registries = [TableRegistry(pool) for _ in range(6)]
    ids = await asyncio.gather(*(registry.register("test.Person", person(NAME)) for registry in registries))
    assert len(set(ids)) == 1


async def test_what_one_version_wrote_the_next_reads(registry: Registry) -> None:
    old = await Codec.prepare(registry, {"person": person()})
    value = old.encode("person", {"id": "7"})
    new = await Codec.prepare(registry, {"person": person(NAME, AGE)})
    with pytest.raises(WireError, match="unknown schema id"):
        new.decode(value)
    await new.learn([value, None, b"", b"junk"])
    assert new.decode(value) == ("person", {"id": "7", "name": None, "age": 0})


async def test_what_the_next_version_writes_the_older_worker_still_reads(registry: Registry) -> None:
    """A rolling upgrade: the old worker ignores the field it does not know."""
    old = await Codec.prepare(registry, {"person": person()})
    value = (await Codec.prepare(registry, {"person": person(NAME)})).encode("person", {"id": "7", "name": "Ada"})
    await old.learn([value])
    assert old.decode(value) == ("person", {"id": "7"})


async def test_a_value_of_a_schema_that_is_not_the_hubs_is_refused(registry: Registry) -> None:
    codec = await Codec.prepare(registry, {"person": person()})
    other = {"type": "record", "name": "Other", "namespace": "test", "fields": []}
    value = (await Codec.prepare(registry, {"other": other})).encode("other", {})
    await codec.learn([value])
    with pytest.raises(WireError) as caught:
        codec.decode(value)
    assert caught.value.reason == "unknown schema id"


async def test_the_password_of_a_registry_is_sent_but_never_logged(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with confluent(store) as url:
        registry = ConfluentRegistry(url)
        await registry.register("test.Person", person())
        await registry.close()
    assert store.calls
    assert store.unauthorised == 0
    assert USER[1] not in caplog.text


async def test_a_registry_that_refuses_says_why(store: Store) -> None:
    async with confluent(store) as url:
        registry = ConfluentRegistry(url.replace(USER[1], "wrong"))
        with pytest.raises(RuntimeError, match="401"):
            await registry.register("test.Person", person())
        await registry.close()


async def test_the_address_decides_which_registry(pool: asyncpg.Pool) -> None:
    assert isinstance(open_registry(None, pool), TableRegistry)
    remote = open_registry("http://127.0.0.1:1", pool)
    assert isinstance(remote, ConfluentRegistry)
    await remote.close()


async def test_every_shipped_schema_can_be_registered(pool: asyncpg.Pool) -> None:
    schemas = shipped_schemas()
    await Codec.prepare(TableRegistry(pool))
    names = await pool.fetch("select subject from hub_log.schema")
    assert len(names) == len(schemas)


@pytest.mark.parametrize("name", sorted(shipped_schemas()))
def test_every_shipped_schema_reads_all_of_its_recorded_history(name: str) -> None:
    """schemas/history/<name>/<version>.avsc: what earlier releases wrote."""
    history = sorted((ROOT / "schemas" / "history" / name).glob("*.avsc"), key=lambda path: int(path.stem))
    assert problems(shipped_schemas()[name], [json.loads(path.read_text()) for path in history]) == []


@pytest.mark.skipif("HUB_TEST_REGISTRY" not in os.environ, reason="HUB_TEST_REGISTRY names no running registry")
async def test_a_real_registry_keeps_the_same_promises() -> None:
    registry = ConfluentRegistry(os.environ["HUB_TEST_REGISTRY"])
    subject = f"test.Person{os.getpid()}"
    first = await registry.register(subject, person())
    await registry.register(subject, person(AGE))
    assert await registry.register(subject, person()) == first
    assert await registry.schema(first) == person()
    with pytest.raises(IncompatibleSchemaError):
        await registry.register(subject, person({"name": "age", "type": "int"}))
    with pytest.raises(UnknownSchemaError):
        await registry.schema(2_000_000_000)
    await registry.close()
