"""The code stays small: functions, classes and files within their budgets, counted on the syntax tree."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "hub", "connectors", "streams")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LONGEST_BODY, LONG_BODY, SHARE_OF_LONG = 50, 30, 0.02
LONGEST_FILE, MOST_METHODS = 400, 12

Function = ast.FunctionDef | ast.AsyncFunctionDef


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, Function))


def body_lines(function: Function) -> int:
    """Lines from the first statement after the docstring to the last."""
    statements = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return (statements[-1].end_lineno or 0) - statements[0].lineno + 1 if statements else 0


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_function_body_is_too_long_and_few_are_long() -> None:
    lengths = {
        f"{relative(path)}:{function.name}": body_lines(function) for path in FILES for function in functions(path)
    }
    assert len(lengths) > 500, "the files were not found"
    too_long = {name: lines for name, lines in lengths.items() if lines > LONGEST_BODY}
    assert not too_long
    long = {name: lines for name, lines in lengths.items() if lines > LONG_BODY}
    assert len(long) <= SHARE_OF_LONG * len(lengths), long


@pytest.mark.parametrize("path", [*FILES, *TESTS], ids=relative)
def test_no_file_is_too_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_no_class_has_too_many_methods(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef):
            methods = [item for item in node.body if isinstance(item, Function) and not _declares(node)]
            assert len(methods) <= MOST_METHODS, f"{node.name} has {len(methods)} methods"


def _declares(node: ast.ClassDef) -> bool:
    """Whether the class only declares what others implement."""
    return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_every_module_and_public_name_says_what_it_promises(path: Path) -> None:
    module = tree(path)
    assert ast.get_docstring(module), "the module has no docstring"
    public = [
        node for node in module.body if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_")
    ]
    silent = [node.name for node in public if not ast.get_docstring(node)]
    assert not silent
