"""Commands that make and check: init, check, schema, demo."""

from pathlib import Path
from typing import Annotated

import typer

from connectors.registry import CONNECTORS
from hub.config.schema import json_schema
from hub.edge import check as checking
from hub.edge.cli import DEFAULT_CONFIG, DEFAULT_DATA, AsJson, ConfigPath, DataDir, Exit, app, go, quiet_logs
from hub.edge.commands_ask import print_outcomes, print_why
from hub.edge.commands_run import progress, show_left
from hub.edge.demo import run as demonstration
from hub.edge.demo.run import Options, Report, Stage
from hub.edge.initial import init as initial
from hub.edge.output import as_json, err, out, table
from hub.edge.running import until_told
from hub.edge.wiring import MANIFESTS, Hub, stored_tokens


@app.command("init")
def init_(
    source: Annotated[
        str, typer.Option("--from", help="The database to read: postgresql://user:password@host/database.")
    ],
    to: Annotated[
        str, typer.Option(help="Systems to bring in line with it, separated by commas: hubspot, mailchimp.")
    ] = "",
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = DEFAULT_CONFIG,
    system: Annotated[str, typer.Option(help="What to call the database in the configuration.")] = "crm",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
    json: AsJson = False,
) -> None:
    """Read a database's catalogue and write a commented configuration for it, with proposed objects and mappings."""
    targets = [name.strip() for name in to.split(",") if name.strip()]
    written = go(initial.init(source, output, manifests=MANIFESTS, to=targets, system=system, force=force))
    as_json(written.to_json()) if json else initial.show(written, out)


@app.command()
def check(
    config: ConfigPath = DEFAULT_CONFIG,
    offline: Annotated[bool, typer.Option("--offline", help="Only read the file; connect to nothing.")] = False,
    data_dir: DataDir = DEFAULT_DATA,
    json: AsJson = False,
) -> None:
    """Check a configuration, connect to every system with the least call that proves the credentials, and say what each
    system owns. Exit 1 when a system cannot be used, 2 when the configuration is wrong."""
    checked = go(checking.check(config, CONNECTORS, offline=offline, tokens=lambda read: stored_tokens(read, data_dir)))
    as_json(checked.to_json()) if json else checking.show(checked, out)
    raise Exit(checked.exit_code)


@app.command()
def schema() -> None:
    """Print the JSON Schema of hub.yaml, for completion in editors."""
    as_json(json_schema(MANIFESTS))


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
