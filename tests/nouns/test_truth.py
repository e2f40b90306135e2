"""A source of truth: where no two claims are believed alike their age decides nothing, and is not looked at."""

from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hub import rules
from hub.event import Clock
from hub.fold import Claim
from hub.rules import CHOOSERS, Candidate, Rule, choose
from tests.promises.mutations import broken, mutation

systems = st.sampled_from(("crm", "shop", "news", "erp"))
claims = st.lists(st.tuples(systems, st.sampled_from(("a", "b", None)), st.integers(0, 3)), min_size=1, max_size=5)
RULE = Rule("truth", ("shop", "crm", "news"))


def candidates(said: list[tuple[str, str | None, int]]) -> list[Candidate]:
    return [
        Candidate(system, "o", str(n), Claim(value, at, Clock(at, at, f"e{n}")))
        for n, (system, value, at) in enumerate(said)
    ]


def assert_as_by_age(said: list[tuple[str, str | None, int]], random: Any) -> None:
    """What is chosen, and who lost and why, is what looking at the newest first gives, in whatever order claims come."""
    found = candidates(said)
    newest_first = sorted(found, key=rules._recency, reverse=True)
    random.shuffle(found)
    assert choose(RULE, found) == CHOOSERS["truth"](RULE, newest_first), found


@given(claims, st.randoms(use_true_random=False))
def test_a_source_of_truth_chooses_alike_whatever_the_order_of_claims(said: list[Any], random: Random) -> None:
    assert_as_by_age(said, random)


def test_it_would_show_if_the_age_of_claims_believed_alike_were_forgotten() -> None:
    said = [("crm", "a", 1), ("crm", "b", 2)]
    with mutation(rules, "_recency", lambda _: 0), broken("two claims of one system are not told apart by age"):
        assert [c.value for c in [choose(RULE, candidates(said))] if c] == ["b"], "the newer one of a system counts"
