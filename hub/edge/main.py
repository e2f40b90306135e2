"""The command line: the command modules add their commands to one application, which runs here."""

from hub.edge import (
    commands_ask,
    commands_audit,
    commands_auth,
    commands_make,
    commands_parked,
    commands_run,
    commands_source,
    commands_steward,
)
from hub.edge.cli import app

COMMANDS = (
    commands_auth,
    commands_run,
    commands_make,
    commands_ask,
    commands_steward,
    commands_parked,
    commands_audit,
    commands_source,
)


def main() -> None:
    """The entry point `hub`."""
    app()
