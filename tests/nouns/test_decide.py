"""Decide: what an event says, against what was known and what we are writing."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from hub.change import Change
from hub.decide import Decision, decide
from hub.event import record
from hub.values import parse
from hub.view import MAX_REWRITES, Held, acknowledged
from hub.write import Intent
from tests.nouns.world import NOW, World

names = st.sampled_from(("a", "b", "c"))
values = st.dictionaries(names, st.sampled_from(("x", "X", "y", None)), max_size=3)


def judge(
    said: dict[str, Any], view: dict[str, Held], writing: dict[str, Any] | None = None, order: int = 10, **more: Any
) -> Decision:
    """Decide an event of one record."""
    intents = [Intent("k", "s", "o", "g", "1", writing)] if writing else []
    return decide(record(Change("s", "o", "1", said, version=order, **more), NOW), said, view, intents)


@given(values, values)
def test_a_touched_field_is_no_claim_and_a_changed_one_is(before: dict[str, Any], now: dict[str, Any]) -> None:
    decision = judge(now, {name: Held(value) for name, value in before.items()})
    changed = {n: v for n, v in now.items() if (n in before and before[n] != v) or (n not in before and v is not None)}
    assert decision.said == changed
    assert not decision.near_miss


@given(values, values, st.sets(names))
def test_what_is_not_believed_is_seen_and_never_said(
    before: dict[str, Any], now: dict[str, Any], unheard: set[str]
) -> None:
    view = {name: Held(value) for name, value in before.items()}
    event = record(Change("s", "o", "1", now, version=10), NOW)
    all_heard, decision = decide(event, now, view, []), decide(event, now, view, [], unheard)
    assert decision.said == {name: value for name, value in all_heard.said.items() if name not in unheard}
    assert decision.view == all_heard.view


@given(values, values, st.integers(0, 20))
def test_an_older_report_of_what_is_known_leaves_its_clock(
    before: dict[str, Any], now: dict[str, Any], order: int
) -> None:
    """The view's clock never goes back, and goes on with every report."""
    view = {name: Held(value, order=10) for name, value in before.items()}
    after = judge(now, view, order=order).view
    assert {n: after[n].order for n in now} == {n: max(order, 10) if n in before else order for n in now}


@given(values, values)
def test_what_an_event_leaves_out_stays_as_it_was(before: dict[str, Any], now: dict[str, Any]) -> None:
    view = {name: Held(value) for name, value in before.items()}
    after = judge(now, view).view
    assert {n: h for n, h in after.items() if n not in now} == {n: h for n, h in view.items() if n not in now}
    assert {n: after[n].value for n in now} == now


@pytest.mark.parametrize(
    ("kind", "written", "back"),
    [
        ("text", "Ann Miller", "Ann Miller"),
        ("text", "Ann Miller ", "Ann Miller"),
        ("text", "Ann  Miller", "Ann Miller"),
        ("text", "ann miller", "Ann Miller"),
        ("email", "Ann@Example.com", "ann@example.com"),
        ("phone", "+49 30 123456", "030/123456"),
        ("tags", ["b", "a"], ["A", "B"]),
        ("decimal", "10.50", "10.5"),
        ("consent", {"status": "out", "at": None}, {"status": "out", "at": "2024-05-01T00:00:00Z"}),
    ],
)
def test_our_write_that_comes_back_is_an_echo_once(kind: str, written: Any, back: Any) -> None:
    ours, theirs = parse(kind, written, "DE"), parse(kind, back, "DE")
    decision = judge({"f": theirs}, {"f": Held(None)}, {"f": ours})
    assert decision.said == {}
    assert decision.echoed == ("f",)
    assert decision.intents == ("k",)
    other = parse("text", "other") if kind != "tags" else ["other"]
    assert judge({"f": other}, decision.view, order=11).said == {"f": other}


def test_a_real_edit_beside_our_echo_is_said() -> None:
    decision = judge({"a": "ours", "b": "theirs"}, {"a": Held("old"), "b": Held("old")}, {"a": "ours"})
    assert decision.said == {"b": "theirs"}
    assert decision.echoed == ("a",)
    assert decision.intents == ("k",)


def test_a_real_edit_of_the_field_that_we_are_writing_is_said_and_counted() -> None:
    decision = judge({"a": "theirs"}, {"a": Held("old")}, {"a": "ours"})
    assert decision.said == {"a": "theirs"}
    assert decision.near_miss
    assert decision.intents == ()


def test_an_event_from_before_our_write_does_not_undo_it() -> None:
    view = acknowledged({"a": Held("old", order=5)}, {"a": "ours"}, {}, order=20)
    stale = judge({"a": "old"}, view, order=10)
    assert stale.said == {}
    assert stale.view == view
    edit = judge({"a": "between"}, view, order=15)
    assert edit.said == {"a": "between"}
    assert edit.view == view


def test_an_old_report_that_comes_late_changes_nothing() -> None:
    view = judge({"a": "new"}, {}, order=20).view
    late = judge({"a": "old"}, view, order=10)
    assert late.said == {}
    assert late.view == view
    assert judge({"a": "old"}, late.view, order=30).said == {"a": "old"}


def test_a_late_opt_out_is_always_heard() -> None:
    view = judge({"consent": {"status": "in", "at": None}}, {}, order=20).view
    out = {"status": "out", "at": None}
    assert judge({"consent": out}, view, order=10).said == {"consent": out}


@given(st.permutations([1, 2, 3, 4]), st.lists(st.sampled_from("xyz"), min_size=4, max_size=4))
def test_in_whatever_order_reports_come_the_view_ends_with_the_newest(orders: list[int], contents: list[str]) -> None:
    view: dict[str, Held] = {}
    for order in orders:
        view = judge({"a": contents[order - 1]}, view, order=order).view
    assert view["a"].value == contents[3]
    assert view["a"].order == 4


def test_of_several_references_the_known_one_stays() -> None:
    one = {"system": "s", "object": "companies", "id": "1"}
    view = {"company": Held(one)}
    assert judge({"company": {**one, "id": "2", "also": ["1"]}}, view).said == {}
    assert judge({"company": {**one, "id": "2", "also": ["3"]}}, view).said == {"company": {**one, "id": "2"}}


REWRITES = {
    "none": lambda value: value,
    "trims and folds": lambda value: value.strip().lower(),
    "constant": lambda value: "Other",
    "translates": lambda value: f"<{value}>",
    "cuts": lambda value: value[:3],
}
STEPS = st.sampled_from(("write", "ack", "read", "touch", "edit", "repeat", "golden"))


@given(
    st.sampled_from(sorted(REWRITES)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.lists(STEPS, max_size=25),
)
@example("translates", False, True, False, False, True, ["write", "golden"])
@example("none", True, True, False, False, True, ["write", "read", "edit", "read"])
@example("constant", False, True, False, False, False, ["write", "read", "edit", "read", "touch"])
def test_writing_comes_to_an_end_and_no_edit_is_lost(
    rewrite: str, tells: bool, dates: bool, marks: bool, obeys: bool, echo_first: bool, steps: list[str]
) -> None:
    """Every order of writes, answers, echoes, touches and edits, with every kind of vendor."""
    world = World(REWRITES[rewrite], tells, dates, marks, obeys)
    for n, step in enumerate(steps):
        match step:
            case "write":
                world.write()
            case "ack":
                world.acknowledge()
            case "read":
                world.read()
            case "touch":
                world.touch()
            case "repeat":
                world.repeat()
            case "golden" if not obeys:
                world.golden = f"Golden {n}"
            case "edit":
                world.edit(f"edit {n}")
    world.settle(echo_first=echo_first)
    genuine = [f"edit {n}" for n, step in enumerate(steps) if step == "edit"]
    heard = [value for value in world.said if str(value).startswith("edit")]
    assert list(dict.fromkeys(heard)) == genuine  # one may be heard again, where it was reported again meanwhile
    if not obeys and dates:  # an answer without a time that comes after a newer report hides that report
        assert world.stored in (world.golden, REWRITES[rewrite](world.golden)), "the target was not brought in line"
    assert world.writes <= (len(steps) + 1) * (MAX_REWRITES + 1)


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("dates", [True, False])
def test_a_vendor_that_always_rewrites_is_left_alone(tells: bool, dates: bool) -> None:
    world = World(lambda value: "Other", tells, dates)
    world.settle()
    assert world.writes <= MAX_REWRITES + 1
    before = world.writes
    world.touch()
    world.settle()
    assert world.writes == before
    world.edit("by hand")
    world.settle()
    assert "by hand" in world.said
    world.golden = "New golden"
    world.settle()
    assert world.writes > before


def test_a_different_value_is_never_written_over_unseen() -> None:
    world = World(lambda value: value)
    world.edit("seen")
    world.settle()
    assert world.stored == "Golden"
    world.edit("unseen")
    world.golden = "Newer"
    assert not world.write()
    world.settle()
    assert "unseen" in world.said


def test_a_write_of_the_same_content_after_another_is_not_mistaken_for_an_edit() -> None:
    view = {"a": replace(Held("x"), order=1)}
    for turn, value in enumerate(("y", "x", "y")):
        view = acknowledged(view, {"a": value}, {"a": value}, order=turn + 2)
        decision = judge({"a": value}, view, order=turn + 2)
        assert decision.said == {}
        view = decision.view


def test_what_a_vendor_is_known_to_make_of_our_value_is_an_echo_and_no_edit() -> None:
    known = Held("Golden", ours=True, written="Golden", order=5, rewrites=MAX_REWRITES, rewritten_to="Other")
    assert judge({"a": "Other"}, {"a": known}).echoed == ("a",)
    assert judge({"a": "by hand"}, {"a": known}).said == {"a": "by hand"}
    assert judge({"a": "Other"}, {"a": replace(known, rewrites=MAX_REWRITES - 1)}).said == {"a": "Other"}
