"""Expressions, checked before any record is evaluated: that they parse, and that every name in them is known."""

import ast
import re
from collections.abc import Collection, Iterable, Mapping

from hub.config.source import Path, Source, closest
from hub.rules import FUNCTIONS

MAX_LENGTH = 2000
LONE_EQUALS = re.compile(r"(?<![=!<>])=(?!=)")
CONSTANTS = frozenset({"True", "False", "None"})
ADMITTED = (
    ast.Expression, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.IfExp, ast.Compare, ast.Call, ast.keyword, ast.Constant,
    ast.Attribute, ast.Subscript, ast.Slice, ast.Name, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.expr_context,
    ast.boolop, ast.operator, ast.unaryop, ast.cmpop, ast.JoinedStr, ast.FormattedValue,
)  # fmt: skip


def check(source: Source, path: Path, text: str, names: Collection[str]) -> frozenset[str]:
    """The names that the expression uses; everything wrong with it is noted at `path`."""
    tree = _parse(source, path, text)
    if tree is None:
        return frozenset()
    if odd := next((node for node in ast.walk(tree) if not isinstance(node, ADMITTED)), None):
        source.problem(path, f"{type(odd).__name__} is not admitted in expressions", "a function in python can do more")
        return frozenset()
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - called - CONSTANTS
    for name in sorted(called - FUNCTIONS.keys()):
        source.problem(path, f"the function {name} is not known in expressions", closest(name, FUNCTIONS))
    for name in sorted(used - set(names)):
        source.problem(path, f"{name} is not a field of this entity", closest(name, sorted(names)))
    return frozenset(used)


def ordered(uses: Mapping[str, Iterable[str]]) -> tuple[list[str], list[str]]:
    """The names so that each comes after those it uses, and the names of one circle, if there is one."""
    done: list[str] = []
    waiting = {name: {used for used in needs if used in uses} for name, needs in uses.items()}
    while ready := [name for name, needs in waiting.items() if needs <= set(done)]:
        done += ready
        waiting = {name: needs for name, needs in waiting.items() if name not in ready}
    return done, _circle(waiting)


def _circle(waiting: Mapping[str, set[str]]) -> list[str]:
    """One way round among names that all wait for each other."""
    if not waiting:
        return []
    way = [next(iter(waiting))]
    while (following := min(n for n in waiting[way[-1]] if n in waiting)) not in way:
        way.append(following)
    return [*way[way.index(following) :], following]


def _parse(source: Source, path: Path, text: str) -> ast.Expression | None:
    if len(text) > MAX_LENGTH:
        source.problem(path, f"longer than {MAX_LENGTH} characters")
        return None
    try:
        return ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        what = error.msg if isinstance(error, SyntaxError) else str(error)
        hint = "compare with ==" if LONE_EQUALS.search(text) else "for example: join(' ', first_name, last_name)"
        source.problem(path, f"not an expression: {what}", hint)
        return None
