"""The HTTP kit against a real server on a real socket: what each answer becomes, what is tried again, what is hidden."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connectors.kit import http as kit
from connectors.kit.allowance import Limit, Told
from connectors.kit.auth import Credentials, basic, bearer
from connectors.kit.budget import Budget
from connectors.kit.http import Answer, Http, Refusal, Vendor, retry_after
from connectors.kit.sandbox import serve
from hub.errors import AuthError, Reject, Retry

SECRET = "s3cr3t-token"


@dataclass
class Server:
    """A server that gives prepared answers, the last one for ever, and keeps what it was sent."""

    answers: list[Response] = field(default_factory=list)
    seen: list[Request] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        """The next prepared answer."""
        await request.body()
        self.seen.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@asynccontextmanager
async def served(
    *answers: Response, credentials: Credentials | None = None, vendor: Vendor | None = None, patience: float = 5.0
) -> AsyncIterator[tuple[Http, Server]]:
    """A client on a server with these answers."""
    server = Server(list(answers))
    app = Starlette(routes=[Route("/{path:path}", server.answer, methods=["GET", "POST", "PUT", "DELETE"])])
    async with serve(app) as running:
        http = Http("vendor", running.url, credentials or bearer(SECRET), Budget(), vendor, patience)
        yield http, server
        await http.aclose()


def ok(body: Any = None, **headers: str) -> Response:
    """A success."""
    return JSONResponse(body if body is not None else {"fine": True}, headers=headers)


def bad(status: int, body: Any = None, **headers: str) -> Response:
    """A failure."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse(body if body is not None else {"message": "no"}, status, headers=named)


async def test_a_call_carries_credentials_an_escaped_path_and_its_content() -> None:
    async with served(ok()) as (http, server):
        answer = await http.call(
            "POST", "/lists/{list}/members", {"list": "a/../b c"}, json={"x": 1}, params={"q": "1"}
        )
        assert answer.json() == {"fine": True}
        request = server.seen[0]
        assert request.scope["raw_path"] == b"/lists/a%2F..%2Fb%20c/members"
        assert request.headers["authorization"] == f"Bearer {SECRET}"
        assert (await request.json(), request.url.query) == ({"x": 1}, "q=1")
        assert "gzip" in request.headers["accept-encoding"]


@pytest.mark.parametrize(
    ("status", "error"),
    [(429, Retry), (500, Retry), (502, Retry), (503, Retry), (504, Retry), (423, Retry), (477, Retry), (408, Retry),
     (401, AuthError), (403, AuthError), (400, Refusal), (404, Refusal), (409, Refusal), (422, Refusal), (301, Refusal)],
)  # fmt: skip
async def test_a_status_becomes_what_to_do_next(status: int, error: type[Exception]) -> None:
    async with served(bad(status)) as (http, server):
        with pytest.raises(error):
            await http.call("POST", "/things")
        assert len(server.seen) == 1


async def test_a_refusal_keeps_the_vendors_words_bounded_and_without_secrets() -> None:
    vendor = Vendor(reason=lambda body: (body["message"], body.get("code", "")))
    said = {"message": f"token {SECRET} has no right to " + "x" * 5000, "code": "NO"}
    async with served(bad(400, said), bad(403, said), bad(400, ["odd"]), vendor=vendor) as (http, _):
        with pytest.raises(Refusal) as refused:
            await http.call("POST", "/things")
        assert refused.value.reason.startswith("token *** has no right to xxx")
        assert (len(refused.value.reason), refused.value.code, refused.value.answer.status) == (500, "NO", 400)
        with pytest.raises(AuthError) as forbidden:
            await http.call("POST", "/things")
        assert SECRET not in str(forbidden.value)
        with pytest.raises(Refusal, match="odd"):
            await http.call("POST", "/things")


async def test_a_read_is_tried_again_a_write_is_not() -> None:
    async with served(bad(503), bad(500), ok()) as (http, server):
        assert (await http.read("GET", "/things")).json() == {"fine": True}
        assert len(server.seen) == 3
    async with served(bad(503), ok()) as (http, server):
        with pytest.raises(Retry):
            await http.call("POST", "/things")
        assert len(server.seen) == 1
    async with served(bad(404), ok()) as (http, server):
        with pytest.raises(Refusal):
            await http.read("GET", "/things")
        assert len(server.seen) == 1


async def test_the_vendors_wait_is_kept_and_a_long_one_is_left_to_the_caller() -> None:
    async with served(bad(429, retry_after="0.3"), ok()) as (http, server):
        loop = asyncio.get_running_loop()
        started = loop.time()
        await http.read("GET", "/things")
        assert loop.time() - started >= 0.3
        assert len(server.seen) == 2
    async with served(bad(429, retry_after="120"), ok()) as (http, server):
        with pytest.raises(Retry) as told:
            await http.read("GET", "/things")
        assert told.value.after == 120.0
        assert len(server.seen) == 1


def test_retry_after_is_a_number_or_a_date() -> None:
    now = datetime(2026, 9, 1, 10, 0, 0, tzinfo=UTC)
    assert retry_after({"retry-after": "7"}) == 7.0
    assert retry_after({"retry-after": "Tue, 01 Sep 2026 10:00:30 GMT"}, now) == 30.0
    assert retry_after({"retry-after": "Tue, 01 Sep 2026 09:00:00 GMT"}, now) == 0.0
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "-3"}) == 0.0
    assert retry_after({"retry-after": "nan"}) is None
    assert retry_after({"retry-after": "1e99"}) == 86_400.0
    assert retry_after({}) is None


async def test_silence_and_absence_are_retry_and_name_no_url() -> None:
    async def slow(_: Request) -> Response:
        await asyncio.sleep(5)
        return ok()

    async with serve(Starlette(routes=[Route("/slow", slow)])) as running:
        http = Http("vendor", running.url, bearer(SECRET), Budget(), timeout=0.2)
        with pytest.raises(Retry, match="did not answer in time"):
            await http.call("GET", "/slow", params={"key": SECRET})
        await http.aclose()
    http = Http("vendor", running.url, bearer(SECRET), Budget(), timeout=0.5)
    with pytest.raises(Retry) as raised:
        await http.call("GET", "/slow", params={"key": SECRET})
    assert SECRET not in str(raised.value)
    await http.aclose()


async def test_answers_are_unpacked_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = Response(gzip.compress(b'{"a": "' + b"x" * 100_000 + b'"}'), headers={"content-encoding": "gzip"})
    async with served(packed) as (http, _):
        assert len((await http.call("GET", "/things")).json()["a"]) == 100_000
        monkeypatch.setattr(kit, "MAX_ANSWER_BYTES", 50_000)
        with pytest.raises(Reject) as refused:
            await http.call("GET", "/things")
        assert refused.value.code == "too-long"


async def test_a_gateways_page_instead_of_json_is_retry() -> None:
    async with served(Response("<html>", 200)) as (http, _):
        answer = await http.call("GET", "/things")
        with pytest.raises(Retry):
            answer.json()
    assert Answer(204, {}, b"").json() is None


async def test_every_call_is_told_to_observers_by_its_route() -> None:
    told: list[tuple[Any, ...]] = []

    def observe(*call: Any) -> None:
        told.append(call[:4])
        assert call[4] > 0

    kit.OBSERVERS.append(observe)
    try:
        async with served(ok(), bad(500)) as (http, _):
            await http.call("GET", "/lists/{list}", {"list": "a1"})
            with pytest.raises(Retry):
                await http.call("POST", "/lists/{list}", {"list": "a1"})
        http = Http("vendor", "http://127.0.0.1:9", None, Budget(), timeout=0.2)
        with pytest.raises(Retry):
            await http.call("GET", "/lists/{list}", {"list": "a1"})
        await http.aclose()
    finally:
        kit.OBSERVERS.remove(observe)
    route = "/lists/{list}"
    assert told == [("vendor", "GET", route, 200), ("vendor", "POST", route, 500), ("vendor", "GET", route, 0)]


async def test_a_vendor_may_say_too_fast_in_its_own_way_and_count_in_its_headers() -> None:
    vendor = Vendor(
        throttled=lambda answer: answer.status == 403 and not answer.body.startswith(b"{"),
        told=lambda answer: Told(most=9, left=int(answer.headers["x-left"])) if "x-left" in answer.headers else None,
    )
    async with served(Response("slow down", 403), ok(**{"x-left": "0"}), ok(), vendor=vendor) as (http, _):
        with pytest.raises(Retry):
            await http.call("GET", "/things")
        http.budget = Budget("", Limit(10, 60.0))
        await http.call("GET", "/things")
        await asyncio.sleep(0.5)
        with pytest.raises(TimeoutError):  # 9 of the 10 are left by our own count, none by the vendor's
            await asyncio.wait_for(http.call("GET", "/things"), 0.5)


@pytest.mark.parametrize("special", [True, False])
async def test_too_fast_pauses_the_budget_that_it_is_said_of(special: bool) -> None:
    vendor = Vendor(special=lambda answer: special)
    async with served(bad(429, {}, **{"retry-after": "60"}), vendor=vendor) as (http, _):
        also = Budget()
        with pytest.raises(Retry):
            await http.call("GET", "/search", also=also)
        paused, free = (also, http.budget) if special else (http.budget, also)
        with pytest.raises(Retry, match="asked to pause"):
            async with paused.call():
                raise AssertionError("a call was started")
        async with free.call():
            pass


async def test_basic_credentials() -> None:
    async with served(ok(), credentials=basic("any", "key")) as (http, server):
        await http.call("GET", "/things")
        assert server.seen[0].headers["authorization"] == "Basic YW55OmtleQ=="
    assert "key" in basic("any", "key").secrets()
