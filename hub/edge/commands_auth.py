"""`hub auth`: a person, or a key, authorizes the hub at a vendor; what was paused for want of it goes on."""

import os
import webbrowser
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from connectors.kit.authorize import authorize
from connectors.kit.client import Client
from connectors.registry import CONNECTORS
from hub.config import Config
from hub.edge import tokens
from hub.edge.cli import DEFAULT_CONFIG, DEFAULT_DATA, AsJson, ConfigPath, DataDir, app, with_hub
from hub.edge.output import as_json, err, out
from hub.edge.wiring import Hub
from hub.errors import Reject
from streams.receipts import resume


@app.command()
def auth(
    system: Annotated[str, typer.Argument(help="The system to authorize the hub for.")],
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the browser, or print the URL only.")
    ] = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the person.", min=1, max=3_600)] = 300.0,
    config: ConfigPath = DEFAULT_CONFIG,
    data_dir: DataDir = DEFAULT_DATA,
    json: AsJson = False,
) -> None:
    """Authorize the hub for a system by OAuth: prints the URL to open, waits for the answer on this machine, and stores
    the tokens, sealed. Running hubs take them up by themselves, and a pause of the system ends."""
    options = Options(data_dir, timeout, _opener(browser))
    done = with_hub(config, data_dir, lambda hub: authorized(hub, system, options))
    if json:
        as_json(done)
    else:
        out.print(f"{system} is authorized" + (", and no longer paused" if done["resumed"] else ""))


@dataclass(frozen=True, slots=True)
class Options:
    """How to authorize; `show` is given the URL that a person must open."""

    data_dir: Path
    seconds: float
    show: Callable[[str], None]
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)


def _opener(browser: bool) -> Callable[[str], None]:
    """Print the URL on standard error, for a person elsewhere; and open it here where that is wanted."""

    def show(url: str) -> None:
        err.print("Open this address and allow access:")
        err.print(url, soft_wrap=True, markup=False)
        if browser:
            webbrowser.open(url)

    return show


async def authorized(hub: Hub, system: str, options: Options) -> dict[str, Any]:
    """Authorize, store, and end the system's pause; what was done, without any secret."""
    client = _client(hub.config, system, options.env)
    store = tokens.store(hub.config, hub.context.pool, options.data_dir, options.env)
    token = await authorize(client, store, options.show, options.seconds)
    async with hub.context.pool.acquire() as conn:
        resumed = await resume(hub.context, conn, system)
    over = datetime.fromtimestamp(token.expires_at, UTC).isoformat(timespec="seconds") if token.expires_at else None
    return {
        "system": system, "grant": client.grant, "scope": token.scope or client.scopes, "expires_at": over,
        "renews_itself": bool(token.refresh) or client.grant != "authorization_code", "resumed": resumed,
    }  # fmt: skip


def _client(config: Config, system: str, env: Mapping[str, str]) -> Client:
    """The system's client. Raises Reject where there is none to authorize, ConfigError where its settings are not whole."""
    if system not in config.systems:
        raise Reject(f"no system {system!r} in the configuration; there are {', '.join(config.systems)}", "unknown")
    oauth = CONNECTORS[config.systems[system].connector][0].oauth
    client = oauth(system, config.resolve(system, env)) if oauth else None
    if client is None:
        raise Reject(
            f"{system} is configured with other credentials than OAuth: there is nothing to authorize", "fixed"
        )
    return client
