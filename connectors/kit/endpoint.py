"""The token endpoint of an authorization server: one call, once, and what its answer means.

A refusal in OAuth's words (RFC 6749, 5.2) is Unauthorized: a person must act. No answer, a 5xx or "too fast" is Retry.
Nothing that was sent or answered appears in a message.
"""

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlsplit

from connectors.kit.auth import Fixed
from connectors.kit.budget import Budget
from connectors.kit.client import Client
from connectors.kit.http import Answer, Http, Refusal, Vendor
from connectors.kit.tokens import Token
from hub.errors import AuthError, Retry, Unauthorized

EARLY_SECONDS = 60.0
# RFC 6749, 5.2 and HubSpot's own; a vendor that repeats what it was sent is not quoted.
KNOWN = re.compile(
    "invalid_(request|client|grant|scope|token)|unauthorized_client|unsupported_grant_type|BAD_[A-Z_]{1,30}"
)
PASSING = frozenset({"temporarily_unavailable", "server_error", "slow_down"})


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """Asks for tokens; `clock` tells seconds since 1970 UTC, for what expires."""

    client: Client
    budget: Budget
    clock: Callable[[], float]

    async def token(self, form: Mapping[str, str], before: Token) -> Token:
        """The token that a form gets. What the answer leaves out stays as it was `before`."""
        answer = await self._asked(form)
        access = answer.get("access_token")
        if not isinstance(access, str) or not access:
            raise Retry(f"{self.client.system}'s token endpoint answered without an access token")
        renew_at, expires_at = _times(answer.get("expires_in"), self.clock())
        refresh, scope = answer.get("refresh_token"), answer.get("scope")
        return Token(
            access,
            refresh if isinstance(refresh, str) and refresh else before.refresh,
            renew_at,
            expires_at,
            scope if isinstance(scope, str) else before.scope,
            await self._place(answer, access) or before.place,
            before.seed,
        )

    async def _asked(self, form: Mapping[str, str]) -> dict[str, Any]:
        header, sent = self._identified(form)
        parts = urlsplit(self.client.token_url)
        hidden = (*self.client.secrets(), *(v for k, v in form.items() if k not in ("grant_type", "scope")), header)
        http = Http(
            self.client.system,
            f"{parts.scheme}://{parts.netloc}",
            Fixed(header, *filter(None, hidden)),
            self.budget,
            WORDS,
        )
        try:
            answer = await http.call("POST", parts.path, data=sent)
        except Refusal as refusal:
            raise self._refused(refusal.code, str(refusal.answer.status)) from None
        except AuthError as error:
            raise Unauthorized(self.client.system, str(error)) from None
        finally:
            await http.aclose()
        return self._read(answer)

    def _read(self, answer: Answer) -> dict[str, Any]:
        body = answer.json()
        if not isinstance(body, dict):
            raise Retry(f"{self.client.system}'s token endpoint answered something else than an object")
        if isinstance(body.get("error"), str):  # some vendors refuse with status 200
            raise self._refused(body["error"], str(answer.status))
        return body

    def _refused(self, code: str, status: str) -> Exception:
        if code in PASSING:
            return Retry(f"{self.client.system}'s token endpoint answered {code}")
        named = code if KNOWN.fullmatch(code) else status
        return Unauthorized(self.client.system, f"{self.client.system} refused to give a token ({named})")

    def _identified(self, form: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """The Authorization header and the form, with the client's id and secret in one of them."""
        client = self.client
        if not client.client_secret:
            return "", {**form, "client_id": client.client_id}
        if not client.basic:
            return "", {**form, "client_id": client.client_id, "client_secret": client.client_secret}
        pair = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"  # RFC 6749, 2.3.1
        return f"Basic {base64.b64encode(pair.encode()).decode()}", dict(form)

    async def _place(self, answer: Mapping[str, Any], access: str) -> str:
        place = str(answer.get(self.client.place_field) or "") if self.client.place_field else ""
        if not place and self.client.identify:
            place = await self.client.identify(access)
        if place and not sound(place):
            raise Retry(f"{self.client.system} told an address of its API that is none")
        return place.rstrip("/")


def sound(url: str) -> bool:
    """Whether a token may be sent there: over TLS, or without leaving the machine."""
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    return (
        bool(parts.hostname) and not parts.username and (parts.scheme == "https" or (parts.scheme == "http" and local))
    )


def _times(expires_in: Any, now: float) -> tuple[float | None, float | None]:
    """When to renew and when it is over: a minute early, or a fifth of a short life; never where nothing is said."""
    try:
        seconds = float(expires_in or 0)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds < 1e10:
        return None, None
    return now + seconds - min(EARLY_SECONDS, seconds / 5), now + seconds


def _code(body: Any) -> tuple[str, str]:
    """OAuth's error code. The description is left out: it may repeat what was sent, cut into pieces."""
    return "the token endpoint refused", str(body.get("error") or body.get("status") or "")


WORDS = Vendor(reason=_code)
