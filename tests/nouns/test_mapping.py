"""Mappings: what is written is read back as it was, for every type, every codec and every system's own words."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.registry import CONNECTORS
from hub import codecs
from hub.decide import strip
from hub.entity import Entity, Field
from hub.mapping import FieldMap, ObjectMap, decode, encode, identifiers, writable
from hub.rules import Rule
from hub.values import EPOCH, parse

tag = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=6)
whole = st.integers(-(10**12), 10**12)
millis = st.integers(0, 10**13).map(lambda n: EPOCH + timedelta(milliseconds=n // 10))
seconds = st.integers(0, 4 * 10**9).map(lambda n: EPOCH + timedelta(seconds=n))
TYPED: dict[str, st.SearchStrategy[Any]] = {
    "text": st.text(min_size=1, max_size=20),
    "email": st.sampled_from(("ann@example.com", "Ann.Lee+x@example.co.uk")),
    "phone": st.sampled_from(("+49 30 123456", "+1 650 253 0000", "+1 650 253 0000 ext. 12")),
    "domain": st.sampled_from(("example.com", "https://www.sub.example.org/x")),
    "decimal": st.decimals(-(10**12), 10**12, places=2),
    "integer": whole,
    "boolean": st.booleans(),
    "timestamp": millis,
    "date": millis.map(lambda when: when.date().isoformat()),
    "tags": st.lists(tag, unique=True, max_size=3),
    "consent": st.fixed_dictionaries(
        {"status": st.sampled_from(("in", "out")), "at": st.one_of(st.none(), millis.map(lambda t: parse("timestamp", t)))}
    ),
    "json": st.dictionaries(st.text(max_size=3), whole, max_size=2),
}  # fmt: skip
DIALECTS = {"plain": {}, **{name: manifest.dialect for name, (manifest, _) in CONNECTORS.items()}}
CASES = [(dialect, kind) for dialect in DIALECTS for kind in TYPED]


def mapping(kind: str, entry: FieldMap, **more: Any) -> ObjectMap:
    """One object with one field."""
    return ObjectMap("s", "o", Entity("e", {"f": Field("f", kind, Rule("latest"))}), (entry,), **more)


@pytest.mark.parametrize(("dialect", "kind"), CASES)
@given(data=st.data())
def test_what_a_system_is_written_is_read_back_as_it_was(dialect: str, kind: str, data: st.DataObject) -> None:
    if dialect == "hubspot" and kind == "consent":
        codec = CONNECTORS["hubspot"][0].codecs["consent"]
        entry = FieldMap("f", ("hub_consent", "hub_consent_at", "hs_email_optout"), codec=codec)
    else:
        entry = FieldMap("f", ("n",))
    it = mapping(kind, entry, dialect=DIALECTS[dialect])
    value = parse(kind, data.draw(st.one_of(st.none(), TYPED[kind])))
    back = None if dialect == "hubspot" and value == [] else value  # HubSpot knows no difference
    assert decode(it, encode(it, {"f": value})).values == {"f": back}


ROUND: dict[str, tuple[tuple[str, ...], Any, str, st.SearchStrategy[Any]]] = {
    "consent": (("c", "at"), None, "consent", TYPED["consent"]),
    "split_name": (("f", "l"), None, "text", st.lists(tag, min_size=2, max_size=3).map(" ".join)),
    "epoch_s": (("t",), None, "timestamp", seconds),
    "epoch_ms": (("t",), None, "timestamp", millis),
    "cents": (("a",), None, "decimal", TYPED["decimal"]),
    "json_list": (("t",), None, "tags", TYPED["tags"]),
    "joined": (("t",), "|", "tags", TYPED["tags"]),
    "prefix": (("n",), "Invoice ", "text", st.integers(1, 9999).map(lambda n: f"Invoice {n}")),
    "flag": (("f",), ["Y", "N"], "boolean", st.booleans()),
    "zone": (("t",), "Europe/Berlin", "timestamp", seconds),
}


@pytest.mark.parametrize("name", sorted(codecs.STANDARD))
@given(data=st.data())
def test_what_a_codec_writes_it_reads_back(name: str, data: st.DataObject) -> None:
    natives, argument, kind, drawn = ROUND[name]
    it = mapping(kind, FieldMap("f", natives, codec=codecs.make(name, natives, argument)))
    value = parse(kind, data.draw(drawn))
    if name == "zone" and _repeated(value):
        return
    assert decode(it, encode(it, {"f": value})).values == {"f": value}
    assert decode(it, encode(it, {"f": None})).values == {"f": None}


def _repeated(value: str) -> bool:
    """Whether the moment falls into an hour that local clocks show twice: there the first one is meant."""
    local = datetime.fromisoformat(value).astimezone(ZoneInfo("Europe/Berlin"))
    return local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()


@given(st.sampled_from(sorted(TYPED)), st.one_of(st.text(max_size=9), whole, st.lists(whole), st.booleans()))
def test_what_is_invalid_never_becomes_a_value(kind: str, native: Any) -> None:
    decoded = decode(mapping(kind, FieldMap("f", ("n",))), {"n": native})
    assert ("f" in decoded.values) != ("f" in decoded.invalid)
    if decoded.invalid:
        assert decoded.invalid["f"][0] == native


@given(st.sets(st.sampled_from(("a", "b", "c"))))
def test_what_is_absent_stays_unknown(present: set[str]) -> None:
    entity = Entity("e", {name: Field(name, "text", Rule("latest")) for name in "abc"})
    it = ObjectMap("s", "o", entity, tuple(FieldMap(name, (f"n{name}",)) for name in "abc"))
    natives = {f"n{name}": None for name in present}
    assert decode(it, natives).values == dict.fromkeys(present)
    assert encode(it, dict.fromkeys(present)) == natives


def test_options_references_and_directions() -> None:
    it = mapping("text", FieldMap("f", ("n",), options={"1": "one", "2": "two"}))
    assert decode(it, {"n": "1"}).values == {"f": "one"}
    assert encode(it, {"f": "two"}) == {"n": "2"}
    ref = mapping("ref", FieldMap("f", ("n",), object="companies"))
    one = {"system": "s", "object": "companies", "id": "7"}
    assert decode(ref, {"n": 7}).values == {"f": one}
    assert decode(ref, {"n": [7, 8]}).values == {"f": {**one, "also": ["8"]}}
    assert decode(ref, {"n": []}).values == {"f": None}
    assert encode(ref, {"f": one}) == {"n": "7"}
    read_only = replace(it, fields=(replace(it.fields[0], direction="in"),))
    assert encode(read_only, {"f": "one"}) == {}
    assert writable(read_only) == ()


def test_foreign_ids_are_keys_and_no_values() -> None:
    it = mapping("text", FieldMap("f", ("n",), identifies="crm.contacts"))
    assert decode(it, {"n": "7"}).values == {}
    assert identifiers(it, {"n": " 7 "}) == {"crm.contacts": "7"}
    assert identifiers(it, {"n": ""}) == identifiers(it, {"n": None}) == identifiers(it, {}) == {}


@pytest.mark.parametrize("value", [{"id": 0}, {"also": [1]}, {"object": "x", "id": 1, "more": 2}])
def test_json_that_looks_like_a_reference_stays_what_it_is(value: dict[str, object]) -> None:
    it = mapping("json", FieldMap("f", ("n",)), dialect=DIALECTS["plain"])
    assert decode(it, encode(it, {"f": value})).values == {"f": value}
    assert strip(value) == value
