"""`hub auth`: a person authorizes the hub in a browser, and what that gives is stored.

The redirect comes to a listener on this machine's loopback (RFC 8252) that takes one answer with our state. The code is
bound to this attempt by PKCE: whoever else saw the redirect cannot use it.
"""

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from urllib.parse import SplitResult, urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from connectors.kit.budget import Budget
from connectors.kit.client import Client
from connectors.kit.endpoint import TokenEndpoint
from connectors.kit.oauth import authorization_url, form_of_code, form_of_grant, secret_text
from connectors.kit.serving import serve
from connectors.kit.tokens import Token, TokenStore
from hub.errors import ConfigError, Problem, Reject

LOOPBACK = frozenset({"127.0.0.1", "localhost"})
ANSWER_HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


async def authorize(
    client: Client,
    store: TokenStore,
    show: Callable[[str], None],
    seconds: float = 300.0,
    clock: Callable[[], float] = time.time,
) -> Token:
    """Get a token and store it as the newest; `show` is given the URL that a person must open, where one must.

    Raises Reject where the person or the vendor said no or the answer is not to our question, TimeoutError where none
    came in time, and what the token endpoint raises.
    """
    endpoint = TokenEndpoint(client, Budget(), clock)
    if (form := form_of_grant(client, "")) is None:
        form = await _consent(client, show, seconds)
    fresh = replace(await endpoint.token(form, Token()), seed=client.seed)
    async with store.alone(client.system):
        known = await store.generation(client.system)
        if not await store.swap(client.system, fresh, known):
            raise Reject(f"another process authorized {client.system} just now; its token stands", "overtaken")
    return replace(fresh, generation=known + 1)


async def _consent(client: Client, show: Callable[[str], None], seconds: float) -> dict[str, str]:
    """What exchanges the code that the person's consent gave."""
    state, verifier = secret_text(), secret_text()
    async with _listening(client, state) as (redirect_uri, answered):
        show(authorization_url(client, redirect_uri, state, verifier))
        try:
            code = await asyncio.wait_for(answered, seconds)
        except TimeoutError:
            raise TimeoutError(
                f"{client.system}: nobody came back to {redirect_uri} within {seconds:.0f} s; nothing was stored"
            ) from None
    return form_of_code(code, redirect_uri, verifier)


@asynccontextmanager
async def _listening(client: Client, state: str) -> AsyncIterator[tuple[str, asyncio.Future[str]]]:
    """A listener for the redirect: its address, and the code once it came."""
    parts = _redirect(client)
    answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def callback(request: Request) -> Response:
        found = _answer(client.system, dict(request.query_params), state)
        if not answered.done():
            answered.set_exception(found) if isinstance(found, Reject) else answered.set_result(found)
        good = not isinstance(found, Reject)
        said = "The hub is authorized." if good else "The hub was not authorized; its command says why."
        return PlainTextResponse(f"{said} You can close this window.", 200 if good else 400, ANSWER_HEADERS)

    app = Starlette(routes=[Route(parts.path or "/", callback, methods=["GET"])])
    async with AsyncExitStack() as stack:
        try:
            running = await stack.enter_async_context(serve(app, port=parts.port or 0))
        except OSError as error:
            raise Reject(f"cannot listen on {client.redirect_uri}: {error.strerror or error}", "listen") from None
        yield f"{parts.scheme}://{parts.hostname}:{running.port}{parts.path}", answered


def _redirect(client: Client) -> SplitResult:
    parts = urlsplit(client.redirect_uri)
    if parts.scheme != "http" or parts.hostname not in LOOPBACK or parts.query or parts.fragment:
        what = "redirect_uri must be http on this machine (127.0.0.1 or localhost), without query"
        raise ConfigError(
            [Problem(f"systems.{client.system}.redirect_uri", what, "register such a one with the vendor")]
        )
    return parts


def _answer(system: str, query: dict[str, str], state: str) -> str | Reject:
    """The code, or why there is none. Nothing that came in the query is repeated but an error code that is one."""
    if not hmac.compare_digest(query.get("state", "").encode(), state.encode()):
        return Reject(f"{system}: the answer is not to this attempt (wrong state); nothing was stored", "state")
    if error := query.get("error"):
        named = error if error.replace("_", "").isalnum() and error.isascii() and len(error) <= 40 else "error"
        why = "access was denied" if named == "access_denied" else f"the vendor answered {named}"
        return Reject(f"{system}: {why}; nothing was stored", "denied")
    return query.get("code") or Reject(f"{system}: the answer holds no code; nothing was stored", "code")
