"""Rereading: the history of every record read once more by other mappings, from the log, with no call of any system.

What an event says is decided anew only for fields that the new mapping reads otherwise; of all others what was decided
once stands. So a change of a mapping changes nothing but what follows from it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from hub import fold
from hub.decide import decide, nearest, strip
from hub.errors import Reject
from hub.event import Event, from_avro
from hub.fold import DELETED, Claim, claims_of, field_of
from hub.identity import Key, RecordId
from hub.mapping import ObjectMap, decode, encode
from hub.model import Model
from hub.projection import STEWARD
from hub.values import InvalidValue, Value
from hub.view import INVALID, Held
from streams.context import Context
from streams.decided import Decided, read_decided, through
from streams.log import UnknownTopicError
from streams.project import expand
from streams.reading import Reading, read
from streams.records import Record
from streams.topics import changes_topic
from streams.workspace import RecordState

ALL = "*"
"""In place of a field: all of them, for the record was not read at all before."""


Unsaid = Mapping[tuple[str, RecordId], tuple[frozenset[str], bool]]
"""(event id, record) -> fields that are no claims, and whether the event answered a write of the hub."""


@dataclass(slots=True)
class Reread:
    """records    every record as it is under the new configuration; those that it changes are new objects
    changed    the records whose claims, views or keys are others than live
    unsaid     (event id, record) -> fields that are no claims under the new configuration, where that is new
    now, past  keys that each record holds, and held at any time, under the old and under the new configuration
    reasons    why each record was linked
    events     how many events were read
    fixed      what is taken for decided anew, where nothing is to be decided"""

    records: dict[RecordId, RecordState]
    changed: set[RecordId] = field(default_factory=set)
    unsaid: dict[tuple[str, RecordId], tuple[frozenset[str], bool]] = field(default_factory=dict)
    now: tuple[dict[RecordId, frozenset[Key]], dict[RecordId, frozenset[Key]]] = field(default_factory=lambda: ({}, {}))
    past: tuple[dict[RecordId, set[Key]], dict[RecordId, set[Key]]] = field(default_factory=lambda: ({}, {}))
    reasons: Mapping[RecordId, str] = field(default_factory=dict)
    events: int = 0
    fixed: Unsaid | None = None


async def reread(
    context: Context,
    old: Model,
    new: Model,
    live: Mapping[RecordId, RecordState],
    upto: Mapping[tuple[str, int], int],
    whole: bool = True,
) -> Reread:
    """Read everything up to these offsets by both models; what differs is decided and folded anew. Where it is not the
    `whole`, only the history of these records."""
    decided = await read_decided(context, None if whole else live)
    keys = None if whole else {id_[2].encode() for id_ in live}
    made = Reread(dict(live), reasons=decided.reasons)
    affected: dict[RecordId, set[str]] = {}
    async for event in _events(context, old, new, decided, upto, keys):
        made.events += 1
        for one in (one for one in expand(event) if whole or one.record in live):
            _compare(made, old, new, live, one, affected)
    tracks = _settle(made, old, new, live, affected)
    async for event in _events(context, old, new, decided, upto, {id_[2].encode() for id_ in affected}):
        _retell(made, new, event, tracks, affected, decided)
    _replace_all(made, old, new, affected, tracks)
    _rekey(made)
    return made


def reread_thing(
    old: Model,
    new: Model,
    live: Mapping[RecordId, RecordState],
    events: Sequence[Event],
    decided: Decided,
    fixed: Unsaid | None,
) -> Reread:
    """The same for one thing's records, whose events are given in the order of the log; keys aside. With `fixed`, nothing is
    decided anew: that, or else what was decided before, is what events did not say."""
    made = Reread(dict(live), fixed=fixed)
    affected: dict[RecordId, set[str]] = {}
    for one in (one for event in events for one in expand(event)):
        _compare(made, old, new, live, one, affected)
    tracks = _settle(made, old, new, live, affected)
    keys = {id_[2] for id_ in affected}
    for event in (event for event in events if event.external_id in keys):
        _retell(made, new, event, tracks, affected, decided)
    _replace_all(made, old, new, affected, tracks)
    return made


async def _events(
    context: Context,
    old: Model,
    new: Model,
    decided: Decided,
    upto: Mapping[tuple[str, int], int],
    keys: Iterable[bytes] | None = None,
) -> Any:
    """Every event that was processed, once, partition by partition."""
    topics = {changes_topic(*place).name for place in (*old.mappings, *new.mappings)}
    seen: set[str] = set()
    for (topic, partition), end in sorted(upto.items()):
        if topic not in topics:
            continue
        try:
            async for record in through(context, topic, partition, end, keys):
                if (event := _event(context, decided, record)) and event.event_id not in seen:
                    seen.add(event.event_id)
                    yield event
        except UnknownTopicError:
            continue


def _event(context: Context, decided: Decided, record: Record) -> Event | None:
    if (record.topic, record.partition, record.offset) in decided.parked:
        return None
    return from_avro(context.codec.decode(record.value)[1])


def _compare(
    made: Reread,
    old: Model,
    new: Model,
    live: Mapping[RecordId, RecordState],
    event: Event,
    affected: dict[RecordId, set[str]],
) -> None:
    """Note which fields of an event's record are read otherwise, and which keys it holds under either model."""
    before, after = (_reading(made, place, model, event) for place, model in enumerate((old, new)))
    differing = _differing(before, after)
    if before is None and after is not None:
        differing |= {ALL, DELETED}
    if after is not None and event.record in live:
        differing |= set(_misread(live[event.record].claims, event, after))
    if differing:
        affected.setdefault(event.record, set()).update(differing)


def _reading(made: Reread, place: int, model: Model, event: Event) -> Reading | None:
    now, past = made.now[place], made.past[place]
    state = RecordState(event.record, "", keys=now.get(event.record, frozenset()))
    reading = read(model, event, state)
    if reading is not None:
        now[event.record] = reading.keys
        past.setdefault(event.record, set()).update(reading.keys)
    return reading


def _differing(before: Reading | None, after: Reading | None) -> set[str]:
    """Fields that two readings of one event tell otherwise."""
    if before is None and after is None:
        return set()
    left, right = _told(before), _told(after)
    return {name for name in left.keys() | right.keys() if left.get(name, ALL) != right.get(name, ALL)}


def _told(reading: Reading | None) -> dict[str, Any]:
    if reading is None:
        return {}
    unheard, event = reading.unheard, reading.event
    told: dict[str, Any] = {n: (v, n in unheard) for n, v in reading.values.items()}
    told |= {name: (INVALID, str(why)) for name, (_, why) in reading.invalid.items()}
    return told if event.op != "delete" else {}


def _misread(claims: Mapping[str, Claim], event: Event, reading: Reading) -> Iterator[str]:
    """Fields whose claim by this event has another value than the event gives today: the code has changed since."""
    for name, claim in claims.items():
        if claim.clock.event_id != event.event_id or field_of(name) == DELETED:
            continue
        told = reading.values.get(field_of(name), claim.value)
        if nearest(Held(claim.value), told) != claim.value and strip(told) != claim.value:
            yield field_of(name)


def _reworded(old: ObjectMap | None, new: ObjectMap | None, state: RecordState) -> set[str]:
    """Fields that the hub wrote and that the new mapping reads otherwise, whether or not an event has told of them yet."""
    if old is None or new is None:
        return set()
    ours = {name: held.value for name, held in state.view.items() if held.ours}
    return {n for n, value in ours.items() if translated(old, old, n, value) != translated(old, new, n, value)}


def _settle(
    made: Reread, old: Model, new: Model, live: Mapping[RecordId, RecordState], affected: dict[RecordId, set[str]]
) -> dict[RecordId, "_Track"]:
    """After the first reading: which records' histories are to be told anew, each from its beginning."""
    for id_, state in live.items():
        if names := _reworded(old.mapping(*id_[:2]), new.mapping(*id_[:2]), state):
            affected.setdefault(id_, set()).update(names)
    _forget_unmapped(made, new)
    return {id_: _Track(RecordState(id_, "")) for id_ in affected}


def _forget_unmapped(made: Reread, new: Model) -> None:
    """What nothing reads any more claims nothing."""
    for id_, state in made.records.items():
        if id_[0] != STEWARD and new.mapping(*id_[:2]) is None and state.claims:
            made.records[id_] = replace(state, claims={})
            made.changed.add(id_)


@dataclass(slots=True)
class _Track:
    """A record on its way through its history once more."""

    state: RecordState
    natives: dict[str, Any] = field(default_factory=dict)
    last_event: str = ""


def _retell(
    made: Reread,
    new: Model,
    event: Event,
    tracks: Mapping[RecordId, _Track],
    affected: Mapping[RecordId, set[str]],
    decided: Decided,
) -> None:
    """Decide and fold an event anew for each record that it speaks of, as far as its affected fields go."""
    for one in expand(event):
        if one.record in affected:
            _retell_one(made, new, one, tracks[one.record], affected[one.record], decided)


def _retell_one(made: Reread, new: Model, event: Event, track: _Track, affected: set[str], decided: Decided) -> None:
    reading = read(new, event, track.state)
    track.last_event = event.event_id
    if reading is None:
        return
    if event.op == "delete":
        track.state.claims = fold.fold(track.state.claims, claims_of({DELETED: True}, event.at, event.clock))
        return
    track.natives |= event.fields()
    recorded, echo = decided.unsaid.get((event.event_id, event.external_id), (frozenset(), False))
    values = {n: v for n, v in reading.values.items() if n in affected or ALL in affected}
    said = _said(event, reading, values, track, recorded if echo else frozenset())
    if made.fixed is not None:
        unsaid, _ = made.fixed.get((event.event_id, event.record), (recorded, echo))
        said = {name: value for name, value in values.items() if name not in unsaid}
    told = {DELETED: False} | {name: strip(value) for name, value in said.items()}
    track.state.claims = fold.fold(track.state.claims, claims_of(told, event.at, event.clock))
    unsaid = frozenset(values) - frozenset(said) | (recorded - frozenset(values))
    if unsaid & reading.values.keys() != recorded & reading.values.keys():
        made.unsaid[event.event_id, event.record] = (unsaid, echo)


def _said(
    event: Event, reading: Reading, values: Mapping[str, Value], track: _Track, echoed: frozenset[str]
) -> dict[str, Value]:
    """The fields that the system changed. What came back of the hub's own writes stays that, however it is read."""
    own = {name: value for name, value in values.items() if name in echoed}
    rest = {name: value for name, value in values.items() if name not in echoed}
    decision = decide(event, rest, track.state.view, (), reading.unheard)
    order = event.clock.order
    track.state.view = decision.view | {n: Held(v, ours=True, written=v, order=order) for n, v in own.items()}
    track.state.view |= {n: Held({INVALID: str(raw)[:500]}, order=order) for n, (raw, _) in reading.invalid.items()}
    return decision.said


def _replace_all(
    made: Reread, old: Model, new: Model, affected: Mapping[RecordId, set[str]], tracks: Mapping[RecordId, _Track]
) -> None:
    for id_, names in affected.items():
        _replace(made, old, new, id_, names, tracks[id_])


def _replace(made: Reread, old: Model, new: Model, id_: RecordId, names: set[str], track: _Track) -> None:
    """Put what was told anew in place of what the record claims and holds in these fields."""
    mapping = new.mapping(*id_[:2])
    if mapping is None:
        return
    live = made.records.get(id_) or RecordState(id_, mapping.entity.name, last_event=track.last_event)
    every = ALL in names

    def mine(name: str) -> bool:
        return every or field_of(name) in names

    kept = {name: claim for name, claim in live.claims.items() if not mine(name)}
    claims = kept | {name: claim for name, claim in track.state.claims.items() if mine(name)}
    view = {name: held for name, held in live.view.items() if name == DELETED or not mine(name)}
    view |= _views(old.mapping(*id_[:2]), mapping, live, names, track)
    gone = bool(claims[DELETED].value) if every and DELETED in claims else live.gone
    after = replace(live, claims=claims, view=view, gone=gone)
    if after != live:
        made.records[id_] = after
        made.changed.add(id_)


def _views(old: ObjectMap | None, new: ObjectMap, live: RecordState, names: set[str], track: _Track) -> dict[str, Held]:
    """What the record holds of these fields in the new mapping's terms: as its events tell, and as the hub wrote since."""
    seen = {n: h for n, h in track.state.view.items() if n in names or ALL in names}
    if old is None:
        return seen
    told, tells = decode(old, track.natives).values, decode(new, track.natives).values
    for name, held in live.view.items():
        if not held.ours or (name not in names and ALL not in names):
            continue
        value = tells.get(name) if held.value == told.get(name) else translated(old, new, name, held.value)
        written = translated(old, new, name, held.written)
        if value is not None and written is not None:
            before = [b for b in (translated(old, new, name, one) for one in held.before) if b is not None]
            seen[name] = msgspec.structs.replace(held, value=value, written=written, before=before)
    return seen


def translated(old: ObjectMap, new: ObjectMap, name: str, value: Value) -> Value:
    """A value that the hub wrote by one mapping, as another one reads it; None where it does not."""
    if value is None or name not in old.entity.fields or name not in new.entity.fields:
        return None
    try:
        natives = encode(old, {name: value})
        return decode(replace(new, constants={}), natives).values.get(name)
    except (InvalidValue, Reject, LookupError, TypeError, ValueError, AttributeError):
        return None  # the old mapping could not write such a value at all


def _rekey(made: Reread) -> None:
    """Records whose keys the new configuration reads otherwise hold the new ones."""
    before, after = made.now
    for id_ in after.keys() & made.records.keys():
        if after[id_] != before.get(id_, frozenset()):
            made.records[id_] = replace(made.records[id_], keys=after[id_])
            made.changed.add(id_)
