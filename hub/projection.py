"""Projection: the golden record of one thing, each field with value and provenance. A pure function of claims and rules."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

import msgspec
from msgspec.structs import astuple

from hub.entity import Entity, Field
from hub.errors import Reject
from hub.fold import DELETED, OUT, Claim, Claims, field_of, fold
from hub.rules import Candidate, Choice, choose, evaluate, follow
from hub.values import InvalidValue, Value, parse, same

STEWARD = "hub"


@dataclass(frozen=True, slots=True)
class Source:
    """One record of one system that belongs to the thing, with its claims."""

    system: str
    object: str
    external_id: str
    claims: Claims

    @property
    def deleted(self) -> bool:
        """Whether the system's last word is that the record is gone."""
        claim = self.claims.get(DELETED)
        return bool(claim and claim.value)


class GoldenField(msgspec.Struct, frozen=True, gc=False):
    """A chosen value and where it comes from; the event fields are empty for a value that no single claim carries."""

    value: Value
    event_id: str = ""
    system: str = ""
    external_id: str = ""
    at: int = 0
    rule: str = ""
    rule_version: str = ""
    pinned_by: str = ""


@dataclass(frozen=True, slots=True)
class Golden:
    """The golden record. A field that no system knows is absent."""

    golden_id: str
    entity: str
    fields: Mapping[str, GoldenField]
    deleted: bool = False

    def values(self) -> dict[str, Value]:
        """Field name -> value, without provenance."""
        return {name: f.value for name, f in self.fields.items()}


@dataclass(frozen=True, slots=True)
class Projected:
    """A golden record with the choices behind it, so that *why* needs no second computation."""

    golden: Golden
    choices: Mapping[str, Choice] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def project(golden_id: str, entity: Entity, sources: Sequence[Source]) -> Projected:
    """Choose every field of one thing from its sources' claims. Steward's pins are claims of the system `hub`; where
    merges brought several pins of one field together, the latest decision counts."""
    pins: dict[str, Claim] = {}
    for steward in (s for s in sources if s.system == STEWARD):
        pins = fold(pins, steward.claims.items())
    systems = sorted((s for s in sources if s.system != STEWARD), key=_record)
    left = [s for s in systems if s.deleted and entity.on_delete(s.system) == "detach"]
    heard = [s for s in systems if s not in left] if left else systems
    candidates = _candidates([*heard, *_opt_outs(left)] if left and heard else heard)
    choices, problems = _choose_all(entity, candidates, pins)
    fields = {name: _golden_field(choice, pins.get(name), entity.version) for name, choice in sorted(choices.items())}
    return Projected(Golden(golden_id, entity.name, fields, _deleted(entity, systems)), choices, tuple(problems))


_record = attrgetter("system", "object", "external_id")


def differs(choice: Choice, candidate: Candidate) -> bool:
    """Whether a losing claim is a conflict: both sides known, and not the same to any vendor."""
    value = candidate.claim.value
    return value is not None and choice.value is not None and not same(value, choice.value)


def _candidates(sources: Sequence[Source]) -> dict[str, list[Candidate]]:
    by_field: dict[str, list[Candidate]] = defaultdict(list)
    for source in sources:
        system, object_, external_id = source.system, source.object, source.external_id
        for name, claim in source.claims.items():
            by_field[field_of(name)].append(Candidate(system, object_, external_id, claim))
    return by_field


def _opt_outs(sources: Sequence[Source]) -> list[Source]:
    """An opt-out counts on when its record has left the thing: nobody opts in by being deleted."""
    return [replace(s, claims={name: c for name, c in s.claims.items() if name.endswith(OUT)}) for s in sources]


def _choose_all(
    entity: Entity, candidates: Mapping[str, list[Candidate]], pins: Mapping[str, Claim]
) -> tuple[dict[str, Choice], list[str]]:
    """A field that follows a pinned one follows the record that its rule would have chosen."""
    choices: dict[str, Choice] = {}
    ruled: dict[str, Choice] = {}
    problems: list[str] = []
    for definition in entity.in_turn:
        name, own = definition.name, candidates.get(definition.name) or []
        try:
            if choice := _by_rule(definition, own, ruled, choices):
                ruled[name] = choices[name] = choice
        except Reject as error:
            problems.append(f"{name}: {error.reason}")
        if name in pins and (choice := _pinned(pins[name], own)):
            choices[name] = choice
    return choices, problems


def _pinned(pin: Claim, candidates: Sequence[Candidate]) -> Choice | None:
    if pin.value is None:
        return None
    return Choice(pin.value["value"], None, tuple((c, "pinned") for c in candidates), "pin")


def _by_rule(
    definition: Field, candidates: list[Candidate], ruled: Mapping[str, Choice], choices: Mapping[str, Choice]
) -> Choice | None:
    rule = definition.rule
    if rule.kind == "follow":
        return follow(rule, candidates, ruled.get(rule.field))
    if rule.kind == "expression":
        return _typed(definition, evaluate(rule, candidates, {n: c.value for n, c in choices.items()}))
    choice = choose(rule, candidates)
    return _typed(definition, choice) if rule.kind == "python" else choice


def _typed(definition: Field, choice: Choice | None) -> Choice | None:
    """What was computed, in the words of the field's type: money is never a float. Raises Reject."""
    if choice is None:
        return None
    try:
        return msgspec.structs.replace(choice, value=parse(definition.kind, choice.value))
    except InvalidValue as error:
        raise Reject(f"the {definition.rule.kind} gave no {definition.kind}: {error}", code="value") from None


def _golden_field(choice: Choice, pin: Claim | None, version: str) -> GoldenField:
    if choice.rule == "pin" and pin is not None:
        return GoldenField(
            choice.value, pin.clock.event_id, STEWARD, "", pin.at, "pin", version, str(pin.value["author"])
        )
    won = choice.winner
    if won is None:
        return GoldenField(choice.value, rule=choice.rule, rule_version=version)
    claim = won.claim
    return GoldenField(choice.value, claim.clock.event_id, won.system, won.external_id, claim.at, choice.rule, version)


def _deleted(entity: Entity, systems: Sequence[Source]) -> bool:
    """Gone everywhere once a system whose deletes propagate has deleted every record it had of the thing."""
    gone_in: dict[str, bool] = {}
    for source in systems:
        gone_in[source.system] = gone_in.get(source.system, True) and source.deleted
    return any(gone and entity.on_delete(system) == "propagate" for system, gone in gone_in.items())


def dump(golden: Golden) -> dict[str, list[Any]]:
    """The fields as JSON values, for storage: name -> value and provenance in GoldenField's order."""
    return {name: list(astuple(f)) for name, f in sorted(golden.fields.items())}


def load(golden_id: str, entity: str, stored: Mapping[str, list[Any]], deleted: bool) -> Golden:
    """The inverse of `dump`."""
    return Golden(golden_id, entity, {name: GoldenField(*row) for name, row in stored.items()}, deleted)
