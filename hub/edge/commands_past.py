"""Commands that ask of the past: history, bisect, export."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hub.edge import bisect as bisecting
from hub.edge import history as histories
from hub.edge.cli import DEFAULT_CONFIG, DEFAULT_DATA, AsJson, ConfigPath, DataDir, Exit, app, with_hub
from hub.edge.commands_ask import EntityName, Name
from hub.edge.inquiry import Json
from hub.edge.output import as_json, err, out, table
from hub.edge.step_lines import became, said, who
from hub.edge.wiring import Hub
from hub.errors import Reject


@app.command()
def history(
    entity: EntityName,
    name: Name,
    config: ConfigPath = DEFAULT_CONFIG,
    data_dir: DataDir = DEFAULT_DATA,
    json: AsJson = False,
) -> None:
    """Everything that happened to a record, in the order in which it was processed, and what each changed."""
    found: list[Json] = with_hub(config, data_dir, lambda hub: histories.history(hub.context, entity, name))
    if json:
        as_json(found)
        return
    rows = [(s["processed_at"], who(s), s.get("channel", s["kind"]), said(s), became(s), s["id"]) for s in found]
    table(f"{len(found)} steps", ("processed", "by", "channel", "what", "changed", "id"), rows)


@app.command()
def bisect(
    entity: EntityName,
    invariant: Annotated[str, typer.Option(help="Such as 'phone is not null'.")],
    name: Annotated[str | None, typer.Option(help="One record; without it, all of the entity.")] = None,
    limit: Annotated[int, typer.Option(help="Search at most so many records.", min=1)] = bisecting.RECORDS,
    ever: Annotated[bool, typer.Option("--ever", help="Also where it was broken and has been mended.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    data_dir: DataDir = DEFAULT_DATA,
    json: AsJson = False,
) -> None:
    """Find the first event after which an invariant no longer held. Exit 1 where it is broken."""

    def search(hub: Hub) -> Any:
        return bisecting.bisect(hub.context, entity, invariant, name, limit, ever)

    found: Json = with_hub(config, data_dir, search)
    as_json(found) if json else _print_bisected(found)
    raise Exit(0 if found["holds"] else 1)


def _print_bisected(found: Json) -> None:
    every = found.get("records", found["broken"])
    more = f"; searched the first {found['searched']:,} of {every:,}" if found["searched"] < every else ""
    if found["holds"]:
        out.print(f"it {'always held' if found.get('ever') else 'holds'}: {found['invariant']}{more}")
        return
    rows = [
        (one["golden_id"], time["since"]["processed_at"], (time["until"] or {}).get("processed_at", "still broken"))
        for one in found.get("breaks", [])
        for time in one["times"]
    ]
    if rows:
        table(f"{len(rows)} times", ("golden id", "broken since", "until"), rows[:50])
    first = found["first"]
    out.print(f"broken in {found['broken']:,} records{more}; {found['folds']} folds over {found['steps']:,} steps")
    out.print(f"held until {first['kind']} {first['id']} of {who(first)}, processed {first['processed_at']}")
    out.print(f"{said(first)}\nbroken by it: {', '.join(first['golden_ids'][:20])}", soft_wrap=True)


@app.command()
def export(
    entity: EntityName,
    name: Annotated[str | None, typer.Argument(help="One record, whole, as JSON; without it, all as a table.")] = None,
    format_: Annotated[str, typer.Option("--format", help="Of a table: parquet or csv.")] = "parquet",
    output: Annotated[Path | None, typer.Option(help="The file; a record without it goes to standard output.")] = None,
    at: Annotated[str | None, typer.Option(help="A table as it was at this instant.")] = None,
    deleted: Annotated[bool, typer.Option("--deleted", help="A table with those that are deleted.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    data_dir: DataDir = DEFAULT_DATA,
    json: AsJson = False,
) -> None:
    """Write a record's full history as one JSON document, or all golden records of an entity as Parquet or CSV."""

    from hub.edge import export as exporting  # what it needs takes a while to load
    from hub.edge.tables import columns

    async def work(hub: Hub) -> Any:
        if name is not None:
            return await histories.document(hub.context, entity, name)
        if output is None:
            raise Reject("a table needs --output", "output")
        count = await exporting.export(hub.context, entity, format_, output, at, deleted)
        return {"records": count, "file": str(output), "columns": columns(hub.context.model.entities[entity], format_)}

    if name is not None and at is not None:
        err.print("[red]error[/] a record's history is whole; --at is for tables, or for `hub show`")
        raise Exit(2)
    found = with_hub(config, data_dir, work)
    if name is not None and output is not None:
        histories.write(found, output)
    elif name is not None or json:
        as_json(found)
    else:
        out.print(f"{found['records']:,} records in {output}: {', '.join(found['columns'])}", soft_wrap=True)
