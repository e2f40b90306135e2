"""The rule of one canonical field, out of what hub.yaml says of it."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from hub.config.expressions import check
from hub.config.models import SIMPLE_RULES, Entity, EntityField
from hub.config.source import Path, Source, closest, shown
from hub.rules import Kind, Rule

Uses = frozenset[str]
Chooser = Callable[[list[dict[str, Any]]], Any]

DEFAULT_RULES: dict[str, Kind] = {"consent": "strictest", "tags": "union"}
WITHOUT_WINNER = ("union", "expression")
NOTHING: Uses = frozenset()


@dataclass(frozen=True, slots=True)
class Known:
    """What an entity's rules may name: the systems, and by field those that say something of it, both in file order."""

    systems: Sequence[str]
    claimants: Mapping[str, Sequence[str]]
    entities: Sequence[str]


@dataclass(frozen=True, slots=True)
class Place:
    """One field of one entity, where it stands, and what surrounds it."""

    source: Source
    at: Path
    name: str
    said: EntityField
    kind: str
    model: Entity
    known: Known

    def problem(self, key: str | int, what: str, suggestion: str = "", *, index: int | None = None) -> None:
        """Note an error at one key of the field, or at an item of the list there."""
        path = (*self.at, key) if index is None else (*self.at, key, index)
        self.source.problem(path, what, suggestion)


def ways(said: EntityField) -> list[str]:
    """The keys by which a field says how it is decided; `rule: truth` beside `truth: [...]` is one."""
    given = [
        name for name in ("rule", "truth", "follow", "expression", "python") if getattr(said, name) not in (None, "")
    ]
    return given[1:] if given[:2] == ["rule", "truth"] and said.rule == "truth" else given


def rule(place: Place) -> tuple[Rule, Uses]:
    """The rule of a field, and the other fields that it looks at. What is wrong is noted in the source."""
    given = ways(place.said)
    if len(given) > 1:
        place.problem(given[1], f"{place.name} has two rules: {' and '.join(given)}", "keep one")
    if place.said.opt_in_from is not None:
        _check_systems(place, "opt_in_from", place.said.opt_in_from)
        if place.kind != "consent":
            place.problem("opt_in_from", "opt_in_from is for consent")
    way = given[0] if given else "rule"
    if place.kind == "consent":
        return _consent(place, way), NOTHING
    return BUILDERS[way](place)


def _simple(place: Place) -> tuple[Rule, Uses]:
    kind: Kind = place.said.rule or DEFAULT_RULES.get(place.kind, "truth")
    if kind == "strictest":
        others = (name for name in SIMPLE_RULES if name != kind)
        place.problem("rule", "strictest is for consent", f"one of: {', '.join(others)}")
    if kind == "union" and place.kind not in ("tags", "json"):
        what = f"union is for tags, {place.name} is {place.kind}"
        place.problem("rule", what, "truth, latest, oldest or most_common")
    systems = tuple(place.known.claimants.get(place.name, ())) if kind == "truth" else ()
    return Rule(kind, systems, review=place.said.review), NOTHING


def _truth(place: Place) -> tuple[Rule, Uses]:
    systems = place.said.truth or []
    if not systems:
        place.problem("truth", "truth names no system", f"for example [{', '.join(place.known.systems[:3])}]")
    _check_systems(place, "truth", systems)
    return Rule("truth", tuple(systems), review=place.said.review), NOTHING


def _consent(place: Place, way: str) -> Rule:
    """Consent has one rule: an opt-out is sticky, whatever else is configured."""
    if way != "rule" or place.said.rule not in (None, "strictest"):
        suggestion = "{rule: strictest, opt_in_from: [...]}"
        place.problem(way, "consent must be strictest: an opt-out stands until it is lifted", suggestion)
    return Rule("strictest", tuple(place.said.opt_in_from or ()), review=place.said.review)


def _follow(place: Place) -> tuple[Rule, Uses]:
    name = place.said.follow
    leader = place.model.fields.get(name)
    if leader is None:
        others = [field for field in place.model.fields if field != place.name]
        place.problem("follow", f"{name} is not a field of {place.at[1]}", closest(name, others))
        return Rule("follow", field=name), NOTHING
    way = (ways(leader) or ["rule"])[0]
    kind = (leader.rule or DEFAULT_RULES.get(leader.type, "truth")) if way == "rule" else way
    if kind in WITHOUT_WINNER:
        place.problem("follow", f"{name} is decided by {kind}, which no single record wins", "follow another field")
    return Rule("follow", field=name), frozenset({name})


def _expression(place: Place) -> tuple[Rule, Uses]:
    used = check(place.source, (*place.at, "expression"), place.said.expression, [*place.model.fields, "claims"])
    if place.name in used:
        suggestion = f"claims['{place.known.systems[0]}'] is what a system says of it"
        place.problem("expression", f"{place.name} cannot be computed from itself", suggestion)
    return Rule("expression", expression=place.said.expression), (used & place.model.fields.keys()) - {place.name}


def _python(place: Place) -> tuple[Rule, Uses]:
    return Rule("python", function=_function(place, place.said.python), review=place.said.review), NOTHING


BUILDERS: dict[str, Callable[[Place], tuple[Rule, Uses]]] = {
    "rule": _simple,
    "truth": _truth,
    "follow": _follow,
    "expression": _expression,
    "python": _python,
}


def _check_systems(place: Place, key: str, systems: Sequence[str]) -> None:
    for index, system in enumerate(systems):
        if system not in place.known.systems:
            what = f"the system {shown(system)} is not configured"
            place.problem(key, what, closest(system, place.known.systems), index=index)
        elif system in systems[:index]:
            place.problem(key, f"{system} is named twice", index=index)
        elif system not in place.known.claimants.get(place.name, ()):
            what = f"{system} never says anything of {place.name}"
            place.source.warn((*place.at, key, index), what, f"map {place.name} in an object of {system}")


def _function(place: Place, reference: str) -> Chooser | None:
    """The function of a `package.module:function`; importing it runs that module."""
    module_name, _, name = reference.partition(":")
    if not module_name or not name:
        place.problem("python", f"{shown(reference)} names no function", "package.module:function")
        return None
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever a module of the user's own raises while it is imported
        what = f"{module_name} cannot be imported: {type(error).__name__}: {error}"
        place.problem("python", what, "modules are looked for beside hub.yaml and on the Python path")
        return None
    if not callable(function := getattr(module, name, None)):
        place.problem("python", f"{module_name} has no function {name}", closest(name, _functions(module)))
        return None
    return cast(Chooser, function)


def _functions(module: Any) -> list[str]:
    return [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
