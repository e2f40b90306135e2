"""Commands that make and check a configuration: init, check, schema."""

from pathlib import Path
from typing import Annotated

import typer

from connectors.registry import CONNECTORS
from hub.config.schema import json_schema
from hub.edge import check as checking
from hub.edge.cli import DEFAULT_CONFIG, DEFAULT_DATA, AsJson, ConfigPath, DataDir, Exit, app, go
from hub.edge.initial import init as initial
from hub.edge.output import as_json, out
from hub.edge.wiring import MANIFESTS, stored_tokens


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
