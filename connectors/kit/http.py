"""Calls to a vendor's HTTP API: budget, credentials, bounds, and every answer turned into what to do next.

A status becomes an error of hub.errors: 429, 5xx and network trouble Retry (with the vendor's Retry-After), 401 and
403 AuthError, any other 4xx `Refusal`, which is a Reject that keeps the answer. Calls that only read are tried a few
times; calls that write are tried once, for their receipts decide.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import httpx
import stamina
from opentelemetry import trace

from connectors.kit import parsing
from connectors.kit.allowance import Told
from connectors.kit.auth import Credentials
from connectors.kit.budget import Budget
from hub.errors import AuthError, HubError, Limited, Reject, Retry

MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_REASON = 500
READ_ATTEMPTS = 4
LONGEST_WAIT = 10.0
HEADERS = {"User-Agent": "integration-hub", "Accept": "application/json", "Accept-Encoding": "gzip"}
# 423: locked by a bulk call, 425: too early, 477: HubSpot moves the account; all pass.
PASSING = frozenset({408, 423, 425, 429, 477})

Observer = Callable[[str, str, str, int, float], None]
"""(system, method, route, status, seconds); the route has placeholders, status 0 is a call without an answer."""

OBSERVERS: list[Observer] = []
"""Told of every call of this process; the metrics put themselves here."""

_tracer = trace.get_tracer("connectors.kit.http")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the vendor answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; None where it is empty. Raises Retry where it is not JSON: a gateway spoke instead."""
        try:
            return parsing.lenient(self.body) if self.body.strip() else None
        except ValueError as error:
            raise Retry(f"the answer ({self.status}) is not JSON: {str(error)[:100]}") from None


class Refusal(Reject):
    """The vendor refused a call for what it says: `answer` is what it said, `code` its code or else the status."""

    def __init__(self, reason: str, answer: Answer, code: str = "") -> None:
        super().__init__(reason, code or str(answer.status))
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Vendor:
    """How one vendor words what every vendor says.

    reason      parsed body of a refusal -> (what it says, its code or "")
    throttled   whether an answer means "too fast" although its status does not say so
    wait        seconds to pause after "too fast" where no header says
    special     whether "too fast" concerns only the call's second budget (`also`), not all calls of the account
    told        an answer -> the vendor's own counts, where it tells
    headers     sent with every call
    """

    reason: Callable[[Any], tuple[str, str]] = lambda body: (str(body)[:MAX_REASON], "")
    throttled: Callable[[Answer], bool] = lambda answer: False
    wait: Callable[[Answer], float] = lambda answer: 1.0
    special: Callable[[Answer], bool] = lambda answer: True
    told: Callable[[Answer], Told | None] = lambda answer: None
    headers: Mapping[str, str] | None = None


class Http:
    """One vendor's API under one base URL, with one account's credentials and budget. Redirects are not followed."""

    def __init__(
        self,
        system: str,
        base_url: str,
        credentials: Credentials | None,
        budget: Budget,
        vendor: Vendor | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.system = system
        self.credentials = credentials
        self.budget = budget
        self.vendor = vendor or Vendor()
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/"),
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0), pool=None),
            headers={**HEADERS, **(self.vendor.headers or {})},
        )

    async def aclose(self) -> None:
        """Close every connection, after what the credentials have under way."""
        if self.credentials:
            await self.credentials.aclose()
        await self._client.aclose()

    async def read(self, method: str, route: str, path: Mapping[str, str] | None = None, **content: Any) -> Answer:
        """A call that changes nothing, tried again a few times where that may help; see `call`."""
        async for attempt in stamina.retry_context(on=_wait, attempts=READ_ATTEMPTS, timeout=60, wait_jitter=0.2):
            with attempt:
                return await self.call(method, route, path, **content)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def call(
        self,
        method: str,
        route: str,
        path: Mapping[str, str] | None = None,
        *,
        also: Budget | None = None,
        **content: Any,
    ) -> Answer:
        """One call, once (twice where the credentials could be renewed).

        `route` is a template ("/lists/{list}/members") whose placeholders `path` fills, escaped; `also` is a second
        budget to draw from; `content` goes to httpx (params, json, data, headers).
        """
        url = route.format_map({name: quote(str(value), safe="") for name, value in (path or {}).items()})
        given = await self.credentials.header() if self.credentials else ""
        if self.credentials and (place := self.credentials.place):
            url = place + url
        answer = await self._observed(method, route, url, given, also, content)
        if answer.status == 401 and self.credentials and await self.credentials.renew(given):
            given = await self.credentials.header()
            answer = await self._observed(method, route, url, given, also, content)
        return self._judged(answer, also)

    async def _observed(
        self, method: str, route: str, url: str, given: str, also: Budget | None, content: dict[str, Any]
    ) -> Answer:
        status = 0
        async with also.call() if also else nullcontext(), self.budget.call():
            started = time.perf_counter()
            with _tracer.start_as_current_span(f"{method} {route}", kind=trace.SpanKind.CLIENT) as span:
                try:
                    answer = await self._sent(method, url, given, **content)
                    status = answer.status
                    return answer
                finally:
                    span.set_attributes(self._attributes(method, route, status))
                    for observe in OBSERVERS:
                        observe(self.system, method, route, status, time.perf_counter() - started)

    def _attributes(self, method: str, route: str, status: int) -> dict[str, str | int]:
        """As the semantic conventions for HTTP clients name them."""
        known = {"http.request.method": method, "url.template": route, "hub.system": self.system}
        return known | ({"http.response.status_code": status} if status else {})

    async def _sent(
        self, method: str, url: str, given: str, headers: dict[str, str] | None = None, **content: Any
    ) -> Answer:
        sent = (headers or {}) | ({"Authorization": given} if given else {})
        try:
            async with self._client.stream(method, url, headers=sent, **content) as response:
                return Answer(response.status_code, response.headers, await _bounded(response))
        except httpx.TimeoutException:
            raise Retry(f"{self.system} did not answer in time") from None
        except ValueError as error:
            raise Retry(f"{self.system} sent an answer that cannot be unpacked: {error}") from None
        except httpx.HTTPError as error:  # its text may hold the URL, which may hold a secret
            raise Retry(f"{self.system} cannot be reached: {type(error).__name__}") from None

    def _judged(self, answer: Answer, also: Budget | None) -> Answer:
        """The answer where it is a success, else the error it means."""
        if (told := self.vendor.told(answer)) is not None:
            self.budget.learn(told)
        if answer.status < 300:
            return answer
        throttled = answer.status == 429 or self.vendor.throttled(answer)
        if throttled or answer.status in PASSING or answer.status >= 500:
            after = retry_after(answer.headers)
            if throttled:
                after = self.vendor.wait(answer) if after is None else after
                (also if also and self.vendor.special(answer) else self.budget).pause(after)
            kind = Limited if throttled else Retry
            raise kind(f"{self.system} answered {answer.status}: {self._words(answer)[0]}", after)
        raise self._refusal(answer)

    def _refusal(self, answer: Answer) -> HubError:
        said, code = self._words(answer)
        if answer.status in (401, 403):
            return AuthError(f"{self.system} answered {answer.status}: {said}")
        return Refusal(said, answer, code)

    def _words(self, answer: Answer) -> tuple[str, str]:
        try:
            said, code = self.vendor.reason(answer.json())
        except (Retry, LookupError, TypeError, AttributeError):
            said, code = answer.body[:MAX_REASON].decode(errors="replace"), ""
        return self.redacted(said)[:MAX_REASON] or f"status {answer.status}", code

    def redacted(self, text: str) -> str:
        """A text without this account's secrets, should the vendor have repeated one."""
        for secret in self.credentials.secrets() if self.credentials else ():
            text = text.replace(secret, "***") if secret else text
        return text


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds (at most a day) of a Retry-After header, a number or an HTTP date; None where it is absent or neither."""
    value = headers.get("retry-after") or ""
    try:
        seconds = float(value)
    except ValueError:
        seconds = _until(value, now or datetime.now(UTC))
    return min(max(seconds, 0.0), 86_400.0) if seconds == seconds else None


def _until(http_date: str, now: datetime) -> float:
    """Seconds until a date as headers write it; not a number where it is none."""
    try:
        return (parsedate_to_datetime(http_date) - now).total_seconds()
    except (ValueError, TypeError):  # TypeError: a date without a zone
        return float("nan")


async def _bounded(response: httpx.Response) -> bytes:
    """The body, unpacked. A small answer may unpack to a huge one, so no more is unpacked than is let in."""
    inflate, body = parsing.inflater(response.headers.get("content-encoding", "")), bytearray()
    async for piece in response.aiter_raw():
        body += inflate(piece, MAX_ANSWER_BYTES - len(body) + 1)
        if len(body) > MAX_ANSWER_BYTES:
            raise Reject(f"the answer is longer than {MAX_ANSWER_BYTES} bytes", "too-long")
    return bytes(body + inflate(b"", 1))


def _wait(error: Exception) -> bool | float:
    """Whether a read is tried again, and after how long where the vendor said; a long wait is the caller's to plan."""
    if not isinstance(error, Retry):
        return False
    if error.after is None:
        return True
    return error.after if error.after <= LONGEST_WAIT else False
