"""View: what a system is known to hold of a record now, the base against which both directions are compared.

Kept by captured changes and by acknowledged writes. A field that is not in the view is unknown.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import astuple, replace

from hub.values import Value, same

MAX_REWRITES = 3
MAX_TURNS = 10
MAX_BEFORE = 10
TURN_MICROS = 600_000_000
INVALID = "invalid"


class Held(msgspec.Struct, frozen=True, gc=False):
    """One field as the system holds it.

    value         what it holds
    order         the system's clock of what is known of the field: of its last report, or of our write
    ours          whether it got there by our write; then `written` is what we wrote (a vendor may store it in other
                  words), and `before` what stood there one after the other since the system last changed it itself
    rewrites      how often in a row the system turned `written` into the same `rewritten_to`
    turns         how often in a row it soon answered our write with other content, whatever that was
    wrote_at      when it last took a write of ours, by our clock in microseconds
    """

    value: Value
    ours: bool = False
    written: Value = None
    order: int = 0
    before: list[Value] = []  # each gets its own
    rewrites: int = 0
    rewritten_to: Value = None
    turns: int = 0
    wrote_at: int = 0


View = Mapping[str, Held]


def acknowledged(
    view: View, written: Mapping[str, Value], stored: Mapping[str, Value], order: int, at: int = 0
) -> dict[str, Held]:
    """The view after the system took our write at `at`; `stored` is what it answered that it holds now, as it told."""
    after = dict(view)
    for name, value in written.items():
        held = replace(view.get(name, Held(None)), wrote_at=at)
        kept = held if held.written == value else replace(held, rewrites=0, rewritten_to=None)
        if 0 < order < held.order and not held.ours:
            after[name] = replace(kept, written=value)  # the system has told of a later state already
            continue
        # Where the answer does not tell, the report of the write's own version may have told already.
        told = held.value if 0 < order == held.order else value
        after[name] = replace(
            kept,
            value=stored.get(name, told),
            ours=True,
            written=value,
            order=order or held.order,
            before=_before(held),
        )
    return after


def _before(held: Held) -> list[Value]:
    return [*(held.before if held.ours else ()), held.value][-MAX_BEFORE:]


def observed(held: Held | None, value: Value, order: int = 0, turns: int = 0) -> Held:
    """The view of a field that its own system changed, by that system's clock at `order`; the `turns`th time in a row."""
    if held is None or not (held.ours or held.rewrites):
        return Held(value, order=order, turns=turns, wrote_at=held.wrote_at if held else 0)
    again = held.rewrites + 1 if held.rewritten_to == value else 1
    return replace(held, value=value, ours=False, order=order, rewrites=again, rewritten_to=value, turns=turns)


def taken_turns(held: Held | None, answered: bool, at: int) -> int:
    """How often in a row, counting a change seen at `at`, the system has soon put other content in place of ours;
    `answered` says that it is the first change since a write. People who edit a field now and then never come far."""
    if held is None or at - held.wrote_at > TURN_MICROS:
        return 0
    return held.turns + answered


def rewritten(held: Held | None, value: Value) -> bool:
    """Whether the system has by now shown that it turns what we write into `value` by itself."""
    return held is not None and held.rewrites >= MAX_REWRITES and held.rewritten_to == value


def settled(held: Held | None, golden: Value) -> bool:
    """Whether nothing needs writing: it is there, the vendor holds it in its own words, or would rewrite it again."""
    if held is None:
        return golden is None
    if held.value == golden or (golden is None and invalid(held.value)):
        return True  # what no type admits may still be all that anybody knows: nothing known does not erase it
    if is_consent(held.value) and is_consent(golden):
        return bool(held.value["status"] == golden["status"])
    return bool(held.written == golden) and (held.ours or held.rewrites >= MAX_REWRITES)


def unchanged(held: Held, value: Value) -> bool:
    """Whether a report of `value` is only the record being touched, not this field being changed."""
    if is_consent(held.value) and is_consent(value) and value["status"] == "out":
        return bool(held.value["status"] == "out")
    return bool(held.value == value)


def echoes(written: Value, value: Value) -> bool:
    """Whether `value` may be what a vendor made of our `written` by trimming, folding case or reformatting."""
    return same(written, value)


def invalid(value: Value) -> bool:
    """Whether the system holds something that its field's type does not admit."""
    return isinstance(value, dict) and INVALID in value


def is_consent(value: Value) -> bool:
    """Whether a canonical value is a consent."""
    return isinstance(value, dict) and "status" in value


def dump(view: View) -> dict[str, list[Any]]:
    """The view as JSON values, for storage."""
    return {name: _row(held) for name, held in view.items()}


def _row(held: Held) -> list[Any]:
    """Without what is left at its default, as it is for most: the row is parsed and printed with every event."""
    written_once = held.before or held.rewrites or held.rewritten_to is not None or held.turns or held.wrote_at
    return list(astuple(held)) if written_once else [held.value, held.ours, held.written, held.order]


def load(stored: Mapping[str, list[Any]]) -> dict[str, Held]:
    """The inverse of `dump`."""
    return {name: Held(*row) for name, row in stored.items()}
