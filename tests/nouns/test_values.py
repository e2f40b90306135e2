"""Values: reading what was read changes nothing, money is exact, and nothing that comes in breaks the parser."""

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from email_validator import validate_email
from hypothesis import example, given
from hypothesis import strategies as st

from hub.values import PARSERS, PLAIN_EMAIL, InvalidValue, loose, micros, moment, parse, same

KINDS = sorted(PARSERS)
anything: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.decimals(),
    st.datetimes(),
    st.dates(),
    st.binary(max_size=5),
    st.lists(st.one_of(st.text(max_size=5), st.integers(), st.none()), max_size=4),
    st.dictionaries(st.sampled_from(("status", "at", "system", "object", "id", "x")), st.one_of(st.none(), st.text())),
    st.sampled_from(
        ("a@b.example", "Ann@EXAMPLE.com", "+1 650 253 0000", "(650) 253-0000 x12", "https://www.Example.com/x", "1,234.50",
         "1e3", "-0.00", "1E-7", "2024-02-29", "9999-12-31", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00+14:00",
         "1714557600000", "true", "NO", "subscribed", "a;b,c", "\x00", " \x00 ", "٣", "1_000", "²", "\ud800", "x" * 70_000)
    ),
)  # fmt: skip


@given(st.sampled_from([kind for kind in KINDS if kind != "json"]), anything)
@example("text", "\x00")
@example("text", "é\x00")
@example("tags", ["\x00", "a\x00"])
@example("decimal", "\x00")
@example("integer", 10**70)
@example("timestamp", 10**30)
@example("timestamp", "9999-12-31T23:59:59-14:00")
@example("date", "10000-01-01")
@example("consent", {"status": {}, "at": []})
def test_reading_again_what_was_read_changes_nothing(kind: str, native: Any) -> None:
    try:
        value = parse(kind, native)
    except InvalidValue:
        return
    assert parse(kind, value) == value
    assert same(value, value)
    assert json.loads(json.dumps(value)) == value
    assert "\\u0000" not in json.dumps(value)
    assert value not in ("", " ")
    assert_no_float(value)


def assert_no_float(value: Any) -> None:
    """No part of a canonical value is a float."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    assert not any(isinstance(part, float) for part in parts)


@given(st.decimals(min_value=-(10**15), max_value=10**15, allow_nan=False, allow_infinity=False, places=4))
def test_money_keeps_its_every_digit(amount: Decimal) -> None:
    text = parse("decimal", str(amount))
    assert isinstance(text, str)
    assert Decimal(text) == amount
    assert parse("decimal", amount) == text
    assert "e" not in text.lower()


@pytest.mark.parametrize(
    ("native", "expected"),
    [
        ("2024-05-01", "2024-05-01"),
        ("20240501", "2024-05-01"),
        ("86400000", "1970-01-02"),
        ("1036800000", "1970-01-13"),
        (1714557600000, "2024-05-01"),
    ],
)
def test_a_date_is_told_from_milliseconds(native: Any, expected: str) -> None:
    assert parse("date", native) == expected


@pytest.mark.parametrize("native", ["", " ", "\t\n", "\x00", None])
@pytest.mark.parametrize("kind", KINDS)
def test_empty_is_empty_for_every_type(kind: str, native: str | None) -> None:
    assert parse(kind, native) is None


@pytest.mark.parametrize("native", ["NaN", "Infinity", "-inf", "1e61", "1e-70", "12 EUR", True, [], {}])
def test_what_is_no_amount_is_invalid(native: Any) -> None:
    with pytest.raises(InvalidValue):
        parse("decimal", native)


@given(st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29), timezones=st.timezones()))
def test_a_time_is_one_moment_in_every_zone(when: Any) -> None:
    value = parse("timestamp", when)
    assert value.endswith("Z")
    assert parse("timestamp", when.isoformat()) == value
    assert moment(micros(value)) == value


@given(st.integers(-(10**15), 10**17))
def test_microseconds_survive(tick: int) -> None:
    assert micros(moment(tick)) == tick


@given(st.text(max_size=20))
def test_loose_forgets_case_and_space_only(text: str) -> None:
    assert loose(loose(text)) == loose(text)
    assert same(text, f"  {text}  ")


@given(
    st.one_of(
        st.from_regex(PLAIN_EMAIL, fullmatch=True), st.from_regex(r"[a-z0-9._+-]{1,9}@[a-z0-9.-]{1,9}", fullmatch=True)
    )
)
@example("a-b.c+d_e@x-1.example.com")
def test_an_address_that_is_taken_as_it_is_is_what_the_library_makes_of_it(text: str) -> None:
    if PLAIN_EMAIL.fullmatch(text):
        assert validate_email(text, check_deliverability=False, test_environment=True).normalized.lower() == text
