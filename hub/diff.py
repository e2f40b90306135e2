"""Diff: the golden record against what a target is known to hold -> the fields to send."""

from collections.abc import Mapping
from dataclasses import dataclass

from simpleeval import EvalWithCompoundTypes

from hub.mapping import ObjectMap, writable
from hub.projection import Golden
from hub.rules import EXPRESSION_ERRORS, FUNCTIONS, Known
from hub.values import Value
from hub.view import View, settled

CONSENT = "consent"


@dataclass(frozen=True, slots=True)
class NoWrite:
    """Why a target gets nothing: an outcome of the ledger, with the reason."""

    outcome: str
    reason: str = ""


def diff(golden: Mapping[str, Value], mapping: ObjectMap, view: View, primary: bool = True) -> dict[str, Value]:
    """The fields of one existing record that must be sent. A second record of one thing never gets unique fields."""
    return {
        entry.name: golden[entry.name]
        for entry in writable(mapping)
        if entry.name in golden
        and not settled(view.get(entry.name), golden[entry.name])
        and (primary or not entry.unique)
    }


def fresh(golden: Mapping[str, Value], mapping: ObjectMap) -> dict[str, Value]:
    """The fields of a record that is to be created: all that are known and not empty."""
    names = (entry.name for entry in writable(mapping))
    return {name: golden[name] for name in names if golden.get(name) is not None}


def admits(golden: Golden, mapping: ObjectMap) -> NoWrite | None:
    """Whether the golden record may exist in this object at all; else why not."""
    values = golden.values()
    for name, constant in mapping.constants.items():
        if values.get(name) != constant:
            return NoWrite("filtered", f"{name} is not {constant}")
    if missing := [name for name in mapping.requires if values.get(name) is None]:
        return NoWrite("filtered", f"no {', '.join(missing)}")
    if mapping.when and not _holds(mapping.when, values):
        return NoWrite("filtered", f"not {mapping.when}")
    return None


def consented(golden: Golden) -> bool:
    """Whether the person has opted in, and not out since."""
    consent = golden.values().get(CONSENT)
    return bool(consent and consent["status"] == "in")


def only_consent(changed: Mapping[str, Value]) -> dict[str, Value]:
    """What a marketing target may be told of someone who opted out: just that."""
    consent = changed.get(CONSENT)
    return {CONSENT: consent} if consent and consent["status"] == "out" else {}


def _holds(condition: str, values: Mapping[str, Value]) -> bool:
    try:
        return bool(EvalWithCompoundTypes(names=Known(values), functions={**FUNCTIONS}).eval(condition))
    except EXPRESSION_ERRORS:
        return False
