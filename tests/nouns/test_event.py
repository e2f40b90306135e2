"""Event ids: one change is one event, however it is learnt; two contents are two, unless the source says otherwise."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hub.change import Change
from hub.event import Event, from_avro, record

NOW = 1_700_000_000_000_000
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
changes = st.builds(
    Change,
    st.sampled_from(("crm", "shop")),
    st.sampled_from(("o", "p")),
    st.text(min_size=1, max_size=6).filter(lambda text: text.isprintable()),
    st.dictionaries(st.text(max_size=5), json_values, max_size=4),
    version=st.none() | st.integers(0, 2**62),
    exact=st.booleans(),
    at=st.none() | st.integers(0, NOW * 2),
    channel=st.sampled_from(("poll", "webhook", "log", "read")),
)


@given(changes, st.integers(NOW, NOW * 2), st.sampled_from(("poll", "webhook", "snapshot")))
def test_one_change_by_two_channels_is_one_event(change: Change, observed: int, channel: str) -> None:
    again = record(replace(change, channel=channel, fields=dict(reversed(change.fields.items()))), observed, "before")
    assert again.event_id == record(change, NOW, "before").event_id


@given(changes, changes)
def test_two_contents_are_two_events_unless_an_exact_version_says_they_are_one(one: Change, two: Change) -> None:
    other = replace(one, fields=two.fields)
    same_content = record(one, NOW).payload == record(other, NOW).payload
    exact = one.exact and one.version is not None
    assert (record(one, NOW).event_id == record(other, NOW).event_id) == (same_content or exact)


@given(changes)
def test_what_says_which_record_and_when_is_part_of_the_id(change: Change) -> None:
    ids = {
        record(other, NOW, previous).event_id
        for other, previous in (
            (change, ""),
            (replace(change, system="news"), ""),
            (replace(change, object="q"), ""),
            (replace(change, external_id=change.external_id + "x"), ""),
            (replace(change, op="delete"), ""),
            (replace(change, op="merge", merged=("1",)), ""),
            (replace(change, version=2**62 + 1), ""),
        )
    }
    assert len(ids) == 7


@given(st.lists(st.sampled_from("AB"), min_size=1, max_size=8))
def test_without_a_clock_every_step_is_an_event_of_its_own(contents: list[str]) -> None:
    ids: list[str] = []
    for content in contents:
        change = Change("crm", "o", "1", {"name": content})
        ids.append(record(change, NOW, ids[-1] if ids else "").event_id)
    assert len(set(ids)) == len(contents)


@given(changes, st.integers(0, NOW))
def test_nothing_is_from_the_future_and_the_id_does_not_depend_on_when_it_was_seen(
    change: Change, earlier: int
) -> None:
    event = record(change, NOW)
    assert event.at <= event.observed_at == NOW
    assert event.at == min(NOW if change.at is None else change.at, NOW)
    assert record(change, NOW + earlier).event_id == event.event_id


@given(changes)
def test_an_event_survives_the_log_with_its_fields_as_they_were(change: Change) -> None:
    event = record(change, NOW, trace="t")
    assert from_avro(event.to_avro()) == event
    assert event.fields() == dict(change.fields)
    assert isinstance(event, Event)


def test_what_json_cannot_carry_does_not_stop_a_page() -> None:
    odd = Change("crm", "o", "1", {"a": "\ud800", "b": 10**30, "c": [2**63, {"\udfff": -(2**70)}], "d": 2**63 - 1})
    assert record(odd, NOW).fields() == {
        "a": "?", "b": str(10**30), "c": [str(2**63), {"?": str(-(2**70))}], "d": 2**63 - 1
    }  # fmt: skip
