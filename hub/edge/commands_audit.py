"""Commands that hold systems against what the hub knows of them, and decide about deletes that were found so."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from hub.edge.cli import DEFAULT_CONFIG, DEFAULT_DATA, AsJson, ConfigPath, DataDir, Exit, app, with_hub
from hub.edge.commands_steward import Author, Reason
from hub.edge.output import as_json, err, out, table
from hub.edge.wiring import Hub, threshold_of
from hub.errors import Reject
from streams import audit_decisions
from streams.audit import Order, Report, auditable, remedy
from streams.audit import audit as carry_out
from streams.audit_store import Row

SHOWN = 50
CODES = {"clean": 0, "drift": 1, "waiting": 1, "incomplete": 3}
ScanId = Annotated[int, typer.Argument(help="The number that hub scans list shows.")]


@app.command()
def audit(
    system: Annotated[str, typer.Argument(help="A system of the configuration.")],
    sample: Annotated[int, typer.Option(help="How many records of each object to read again.", min=1)] = 200,
    full: Annotated[bool, typer.Option("--full", help="Read everything, not a sample.")] = False,
    object_: Annotated[str, typer.Option("--object", help="Only this object.")] = "",
    repair: Annotated[bool, typer.Option("--repair", help="Capture what is true there as changes.")] = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for what may be on its way.", min=0)] = 120.0,
    config: ConfigPath = DEFAULT_CONFIG,
    data_dir: DataDir = DEFAULT_DATA,
    json: AsJson = False,
) -> None:
    """Hold a system against what the hub knows of it, while a hub runs. Exit 1 where they differ, 3 where nothing can be
    concluded."""

    async def work(hub: Hub) -> list[Report]:
        threshold = threshold_of(hub.config, system)
        return [
            await carry_out(
                hub.context,
                Order(system, one, None if full else sample, "all" if repair else "nothing", threshold, wait),
            )
            for one in await _objects(hub, system, object_)
        ]

    reports: list[Report] = with_hub(config, data_dir, work, connect=True)
    as_json([_json(report) for report in reports]) if json else _print(reports)
    raise Exit(max(CODES[report.row.state] for report in reports))


async def _objects(hub: Hub, system: str, only: str) -> list[str]:
    """The objects to audit: the one that is asked for, or all that can be audited. Raises Reject where there is none."""
    if only:
        return [only]
    if system not in hub.config.systems:
        raise Reject(f"{system!r} is not configured; there are {', '.join(hub.config.systems)}", "unknown")
    found: list[str] = []
    for one in hub.config.systems[system].objects:
        try:
            await auditable(hub.context, system, one)
            found.append(one)
        except Reject as error:
            err.print(error.reason, soft_wrap=True)
    if not found:
        raise Reject(f"{system} has no object that can be audited", "scan")
    return found


def _json(report: Report) -> dict[str, Any]:
    return asdict(report.row) | {"drift": [asdict(d) for d in report.drift], "remedy": remedy(report.row)}


def _print(reports: list[Report]) -> None:
    rows = [
        (r.object, r.mode, r.state, r.known, r.read, len(report.drift), r.unsettled, r.deleted, r.repaired)
        for report in reports
        for r in [report.row]
    ]
    columns = ("object", "mode", "ended", "known", "read", "differ", "unsettled", "deleted", "repaired")
    table(f"Audit of {reports[0].row.system}", columns, rows)
    for report in reports:
        found = [(d.external_id, d.kind, ", ".join(d.fields)) for d in report.drift[:SHOWN]]
        if found:
            table(f"{report.row.object}: {len(report.drift):,} differ", ("record", "kind", "fields"), found)
        if report.row.reason:
            out.print(f"{report.row.object}: {report.row.reason}. {remedy(report.row)}")


scans = typer.Typer(help="Deletes that a scan found, and that wait for a person.", no_args_is_help=True)
app.add_typer(scans, name="scans")


@scans.command("list")
def list_(config: ConfigPath = DEFAULT_CONFIG, data_dir: DataDir = DEFAULT_DATA, json: AsJson = False) -> None:
    """What waits. Exit 1 when there is anything."""
    found: list[dict[str, Any]] = with_hub(config, data_dir, lambda hub: audit_decisions.waiting(hub.context))
    if json:
        as_json(found)
    else:
        rows = [(w["id"], w["system"], w["object"], len(w["gone"]), w["known"], w["ended"]) for w in found]
        table("Deletes that wait", ("id", "system", "object", "gone", "of", "found"), rows)
    raise Exit(1 if found else 0)


@scans.command()
def approve(
    number: ScanId, author: Author, reason: Reason = "",
    config: ConfigPath = DEFAULT_CONFIG, data_dir: DataDir = DEFAULT_DATA, json: AsJson = False,
) -> None:  # fmt: skip
    """Let the deletes happen, of those records that are gone still."""
    _decided(
        with_hub(
            config, data_dir, lambda hub: audit_decisions.approve(hub.context, number, author, reason), connect=True
        ),
        json,
    )


@scans.command()
def discard(
    number: ScanId, author: Author, reason: Reason = "",
    config: ConfigPath = DEFAULT_CONFIG, data_dir: DataDir = DEFAULT_DATA, json: AsJson = False,
) -> None:  # fmt: skip
    """Let the records live. The next complete scan asks again."""
    _decided(with_hub(config, data_dir, lambda hub: audit_decisions.discard(hub.context, number, author, reason)), json)


def _decided(row: Row, json: bool) -> None:
    if json:
        as_json(asdict(row))
    else:
        out.print(f"{row.state}: {row.deleted} deletes of {row.system}/{row.object} captured")
