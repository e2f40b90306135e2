"""Commands that run things: run, worker, demo, sandbox, kafka."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hub.edge import changing, running
from hub.edge.assembly import STAGES
from hub.edge.cli import DEFAULT_CONFIG, DEFAULT_DATA, AsJson, ConfigPath, DataDir, Exit, app, go, with_hub
from hub.edge.output import as_json, err, out
from hub.edge.wiring import Hub
from streams.ledger import Idle, balance

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
    _run(config, data_dir, list(STAGES), host, port, public_url, limit if until_idle else None, json, apply)


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
    host: Host = "127.0.0.1",
    port: Port = 8080,
    public_url: PublicUrl = "",
) -> None:
    """Run some stages in this process; others run elsewhere on the same log and state."""
    _run(config, data_dir, [s.value for s in stage or []], host, port, public_url, None, False)


def _run(
    config: Path,
    data_dir: Path,
    stages: list[str],
    host: str,
    port: int,
    public_url: str,
    limit: float | None,
    json: bool,
    apply: bool = False,
) -> None:
    async def work(hub: Hub) -> int:
        if apply:
            await changing.deploy_if_other(hub, "hub run --apply")
        async with running.started(hub, stages, host, port, public_url) as started:
            err.print(
                f"running {', '.join(stages) or 'webhooks and API'}; {started.url}/readyz tells how it fares; Ctrl-C ends it"
            )
            if limit is None:
                await running.until_told(started.worker)
                return 0
            with progress() as bars:
                await running.until_idle(hub, limit, lambda left: show_left(bars, left))
        ledger = await balance(hub.context)
        if json:
            as_json({"unaccounted": ledger.unaccounted, "captured": ledger.captured, "targets": ledger.targets})
        return 1 if ledger.unaccounted else 0

    raise Exit(with_hub(config, data_dir, work, connect=True, patience=START_SECONDS))


def progress() -> Progress:
    """Bars on standard error, of what is left per stage."""
    columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=err, transient=True)


def show_left(bars: Progress, left: Idle) -> None:
    """Bring the bars in line with what is left: a bar is full when its stage has caught up with the most it ever lagged."""
    for name, waiting in {**left.lag, "deliver": left.queued}.items():
        known = [t for t in bars.tasks if t.description == name]
        task = known[0].id if known else bars.add_task(name, total=0)
        total = max(int(known[0].total or 0) if known else 0, waiting)
        bars.update(task, total=total, completed=total - waiting)


@app.command()
def sandbox(
    name: Annotated[str, typer.Argument(help="hubspot or mailchimp.")],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 picks one.")] = 0,
    seed: Annotated[
        Path | None, typer.Option(help="A JSON document to begin with (as POST /_sandbox/seed takes it).")
    ] = None,
) -> None:
    """Run a stand-in of a vendor's API on this machine, until interrupted."""
    from hub.edge.sandboxes import serve

    go(serve(name, port, seed))


kafka = typer.Typer(help="A local Kafka broker without Docker, for development and tests.", no_args_is_help=True)
app.add_typer(kafka, name="kafka")
KAFKA_DIR = Path(".hub/kafka")
KafkaDir = Annotated[Path, typer.Option(help="Where the broker keeps its data.")]


@kafka.command()
def up(
    data_dir: KafkaDir = KAFKA_DIR, port: Annotated[int, typer.Option(help="Client port on 127.0.0.1.")] = 9092
) -> None:
    """Start a broker (fetching its jars the first time) and print its address."""
    from hub.edge import kafka_local

    out.print(kafka_local.up(data_dir, port=port).url)


@kafka.command()
def down(data_dir: KafkaDir = KAFKA_DIR) -> None:
    """Stop the broker; its data stays."""
    from hub.edge import kafka_local

    kafka_local.down(data_dir)


@kafka.command("status")
def kafka_status(data_dir: KafkaDir = KAFKA_DIR) -> None:
    """Say whether the broker runs, and where. Exit 1 when it does not."""
    from hub.edge import kafka_local

    broker = kafka_local.status(data_dir)
    out.print(broker.url if broker else "not running")
    raise Exit(0 if broker else 1)
