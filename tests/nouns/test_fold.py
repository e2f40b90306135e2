"""Laws of the fold and the rules: neither order nor repetition nor portions matter, for any kind of rule."""

import json
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from hub import fold as folding
from hub import projection
from hub.event import Clock
from hub.fold import Claim, fold, join
from hub.projection import project
from hub.rules import Rule, choose
from tests.nouns.strategies import ENTITY, T0, Said, folded, histories, sources, texts

clocks = st.builds(Clock, st.integers(0, 3), st.integers(0, 3), st.sampled_from("abc"))
claims = st.builds(lambda clock, at: Claim(f"{clock}{at}", at, clock), clocks, st.integers(0, 3))


@given(claims, claims, claims)
def test_join_is_commutative_associative_and_idempotent(a: Claim, b: Claim, c: Claim) -> None:
    assert join(a, b) == join(b, a)
    assert join(a, join(b, c)) == join(join(a, b), c)
    assert join(a, a) == a
    assert join(None, a) == a


@given(histories(), st.randoms(use_true_random=False))
def test_order_and_repetition_change_no_claim_and_no_golden_value(history: list[Said], random: Random) -> None:
    again = history + [random.choice(history) for _ in history]
    random.shuffle(again)
    assert folded(again) == folded(history)
    one, other = (project("t", ENTITY, sources(h)) for h in (history, again))
    assert one == other


@given(histories(), st.integers(0, 12))
def test_portions_do_not_matter(history: list[Said], cut: int) -> None:
    """Claims that were stored and loaded between two portions go on as if nothing had happened."""
    stored = {record: json.loads(json.dumps(folding.dump(held))) for record, held in folded(history[:cut]).items()}
    held = {record: folding.load(rows) for record, rows in stored.items()}
    for one in history[cut:]:
        held[one.record] = fold(held.get(one.record, {}), folding.claims_of(one.values, one.at, one.clock))
    assert held == folded(history)


@given(histories())
def test_every_value_names_where_it_comes_from(history: list[Said]) -> None:
    projected = project("t", ENTITY, sources(history))
    assert not projected.problems
    events = {one.clock.event_id: one for one in history}
    for name, field in projected.golden.fields.items():
        assert field.rule == str(ENTITY.fields[name].rule)
        assert field.rule_version == "1"
        if field.event_id:
            said = events[field.event_id]
            assert said.record[0] == field.system
            assert said.values[name] == field.value


@given(histories())
def test_a_golden_record_survives_storage(history: list[Said]) -> None:
    golden = project("t", ENTITY, sources(history)).golden
    stored = json.loads(json.dumps(projection.dump(golden)))
    assert projection.load("t", "thing", stored, golden.deleted) == golden


@given(histories(), texts)
def test_a_pin_beats_every_rule(history: list[Said], value: str | None) -> None:
    pin = Claim({"value": value, "author": "ann"}, T0, Clock(T0, T0, "pin"))
    names = [name for name in ENTITY.fields if name != "made"]
    golden = project("t", ENTITY, sources(history, dict.fromkeys(names, pin))).golden
    assert {name: golden.fields[name].value for name in names} == dict.fromkeys(names, value)
    assert {golden.fields[name].pinned_by for name in names} == {"ann"}
    lifted = {name: Claim(None, T0 + 1, Clock(T0 + 1, T0 + 1, "unpin")) for name in names}
    after = project("t", ENTITY, [*sources(history, dict.fromkeys(names, pin)), *sources([], lifted)]).golden
    assert after == project("t", ENTITY, sources(history)).golden


@given(histories())
def test_what_a_rule_means(history: list[Said]) -> None:
    """An independent statement of each simple rule, over the last value that each record said."""
    heard = [s for s in sources(history) if not (s.deleted and s.system == "shop")]
    golden = project("t", ENTITY, sources(history)).golden.values()

    def said(name: str) -> list[tuple[str, Claim]]:
        return [(s.system, s.claims[name]) for s in heard if name in s.claims]

    def by_time(pair: tuple[str, Claim]) -> tuple[int, int, str]:
        return (pair[1].at, pair[1].clock.observed, pair[1].clock.event_id)

    if said("latest"):
        assert golden["latest"] == max(said("latest"), key=by_time)[1].value
    known = [pair for pair in said("oldest") if pair[1].value is not None]
    assert golden.get("oldest") == (min(known, key=by_time)[1].value if known else None)
    for system in ("shop", "crm", "news"):
        mine = [pair for pair in said("truth") if pair[0] == system and pair[1].value is not None]
        if mine:
            assert golden["truth"] == max(mine, key=by_time)[1].value
            break
    lists = [claim.value for _, claim in said("tags") if claim.value is not None]
    assert golden.get("tags") == (sorted({tag for tags in lists for tag in tags}) if lists else None)


def test_nothing_to_choose_from_is_no_choice() -> None:
    assert choose(Rule("truth", ("crm",)), []) is None
    assert project("t", ENTITY, []).golden.values() == {"made": None}
