"""The standard codecs, both ways."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import codecs
from hub.codecs import CodecError
from hub.values import InvalidValue, micros, parse

AT = "2024-05-01T10:00:00Z"

BOTH_WAYS: list[tuple[str, tuple[str, ...], Any, dict[str, Any], Any]] = [
    ("consent", ("c", "at"), None, {"c": "in", "at": AT}, {"status": "in", "at": AT}),
    ("consent", ("c",), None, {"c": "out"}, {"status": "out", "at": None}),
    ("consent", ("c",), {"in": True, "out": False}, {"c": True}, {"status": "in", "at": None}),
    ("consent", ("c",), {"in": "Y", "out": "N"}, {"c": "N"}, {"status": "out", "at": None}),
    ("consent", ("c",), {"out": True}, {"c": True}, {"status": "out", "at": None}),
    ("consent", ("c", "at"), None, {"c": None, "at": None}, None),
    ("split_name", ("f", "l"), None, {"f": "Ann Sophie", "l": "Miller"}, "Ann Sophie Miller"),
    ("split_name", ("f", "l"), None, {"f": None, "l": "Cher"}, "Cher"),
    ("epoch_s", ("t",), None, {"t": 1714557600}, AT),
    ("epoch_ms", ("t",), None, {"t": 1714557600001}, "2024-05-01T10:00:00.001000Z"),
    ("epoch_ms", ("t",), None, {"t": -1}, "1969-12-31T23:59:59.999000Z"),
    ("cents", ("a",), None, {"a": 1999}, "19.99"),
    ("cents", ("a",), 0, {"a": 7}, "7"),
    ("cents", ("a",), 3, {"a": -5}, "-0.005"),
    ("json_list", ("t",), None, {"t": '["a","b"]'}, ["a", "b"]),
    ("joined", ("t",), "|", {"t": "a|b"}, ["a", "b"]),
    ("prefix", ("n",), "Invoice ", {"n": "98"}, "Invoice 98"),
    ("flag", ("f",), ["Y", "N"], {"f": "N"}, False),
    ("zone", ("t",), "Europe/Berlin", {"t": "2024-05-01T12:00:00"}, AT),
    *((name, ("x",), {"flag": [1, 0], "zone": "UTC", "prefix": "p"}.get(name), {"x": None}, None)
      for name in codecs.STANDARD if name != "split_name"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "natives", "argument", "native", "value"), BOTH_WAYS)
def test_what_is_read_can_be_written(
    name: str, natives: tuple[str, ...], argument: Any, native: dict[str, Any], value: Any
) -> None:
    codec = codecs.make(name, natives, argument)
    decoded = codec.decode(native)
    assert parse("timestamp", decoded) == value if name == "zone" else decoded == value
    assert codec.encode(value) == native


READ: list[tuple[str, tuple[str, ...], Any, dict[str, Any], Any]] = [
    ("consent", ("c",), {"out": True}, {"c": False}, None),
    ("consent", ("c",), None, {"c": "Subscribed"}, {"status": "Subscribed", "at": None}),
    ("consent", ("c", "at"), None, {"c": "out"}, {"status": "out", "at": None}),
    ("split_name", ("n",), "first", {"n": "  Ann  Sophie Miller "}, "Ann Sophie"),
    ("split_name", ("n",), "last", {"n": "Miller, Ann Sophie"}, "Miller"),
    ("split_name", ("n",), "first", {"n": "Miller, Ann Sophie"}, "Ann Sophie"),
    ("split_name", ("n",), "first", {"n": "Cher"}, None),
    ("split_name", ("n",), "last", {"n": "Cher"}, "Cher"),
    ("split_name", ("n",), "last", {"n": None}, None),
    ("epoch_s", ("t",), None, {"t": "1714557600.5"}, "2024-05-01T10:00:00.500000Z"),
    ("cents", ("a",), None, {"a": "250"}, "2.50"),
    ("zone", ("t",), "Europe/Berlin", {"t": "2024-05-01T12:00:00+00:00"}, "2024-05-01T12:00:00+00:00"),
    ("json_list", ("t",), None, {"t": ["a"]}, ["a"]),
    ("prefix", ("n",), "Invoice ", {"n": 98}, "Invoice 98"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "natives", "argument", "native", "value"), READ)
def test_what_is_read(name: str, natives: tuple[str, ...], argument: Any, native: dict[str, Any], value: Any) -> None:
    assert codecs.make(name, natives, argument).decode(native) == value


@pytest.mark.parametrize(
    ("name", "natives", "argument", "native"),
    [
        ("consent", ("c", "at"), None, {"at": AT}),
        ("split_name", ("f", "l"), None, {"f": "Ann"}),
        ("epoch_s", ("t",), None, {"t": "yesterday"}),
        ("epoch_s", ("t",), None, {"t": 10**30}),
        ("cents", ("a",), None, {"a": "2.5"}),
        ("json_list", ("t",), None, {"t": "[a"}),
        ("flag", ("f",), ["Y", "N"], {"f": "maybe"}),
        ("zone", ("t",), "UTC", {"t": "noon"}),
    ],
)
def test_what_cannot_be_read_is_invalid(
    name: str, natives: tuple[str, ...], argument: Any, native: dict[str, Any]
) -> None:
    codec = codecs.make(name, natives, argument)
    with pytest.raises(InvalidValue):
        codec.decode(native)


@pytest.mark.parametrize(
    ("name", "natives", "argument"),
    [
        ("consent", ("a", "b", "c"), None),
        ("consent", ("a",), {"in": 1}),
        ("consent", ("a",), {"in": 1, "out": 1}),
        ("split_name", ("a",), None),
        ("split_name", ("a", "b", "c"), None),
        ("epoch_ms", ("a", "b"), None),
        ("cents", ("a",), 2.5),
        ("cents", ("a",), True),
        ("joined", ("a",), 7),
        ("prefix", ("a",), None),
        ("flag", ("a",), ["Y"]),
        ("zone", ("a",), "Mars/Base"),
        ("zone", ("a",), "../../etc/passwd"),
    ],
)
def test_a_codec_that_cannot_work_is_refused(name: str, natives: tuple[str, ...], argument: Any) -> None:
    with pytest.raises(CodecError):
        codecs.make(name, natives, argument)


def test_only_half_a_name_is_read_only() -> None:
    assert [codecs.read_only("split_name", natives) for natives in (("a",), ("a", "b"))] == [True, False]
    assert not codecs.read_only("cents", ("a",))
    with pytest.raises(InvalidValue):
        codecs.make("split_name", ("a",), "first").encode("Ann")


def test_a_fraction_of_a_cent_is_not_written() -> None:
    with pytest.raises(InvalidValue, match="more than 2 decimal places"):
        codecs.make("cents", ("a",)).encode("1.005")


def test_who_only_knows_opt_outs_is_told_that_there_is_none() -> None:
    assert codecs.make("consent", ("c",), {"out": True}).encode({"status": "in", "at": None}) == {"c": False}
    assert codecs.make("consent", ("c",), {"out": "x"}).encode({"status": "in", "at": None}) == {"c": None}


@given(st.integers(-(10**15), 10**15), st.integers(0, 6))
def test_no_cent_is_lost(minor: int, digits: int) -> None:
    codec = codecs.make("cents", ("a",), digits)
    value = codec.decode({"a": minor})
    assert Decimal(value) * 10**digits == minor
    assert codec.encode(parse("decimal", value)) == {"a": minor}


@given(st.integers(-62135596800000, 253402300799999))
def test_no_millisecond_is_lost(ticks: int) -> None:
    codec = codecs.make("epoch_ms", ("t",))
    value = codec.decode({"t": ticks})
    assert micros(value) == ticks * 1000
    assert codec.encode(value) == {"t": ticks}
