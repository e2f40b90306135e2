"""Regrouping: which records are one thing, decided anew where match settings or the fields they look at have changed.

As little as can be changes: records that the old settings would not have tied either stay together by whatever tied
them; records that nothing ties any more are set apart; golden records that share a key now are merged, unless a person
has said that they are two. The same golden ids come back where a merge is undone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hub.entity import Entity
from hub.identity import IdentityEvent, Key, RecordId, golden_id, root
from hub.model import Model
from hub.projection import STEWARD
from streams.linking import united
from streams.rereading import Reread
from streams.workspace import RecordState

CAUSE = "configuration"
Apart = Sequence[tuple[str, str]]


@dataclass(slots=True)
class Regrouped:
    """decisions   links, moves, merges and unmerges, in the order in which they are to be read
    merged      golden id -> the one that it is part of now (None: it lives), for those where that changed
    split       golden id -> those that its records were set apart into"""

    decisions: list[IdentityEvent] = field(default_factory=list)
    merged: dict[str, str | None] = field(default_factory=dict)
    split: dict[str, list[str]] = field(default_factory=dict)


@dataclass(slots=True)
class _Work:
    made: Reread
    old: Model
    new: Model
    merged: dict[str, str | None]
    used: set[str]
    found: Regrouped = field(default_factory=Regrouped)

    def root(self, id_: str) -> str:
        """The golden id under which this one lives."""
        return root(self.merged, id_)

    def decide(self, kind: str, id_: str, entity: str, **more: object) -> None:
        """Note a decision, and what follows from it for later ones."""
        said = IdentityEvent(kind, id_, entity, CAUSE, **more)  # type: ignore[arg-type]
        self.found.decisions.append(said)
        if said.kind in ("merge", "unmerge"):
            self.merged[id_] = self.found.merged[id_] = said.into if said.kind == "merge" else None


def regroup(made: Reread, old: Model, new: Model, merged: Mapping[str, str | None], apart: Apart) -> Regrouped:
    """Decide, and give the records in `made` their golden ids. `merged` are all golden ids there ever were."""
    work = _Work(made, old, new, dict(merged), set(merged))
    for entity in new.entities.values():
        mine = _records(made, new, entity)
        strangers = sorted(id_ for id_ in mine if not made.records[id_].golden_id or _other(made, new, id_))
        if not (strangers or _concerned(made, old.entities.get(entity.name), entity, mine)):
            continue
        settled = [id_ for id_ in mine if id_ not in set(strangers)]
        if entity.name in old.entities:
            _split(work, entity, settled)
        _link(work, entity, strangers, settled)
        _merge(work, entity, mine, apart)
    _follow(work)
    return work.found


def _follow(work: _Work) -> None:
    """Pins go with the golden id that they were given to."""
    for id_, state in work.made.records.items():
        if work.found.merged and id_[0] == STEWARD and work.root(state.home) != state.golden_id:
            work.made.records[id_] = replace(state, golden_id=work.root(state.home))
            work.made.changed.add(id_)


def _records(made: Reread, new: Model, entity: Entity) -> list[RecordId]:
    """The records of an entity that count: read by its mappings, and not ended before they were seen."""
    return sorted(
        id_
        for id_, state in made.records.items()
        if id_[0] != STEWARD
        and (mapping := new.mapping(*id_[:2])) is not None
        and mapping.entity.name == entity.name
        and (state.golden_id or not state.gone)
    )


def _other(made: Reread, new: Model, id_: RecordId) -> bool:
    mapping = new.mapping(*id_[:2])
    return mapping is not None and made.records[id_].entity != mapping.entity.name


def _concerned(made: Reread, old: Entity | None, new: Entity, mine: Sequence[RecordId]) -> bool:
    if old is None or (old.match, old.merge) != (new.match, new.merge):
        return True
    before, after = made.past
    return any(before.get(id_) != after.get(id_) for id_ in mine)


def _split(work: _Work, entity: Entity, mine: Sequence[RecordId]) -> None:
    """Set apart what the new settings do not tie any more."""
    groups: dict[str, list[RecordId]] = {}
    for id_ in mine:
        groups.setdefault(work.made.records[id_].golden_id, []).append(id_)
    for golden, ids in sorted(groups.items()):
        parts = _parts(work, entity, ids) if len(ids) > 1 else []
        if len(parts) > 1:
            _set_apart(work, entity, golden, parts)


def _parts(work: _Work, entity: Entity, ids: Sequence[RecordId]) -> list[list[RecordId]]:
    """The records in groups that something still ties: a key held at some time, how they came to be, or something that
    the old settings do not explain either."""
    before, after = work.made.past
    firm = _firm(work, entity, ids)
    olds = _tied(ids, [*_by_key(ids, before), *firm])
    unexplained = [[group[0] for group in olds]]
    return _tied(ids, [*_by_key(ids, after), *firm, *unexplained])


def _firm(work: _Work, entity: Entity, ids: Sequence[RecordId]) -> list[list[RecordId]]:
    """Records that the hub created, tied to what they were created for."""
    by_home: dict[str, list[RecordId]] = {}
    for id_ in ids:
        by_home.setdefault(work.made.records[id_].home, []).append(id_)
    firm = []
    for home, some in by_home.items():
        seeds = [i for i in some if golden_id(entity.name, i) == home] or some[:1]
        firm += [[seeds[0], i] for i in some if work.made.reasons.get(i, "").split("=")[0] in ("created", "intent")]
    return firm


def _by_key(ids: Sequence[RecordId], past: Mapping[RecordId, set[Key]]) -> list[list[RecordId]]:
    holders: dict[Key, list[RecordId]] = {}
    for id_ in ids:
        for key in past.get(id_, ()):
            holders.setdefault(key, []).append(id_)
    return list(holders.values())


def _tied(ids: Sequence[RecordId], ties: Iterable[Sequence[RecordId]]) -> list[list[RecordId]]:
    """The groups that these ties make of the records, each in order."""
    of = {id_: [id_] for id_ in ids}
    for tie in ties:
        for id_ in tie[1:]:
            left, right = of[tie[0]], of[id_]
            if left is not right:
                left += right
                of |= dict.fromkeys(right, left)
    return sorted(sorted(group) for group in {id(group): group for group in of.values()}.values())


def _set_apart(work: _Work, entity: Entity, golden: str, parts: list[list[RecordId]]) -> None:
    """One part keeps the golden id; the others get back those that they had before a merge, or new ones."""
    records = work.made.records
    keeper = next((p for p in parts if any(records[i].home == golden for i in p)), parts[0])
    named: list[tuple[str, list[RecordId]]] = [(golden, keeper)]
    for part in (p for p in parts if p is not keeper):
        homes = {records[i].home for i in part} - {golden}
        elsewhere = {records[i].home for p in parts if p is not part for i in p}
        id_ = min(homes - elsewhere, default="") or _mint(work, entity.name, part[0])
        if work.merged.get(id_):
            work.decide("unmerge", id_, entity.name, into=golden, reason="match settings")
        work.merged.setdefault(id_, None)
        named.append((id_, part))
    work.found.split[golden] = [id_ for id_, _ in named[1:]]
    for id_, part in named:
        _move(work, entity, id_, part)


def _move(work: _Work, entity: Entity, golden: str, part: Sequence[RecordId]) -> None:
    for id_ in part:
        state = work.made.records[id_]
        if work.root(state.home) != golden:
            work.decide("move", golden, entity.name, record=id_, reason="match settings")
            state = replace(state, home=golden)
        if (state.home, state.golden_id) != (work.made.records[id_].home, golden):
            work.made.records[id_] = replace(state, golden_id=golden)
            work.made.changed.add(id_)


def _mint(work: _Work, entity: str, record: RecordId) -> str:
    generation = 0
    while (id_ := golden_id(entity, record, generation)) in work.used:
        generation += 1
    work.used.add(id_)
    return id_


def _link(work: _Work, entity: Entity, strangers: Sequence[RecordId], settled: Sequence[RecordId]) -> None:
    """Records that this entity did not have before: part of what shares a key with them, else things of their own."""
    records, (_, keys) = work.made.records, work.made.now
    owner = {key: records[id_].golden_id for id_ in settled for key in records[id_].keys}
    for id_ in strangers:
        held = sorted(keys.get(id_, records[id_].keys))
        known = next((owner[key] for key in held if key in owner), "")
        golden = known or _mint(work, entity.name, id_)
        kind = "move" if records[id_].home else "link"
        work.decide(kind, golden, entity.name, record=id_, reason="read from the log")
        work.merged.setdefault(golden, None)
        fresh = {"entity": entity.name, "golden_id": golden, "home": golden, "keys": frozenset(held)}
        records[id_] = replace(records[id_], **fresh)  # type: ignore[arg-type]
        work.made.changed.add(id_)
        owner |= {key: golden for key in held if key not in owner}


def _merge(work: _Work, entity: Entity, mine: Sequence[RecordId], apart: Apart) -> None:
    """Merge what shares a key now, as it had been merged when the next change came."""
    records = work.made.records
    if entity.merge != "auto":
        return
    holders: dict[Key, set[str]] = {}
    made_of: dict[str, frozenset[str]] = {}
    for id_ in mine:
        state: RecordState = records[id_]
        made_of[state.golden_id] = made_of.get(state.golden_id, frozenset({state.golden_id})) | {state.home}
        for key in state.keys:
            holders.setdefault(key, set()).add(state.golden_id)
    same = {frozenset((min(some), other)) for some in holders.values() for other in some if other != min(some)}
    into = united(same, made_of, apart)
    for loser, lives in sorted(into.items()):
        work.decide("merge", loser, entity.name, into=lives, reason="shared key")
    for id_ in mine:
        if records[id_].golden_id in into:
            records[id_] = replace(records[id_], golden_id=into[records[id_].golden_id])
            work.made.changed.add(id_)
