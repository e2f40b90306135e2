"""The command demo, and how its report is printed."""

from pathlib import Path
from typing import Annotated

import typer

from hub.edge.bars import progress, show_left
from hub.edge.cli import AsJson, Exit, app, go, quiet_logs
from hub.edge.commands_ask import print_outcomes, print_why
from hub.edge.demo import run as demonstration
from hub.edge.demo.run import Options, Report, Stage
from hub.edge.output import as_json, err, out, table
from hub.edge.stopping import until_told
from hub.edge.wiring import Hub


@app.command()
def demo(
    log: Annotated[
        str, typer.Option(help="embedded, kafka (starts a local broker), or the address of a log.")
    ] = "embedded",
    serve: Annotated[bool, typer.Option("--serve", help="Stay up for exploring, until interrupted.")] = False,
    seed: Annotated[int, typer.Option(help="Another seed, another world.")] = 7,
    scale: Annotated[float, typer.Option(help="How large the world is.", min=0.05, max=100)] = 1.0,
    directory: Annotated[
        Path, typer.Option(help="Where the demo keeps its data; wiped at the start.")
    ] = demonstration.DIRECTORY,
    json: AsJson = False,
) -> None:
    """Run the hub's main job on a seeded CRM, HubSpot and Mailchimp, then edit in each and watch the others.

    Exit 1 when the ledger does not balance or an edit did not arrive.
    """
    quiet_logs("error")  # what is refused or parked is part of the tables
    options = Options(log, seed, scale, directory)
    report: Report = go(_demo(options, serve))
    as_json(report.to_json()) if json else _print(report)
    raise Exit(0 if report.ok else 1)


async def _demo(options: Options, serve: bool) -> Report:
    with progress() as bars:

        async def stay(hub: Hub, systems: Stage, url: str) -> None:
            bars.stop()
            err.print(f"hub API {url}/docs · HubSpot {systems.hubspot_url} · Mailchimp {systems.mailchimp_url}")
            err.print(f"CRM: psql '{systems.crm_url}' · Ctrl-C ends everything", soft_wrap=True)
            await until_told()

        return await demonstration.run(
            options,
            lambda what: bars.console.print(what, soft_wrap=True),
            lambda left: show_left(bars, left),
            stay if serve else None,
        )


def _print(report: Report) -> None:
    table(
        f"Changes captured (idle after {report.seconds_to_idle:.1f} s, log {report.log})",
        ("system", "changes"),
        list(report.captured.items()),
    )
    table("Golden records", ("entity", "records"), list(report.golden.items()))
    out.print(
        f"{report.links:,} records linked, {report.merged:,} golden records merged, {report.conflicts:,} conflicts decided"
    )
    print_outcomes(report.writes)
    edits = [(e.system, e.what, ", ".join(f"{s} {_seconds(t)}" for s, t in e.arrived.items())) for e in report.edits]
    table("Live edits", ("edited in", "what", "seen in"), edits)
    if report.why:
        print_why(report.why)
    balance = report.ledger
    out.print(
        f"ledger: captured {balance['captured']:,} = events {balance['events']:,} + duplicates {balance['duplicates']:,}"
        f" + parked {balance['parked']:,} + waiting {balance['waiting']:,}; [bold]{balance['unaccounted']} unaccounted[/]"
    )


def _seconds(seconds: float | None) -> str:
    return "did not arrive" if seconds is None else f"after {seconds:.2f} s"
