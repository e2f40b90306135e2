"""Bad input at the web edge: nothing that is sent makes an error of the hub's own, and the next good webhook is taken."""

import asyncio
import gzip
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from connectors.kit import parsing
from connectors.kit.signing import hubspot_v3
from hub.config import loads
from hub.edge import inquiry, running, web
from hub.edge.embedded import Embedded
from hub.edge.wiring import MANIFESTS, Hub, open_hub
from streams.topics import notices_topic
from tests.config.samples import HUBSPOT_ALONE
from tests.e2e.systems import LONG
from tests.edge.test_web import EVENT, SECRET, notices, post
from tests.promises.mutations import broken, mutation

BOUND = {
    "max_examples": 1_000 if LONG else 60,
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
}
CLEAR = {200, 400, 401, 404, 405, 413, 415, 422, 503}
"""What the edge may answer; 503 is for /readyz, of which a hub without stages may say so."""


@asynccontextmanager
async def served(database: str) -> AsyncIterator[tuple[Hub, str]]:
    """A hub that hosts no stage: webhooks and questions only."""
    env = {"STATE": database, "TOKEN": "t", "SECRET": SECRET}
    config = loads(HUBSPOT_ALONE, MANIFESTS, env, Path("hub.yaml"))
    async with open_hub(config, env=env) as hub, running.started(hub, (), port=0) as started:
        yield hub, started.url


ODD = [
    b'[{"subscriptionType": "contact.creation", "objectId": 1, "objectId": 2, "occurredAt": 1}]',
    orjson.dumps([EVENT])[:-1],
    orjson.dumps([EVENT]).replace(b"77", b"NaN"),
    orjson.dumps([EVENT]).replace(b"77", b"1e400"),
    orjson.dumps([EVENT]).replace(b"77", b"1e999999999"),
    orjson.dumps([EVENT]).replace(b"77", b"77.5"),
    orjson.dumps([EVENT]).replace(b"77", b"true"),
    orjson.dumps([EVENT]).replace(b"1750000000000", b"9" * 40),
    orjson.dumps([EVENT]).replace(b"1750000000000", b'"now"'),
    orjson.dumps([EVENT]).replace(b'"eventId":1', b'"eventId":"\\ud800"'),
    orjson.dumps([EVENT]).replace(b'"eventId":1', b'"eventId":' + b"[" * 400 + b"]" * 400),
    b"[" * 50_000 + b"]" * 50_000,
    b'"' + b"\xff" * 9,
    b"",
]


async def check_odd_webhooks(database: str) -> int:
    """Webhooks that are signed rightly and say nonsense are refused, each by a clear answer; then a good one is taken."""
    async with served(database) as (hub, url):
        answers = [await post(url, body) for body in ODD]
        assert answers == [400] * len(ODD), f"the answers to odd webhooks were {answers}"
        assert await notices(hub) == [], "an odd webhook left a notice"
        nul = orjson.dumps([EVENT | {"eventId": "a\x00b", "subscriptionType": "contact.creation"}])
        assert await post(url, nul) == 200
        vast = orjson.dumps([EVENT]).replace(b'"eventId":1', b'"eventId":{"n":1' + b"0" * 30 + b',"f":1.5}')
        assert await post(url, vast) == 200, "a number that nobody reads"
        assert await post(url, orjson.dumps([EVENT])) == 200
        assert len(await notices(hub)) == 3
        return len(ODD)


async def test_odd_webhooks_are_refused(database: str, figures: Callable[..., None]) -> None:
    figures("P9", odd_webhooks=await check_odd_webhooks(database))


async def test_the_webhook_check_fails_with_a_lenient_parser(database: str) -> None:
    with mutation(parsing, "strict", parsing.lenient), broken("any JSON"):
        await check_odd_webhooks(database)


async def test_the_webhook_check_fails_where_numbers_are_not_bounded(database: str) -> None:
    with mutation(web, "WireError", ZeroDivisionError), broken("numbers beyond 64 bits"):
        await check_odd_webhooks(database)


async def packed(url: str, body: bytes, encoding: str) -> int:
    """Send a body in a content encoding, signed as it goes over the wire; the status."""
    target, stamp = f"{url}/webhooks/hubspot", str(int(time.time() * 1000))
    signature = hubspot_v3(SECRET, "POST", target, body, stamp)
    headers = {"X-HubSpot-Signature-v3": signature, "X-HubSpot-Request-Timestamp": stamp, "Content-Encoding": encoding}
    async with httpx.AsyncClient() as client:
        return (await client.post(target, content=body, headers=headers)).status_code


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "gzip, gzip"])
async def test_a_packed_webhook_is_not_unpacked(database: str, encoding: str) -> None:
    body = gzip.compress(bytes(10 * 1024 * 1024))
    async with served(database) as (hub, url):
        assert await packed(url, body, encoding) == 415
        assert await post(url, bytes(10 * 1024 * 1024)) == 413
        assert await post(url, orjson.dumps([EVENT])) == 200
        assert len(await notices(hub)) == 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["contact.creation", 77]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
EVENTS = st.lists(
    st.fixed_dictionaries({}, optional={name: VALUES | st.just(value) for name, value in EVENT.items()}), max_size=3
)


def test_fuzzed_webhooks_never_fail(postgres: Embedded, figures: Callable[..., None]) -> None:
    """Signed webhooks of random events, bytes and forms at both vendors' readers."""
    seen: list[int] = []

    async def all_of_them() -> None:
        async with served(await postgres.create("fuzzed_webhooks")) as (hub, url):
            for body in _drawn(EVENTS.map(_dumps) | st.binary(max_size=200)):
                status = await post(url, body)
                assert status in (200, 400), f"{status} to {body[:200]!r}"
                seen.append(status)
            assert await post(url, orjson.dumps([EVENT])) == 200
            assert "hubspot" in str(await hub.context.log.ends([notices_topic("hubspot").name]))

    asyncio.run(all_of_them())
    figures("P9", fuzzed_webhooks=len(seen), refused=seen.count(400))


def _drawn(strategy: st.SearchStrategy[bytes]) -> list[bytes]:
    found: list[bytes] = []

    @settings(**BOUND)
    @given(strategy)
    def draw(body: bytes) -> None:
        found.append(body)

    draw()
    return found


def _dumps(value: Any) -> bytes:
    """JSON as other programs write it: with NaN, half characters, numbers of any length."""
    return json.dumps(value).encode()


def fuzz(postgres: Embedded, name: str) -> int:
    """Every operation of the edge's own description, with what fits it and what does not; how many calls. Raises
    AssertionError for an answer that is not clear."""
    calls = 0

    async def work() -> None:
        nonlocal calls
        async with served(await postgres.create(name)) as (_, url):
            calls = await asyncio.to_thread(_called, url)

    asyncio.run(work())
    return calls


def _called(url: str) -> int:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    calls = 0
    for found, mode in itertools.product(schema.get_all_operations(), GenerationMode):

        @settings(
            max_examples=100 if LONG else 12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
        )
        @given(case=found.ok().as_strategy(generation_mode=mode))
        def call(case: Any) -> None:
            nonlocal calls
            calls += 1
            answer = case.call(base_url=url)
            assert answer.status_code in CLEAR, (
                f"{answer.status_code} to {case.method} {case.formatted_path}: {answer.text[:300]}"
            )

        with suppress(Unsatisfiable):  # of an operation without parameters nothing can be wrong
            call()
    return calls


NAMES = ["%00", "a%00b", "%ff%fe", "%ed%a0%80", "x" * 5_000, "..%2f..%2f", "'%3b--", "%F0%9F%92%A9"]


async def check_odd_names(database: str) -> None:
    """Questions about what cannot be there find nothing."""
    async with served(database) as (_, url), httpx.AsyncClient() as client:
        for name, path in itertools.product(
            NAMES, ("golden/contact", "history/contact", "why/contact/email", "golden/%00")
        ):
            answer = await client.get(f"{url}/api/{path}/{name}")
            assert answer.status_code in (400, 404), f"{answer.status_code} to {path}/{name[:20]}: {answer.text[:200]}"


async def test_odd_names_are_not_found(database: str) -> None:
    await check_odd_names(database)


async def test_the_check_of_names_fails_where_all_are_asked_for(database: str) -> None:
    with mutation(inquiry, "_may_exist", lambda *names: True), broken("NUL in a question"):
        await check_odd_names(database)


def test_the_web_edge_answers_every_question_clearly(postgres: Embedded, figures: Callable[..., None]) -> None:
    calls = fuzz(postgres, "fuzzed_edge")
    assert calls > 20, f"only {calls} calls were made"
    figures("P9", fuzzed_calls=calls)
