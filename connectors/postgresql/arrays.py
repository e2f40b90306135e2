"""Array and record literals: PostgreSQL's text of values that hold several values."""

import re
from collections.abc import Callable
from typing import Any

Read = Callable[[str | None], Any]
Write = Callable[[Any], str | None]

BOUNDS = re.compile(r"(\[-?\d+:-?\d+\])+=")
PLAIN = re.compile(r"[A-Za-z0-9_+.:@-]+")


def parse_array(text: str, read: Read, delimiter: str = ",") -> list[Any]:
    """The elements of `{1,2,NULL}` or `{{"a b"},{c}}`, each read by `read`. Lower bounds are dropped."""
    bounds = BOUNDS.match(text)
    items, _ = _braces(text, bounds.end() if bounds else 0, read, delimiter)
    return items


def _braces(text: str, at: int, read: Read, delimiter: str) -> tuple[list[Any], int]:
    """The list that begins at the opening brace `at`, and the place behind its closing brace."""
    items: list[Any] = []
    at += 1
    while text[at] != "}":
        if text[at] == "{":
            item, at = _braces(text, at, read, delimiter)
        elif text[at] == '"':
            quoted, at = _quoted(text, at)
            item = read(quoted)
        else:
            item, at = _bare(text, at, read, delimiter)
        items.append(item)
        at += text[at] == delimiter
    return items, at + 1


def _bare(text: str, at: int, read: Read, delimiter: str) -> tuple[Any, int]:
    end = at
    while text[end] not in (delimiter, "}"):
        end += 1
    return read(None if text[at:end] == "NULL" else text[at:end]), end


def _quoted(text: str, at: int) -> tuple[str, int]:
    """The string that begins at the quote `at`; a backslash protects, in a record a doubled quote is one."""
    parts: list[str] = []
    at += 1
    while True:
        end = at
        while text[end] not in '"\\':
            end += 1
        parts.append(text[at:end])
        if text[end] == '"' and text[end + 1 : end + 2] != '"':
            return "".join(parts), end + 1
        parts.append(text[end + 1])
        at = end + 2


def render_array(values: list[Any], write: Write, delimiter: str = ",") -> str:
    """The inverse of `parse_array`."""
    return "{" + delimiter.join(_element(value, write, delimiter) for value in values) + "}"


def _element(value: Any, write: Write, delimiter: str) -> str:
    if isinstance(value, list):
        return render_array(value, write, delimiter)
    text = write(value)
    if text is None:
        return "NULL"
    if PLAIN.fullmatch(text) and text.upper() != "NULL":
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse_record(text: str) -> list[str | None]:
    """The columns of `(1,"a b",,"")`: their output texts; nothing at all between the commas is NULL."""
    columns: list[str | None] = []
    at = 0
    while True:
        at += 1
        if text[at] == '"':
            column, at = _quoted(text, at)
            columns.append(column)
        else:
            end = at
            while text[end] not in ",)":
                end += 1
            columns.append(text[at:end] or None)
            at = end
        if text[at] == ")":
            return columns
