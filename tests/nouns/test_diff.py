"""Diff and view: what is sent, and that nothing is sent twice."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from hub.diff import admits, consented, diff, fresh, only_consent
from hub.entity import Entity, Field
from hub.mapping import FieldMap, ObjectMap
from hub.projection import Golden, GoldenField
from hub.rules import Rule
from hub.view import Held, acknowledged, dump, load, settled
from hub.write import Write, edited

KINDS = {"email": "email", "name": "text", "tags": "tags", "consent": "consent", "id": "text"}
ENTITY = Entity("contact", {name: Field(name, kind, Rule("latest")) for name, kind in KINDS.items()})
MAPPING = ObjectMap(
    "s",
    "o",
    ENTITY,
    (
        FieldMap("email", ("email",), unique=True),
        FieldMap("name", ("name",)),
        FieldMap("tags", ("tags",)),
        FieldMap("consent", ("consent",)),
        FieldMap("id", ("id",), direction="in"),
    ),
)
consents = st.sampled_from(
    (None, {"status": "in", "at": None}, {"status": "in", "at": "2024-01-01T00:00:00Z"}, {"status": "out", "at": None})
)
goldens = st.fixed_dictionaries(
    {},
    optional={
        "email": st.sampled_from((None, "a@example.com", "b@example.com")),
        "name": st.sampled_from((None, "Ann", "Otto")),
        "tags": st.sampled_from((None, [], ["a"], ["a", "b"])),
        "consent": consents,
        "id": st.sampled_from(("1", "2")),
    },
)
views = goldens.map(lambda values: {name: Held(value) for name, value in values.items()})


def golden(values: dict[str, Any]) -> Golden:
    """A golden record of these values."""
    return Golden("g", "contact", {name: GoldenField(value) for name, value in values.items()})


@given(goldens, views, st.booleans(), st.integers(0, 9))
def test_after_a_write_was_acknowledged_nothing_is_left_to_send(
    values: dict[str, Any], view: dict[str, Held], tells: bool, order: int
) -> None:
    sent = diff(values, MAPPING, view)
    stored = {name: "in other words" for name in sent} if tells else {}
    after = acknowledged(view, sent, stored, order)
    assert diff(values, MAPPING, after) == {}
    assert diff(values, MAPPING, load(dump(after))) == {}
    assert {name: held for name, held in after.items() if name not in sent} == {
        name: held for name, held in view.items() if name not in sent
    }


@given(goldens, views)
def test_only_known_writable_differing_fields_are_sent(values: dict[str, Any], view: dict[str, Held]) -> None:
    sent = diff(values, MAPPING, view)
    for name, value in values.items():
        held = view.get(name)
        expected = value != held.value if held else value is not None
        if name == "consent" and held and held.value and value:
            expected = value["status"] != held.value["status"]
        assert (name in sent) == (expected and name != "id")
    assert sent.keys() <= values.keys()


@given(goldens, views)
def test_a_second_record_of_one_thing_never_gets_unique_values(values: dict[str, Any], view: dict[str, Held]) -> None:
    second = diff(values, MAPPING, view, primary=False)
    assert second == {n: v for n, v in diff(values, MAPPING, view).items() if n != "email"}


@given(goldens)
def test_a_new_record_gets_all_that_is_known(values: dict[str, Any]) -> None:
    assert fresh(values, MAPPING) == {n: v for n, v in values.items() if v is not None and n != "id"}


@given(goldens)
def test_marketing_hears_of_an_opt_out_and_of_nothing_else(values: dict[str, Any]) -> None:
    consent = values.get("consent")
    assert consented(golden(values)) == bool(consent and consent["status"] == "in")
    told = only_consent(values)
    assert told == ({"consent": consent} if consent and consent["status"] == "out" else {})


@given(views, goldens)
def test_an_edit_made_meanwhile_is_noticed(view: dict[str, Held], now: dict[str, Any]) -> None:
    values = {"name": "New", "tags": ["new"]}
    expected = {name: view[name].value for name in values if name in view}
    write = Write("s", "o", "g", 1, "update", MAPPING, "1", values, values, expected)
    natives = {name: value for name, value in now.items() if name in ("name", "tags")}
    assert sorted(edited(write, natives)) == sorted(
        n for n, believed in expected.items() if n in natives and natives[n] != believed and natives[n] != values[n]
    )


@pytest.mark.parametrize(
    ("values", "mapping", "outcome"),
    [
        ({"name": "Ann"}, MAPPING, None),
        ({"name": "Ann"}, replace(MAPPING, requires=("email",)), "filtered"),
        ({"email": None}, replace(MAPPING, requires=("email",)), "filtered"),
        ({"email": "a@example.com"}, replace(MAPPING, requires=("email",)), None),
        ({"name": "Ann"}, replace(MAPPING, constants={"name": "Otto"}), "filtered"),
        ({"name": "Ann"}, replace(MAPPING, when="name == 'Ann' and not email"), None),
        ({"name": "Ann"}, replace(MAPPING, when="tags['x'] == 1"), "filtered"),
        ({"name": "Ann"}, replace(MAPPING, when="unheard_of(1)"), "filtered"),
        ({"tags": ["a"]}, replace(MAPPING, when="tags[5]"), "filtered"),
        ({"name": "Ann"}, replace(MAPPING, when="1 / 0"), "filtered"),
        ({"name": "Ann"}, replace(MAPPING, when="len(email) > 2"), "filtered"),
        ({"name": "Ann"}, replace(MAPPING, when="name.nothing"), "filtered"),
        ({"name": "Ann"}, replace(MAPPING, when="int(name) > 2"), "filtered"),
    ],
)
def test_who_may_exist_in_a_target(values: dict[str, Any], mapping: ObjectMap, outcome: str | None) -> None:
    verdict = admits(golden(values), mapping)
    assert (verdict.outcome if verdict else None) == outcome


def test_what_a_vendor_holds_in_its_own_words_is_settled() -> None:
    ours = Held("ANN", ours=True, written="Ann")
    assert settled(ours, "Ann")
    assert not settled(structs.replace(ours, ours=False), "Ann")
    assert settled(structs.replace(ours, ours=False, rewrites=3), "Ann")
    assert not settled(ours, "Otto")
