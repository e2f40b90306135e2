"""The command line: the module of the command that is asked for adds it to the application, which runs here."""

import gc
import sys
from importlib import import_module

from hub.edge.cli import app

COMMANDS = {
    "commands_demo": ("demo",),
    "commands_make": ("init", "check", "schema"),
    "commands_auth": ("auth",),
    "commands_run": ("run", "worker"),
    "commands_ask": ("status", "ledger", "show", "why", "conflicts"),
    "commands_past": ("history", "bisect", "export"),
    "commands_steward": ("pin", "unpin", "keep", "unmerge", "resume"),
    "commands_parked": ("parked",),
    "commands_replay": ("replay",),
    "commands_audit": ("audit", "scans"),
    "commands_source": ("source",),
    "commands_change": ("whatif", "apply", "rollback", "versions"),
    "commands_local": ("sandbox", "kafka"),
}
"""Which module of this package has which commands: what one command needs, the others need not wait for."""


def main() -> None:
    """The entry point `hub`."""
    load(sys.argv[1] if len(sys.argv) > 1 else "")
    collect_seldom()
    app()


def load(asked: str) -> None:
    """Add the command asked for to the application; all of them where it is none of them, as an option or nothing."""
    for module in [one for one, names in COMMANDS.items() if asked in names] or COMMANDS:
        import_module(f"hub.edge.{module}")


def collect_seldom() -> None:
    """Let the garbage collector leave what was imported alone, and look at what is new after 300,000 objects and not after
    700: a batch of records makes as many, which go by their reference counts, and looking at them took a fifth of the time
    and more."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(300_000, 20, 20)
