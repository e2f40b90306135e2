"""Consent: an opt-out stands against everything but a later, dated opt-in of a system that may lift it."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.event import Clock
from hub.fold import IN, OUT, claims_of
from hub.projection import project
from hub.values import micros, moment
from tests.nouns.strategies import ENTITY, T0, Said, folded, histories, sources

FAR = "2999-01-01T00:00:00Z"


def said(system: str, status: str, at: str | None, order: int, id_: str = "1") -> Said:
    clock = Clock(T0 + order, T0 + 100, f"{system}{status}{order}")
    return Said((system, "o", id_), {"consent": {"status": status, "at": at}}, T0 + order, clock)


def golden(history: list[Said]) -> str | None:
    value = project("t", ENTITY, sources(history)).golden.values().get("consent")
    return value and str(value["status"])


@given(histories(16))
def test_no_golden_opt_in_after_an_opt_out_but_a_later_dated_one_of_an_allowed_system(history: list[Said]) -> None:
    """Judged on the history alone, without claims."""
    if all(s.deleted and s.system == "shop" for s in sources(history)):
        assert golden(history) is None  # nothing is left that could be told of it
        return
    heard = [(one, one.values["consent"]) for one in history if one.values.get("consent")]
    outs = [micros(consent["at"]) or one.at for one, consent in heard if consent["status"] == "out"]
    ins = [micros(c["at"]) for one, c in heard if c["status"] == "in" and one.record[0] in ("crm", "news")]
    expected = None
    if outs or ins:
        expected = "in" if ins and (not outs or max(ins) > max(outs)) else "out"
    assert golden(history) == expected


@given(histories())
def test_opt_ins_and_opt_outs_of_a_record_are_kept_apart(history: list[Said]) -> None:
    claims = folded(history)
    for one in history:
        consent = one.values.get("consent")
        if consent:
            held = claims[one.record]["consent" + (IN if consent["status"] == "in" else OUT)]
            assert held.value["status"] == consent["status"]


@pytest.mark.parametrize("events", list(permutations((
    said("crm", "in", moment(T0 + 1), 1), said("crm", "out", None, 5), said("crm", "in", None, 9),
    said("news", "in", None, 20),
))))  # fmt: skip
def test_an_undated_opt_in_never_lifts_an_opt_out(events: tuple[Said, ...]) -> None:
    assert golden(list(events)) == "out"


@pytest.mark.parametrize("order", [-T0, -T0 - 5, -T0 + 1, 0])
def test_not_even_one_at_the_beginning_of_time(order: int) -> None:
    assert golden([said("crm", "out", None, order), said("news", "in", None, 9)]) == "out"


def test_an_opt_in_from_the_future_does_not_beat_what_is_said_after_it() -> None:
    before = said("crm", "in", FAR, 1)
    out = said("crm", "out", moment(T0 + 1_000_000), 2)
    late = Said(out.record, out.values, out.at, Clock(out.clock.order, T0 + 2_000_000, "out"))
    assert golden([before, late]) == "out"


def test_a_later_opt_in_counts_only_from_systems_that_may_lift() -> None:
    out = said("crm", "out", moment(T0 + 10), 10)
    assert golden([out, said("shop", "in", moment(T0 + 50), 50)]) == "out"
    assert golden([out, said("news", "in", moment(T0 + 50), 50)]) == "in"
    assert golden([out, said("news", "in", moment(T0 + 10), 50)]) == "out"


@given(st.permutations(range(4)))
def test_a_resync_does_not_erase_the_opt_out_it_writes_over(order: list[int]) -> None:
    """The newest row of the system says in, undated; the opt-out that stood there before still counts."""
    clocks = [Clock(T0 + n, T0 + 50, f"e{n}") for n in range(4)]
    states = [("in", None), ("out", None), ("in", None), ("in", None)]
    events = [
        Said(("news", "o", "1"), {"consent": {"status": status, "at": at}}, T0 + n, clocks[n])
        for n, (status, at) in enumerate(states)
    ]
    assert golden([events[n] for n in order]) == "out"
    assert dict(claims_of({"consent": None}, T0, clocks[0])).keys() == {"consent"}
