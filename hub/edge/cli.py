"""What every command shares. Exit codes: 0 done; 1 the hub found something wrong (unbalanced ledger, differences, failed
check); 2 the command or the configuration is wrong; 3 something it needs cannot be reached; 130 interrupted."""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from hub.config import Config
from hub.edge import wiring
from hub.edge.output import err
from hub.edge.wiring import Hub
from hub.errors import ConfigError, HubError, Reject
from streams.faults import INFRASTRUCTURE

app = typer.Typer(
    name="hub",
    help="Event-sourced integration hub: every change an event, one golden record per thing, every system in line.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="The configuration.", envvar="HUB_CONFIG")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
DataDir = Annotated[
    Path, typer.Option("--data-dir", help="Where the embedded PostgreSQL keeps its data.", envvar="HUB_DATA_DIR")
]
DEFAULT_CONFIG = Path("hub.yaml")
DEFAULT_DATA = Path(".hub/pg")


class Exit(typer.Exit):
    """Ends a command with a code; what is to be said has been said."""


def go(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a command's coroutine; errors become one clear message and the documented exit code."""
    try:
        with asyncio.Runner(loop_factory=_loop) as runner:
            return runner.run(work)
    except KeyboardInterrupt:
        raise Exit(130) from None
    except ConfigError as error:
        for problem in error.problems:
            err.print(f"[red]error[/] {problem}", soft_wrap=True)
        raise Exit(2) from None
    except Reject as error:
        err.print(f"[red]error[/] {error.reason}", soft_wrap=True)
        raise Exit(2) from None
    except TimeoutError as error:
        err.print(f"[red]error[/] {error or 'timed out'}", soft_wrap=True)
        raise Exit(3) from None
    except (HubError, RuntimeError) as error:
        err.print(f"[red]error[/] {error}", soft_wrap=True)
        raise Exit(3) from None
    except INFRASTRUCTURE as error:
        err.print(f"[red]error[/] cannot reach what it needs: {type(error).__name__}: {error}", soft_wrap=True)
        raise Exit(3) from None


def _loop() -> asyncio.AbstractEventLoop:
    """uvloop's event loop, where there is one for the platform."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def with_hub(
    config: Path, data_dir: Path, work: Callable[[Hub], Awaitable[Any]], connect: bool = False, patience: float = 0.0
) -> Any:
    """Run `work` on an open hub; `connect` also prepares the connectors (and needs their secrets); `patience` in seconds
    is for a database or a log that does not answer yet."""

    async def opened() -> Any:
        async with wiring.open_hub(read(config), data_dir=data_dir, connect=connect, patience=patience) as hub:
            return await work(hub)

    return go(opened())


def read(path: Path) -> Config:
    """The configuration, with its warnings on standard error."""
    config = wiring.read_config(path)
    for warning in config.warnings:
        err.print(f"[yellow]warning[/] {warning}", soft_wrap=True)
    return config


def quiet_logs(level: str = "warning", as_json_lines: bool = False) -> None:
    """Logs go to standard error, so that standard output holds answers only."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(
        force=True, level=number, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it reports as errors what it then retries
    for noisy in ("faust", "mode", "httpx", "asyncio"):
        logging.getLogger(noisy).setLevel(max(number, logging.ERROR))
    renderer = structlog.processors.JSONRenderer() if as_json_lines else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


@app.callback()
def _common(
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.", envvar="HUB_LOG_LEVEL")] = "warning",
    log_json: Annotated[bool, typer.Option(help="Log JSON lines.", envvar="HUB_LOG_JSON")] = False,
) -> None:
    quiet_logs(log_level, log_json)
