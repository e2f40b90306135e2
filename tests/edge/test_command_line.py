"""The command line: every command is found where the table says, and brings only what it needs."""

import subprocess
import sys

from hub.edge import main
from hub.edge.cli import app


def names() -> dict[str, set[str]]:
    """Which module registered which commands and groups."""
    found: dict[str, set[str]] = {module: set() for module in main.COMMANDS}
    for command in app.registered_commands:
        assert command.callback is not None
        found[command.callback.__module__.rpartition(".")[2]].add(str(command.name or command.callback.__name__))
    for group in app.registered_groups:
        assert group.typer_instance is not None
        some = group.typer_instance.registered_commands[0].callback
        assert some is not None
        found[some.__module__.rpartition(".")[2]].add(str(group.name))
    return found


def test_the_table_names_every_command() -> None:
    main.load("")
    assert names() == {module: set(commands) for module, commands in main.COMMANDS.items()}


def test_a_command_does_not_wait_for_what_others_need() -> None:
    script = "import sys; from hub.edge.main import load; load('status'); print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "hub.edge.commands_ask" in loaded
    assert not loaded & {"polars", "pyarrow", "faust", "aiohttp", "joserfc", "uvicorn", "hub.edge.commands_run"}


def test_all_commands_are_there_where_none_is_asked_for() -> None:
    asked = [sys.executable, "-m", "hub.edge"]
    told = subprocess.run([*asked, "--help"], capture_output=True, text=True, check=True).stdout
    assert [name for commands in main.COMMANDS.values() for name in commands if f" {name} " not in told] == []
    wrong = subprocess.run([*asked, "statsu"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "statsu" in wrong.stderr
