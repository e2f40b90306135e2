"""A sandbox's authorization server, for every vendor: RFC 6749 with 7636 (PKCE), 7523 (JWT bearer) and 9700 (what is done
about stolen refresh tokens).

It knows the vendor's account by a `Registration`, which a seed may replace. A person's part is played by `consent`.
Codes are for one use, within their time, with the redirect and the challenge they were asked for; a code used twice takes
the tokens of its first use with it. Where refresh tokens rotate, a used one is good for `grace_seconds` more; after that
its use is theft, and every token of its line is taken back. Errors are OAuthError; each vendor words them in its way.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote_plus, urlencode, urlsplit

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import import_key

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class Registration(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """The app as the vendor knows it, and how the vendor's server is set up.

    `redirect_uris`: a port 0 stands for any (RFC 8252, 7.3). `access_seconds` null: access tokens do not expire.
    `pkce` required: an authorization without a challenge is refused; optional: it is verified where it was begun.
    """

    client_id: str = "sandbox-client"
    client_secret: str = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"  # noqa: S105 - a stand-in's secret
    redirect_uris: list[str] = msgspec.field(default_factory=lambda: ["http://127.0.0.1:0/callback"])
    grants: list[str] = msgspec.field(default_factory=lambda: ["authorization_code", "refresh_token"])
    consent: Literal["approve", "deny", "ignore"] = "approve"
    pkce: Literal["optional", "required"] = "optional"
    code_seconds: float = 60.0
    access_seconds: int | None = 1_800
    refresh: bool = True
    rotate: bool = False
    grace_seconds: float = 0.0
    public_key: str = ""
    audience: str = ""


class OAuthError(Exception):
    """A refusal, with the code of RFC 6749 and the status that goes with it; `what` names the part that is wrong."""

    def __init__(self, code: str, text: str, what: str = "", status: int = 400) -> None:
        super().__init__(text)
        self.code, self.text, self.what, self.status = code, text, what, status

    def body(self) -> dict[str, str]:
        """The answer's JSON (RFC 6749, 5.2)."""
        return {"error": self.code, "error_description": self.text}


@dataclass(slots=True)
class Line:
    """All tokens that descend from one authorization."""

    scope: str = ""
    revoked: bool = False
    access: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Code:
    """An authorization code that was given out."""

    line: Line
    redirect_uri: str
    challenge: str
    method: str
    ends: float
    used: bool = False


@dataclass(slots=True)
class Refresh:
    """A refresh token; `used_at` is when it was first exchanged, where they rotate."""

    line: Line
    used_at: float | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """An access token; `ends` in seconds since 1970 UTC, None where it does not expire."""

    line: Line
    ends: float | None


Issued = Callable[[str, Access], None]


class Authority:
    """The server of one account. `now` tells seconds since 1970 UTC; `issued` is told of every access token."""

    def __init__(self, now: Callable[[], float], issued: Issued = lambda token, access: None) -> None:
        self.registration = Registration()
        self.codes: dict[str, Code] = {}
        self.refresh_tokens: dict[str, Refresh] = {}
        self.access_tokens: dict[str, Access] = {}
        self._assertions: set[str] = set()
        self._now, self._issued = now, issued

    def authorize(self, query: Mapping[str, str]) -> str | None:
        """Where the browser is sent; None where the person does nothing. Raises OAuthError where the request names no
        redirect that may be trusted (RFC 6749, 4.1.2.1)."""
        app, redirect = self.registration, query.get("redirect_uri", "")
        if query.get("client_id") != app.client_id:
            raise OAuthError("invalid_client", "missing or unknown client id", "client_id")
        if not any(_same_redirect(known, redirect) for known in app.redirect_uris):
            raise OAuthError("invalid_request", "the redirect is not registered", "redirect_uri")
        given = {"state": query["state"]} if "state" in query else {}
        if error := _refusal(app, query):
            return f"{redirect}?{urlencode({'error': error, **given})}"
        if app.consent == "ignore":
            return None
        return f"{redirect}?{urlencode({'code': self._code(query, redirect), **given})}"

    def _code(self, query: Mapping[str, str], redirect: str) -> str:
        code = secrets.token_urlsafe(24)
        challenge, method = query.get("code_challenge", ""), query.get("code_challenge_method", "plain")
        ends = self._now() + self.registration.code_seconds
        self.codes[code] = Code(Line(query.get("scope", "")), redirect, challenge, method, ends)
        return code

    def token(self, form: Mapping[str, str], authorization: str = "") -> dict[str, Any]:
        """Answer a token request. Raises OAuthError."""
        grant = form.get("grant_type", "")
        _identify(self.registration, form, authorization)
        exchange = {
            "authorization_code": self._exchange,
            "refresh_token": self._refreshed,
            "client_credentials": lambda form: self._issue(Line(form.get("scope", "")), None),
            JWT_BEARER: self._asserted,
        }.get(grant)
        if exchange is None or grant not in self.registration.grants:
            raise OAuthError("unsupported_grant_type", "missing or unknown grant type", "grant_type")
        return exchange(form)

    def _exchange(self, form: Mapping[str, str]) -> dict[str, Any]:
        code = self.codes.get(form.get("code", ""))
        if code is None or code.ends <= self._now():
            raise OAuthError("invalid_grant", "missing, unknown or expired code", "code")
        if code.used:
            code.line.revoked = True
            raise OAuthError("invalid_grant", "the code was used before", "code")
        if code.redirect_uri and form.get("redirect_uri") != code.redirect_uri:
            raise OAuthError("invalid_grant", "the redirect is not the one of the authorization", "redirect_uri")
        if not _verified(code, form.get("code_verifier", "")):
            raise OAuthError("invalid_grant", "the code verifier does not fit the challenge", "code_verifier")
        code.used = True
        return self._issue(code.line, self._new_refresh(code.line))

    def _refreshed(self, form: Mapping[str, str]) -> dict[str, Any]:
        given = form.get("refresh_token", "")
        known = self.refresh_tokens.get(given)
        if known is None or known.line.revoked:
            raise OAuthError("invalid_grant", "refresh token is invalid, expired or revoked", "refresh_token")
        if not self.registration.rotate:
            return self._issue(known.line, given)
        if known.used_at is not None and self._now() > known.used_at + self.registration.grace_seconds:
            known.line.revoked = True
            raise OAuthError("invalid_grant", "the refresh token was used before", "refresh_token")
        known.used_at = self._now() if known.used_at is None else known.used_at
        return self._issue(known.line, self._new_refresh(known.line))

    def _asserted(self, form: Mapping[str, str]) -> dict[str, Any]:
        """RFC 7523, 3: signed by the registered key, for us, in time, and once."""
        app = self.registration
        rules = jwt.JWTClaimsRegistry(
            now=lambda: int(self._now()), iss={"essential": True}, sub={"essential": True}, exp={"essential": True},
            aud={"essential": True, "value": app.audience},
        )  # fmt: skip
        try:
            claims = jwt.decode(
                form.get("assertion", ""), import_key(app.public_key, "RSA"), algorithms=["RS256"]
            ).claims
            rules.validate(claims)
        except (JoseError, ValueError) as error:
            raise OAuthError(
                "invalid_grant", f"the assertion is not valid: {type(error).__name__}", "assertion"
            ) from error
        if not _same(claims["iss"], app.client_id) or claims.get("jti", "") in self._assertions:
            raise OAuthError("invalid_grant", "the assertion is another's, or was used before", "assertion")
        self._assertions.update(filter(None, [claims.get("jti")]))
        return self._issue(Line(form.get("scope", "")), None)

    def _new_refresh(self, line: Line) -> str | None:
        if not self.registration.refresh:
            return None
        token = f"na1-{secrets.token_hex(16)}"
        self.refresh_tokens[token] = Refresh(line)
        return token

    def _issue(self, line: Line, refresh: str | None) -> dict[str, Any]:
        token, seconds = secrets.token_urlsafe(48), self.registration.access_seconds
        access = Access(line, self._now() + seconds if seconds is not None else None)
        self.access_tokens[token] = access
        line.access.add(token)
        self._issued(token, access)
        answer: dict[str, Any] = {"access_token": token, "token_type": "bearer", "expires_in": seconds or 0}
        return answer | ({"refresh_token": refresh} if refresh else {}) | ({"scope": line.scope} if line.scope else {})

    def good(self, token: str) -> bool:
        """Whether an access token is known, not over and not taken back."""
        found = self.access_tokens.get(token)
        return found is not None and not found.line.revoked and (found.ends is None or self._now() < found.ends)

    def revoke_all(self) -> None:
        """Take back everything that was given, as a person does who removes the app."""
        lines = [known.line for known in self.refresh_tokens.values()]
        for line in (*lines, *(known.line for known in self.access_tokens.values())):
            line.revoked = True


def _refusal(app: Registration, query: Mapping[str, str]) -> str:
    """Why a request with a good redirect is refused all the same; "" where it is not."""
    method = query.get("code_challenge_method", "plain")
    if query.get("response_type") != "code":
        return "unsupported_response_type"
    if method not in ("S256", "plain") or (app.pkce == "required" and "code_challenge" not in query):
        return "invalid_request"
    return "access_denied" if app.consent == "deny" else ""


def _identify(app: Registration, form: Mapping[str, str], authorization: str) -> None:
    """Refuse who is not the app. An assertion proves who asks by itself (RFC 7523, 2.1)."""
    client_id, secret = _basic(authorization) if authorization else (form.get("client_id"), form.get("client_secret"))
    status = 401 if authorization else 400
    if not _same(client_id, app.client_id):
        raise OAuthError("invalid_client", "missing or invalid client id", "client_id", status)
    if form.get("grant_type") != JWT_BEARER and not _same(secret, app.client_secret):
        raise OAuthError("invalid_client", "missing or invalid client secret", "client_secret", status)


def _same(given: str | None, expected: str) -> bool:
    return hmac.compare_digest((given or "").encode(), expected.encode())


def _same_redirect(known: str, given: str) -> bool:
    if known == given:
        return True
    one, other = urlsplit(known), urlsplit(given)
    return one.port == 0 and (one.scheme, one.hostname, one.path) == (other.scheme, other.hostname, other.path)


def _basic(header: str) -> tuple[str | None, str | None]:
    """Id and secret of HTTP Basic, each form-encoded (RFC 6749, 2.3.1)."""
    try:
        user, _, password = base64.b64decode(header.removeprefix("Basic "), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None, None
    return unquote_plus(user), unquote_plus(password)


def _verified(code: Code, verifier: str) -> bool:
    """RFC 7636, 4.6; without a challenge a verifier is not asked for, nor taken (RFC 9700, 2.1.1: no downgrade)."""
    if not code.challenge:
        return not verifier
    if code.method == "plain":
        return _same(verifier, code.challenge)
    hashed = hashlib.sha256(verifier.encode()).digest()
    return _same(base64.urlsafe_b64encode(hashed).rstrip(b"=").decode(), code.challenge)
