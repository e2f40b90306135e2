"""The command line: the command modules add their commands to one application, which runs here."""

import gc

from hub.edge import (
    commands_ask,
    commands_audit,
    commands_auth,
    commands_change,
    commands_make,
    commands_parked,
    commands_past,
    commands_replay,
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
    commands_replay,
    commands_audit,
    commands_source,
    commands_change,
    commands_past,
)


def main() -> None:
    """The entry point `hub`."""
    collect_seldom()
    app()


def collect_seldom() -> None:
    """Let the garbage collector leave what was imported alone, and look at what is new after 300,000 objects and not after
    700: a batch of records makes as many, which go by their reference counts, and looking at them took a fifth of the time
    and more."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(300_000, 20, 20)
