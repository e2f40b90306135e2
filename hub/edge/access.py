"""Access: who may ask the web application about records. Webhooks, health and metrics are not concerned.

With HUB_API_TOKEN set (the token itself, or `file:` and the path of a file that holds it), every request below /api must
carry it as a bearer token; the pages below /records, which a browser shows, also take it as the password of any user.
Without it, only programs on this machine may ask, and not by way of a proxy: the peer is a loopback address, the host that
was asked for is a name of it (else a web site could have its own name lead here), and no header tells that the request was
passed on.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.config.secrets import FILE, LOOPBACK, UnresolvedError, resolve
from hub.errors import Fatal

VARIABLE = "HUB_API_TOKEN"
SHORTEST = 16
API, PAGES = "/api", "/records"
PASSED_ON = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


def token(env: Mapping[str, str]) -> str:
    """The token that requests must carry; empty where none is asked for. Raises Fatal for one that leads nowhere or is so
    short that it can be guessed."""
    said = env.get(VARIABLE, "")
    try:
        found = str(resolve(said, {}, Path())) if said.startswith(FILE) else said
    except UnresolvedError as error:
        raise Fatal(f"{VARIABLE}: {error}") from None
    if said and len(found) < SHORTEST:
        raise Fatal(f"{VARIABLE} is shorter than {SHORTEST} characters: take a longer one")
    return found


class Guarded:
    """An application whose answers below /api and /records are only for those who may have them."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app = app
        self.digest = hashlib.sha256(token.encode()).digest() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 to a wrong token or none, 403 to others than this machine where none is set; else pass on."""
        refused = self.refusal(scope) if scope["type"] == "http" and scope["path"].startswith((API, PAGES)) else None
        await (refused or self.app)(scope, receive, send)

    def refusal(self, scope: Scope) -> JSONResponse | None:
        """What is answered instead; None for those who may ask."""
        headers = Headers(scope=scope)
        if self.digest is None:
            return (
                None if _local(scope, headers) else _problem(403, f"only from this machine, unless {VARIABLE} is set")
            )
        scheme, _, given = headers.get("authorization", "").partition(" ")
        page = scope["path"].startswith(PAGES)
        if page and scheme.lower() == "basic":
            scheme, given = "bearer", _password(given)
        same = hmac.compare_digest(hashlib.sha256(given.strip().encode("utf-8", "surrogatepass")).digest(), self.digest)
        if same and scheme.lower() == "bearer":
            return None
        return _problem(401, "the token is needed", "Basic realm=hub" if page else "Bearer")


def _password(given: str) -> str:
    """The password of basic authentication; empty where it is none."""
    try:
        return base64.b64decode(given, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _local(scope: Scope, headers: Headers) -> bool:
    host, _, port = headers.get("host", "").rpartition(":")
    asked = (host if port.isdigit() else headers.get("host", "")).strip("[]")
    peer = (scope.get("client") or ("",))[0]
    passed_on = any(name in headers for name in PASSED_ON)
    return not passed_on and asked in LOOPBACK and _loopback(peer)


def _loopback(peer: str) -> bool:
    try:
        return ip_address(peer).is_loopback
    except ValueError:
        return False


def _problem(status: int, detail: str, scheme: str = "") -> JSONResponse:
    headers = {"www-authenticate": scheme} if scheme else None
    return JSONResponse({"status": status, "detail": detail}, status, headers)
