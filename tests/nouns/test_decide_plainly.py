"""Most fields are decided at a glance; that must say what weighing them says, whatever is held, reported and written."""

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from hub import decide as deciding
from hub.change import Change
from hub.decide import Decision, decide
from hub.event import Event, record
from hub.values import moment
from hub.view import Held
from hub.write import Intent
from tests.nouns.world import NOW
from tests.promises.mutations import broken, mutation

names = st.sampled_from("abcd")
at = st.one_of(st.none(), st.integers(0, 3).map(lambda s: moment(s * 1_000_000)))
consents = st.fixed_dictionaries({"status": st.sampled_from(("in", "out")), "at": at})
refs = st.sampled_from("123").map(lambda id_: {"system": "s", "object": "o", "id": id_})
several = refs.map(lambda ref: ref | {"also": ["1", "9"]})
contents = st.one_of(st.sampled_from(("x", "X ", "y", None, 1, True)), st.just(["a"]), consents, refs, several)
helds = st.builds(
    Held, contents, st.booleans(), contents, st.integers(0, 4), st.lists(contents, max_size=2), st.integers(0, 4), contents,
    st.integers(0, 11), st.sampled_from((0, NOW - 1)),
)  # fmt: skip
views = st.dictionaries(names, helds)
reports = st.dictionaries(names, contents)
intents = st.lists(st.tuples(st.sampled_from(("k", "l")), reports), max_size=2)


def decided(
    view: dict[str, Held], said: dict[str, Any], writing: list[tuple[str, dict[str, Any]]], order: int, marked: bool,
    unheard: set[str],
) -> Decision:  # fmt: skip
    change = Change("s", "o", "1", {}, version=order, at=order, intent="k" if marked else None)
    event: Event = record(change, NOW)
    return decide(event, said, view, [Intent(key, "s", "o", "g", "1", values) for key, values in writing], unheard)


def assert_weighed_alike(*how: Any) -> None:
    glanced = decided(*how)
    with mutation(deciding, "plain", lambda *_: False):
        weighed = decided(*how)
    assert glanced == weighed, (glanced, weighed)


@settings(max_examples=600, deadline=None)
@given(views, reports, intents, st.integers(0, 5), st.booleans(), st.sets(names))
@example({}, {"a": "x"}, [("k", {"a": "X"})], 3, False, set())
@example(
    {"a": Held({"status": "out", "at": None})}, {"a": {"status": "out", "at": moment(1_000_000)}}, [], 3, False, set()
)
def test_what_is_decided_at_a_glance_is_what_weighing_it_says(
    view: dict[str, Held], said: dict[str, Any], writing: list[tuple[str, dict[str, Any]]], order: int, marked: bool,
    unheard: set[str],
) -> None:  # fmt: skip
    assert_weighed_alike(view, said, writing, order, marked, unheard)


def test_it_would_show_if_a_glance_overlooked_a_write() -> None:
    def at_a_glance(held: Held | None, reported: Any, _writing: bool) -> bool:
        return held is None or bool(held.value == reported)  # whoever brought it there

    with broken("what the hub is writing is not looked at"):
        how = ({}, {"a": "x"}, [("k", {"a": "X"})], 3, False, set[str]())
        with mutation(deciding, "plain", lambda *_: False):
            weighed = decided(*how)
        with mutation(deciding, "plain", at_a_glance):
            assert decided(*how) == weighed, "an echo was taken for news"
