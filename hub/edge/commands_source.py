"""Commands about sources: snapshot, pause, resume, stop, status. A running hub, wherever it runs, acts within a second."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.progress import Progress, TaskID

from hub.edge import source_status
from hub.edge.bars import progress
from hub.edge.cli import DEFAULT_CONFIG, DEFAULT_DATA, AsJson, ConfigPath, DataDir, Exit, app, with_hub
from hub.edge.output import as_json, err, out, table
from hub.edge.source_status import Json
from hub.edge.wiring import Hub
from streams import sources
from streams.sources import Asked

source = typer.Typer(help="Read a source again, halt it, go on, see how it fares.", no_args_is_help=True)
app.add_typer(source, name="source")

System = Annotated[str, typer.Argument(help="The system, as hub.yaml names it.")]
What = Annotated[str, typer.Argument(help="One of its streams or objects; all of them without.")]
Reason = Annotated[str, typer.Option(help="Why; shown with the source as long as it is halted.")]
AlertAfter = Annotated[float, typer.Option(help="Seconds after which being halted is an alert.")]
OnlySnapshot = Annotated[bool, typer.Option("--snapshot", help="Only its snapshots; changes are captured as before.")]
ALERT_AFTER = 3_600.0
LOOK_SECONDS = 0.5


@source.command()
def snapshot(
    system: System,
    what: What = "",
    rate: Annotated[float, typer.Option(help="Rows a second, at most.", min=0.1)] = sources.RATE,
    detach: Annotated[bool, typer.Option("--detach", help="Only ask for it, and return.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    data_dir: DataDir = DEFAULT_DATA,
    json: Annotated[bool, typer.Option("--json", help="A JSON line for each step instead of bars.")] = False,
) -> None:
    """Read everything again, at low priority, while changes are captured as before. Ctrl-C leaves it going."""

    async def work(hub: Hub) -> int:
        asked = sources.named(hub.context, system, what)
        begun = await sources.request(hub.context, asked, rate)
        err.print(f"begun: {', '.join(begun) or 'nothing, it is under way'}; a running hub does the work")
        return 0 if detach else await _follow(hub, asked, json)

    raise Exit(with_hub(config, data_dir, work, connect=True))


async def _follow(hub: Hub, asked: Asked, json: bool) -> int:
    """Show how it goes until no snapshot is running; 1 where one was stopped or paused meanwhile."""
    with progress() as bars:
        show = _lines() if json else _bars(bars)
        while True:
            found = await source_status.progress_of(hub.context, asked)
            show(found)
            if all(one["state"] != "running" for one in found):
                break
            await asyncio.sleep(LOOK_SECONDS)
    if not json:
        rows = [(s["object"], s["state"], s["rows"], s["dropped"], s["error"]) for s in found]
        table("Snapshots", ("object", "state", "rows", "overtaken", "error"), rows)
    return 0 if all(one["state"] == "done" for one in found) else 1


def _lines() -> Callable[[list[Json]], None]:
    last: dict[str, bytes] = {}
    steady = ("object", "state", "rows", "dropped", "total", "error")

    def show(found: list[Json]) -> None:
        for one in found:
            told = orjson.dumps({name: one[name] for name in steady})
            if last.get(one["object"]) != told:
                last[one["object"]] = told
                sys.stdout.write(orjson.dumps(one, default=str).decode() + "\n")
                sys.stdout.flush()

    return show


def _bars(bars: Progress) -> Callable[[list[Json]], None]:
    tasks: dict[str, TaskID] = {}

    def show(found: list[Json]) -> None:
        for one in found:
            task = tasks.setdefault(one["object"], tasks.get(one["object"]) or bars.add_task(one["object"], total=0))
            total = one["rows"] if one["state"] == "done" else max(one["total"], one["rows"])
            bars.update(task, completed=one["rows"], total=total)

    return show


@source.command()
def pause(
    system: System, what: What = "", reason: Reason = "", alert_after: AlertAfter = ALERT_AFTER,
    only_snapshot: OnlySnapshot = False, config: ConfigPath = DEFAULT_CONFIG, data_dir: DataDir = DEFAULT_DATA,
) -> None:  # fmt: skip
    """Read it no more until `hub source resume`. A database keeps its log for the hub meanwhile."""
    _halt("paused", system, what, reason, alert_after, only_snapshot, config, data_dir)


@source.command()
def stop(
    system: System, what: What = "", reason: Reason = "", alert_after: AlertAfter = ALERT_AFTER,
    only_snapshot: OnlySnapshot = False, config: ConfigPath = DEFAULT_CONFIG, data_dir: DataDir = DEFAULT_DATA,
) -> None:  # fmt: skip
    """Like pause, and give its snapshots up: the next one begins anew."""
    _halt("stopped", system, what, reason, alert_after, only_snapshot, config, data_dir)


def _halt(
    state: str, system: str, what: str, reason: str, alert_after: float, only: bool, config: Path, data_dir: Path
) -> None:
    async def work(hub: Hub) -> str:
        asked = sources.named(hub.context, system, what)
        if only:
            concerned = await sources.change_snapshots(hub.context, asked, state)
            return f"{concerned} snapshots {state}"
        await sources.halt(hub.context, asked, state, reason, alert_after)
        return f"{', '.join(f'{system}/{s.name}' for s in asked.streams)} {state}"

    out.print(with_hub(config, data_dir, work, connect=True))


@source.command()
def resume(
    system: System, what: What = "", only_snapshot: OnlySnapshot = False,
    config: ConfigPath = DEFAULT_CONFIG, data_dir: DataDir = DEFAULT_DATA,
) -> None:  # fmt: skip
    """Go on where it was halted, with its paused snapshots too. Exit 1 when nothing was."""

    async def work(hub: Hub) -> int:
        asked = sources.named(hub.context, system, what)
        if only_snapshot:
            return await sources.change_snapshots(hub.context, asked, "running")
        return await sources.resume(hub.context, asked)

    resumed = with_hub(config, data_dir, work, connect=True)
    out.print("resumed" if resumed else f"{system} was not halted")
    raise Exit(0 if resumed else 1)


@source.command("status")
def source_status_(
    system: System, what: What = "", over: Annotated[float, typer.Option(help="Seconds to count the rate over.")] = 1.0,
    config: ConfigPath = DEFAULT_CONFIG, data_dir: DataDir = DEFAULT_DATA, json: AsJson = False,
) -> None:  # fmt: skip
    """Each stream: state, age of its checkpoint, rate, lag, snapshots, last error."""

    async def work(hub: Hub) -> list[Json]:
        return await source_status.of(hub.context, sources.named(hub.context, system, what), over)

    found: list[Json] = with_hub(config, data_dir, work, connect=True)
    if json:
        as_json(found)
        return
    columns = (
        "stream",
        "state",
        "checkpoint_age_seconds",
        "changes",
        "changes_per_second",
        "lag",
        "lag_bytes",
        "error",
    )
    table(system, ("stream", "state", "age s", "changes", "per s", "lag", "bytes", "error"), _cells(found, columns))
    snapshots = [one for stream in found for one in stream["snapshots"]]
    columns = ("object", "state", "rows", "total", "dropped", "rows_per_second", "eta_seconds", "error")
    if snapshots:
        names = ("object", "state", "rows", "of about", "overtaken", "per s", "left s", "error")
        table("Snapshots", names, _cells(snapshots, columns))


def _cells(found: list[Json], columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
    return [tuple(round(v, 1) if isinstance(v := one[c], float) else v for c in columns) for one in found]
