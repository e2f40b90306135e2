"""Decide: which fields of an event its system really changed, and which only came back or were touched along.

A timestamp cannot tell a changed field from a touched record, so an event is held against the view (what the system
was known to hold) and against open intents (what we are writing). Only changed fields become claims.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from hub.event import Event
from hub.values import REFERENCE, Value, is_reference, micros
from hub.view import MAX_TURNS, Held, View, echoes, invalid, is_consent, observed, rewritten, taken_turns, unchanged
from hub.write import Intent


@dataclass(frozen=True, slots=True)
class Decision:
    """What an event says and does not say.

    said        canonical fields that the system changed
    echoed      fields that are our own write coming back
    view        the view afterwards
    intents     keys of the intents that this event used up
    near_miss   whether our write came back with other content: a real edit, worth counting
    bases       what was known to be held of the changed fields before
    contested   changed fields that the system has soon put other content into so often, after each of our writes, that
                writing them once more would go on for ever
    """

    said: dict[str, Value]
    echoed: tuple[str, ...]
    view: dict[str, Held]
    intents: tuple[str, ...] = ()
    near_miss: bool = False
    bases: Mapping[str, Value] = field(default_factory=dict)
    contested: tuple[str, ...] = ()


def decide(
    event: Event,
    values: Mapping[str, Value],
    view: View,
    intents: Sequence[Intent],
    unheard: Collection[str] = (),
) -> Decision:
    """Hold an event's values against the view and the open intents of its record.

    `unheard` fields are only written to this system, never believed from it: they are seen, and not said.
    """
    marked, order = event.intent is not None, event.order
    mine = [i for i in intents if not marked or i.key == event.intent]  # a mark names the one that it is the echo of
    said: dict[str, Value] = {}
    echoed: list[str] = []
    after = dict(view)
    writing = {name for i in mine for name in i.values}
    for name, reported in values.items():
        held = view.get(name)
        if plain(held, reported, name in writing):
            if held is None:  # at first sight
                after[name] = Held(reported, order=order)
                if reported is not None and name not in unheard:
                    said[name] = reported
            elif held.order < order:  # the record was touched, and this field was not
                after[name] = replace(held, order=order)
            continue
        value = nearest(held, reported)
        written = _written(mine, marked, name, value) if name in writing else []
        verdict = _judge(event, held, value, marked, bool(written))
        if verdict == "said" and name not in unheard:
            said[name] = value
        if verdict == "echo":
            echoed.append(name)
            known = held.written if held is not None and held.ours else value
            after[name] = _ours(held, value, written[-1] if written else known, order)
        elif not _stale(event, held):
            answered = verdict == "said" and (name in writing or (held or NOTHING).ours) and not is_consent(value)
            after[name] = _told(event, held, value, verdict, answered)
    if not view and not mine:  # a record at first sight
        return Decision(said, (), after)
    back = tuple(i.key for i in mine if set(i.values) <= values.keys() and (marked or _came_back(i, values)))
    answers = [name for name in said if name in writing or (view.get(name) or NOTHING).ours]
    bases = {name: view[name].value for name in said if name in view and not invalid(view[name].value)}
    contested = tuple(name for name in answers if after[name].turns >= MAX_TURNS)
    return Decision(said, tuple(echoed), after, back, bool(answers) and not marked, bases, contested)


def plain(held: Held | None, reported: Value, writing: bool) -> bool:
    """Whether nothing needs weighing, as of most fields: what is neither a consent nor a reference, and is seen for the
    first time without the hub writing it, or is just what the system itself brought there."""
    if isinstance(reported, dict):
        return False
    return not writing if held is None else not held.ours and bool(held.value == reported)


NOTHING = Held(None)


def _written(intents: Sequence[Intent], marked: bool, name: str, value: Value) -> list[Value]:
    """What we are writing to this field that `value` may be the echo of. A mark tells that it is one: of what, where a
    create was tried more than once with different contents, the value says; else it came from none that we know."""
    mine = [i.values[name] for i in intents if name in i.values]
    alike = [written for written in mine if echoes(written, value)]
    if alike or not marked:
        return alike
    return mine if all(written == mine[0] for written in mine) else [value]


def _judge(event: Event, held: Held | None, value: Value, marked: bool, written: bool) -> str:
    if held is None and value is None:
        return "seen"  # empty at first sight is not emptied: it must not erase what others know
    if held is not None and not marked and _opted_out_again(event, held, value):
        return "said"
    if held is not None and _stale(event, held) and not unchanged(held, value):
        return "said" if not marked and _late_news(held, value) else "same"
    if held is not None and unchanged(held, value):
        return "echo" if held.ours and (marked or event.order == held.order) else "same"
    return "echo" if written or rewritten(held, value) else "said"


def _opted_out_again(event: Event, held: Held, value: Value) -> bool:
    """Whether a person who had opted out has done so anew: the opt-out has another date, or none any more, and where it is
    our write that stands there, in a later version than that. Where a system dates an opt-out by its record's clock, the
    date moves whenever the record is touched, and says nothing."""
    known = held.value
    if not (is_consent(known) and is_consent(value) and known["status"] == value["status"] == "out"):
        return False
    if value["at"] == known["at"] or event.at == micros(value["at"]) or (held.ours and event.order <= held.order):
        return False
    return (micros(value["at"]) or event.at) > micros(known["at"])


def _stale(event: Event, held: Held | None) -> bool:
    """Whether the report is older than what is known of this field, by the system's own clock."""
    return held is not None and event.order < held.order


def _late_news(held: Held, value: Value) -> bool:
    """Whether an old report still says something: an edit that our write went over, or consent, which has dates of its
    own. Any other is only the past of what the system told since."""
    return value not in held.before if held.ours else is_consent(value)


def _told(event: Event, held: Held | None, value: Value, verdict: str, answered: bool) -> Held:
    if held is None or verdict != "same":
        return observed(held, value, event.order, taken_turns(held, answered, event.observed_at))
    return held if held.ours else replace(held, order=event.order)


def _ours(held: Held | None, value: Value, written: Value, order: int) -> Held:
    base = held or NOTHING
    return replace(base, value=value, ours=True, written=written, order=max(order, base.order))


def _came_back(intent: Intent, values: Mapping[str, Value]) -> bool:
    return all(echoes(written, values[name]) for name, written in intent.values.items())


def nearest(held: Held | None, value: Value) -> Value:
    """Of several references, the one we know; the system's list order says nothing."""
    if not is_reference(value) or "also" not in value:
        return value
    one = strip(value)
    known = held.value["id"] if held is not None and is_reference(held.value) else None
    return one | {"id": known} if known in value["also"] else one


def strip(value: Value) -> Value:
    """A reference without the others that the system listed beside it; any other value as it is."""
    return {name: value[name] for name in REFERENCE} if is_reference(value) else value
