"""The framing: what is written comes back, and every kind of damage has its own reason."""

import json
import struct
from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import wire
from schemas.compatibility import problems
from schemas.wire import WireError

SCHEMA = {
    "type": "record",
    "name": "Thing",
    "namespace": "test",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "payload", "type": "bytes"},
        {"name": "seen", "type": ["null", "long"], "default": None},
        {"name": "tags", "type": {"type": "map", "values": "string"}, "default": {}},
    ],
}
THING = wire.parsed(SCHEMA)
DATUM: dict[str, Any] = {"id": "7", "payload": b"\x00\xff", "seen": 5, "tags": {"a": "b"}}
VALUE = wire.encode(300, THING, DATUM)

things = st.fixed_dictionaries(
    {
        "id": st.text(),
        "payload": st.binary(),
        "seen": st.none() | st.integers(-(2**63), 2**63 - 1),
        "tags": st.dictionaries(st.text(), st.text()),
    }
)


def reason(value: bytes) -> str:
    try:
        wire.schema_id(value)
        wire.decode(value, THING)
    except WireError as error:
        return error.reason
    return "none"


@given(things, st.integers(0, 2**32 - 1))
def test_what_is_encoded_is_decoded_again(datum: dict[str, Any], schema_id: int) -> None:
    value = wire.encode(schema_id, THING, datum)
    assert wire.schema_id(value) == schema_id
    assert wire.decode(value, THING) == datum


def test_the_frame_is_confluents() -> None:
    assert VALUE[:5] == b"\x00" + struct.pack(">I", 300)
    assert fastavro.schemaless_reader(BytesIO(VALUE[5:]), json.loads(json.dumps(SCHEMA)), None) == DATUM


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", "empty"),
        (b"{}", "wrong magic"),
        (b"\x01" + VALUE[1:], "wrong magic"),
        (VALUE[:3], "truncated"),
        (VALUE[:5], "truncated"),
        (VALUE[:-1], "truncated"),
        (VALUE + b"\x00", "trailing bytes"),
        (VALUE[:5] + b"\x04\xff\xfe" + VALUE[7:], "undecodable"),
    ],
)
def test_damage_has_its_reason(value: bytes, expected: str) -> None:
    assert reason(value) == expected


@given(st.binary(max_size=200))
def test_no_bytes_whatever_raise_anything_but_a_wire_error(body: bytes) -> None:
    assert reason(VALUE[:5] + body) in ("none", "truncated", "undecodable", "trailing bytes")


@pytest.mark.parametrize(
    "datum",
    [{"id": "7"}, {**DATUM, "id": 7}, {**DATUM, "unknown": 1}, {**DATUM, "seen": 2**63}],
    ids=["missing", "wrong type", "extra", "too large"],
)
def test_a_datum_that_does_not_fit_is_not_written(datum: dict[str, Any]) -> None:
    with pytest.raises(WireError) as caught:
        wire.encode(1, THING, datum)
    assert caught.value.reason == "unencodable"


def test_fields_with_defaults_may_be_left_out() -> None:
    value = wire.encode(1, THING, {"id": "7", "payload": b""})
    assert wire.decode(value, THING) == {"id": "7", "payload": b"", "seen": None, "tags": {}}


def test_an_invalid_schema_is_refused() -> None:
    with pytest.raises(WireError, match="not an Avro schema"):
        wire.parsed({"type": "record", "name": "X", "fields": [{"name": "a", "type": "nonsense"}]})


def fields(*fields_: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": list(fields_)}


A_INT = {"name": "a", "type": "int"}


@pytest.mark.parametrize(
    ("new", "compatible"),
    [
        (fields(A_INT), True),
        (fields({"name": "a", "type": "long"}), True),
        (fields(A_INT, {"name": "b", "type": "string", "default": ""}), True),
        (fields(), True),
        (fields(A_INT, {"name": "b", "type": "string"}), False),
        (fields({"name": "a", "type": "string"}), False),
        (fields({"name": "c", "type": "int", "aliases": ["a"]}), True),
    ],
    ids=["same", "widened", "added with default", "removed", "added without default", "other type", "renamed by alias"],
)
def test_a_schema_is_compatible_when_it_reads_what_the_old_one_wrote(new: dict[str, Any], compatible: bool) -> None:
    assert (problems(new, [fields(A_INT)]) == []) is compatible


def test_problems_name_the_version_they_are_with() -> None:
    new = fields(A_INT, {"name": "b", "type": "string"})
    (found,) = problems(new, [new, fields(A_INT)])
    assert found.startswith("version 2: ")
    assert "b" in found
