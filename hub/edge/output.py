"""Output: how answers are printed. With --json one JSON document on standard output; else tables for people."""

import sys
from collections.abc import Sequence
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def as_json(data: Any) -> None:
    """One JSON document, indented."""
    sys.stdout.write(orjson.dumps(data, option=orjson.OPT_INDENT_2, default=str).decode() + "\n")
    sys.stdout.flush()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table with a title; numbers to the right."""
    made = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    for place, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[place], int | float) for row in rows)
        made.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(text(cell) for cell in row))
    out.print(made)


def text(value: Any) -> str:
    """A value as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, dict) and "status" in value:
        return f"{value['status']} ({value['at'] or 'no date'})"
    if isinstance(value, dict) and {"system", "id"} <= value.keys():
        return f"{value['system']}/{value['object']}/{value['id']}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
