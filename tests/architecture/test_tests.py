"""The tests themselves: every one asserts something, and none uses mocks."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES = sorted(TESTS.rglob("test_*.py"))
ALL = sorted(TESTS.rglob("*.py"))
CHECKING = ("assert_", "check_", "fail", "until")  # `until` fails when it waits in vain
FORBIDDEN = ("unittest.mock", "mock", "pytest_mock", "mocker")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def relative(path: Path) -> str:
    return str(path.relative_to(TESTS))


def named(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def asserts(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert):
        return not isinstance(node.test, ast.Constant)
    return isinstance(node, ast.Call) and (named(node) == "raises" or named(node).lstrip("_").startswith(CHECKING))


HELPERS = {
    function.name
    for path in ALL
    for function in ast.walk(ast.parse(path.read_text()))
    if isinstance(function, Function)
    and not function.name.startswith("test_")
    and any(map(asserts, ast.walk(function)))
}
"""Functions of the tests that assert on behalf of others."""


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_every_test_asserts_something(path: Path) -> None:
    tree = ast.parse(path.read_text())
    tests = [node for node in ast.walk(tree) if isinstance(node, Function) and node.name.startswith("test_")]
    assert tests, "the file holds no test"
    idle = [test.name for test in tests if not any(_checks(node) for node in ast.walk(test))]
    assert not idle


def _checks(node: ast.AST) -> bool:
    return asserts(node) or (isinstance(node, ast.Call) and named(node) in HELPERS)


@pytest.mark.parametrize("path", ALL, ids=relative)
def test_no_test_uses_mocks(path: Path) -> None:
    used = [name for node in ast.walk(ast.parse(path.read_text())) for name in _imports(node) if name in FORBIDDEN]
    assert not used


def _imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [node.arg] if isinstance(node, ast.arg) else []
