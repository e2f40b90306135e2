"""Commands that run a hub: run, worker."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hub.edge import changing, running
from hub.edge.assembly import STAGES
from hub.edge.bars import progress, show_left
from hub.edge.cli import DEFAULT_CONFIG, DEFAULT_DATA, AsJson, ConfigPath, DataDir, Exit, app, with_hub
from hub.edge.commands_ask import ledger_json
from hub.edge.output import as_json, err
from hub.edge.stopping import until_told
from hub.edge.wiring import Hub
from streams.ledger import balance

START_SECONDS = 60.0
"""So long a starting worker waits for its database and its log, which may be starting too."""

Port = Annotated[
    int, typer.Option(help="Port of webhooks, API, /metrics, /healthz and /readyz; 0 picks one.", envvar="HUB_PORT")
]
Host = Annotated[str, typer.Option(help="Address to listen on.", envvar="HUB_HOST")]
PublicUrl = Annotated[
    str, typer.Option(help="Scheme and host that vendors call, behind a proxy.", envvar="HUB_PUBLIC_URL")
]


@app.command()
def run(
    config: ConfigPath = DEFAULT_CONFIG,
    data_dir: DataDir = DEFAULT_DATA,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="End when every change has its outcome.")] = False,
    limit: Annotated[float, typer.Option(help="With --until-idle: give up after so many seconds.")] = 3_600.0,
    apply: Annotated[bool, typer.Option("--apply", help="Deploy the configuration if another is in effect.")] = False,
    host: Host = "127.0.0.1",
    port: Port = 8080,
    public_url: PublicUrl = "",
    json: AsJson = False,
) -> None:
    """Run all stages in this process: capture, project, plan, deliver."""
    _run(
        config,
        data_dir,
        list(STAGES),
        host,
        port,
        public_url,
        limit if until_idle else None,
        json,
        "run" if apply else "",
    )


class StageName(StrEnum):
    """A stage that a worker may host."""

    capture = "capture"
    refetch = "refetch"
    project = "project"
    plan = "plan"
    deliver = "deliver"


@app.command()
def worker(
    stage: Annotated[
        list[StageName] | None,
        typer.Option("--stage", help="Stage to host; repeat for several. Without any: webhooks and API only."),
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    data_dir: DataDir = DEFAULT_DATA,
    apply: Annotated[
        bool, typer.Option("--apply", help="Deploy the configuration if another is in effect, and it is a new one.")
    ] = False,
    host: Host = "127.0.0.1",
    port: Port = 8080,
    public_url: PublicUrl = "",
) -> None:
    """Run some stages in this process; others run elsewhere on the same log and state."""
    stages = [s.value for s in stage or []]
    _run(config, data_dir, stages, host, port, public_url, None, False, "worker" if apply else "")


def _run(
    config: Path,
    data_dir: Path,
    stages: list[str],
    host: str,
    port: int,
    public_url: str,
    limit: float | None,
    json: bool,
    apply: str = "",
) -> None:
    async def work(hub: Hub) -> int:
        if apply:
            await changing.deploy_if_other(hub, f"hub {apply} --apply", again=apply == "run")
        async with running.started(hub, stages, host, port, public_url) as started:
            err.print(
                f"running {', '.join(stages) or 'webhooks and API'}; {started.url}/readyz tells how it fares; Ctrl-C ends it"
            )
            if limit is None:
                await until_told(started.worker.workers.wait())
                return 0
            with progress() as bars:
                await running.until_idle(hub, limit, lambda left: show_left(bars, left))
        ledger = await balance(hub.context)
        if json:
            as_json(ledger_json(ledger))
        return 1 if ledger.unaccounted else 0

    raise Exit(with_hub(config, data_dir, work, connect=True, patience=START_SECONDS))
