"""Rule: per entity and field, which system's claim wins, and when. Pure: claims in, choice out."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import msgspec
from simpleeval import EvalWithCompoundTypes, InvalidExpression

from hub.errors import Reject
from hub.fold import Claim
from hub.values import Value, loose

Kind = Literal["truth", "latest", "oldest", "most_common", "union", "strictest", "follow", "expression", "python"]


@dataclass(frozen=True)
class Rule:
    """How one field's value is chosen.

    systems     for truth: the order in which systems are believed; for strictest: whose opt-in may lift an opt-out
    review      a losing, differing claim waits for a person instead of being overwritten
    """

    kind: Kind = "latest"
    systems: tuple[str, ...] = ()
    field: str = ""
    expression: str = ""
    function: Callable[[list[dict[str, Any]]], Any] | None = None
    review: bool = False

    def __str__(self) -> str:
        return self.told

    @cached_property
    def told(self) -> str:
        """The rule as people write it, such as `truth(crm, shop)`."""
        detail = ", ".join(self.systems) or self.field or self.expression
        return f"{self.kind}({detail})" if detail else self.kind

    @cached_property
    def in_order(self) -> str:
        """The systems in the order in which they are believed, in words."""
        return " before ".join(self.systems)

    @cached_property
    def ranks(self) -> Mapping[str, int]:
        """System -> its place in the order in which systems are believed."""
        return {system: place for place, system in enumerate(self.systems)}


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """One record's claim on the field in question."""

    system: str
    object: str
    external_id: str
    claim: Claim


def _recency(candidate: Candidate) -> tuple[int, int, str]:
    """Order between systems: the source's own time, then ours, then the id."""
    claim = candidate.claim
    return (claim.at, claim.clock.observed, claim.clock.event_id)


class Choice(msgspec.Struct, frozen=True, gc=False):
    """The outcome for one field; `winner` is None where no single claim carries the value."""

    value: Value
    winner: Candidate | None
    losers: tuple[tuple[Candidate, str], ...] = ()
    rule: str = ""


def choose(rule: Rule, candidates: Sequence[Candidate]) -> Choice | None:
    """Apply a rule that looks at this field's claims alone; None where there is nothing to choose from."""
    if not candidates:
        return None
    if len(candidates) == 1:
        return CHOOSERS[rule.kind](rule, candidates)
    if rule.kind == "truth":
        ranks = rule.ranks
        by_rank = {ranks.get(c.system, len(ranks)): c for c in candidates}
        if len(by_rank) == len(candidates):  # no two are believed alike, so how old they are decides nothing
            return _pick(rule, [by_rank[rank] for rank in sorted(by_rank)], rule.in_order)
    return CHOOSERS[rule.kind](rule, sorted(candidates, key=_recency, reverse=True))


def follow(rule: Rule, candidates: Sequence[Candidate], leader: Choice | None) -> Choice | None:
    """The claim of the record that won the field this one follows; None where that record claims nothing here."""
    won = leader.winner if leader else None
    if won is None:
        return None
    lead = (won.system, won.object, won.external_id)
    mine = [c for c in candidates if (c.system, c.object, c.external_id) == lead]
    rest = tuple((c, f"{rule.field} comes from {lead[0]}") for c in candidates if c not in mine)
    return Choice(mine[0].claim.value, mine[0], rest, str(rule)) if mine else None


def evaluate(rule: Rule, candidates: Sequence[Candidate], values: Mapping[str, Value]) -> Choice | None:
    """The value of an expression over the record's other values and `claims` (system -> its newest claim)."""
    oldest_first = sorted(candidates, key=_recency)
    names = Known({**values, "claims": {c.system: c.claim.value for c in oldest_first}})
    evaluator = EvalWithCompoundTypes(names=names, functions={**FUNCTIONS})
    try:
        return Choice(evaluator.eval(rule.expression), None, (), str(rule))
    except EXPRESSION_ERRORS as error:
        raise Reject(f"expression {rule.expression!r}: {error}", code="expression") from None


class Known(dict[str, Value]):
    """Values by name, where a name that is not known is None."""

    def __missing__(self, name: str) -> Value:
        return None


EXPRESSION_ERRORS = (InvalidExpression, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)
"""What a user's expression may raise, for the values that it meets."""

# Only what gives the same answer on every replay: no clock, no randomness.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "lower": lambda text: text.lower() if text else text,
    "upper": lambda text: text.upper() if text else text,
    "title": lambda text: text.title() if text else text,
    "trim": lambda text: text.strip() if text else text,
    "join": lambda separator, *parts: separator.join(str(p) for p in parts if p),
    "coalesce": lambda *values: next((v for v in values if v not in (None, "")), None),
    "len": len,
    "str": str,
    "int": int,
    "min": min,
    "max": max,
}


def _pick(rule: Rule, ranked: Sequence[Candidate], why: str) -> Choice:
    """The first known value of a ranking; None only where every claim says empty."""
    winner = ranked[0]
    if len(ranked) == 1:
        return Choice(winner.claim.value, winner, (), rule.told)
    if winner.claim.value is None:
        winner = next((c for c in ranked if c.claim.value is not None), winner)
    losers = [(c, "empty" if c.claim.value is None else why) for c in ranked if c is not winner]
    return Choice(winner.claim.value, winner, tuple(losers), rule.told)


def _truth(rule: Rule, newest_first: Sequence[Candidate]) -> Choice:
    if len(newest_first) < 2:
        return _pick(rule, newest_first, "")
    ranks = rule.ranks
    ranked = sorted(newest_first, key=lambda c: ranks.get(c.system, len(ranks)))
    return _pick(rule, ranked, rule.in_order)


def _latest(rule: Rule, newest_first: Sequence[Candidate]) -> Choice:
    winner = newest_first[0]
    return Choice(winner.claim.value, winner, tuple((c, "older") for c in newest_first[1:]), str(rule))


def _oldest(rule: Rule, newest_first: Sequence[Candidate]) -> Choice:
    return _pick(rule, newest_first[::-1], "younger")


def _most_common(rule: Rule, newest_first: Sequence[Candidate]) -> Choice:
    votes = Counter(str(loose(c.claim.value)) for c in newest_first if c.claim.value is not None)
    ranked = sorted(newest_first, key=lambda c: -votes[str(loose(c.claim.value))])
    return _pick(rule, ranked, "fewer systems say so")


def _union(rule: Rule, newest_first: Sequence[Candidate]) -> Choice:
    lists = [c.claim.value for c in newest_first if c.claim.value is not None]
    merged = {item for value in lists for item in (value if isinstance(value, list) else [value])}
    return Choice(sorted(merged) if lists else None, None, (), str(rule))


def _strictest(rule: Rule, newest_first: Sequence[Candidate]) -> Choice:
    """An opt-out stands until a later, dated opt-in of a system that may lift it; no other opt-in is heard."""
    outs = [c for c in newest_first if _status(c) == "out"]
    ins = [c for c in newest_first if _status(c) == "in" and (not rule.systems or c.system in rule.systems)]
    last_out = max(outs, key=_consented, default=None)
    last_in = max(ins, key=_consented, default=None)
    if last_out and (last_in is None or _consented(last_in)[0] <= _consented(last_out)[0]):
        winner: Candidate | None = last_out
    else:
        winner = last_in
    losers = tuple((c, _lost(c, winner)) for c in newest_first if c is not winner)
    return Choice(winner.claim.value if winner else None, winner, losers, str(rule))


def _status(candidate: Candidate) -> str | None:
    return candidate.claim.value["status"] if candidate.claim.value else None


def _consented(candidate: Candidate) -> tuple[int, str]:
    return (candidate.claim.at, candidate.claim.clock.event_id)


def _lost(candidate: Candidate, winner: Candidate | None) -> str:
    if winner is None or _status(candidate) == _status(winner):
        return "older, or this system's opt-in is not accepted"
    return "an opt-out is sticky" if _status(winner) == "out" else "lifted by a later opt-in"


def _python(rule: Rule, newest_first: Sequence[Candidate]) -> Choice:
    assert rule.function is not None, "the configuration resolves the function before any rule is used"
    told = [
        {"system": c.system, "id": c.external_id, "value": c.claim.value, "at": c.claim.at} for c in newest_first[::-1]
    ]
    try:
        value = rule.function(told)
    except Exception as error:  # the user's own code
        raise Reject(f"function: {type(error).__name__}: {error}", code="function") from None
    winner = next((c for c in newest_first if c.claim.value == value), None)
    losers = tuple((c, "not chosen by the function") for c in newest_first if c is not winner)
    return Choice(value, winner, losers, str(rule))


CHOOSERS: dict[str, Callable[[Rule, Sequence[Candidate]], Choice]] = {
    "truth": _truth,
    "latest": _latest,
    "oldest": _oldest,
    "most_common": _most_common,
    "union": _union,
    "strictest": _strictest,
    "python": _python,
}
