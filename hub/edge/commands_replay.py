"""The command that rebuilds golden records from the topics: replay."""

from functools import partial
from typing import Annotated, Any

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from hub.edge import wiring
from hub.edge.cli import DEFAULT_CONFIG, DEFAULT_DATA, AsJson, ConfigPath, DataDir, Exit, app, with_hub
from hub.edge.output import as_json, err, out, table
from hub.edge.wiring import Hub
from hub.errors import Reject
from hub.projection import STEWARD
from hub.values import InvalidValue, micros, parse
from streams.rebuild import MEMORY, Options
from streams.replay import Rebuilt
from streams.replay import replay as rebuild
from streams.scope import Scope


@app.command()
def replay(
    config: ConfigPath = DEFAULT_CONFIG,
    data_dir: DataDir = DEFAULT_DATA,
    swap: Annotated[bool, typer.Option("--swap", help="Put the rebuilt rows in place where they differ.")] = False,
    entity: Annotated[str, typer.Option(help="Only golden records of this entity.")] = "",
    system: Annotated[str, typer.Option(help="Only golden records that an event of this system names.")] = "",
    since: Annotated[str, typer.Option(help="Only those named by an event that was seen since then (ISO 8601).")] = "",
    until: Annotated[str, typer.Option(help="... or before then.")] = "",
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, though a replay was cut off.")] = False,
    memory: Annotated[
        int, typer.Option(min=0, help="Up to so many MiB of the log are held in memory; more goes to disk.")
    ] = (MEMORY >> 20),
    json: AsJson = False,
) -> None:
    """Rebuild golden records from the topics alone and compare with live. Exit 1 when they differ and were not swapped.

    Each golden record in scope is rebuilt from all of its events. A replay that was cut off goes on where it was, or
    begins anew if it was held in memory.
    """

    async def work(hub: Hub) -> Rebuilt:
        scope = _scope(hub, entity, system, since, until)
        read_model = partial(wiring.read_model, config.resolve())
        options = Options(scope, fresh, hashes=json, load_model=read_model, memory=memory << 20)
        with rates() as bars:
            return await rebuild(hub.context, swap, options, partial(show_done, bars))

    found: Rebuilt = with_hub(config, data_dir, work)
    if json:
        as_json(_told(found))
    else:
        out.print(
            f"{found.events:,} events -> {found.golden:,} golden records; {len(found.differences):,} differ from live"
        )
        rows = [(d.golden_id, _names(d.live, d.rebuilt)) for d in found.differences[:20]]
        if rows:
            table("Differences", ("golden id", "fields"), rows)
        if found.left_out:
            out.print(
                f"{len(found.left_out):,} became part of something out of scope meanwhile: replay again for those"
            )
        if found.swapped:
            out.print("swapped: the rebuilt records are live now")
    raise Exit(1 if found.differences and not found.swapped else 0)


def _scope(hub: Hub, entity: str, system: str, since: str, until: str) -> Scope:
    """What was asked to be rebuilt. Raises Reject for a name or a time that is none."""
    for what, name, known in (
        ("entity", entity, hub.config.entities),
        ("system", system, [*hub.config.systems, STEWARD]),
    ):
        if name and name not in known:
            raise Reject(f"{name!r} is no {what} here: {', '.join(known)}")
    return Scope(entity, system, _micros(since), _micros(until))


def _micros(moment: str) -> int | None:
    try:
        return micros(parse("timestamp", moment)) if moment else None
    except InvalidValue:
        raise Reject(f"{moment!r} is no time: give it as 2026-11-01T12:00Z") from None


def rates() -> Progress:
    """Bars on standard error, with how fast it goes and how long it will take."""
    columns = (
        TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:>12}"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    return Progress(*columns, console=err, transient=True)


def show_done(bars: Progress, what: str, done: int, of: int) -> None:
    """Bring the bar of one part of the work in line. What an earlier run did counts neither for rate nor for time."""
    known = [t for t in bars.tasks if t.description == what]
    task = known[0].id if known else bars.add_task(what, total=of, completed=done, rate="")
    bars.update(task, total=of, completed=done)
    speed = bars.tasks[task].speed
    bars.update(task, rate=f"{speed:,.0f}/s" if speed else "")


def _told(found: Rebuilt) -> dict[str, Any]:
    differences = [{"golden_id": d.golden_id, "live": d.live, "rebuilt": d.rebuilt} for d in found.differences]
    return {
        "events": found.events, "golden": found.golden, "differences": differences, "swapped": found.swapped,
        "hashes": found.hashes, "live": found.live, "read": found.read, "left_out": found.left_out,
    }  # fmt: skip


def _names(live: dict[str, Any] | None, rebuilt: dict[str, Any] | None) -> str:
    if live is None or rebuilt is None:
        return "only rebuilt" if live is None else "only live"
    return ", ".join(sorted(n for n in live.keys() | rebuilt.keys() if live.get(n) != rebuilt.get(n)))
