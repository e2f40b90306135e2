"""References: where they lead, and that nothing else is taken for one."""

from pathlib import Path

import pytest

from hub.config.secrets import MAX_SECRET_BYTES, UnresolvedError, hidden, referenced, resolve, variables


def test_references_are_replaced_wherever_they_stand() -> None:
    value = {"a": ["${X}", 1, None], "b": "postgresql://me:${X}@${Y}/db"}
    assert resolve(value, {"X": "x$1\\1${Y}", "Y": "y"}, Path()) == {
        "a": ["x$1\\1${Y}", 1, None],
        "b": "postgresql://me:x$1\\1${Y}@y/db",
    }
    assert list(variables(value)) == ["X", "X", "Y"]


def test_what_is_missing_is_named_once() -> None:
    with pytest.raises(UnresolvedError, match=r"variable X, Y is not set"):
        resolve("${X}${Y}${X}", {"Y": ""}, Path())


def test_a_file_is_bounded_and_must_be_text(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * (MAX_SECRET_BYTES + 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, reason in (("large", "longer than"), ("binary", "not UTF-8"), ("none", "No such file")):
        with pytest.raises(UnresolvedError, match=reason):
            resolve(f"file:{name}", {}, tmp_path)


@pytest.mark.parametrize("value", ["${A}", "file:/run/secrets/a", "postgresql://u:${A}@h/d", "Bearer ${A}"])
def test_references_are_no_secrets(value: str) -> None:
    assert referenced(value)


@pytest.mark.parametrize(
    "value",
    [
        "pat-na1-123",
        "",
        None,
        7,
        "$A",
        "${}",
        "postgresql://u:p@localhost/d",
        "https://hooks.example.com/T0/B0",
        "long-literal-${A}",
        "postgresql://u:p${A}@h/d",
        "postgresql://localhost/d?password=p",
        "postgresql://[::1/d",
    ],
)
def test_literals_are(value: object) -> None:
    assert not referenced(value)


def test_an_address_is_shown_without_its_password() -> None:
    assert hidden("postgresql://me:p%40ss@h:5432/d?password=x") == "postgresql://me:***@h:5432/d"
    assert hidden("kafka://h:9092") == "kafka://h:9092"
