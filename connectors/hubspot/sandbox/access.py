"""Who may call: tokens, scopes, rate limits, and the OAuth endpoints that hand out tokens."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from connectors.hubspot.sandbox.errors import (
    ApiError,
    missing_scopes,
    rate_limited,
    token_expired,
    unauthenticated,
)
from connectors.hubspot.sandbox.values import iso
from connectors.kit.sandbox.authority import Access as Given
from connectors.kit.sandbox.authority import Authority, OAuthError

TOKEN_SECONDS = 1_800  # of a token that is shown as one that does not end
WINDOW_MS, SECOND_MS, DAY_MS = 10_000, 1_000, 86_400_000


class Limits(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """Calls allowed: in any ten seconds, searches in any second, and in a day; null is no limit."""

    per_ten_seconds: int | None = None
    search_per_second: int | None = None
    daily: int | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A token's grant. No `scopes` means all, no `expires` (epoch milliseconds) never; only apps of one account have
    private tokens."""

    scopes: frozenset[str] | None = None
    expires: int | None = None
    private: bool = True


class Access:
    """The tokens of one account and what they may do."""

    def __init__(self, client_id: str, client_secret: str, now: Callable[[], int]) -> None:
        self._now = now
        self.tokens: dict[str, Token] = {}
        self.authority = Authority(lambda: now() / 1000, self._issued)
        self.register(client_id, client_secret)
        self.limits = Limits()
        self._calls: deque[int] = deque()
        self._searches: deque[int] = deque()
        self._daily: deque[int] = deque()

    def register(self, client_id: str, client_secret: str) -> None:
        """The app's own id and secret; redirects, consent and rotation stay as they are."""
        app = self.authority.registration
        app.client_id, app.client_secret = client_id, client_secret

    def _issued(self, token: str, given: Given) -> None:
        scopes = frozenset(given.line.scope.split()) or None
        self.tokens[token] = Token(scopes, None if given.ends is None else math.ceil(given.ends * 1000), private=False)

    def authenticate(self, authorization: str | None) -> Token:
        """The grant of a bearer token; ApiError 401 if it is unknown or over."""
        scheme, _, given = (authorization or "").partition(" ")
        token = self.tokens.get(given.strip()) if scheme.lower() == "bearer" else None
        line = self.authority.access_tokens.get(given.strip())
        if token is None or (line is not None and line.line.revoked):
            raise unauthenticated()
        if token.expires is not None and token.expires <= self._now():
            raise token_expired((self._now() - token.expires) // 1000, iso(token.expires))
        return token

    def count(self, token: Token, search: bool) -> dict[str, str]:
        """Count a call; the headers that tell what is left, or ApiError 429. Searches carry no such headers."""
        now, limits = self._now(), self.limits
        if search and limits.search_per_second is not None:
            if not _room(self._searches, now - SECOND_MS, limits.search_per_second):
                raise rate_limited("SECONDLY", {})
            self._searches.append(now)
        for calls, span, limit, policy in (
            (self._calls, WINDOW_MS, limits.per_ten_seconds, "TEN_SECONDLY_ROLLING"),
            (self._daily, DAY_MS, limits.daily, "DAILY"),
        ):
            if limit is not None and not _room(calls, now - span, limit):
                raise rate_limited(policy, {} if search else self._headers(token))
        for calls, limit in ((self._calls, limits.per_ten_seconds), (self._daily, limits.daily)):
            if limit is not None:
                calls.append(now)
        return {} if search else self._headers(token)

    def calls_today(self) -> int:
        """How many calls the daily limit has counted."""
        return len(self._daily)

    def _headers(self, token: Token) -> dict[str, str]:
        shown: dict[str, str] = {}
        if (limit := self.limits.per_ten_seconds) is not None:
            shown |= {
                "X-HubSpot-RateLimit-Interval-Milliseconds": str(WINDOW_MS),
                "X-HubSpot-RateLimit-Max": str(limit),
                "X-HubSpot-RateLimit-Remaining": str(max(0, limit - len(self._calls))),
            }
        if token.private and (daily := self.limits.daily) is not None:
            shown["X-HubSpot-RateLimit-Daily"] = str(daily)
            shown["X-HubSpot-RateLimit-Daily-Remaining"] = str(max(0, daily - len(self._daily)))
        return shown

    def grant(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Answer a token request; ApiError 400 with OAuth's own error fields and HubSpot's."""
        try:
            answer = self.authority.token(form)
        except OAuthError as error:
            raise _worded(error) from error
        scopes = self.tokens[answer["access_token"]].scopes
        return answer | {"scopes": sorted(scopes or ()), "token_use": "access_token"}

    def expires_in(self, token: Token) -> int:
        """Seconds until a token is over, 0 when it is."""
        return max(0, (token.expires - self._now()) // 1000) if token.expires is not None else TOKEN_SECONDS


def require_scope(token: Token, scopes: Iterable[str]) -> None:
    """ApiError 403 unless the token was granted one of the scopes."""
    wanted = list(scopes)
    if wanted and token.scopes is not None and token.scopes.isdisjoint(wanted):
        raise missing_scopes(wanted)


def _room(calls: deque[int], since: int, limit: int) -> bool:
    while calls and calls[0] <= since:
        calls.popleft()
    return len(calls) < limit


_STATUS = {
    "client_id": "BAD_CLIENT_ID", "client_secret": "BAD_CLIENT_SECRET", "refresh_token": "BAD_REFRESH_TOKEN",
    "code": "BAD_AUTH_CODE", "grant_type": "BAD_GRANT_TYPE", "redirect_uri": "BAD_REDIRECT_URI",
}  # fmt: skip


def _worded(error: OAuthError) -> ApiError:
    status = _STATUS.get(error.what, "BAD_AUTH_CODE")
    extra = {"error": error.code, "error_description": error.text, "status": status}
    return ApiError(400, error.text, status, extra=extra)
