"""What the three systems must hold in the end, computed naively from what they held at first and what was edited since.

It judges end-to-end runs, so it shares nothing with the hub but the reading of single values (`hub.values.parse`). It
is written from the meaning of hub/edge/demo/hub.yaml: every record is read whole, records are put together by address,
domain and foreign ids, and each field is chosen by its rule. Where two claims are equally good (same rank, same
instant), either may be chosen. `tests.oracle_judge` holds the systems against it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hub.edge.demo.data import World
from hub.values import InvalidValue, parse
from tests.oracle_maps import (
    CRM_LIFECYCLES,
    CRM_STAGES,
    DELETES,
    HUBSPOT_INDUSTRIES,
    KINDS,
    MAPS,
    ONLY_TOLD,
    OPT_IN_FROM,
    ORDER,
    REFERS,
    ROLES,
    RULES,
    TYPES,
)

Key = tuple[str, str, str]
Natives = dict[str, Any]


@dataclass(frozen=True)
class Edit:
    """A person's edit of one record: the native fields changed (in World's form, consent with its time), or None for a
    deletion. A record that the hub made is not known here; `of` then names one that is the same thing.

    A Mailchimp member's id is the address by which the world (or `of`'s edit before) knows it, in lower case.
    """

    system: str
    object: str
    id: str
    at: datetime
    fields: Natives | None
    of: Key | None = None


@dataclass
class Record:
    """One record as a system holds it: native fields, and when the system says that it was changed."""

    key: Key
    natives: Natives
    at: datetime


@dataclass
class Thing:
    """One golden record. `values` has what may be chosen for each field; a field without an entry is unknown.

    A reference's value is the `name` of the thing referred to, or the key of a record that nobody knows. `left` says
    that the person once unsubscribed in Mailchimp, or was cleaned there.
    """

    entity: str
    records: list[Key]
    values: dict[str, list[Any]] = field(default_factory=dict)
    gone: bool = False
    left: bool = False
    detached: set[str] = field(default_factory=set)

    @property
    def name(self) -> Key:
        """What identifies it: the first of its records."""
        return min(self.records)

    def one(self, name: str) -> Any:
        """The value of a field, any of those that may be chosen; None where it is unknown."""
        return self.values.get(name, [None])[0]


# Reading


def records(world: World) -> Iterator[Record]:
    """Every record of a world, with its native fields; what HubSpot and Mailchimp leave out is empty."""
    for table, rows in world.crm.items():
        for row in rows:
            yield Record(("crm", table, str(row["id"])), row, row["updated_at"])
    yield from _hubspot(world.hubspot)
    yield from _mailchimp(world.mailchimp)


def _hubspot(seed: Natives) -> Iterator[Record]:
    linked: dict[tuple[str, str], Natives] = defaultdict(lambda: defaultdict(list))
    for association in seed.get("associations", ()):
        (object_, id_), (other, other_id) = association["from"], association["to"]
        linked[object_, str(id_)]["@" + other].append(str(other_id))
        linked[other, str(other_id)]["@" + object_].append(str(id_))
    for (system, object_), (_, names) in MAPS.items():
        for record in seed.get(object_, ()) if system == "hubspot" else ():
            id_ = str(record["id"])
            natives = dict.fromkeys(names.values()) | record["properties"] | linked[object_, id_]
            yield Record((system, object_, id_), natives, instant(record["updatedAt"]))


def _mailchimp(seed: Natives) -> Iterator[Record]:
    members = seed["lists"][0]["members"]
    for member in members:
        if member["status"] == "archived":
            continue
        merge = dict.fromkeys(("FNAME", "LNAME", "PHONE")) | member["merge_fields"]
        natives = {**member, **merge, "tags": member["tags"] or None}
        yield Record(
            ("mailchimp", "members", member["email_address"].lower()), natives, instant(member["last_changed"])
        )
    for campaign in seed.get("campaigns", ()):
        sent = [{"email": m["email_address"], "action": "sent", "at": campaign["send_time"]}
                for m in members if m["status"] == "subscribed"]  # fmt: skip
        for act in [*sent, *campaign["activity"]]:
            id_ = f"{campaign['id']} {act['email']} {act['action']} {act['at']}"
            natives = {"subject": f"{campaign['title']}: {act['action']}", "occurred_at": act["at"],
                       "detail": act.get("url"), "@members": [act["email"].lower()]}  # fmt: skip
            yield Record(("mailchimp", "activity", id_), natives, instant(act["at"]))


def instant(text: str) -> datetime:
    """A vendor's instant."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def read(record: Record) -> dict[str, Any]:
    """The canonical values of those native fields that are there and valid."""
    system, object_, _ = record.key
    entity, names = MAPS[system, object_]
    values: dict[str, Any] = {}
    for name, native in names.items():
        if native in record.natives:
            try:
                values[name] = _value(record, TYPES[entity][name], name, record.natives.get(native))
            except InvalidValue:
                continue
    if system == "mailchimp" and object_ == "activity":
        return values | {"kind": "email"}
    return values | {"kind": KINDS[object_]} if object_ in KINDS else values


def _value(record: Record, kind: str, name: str, native: Any) -> Any:
    system = record.key[0]
    if kind == "ref":
        return _reference(record, name, native)
    if kind == "consent":
        return _consent(record)
    options = {("crm", "stage"): CRM_STAGES, ("crm", "lifecycle"): CRM_LIFECYCLES,
               ("hubspot", "industry"): HUBSPOT_INDUSTRIES}.get((system, name), {})  # fmt: skip
    if system == "hubspot" and native is not None:
        native = native.lower() if name == "status" else int(native) // 1000 if name == "duration_seconds" else native
    return parse(kind, options.get(native, native) if isinstance(native, str) else native, "US")


def _reference(record: Record, name: str, native: Any) -> Key | None:
    ids = native if isinstance(native, list) else [native] if native is not None else []
    if not ids:
        return None
    system = record.key[0]
    return (system, "members" if system == "mailchimp" else REFERS[name], str(ids[0]))


def _consent(record: Record) -> tuple[str, datetime | None] | None:
    """What was said and when; no time for one that is not told."""
    natives = record.natives
    if record.key[0] == "crm":
        return (natives["email_consent"], natives.get("consent_at")) if natives["email_consent"] else None
    if record.key[0] == "hubspot":
        status, at = natives.get("hub_consent"), natives.get("hub_consent_at")
        if natives.get("hs_email_optout") == "true":
            return ("out", instant(at) if at and status == "out" else None)
        return (status, instant(at) if at else None) if status else None
    if natives["status"] == "subscribed":
        return ("in", instant(natives["timestamp_opt"]) if natives.get("timestamp_opt") else None)
    return ("out", record.at) if natives["status"] in ("unsubscribed", "cleaned") else None


# Putting together


class _Union:
    """Which keys belong together."""

    def __init__(self) -> None:
        self._parent: dict[Any, Any] = {}

    def root(self, key: Any) -> Any:
        while (up := self._parent.setdefault(key, key)) != key:
            key = up
        return key

    def join(self, one: Any, other: Any) -> None:
        self._parent[self.root(one)] = self.root(other)


def _keys(record: Record, values: dict[str, Any]) -> Iterator[Any]:
    entity = MAPS[record.key[:2]][0]
    if entity == "contact" and values.get("email") and values["email"].split("@")[0] not in ROLES:
        yield ("email", values["email"])
    if entity == "company" and values.get("domain"):
        yield ("domain", values["domain"])
    if record.natives.get("external_id"):
        yield ("crm", record.key[1], record.natives["external_id"].strip())


@dataclass
class Claim:
    """What one record says of one field, and since when."""

    key: Key
    value: Any
    at: datetime


def expected(world: World, edits: Iterable[Edit] = (), crm_read_at: datetime | None = None) -> list[Thing]:
    """The golden records after everything has come to rest.

    A row that the CRM held at first is as old as its updated_at says; where the hub is not told of that column, as
    old as the moment at which it was read (`crm_read_at`).
    """
    union, claims, deleted = _Union(), defaultdict[tuple[Key, str], list[Claim]](list), set[Key]()
    seen: dict[Key, None] = {}
    changes = [Record((e.system, e.object, e.id), e.fields or {}, e.at) for e in edits if e.fields is not None]
    found = list(records(world))
    for record in found:
        record.at = crm_read_at if crm_read_at and record.key[0] == "crm" else record.at
    for record in [*found, *changes]:
        first = record.key not in seen  # what is empty at first sight was not emptied: it says nothing
        seen[record.key] = None
        values = read(record)
        for key in _keys(record, values):
            union.join(record.key, key)
        for name, value in values.items():
            if (*record.key[:2], name) not in ONLY_TOLD and not (first and value is None):
                claims[record.key, name].append(Claim(record.key, value, record.at))
    for edit in edits:
        key = (edit.system, edit.object, edit.id)
        seen[key] = None
        if edit.of:
            union.join(key, edit.of)
        if edit.fields is None:
            deleted.add(key)
    return _things(seen, union, claims, deleted)


def _things(
    seen: Iterable[Key], union: _Union, claims: dict[tuple[Key, str], list[Claim]], deleted: set[Key]
) -> list[Thing]:
    together: dict[Any, Thing] = {}
    for key in seen:
        entity = MAPS[key[:2]][0]
        together.setdefault((entity, union.root(key)), Thing(entity, [])).records.append(key)
    home = {key: thing.name for thing in together.values() for key in thing.records}
    for thing in together.values():
        _decide(thing, claims, deleted)
        for name, values in thing.values.items():
            if TYPES[thing.entity][name] == "ref":
                thing.values[name] = [home.get(value, value) for value in values]
    return list(together.values())


def _decide(thing: Thing, claims: dict[tuple[Key, str], list[Claim]], deleted: set[Key]) -> None:
    for system in {key[0] for key in thing.records}:
        if all(key in deleted for key in thing.records if key[0] == system):
            thing.gone |= DELETES[system] == "propagate"
            thing.detached.add(system)
    heard = [key for key in thing.records if key not in deleted or DELETES[key[0]] == "ignore"]
    winners: dict[str, list[Claim]] = {}
    for name in sorted(TYPES[thing.entity], key=lambda name: "follow" in str(RULES.get((thing.entity, name)))):
        said = [claim for key in heard for claim in claims[key, name]]
        winners[name] = _winners(RULES.get((thing.entity, name), ORDER), name, said, winners)
        values = [claim.value for claim in winners[name]]
        thing.left |= name == "consent" and any(
            c.key[0] == "mailchimp" and c.value and c.value[0] == "out" for c in said
        )
        if values:
            thing.values[name] = [value for at, value in enumerate(values) if value not in values[:at]]
    if (
        thing.entity == "contact"
        and thing.one("lifecycle") is None
        and all(key[0] != "hubspot" for key in thing.records)
    ):
        thing.values["lifecycle"] = [None, "lead"]  # what HubSpot gives a new contact of which it is told nothing


def _winners(rule: str | tuple[str, ...], name: str, said: list[Claim], winners: dict[str, list[Claim]]) -> list[Claim]:
    if rule == "strictest":
        return _strictest(said)
    last = _newest_per_record(said)
    if rule == "union":
        tags = sorted({tag for claim in last for tag in claim.value or ()})
        given = any(claim.value is not None for claim in last)
        return [Claim(last[0].key, tags if given else None, last[0].at)] if last else []
    if rule == "latest":
        return _newest(last)
    if isinstance(rule, str):
        leaders = {claim.key for claim in winners[rule.removeprefix("follow ")]}
        return [claim for claim in last if claim.key in leaders]
    by_system = {system: [claim for claim in last if claim.key[0] == system] for system in rule}
    for theirs in by_system.values():
        if known := [claim for claim in theirs if claim.value is not None]:
            return _newest(known)
    return next((_newest(theirs) for theirs in by_system.values() if theirs), [])


def _newest_per_record(said: list[Claim]) -> list[Claim]:
    last: dict[Key, Claim] = {}
    for claim in said:
        if claim.key not in last or claim.at >= last[claim.key].at:
            last[claim.key] = claim
    return list(last.values())


def _newest(said: list[Claim]) -> list[Claim]:
    newest = max((claim.at for claim in said), default=None)
    return [claim for claim in said if claim.at == newest]


def _strictest(said: list[Claim]) -> list[Claim]:
    """An opt-out without a time is as old as its record, an opt-in without a time older than everything."""
    ever = datetime(1970, 1, 1, tzinfo=UTC)
    spoken = [claim for claim in said if claim.value]
    out = [Claim(c.key, "out", c.value[1] or c.at) for c in spoken if c.value[0] == "out"]
    yes = [Claim(c.key, "in", c.value[1] or ever) for c in spoken if c.value[0] == "in" and c.key[0] in OPT_IN_FROM]
    last_out, last_in = _newest(out), _newest(yes)
    if last_out and (not last_in or last_in[0].at <= last_out[0].at):
        return last_out[:1]
    return last_in[:1]
