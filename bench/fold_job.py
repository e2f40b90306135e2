"""The fold job: change events of three systems about the same people, and what their golden records must be in the end.

Every event is a `hub.Event` in Confluent format that carries all seven fields of one record of one system. The three
systems know a person by the same external id and the same e-mail address. Field by field one system is believed first.
One event in twenty is delivered a second time, one in twenty only after a newer one of its record. Of the edits, one in ten
is made where another system is believed, and so loses against it.

`golden` is the reference: a few lines that share no code with what is measured. Golden records are compared as
{e-mail address: {field: value}}.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import orjson

from hub.change import Change
from hub.event import record

SYSTEMS = ("crm", "shop", "news")
OBJECT = "contacts"
TRUTH: dict[str, tuple[str, ...]] = {
    "email": ("crm", "shop", "news"),
    "name": ("crm", "shop", "news"),
    "phone": ("crm", "news", "shop"),
    "city": ("shop", "crm", "news"),
    "company": ("shop", "news", "crm"),
    "title": ("news", "crm", "shop"),
    "tier": ("news", "shop", "crm"),
}
"""Field -> the systems in the order in which they are believed."""
START = 1_700_000_000_000_000
MILLISECOND = 1_000
SEED = 5

Golden = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Job:
    """How many deliveries, about how many people."""

    events: int = 300_000
    people: int = 50_000


@dataclass(frozen=True, slots=True)
class Report:
    """One event of the job, before it is encoded; `at` in microseconds."""

    system: str
    person: int
    at: int
    fields: Mapping[str, str]

    def event(self) -> Any:
        """The hub's envelope around it."""
        change = Change(self.system, OBJECT, str(self.person), self.fields, version=self.at, at=self.at)
        return record(change, self.at)


def deliveries(job: Job, seed: int = SEED) -> list[Report]:
    """What is on the log, in its order."""
    random, held = Random(seed), dict[tuple[str, int], int]()
    found: list[Report] = []
    for n in range(job.events):
        if found and random.random() < 0.05:
            found.append(random.choice(found))
            continue
        system, person = random.choice(SYSTEMS), random.randrange(job.people)
        before = held.get((system, person))
        fields = _edited(random, system, found[before].fields) if before is not None else _first(person)
        found.append(Report(system, person, START + n * MILLISECOND, fields))
        late = before is not None and random.random() < 0.1  # about every second event is an edit
        if before is not None and late:
            found[before], found[n] = found[n], found[before]
        held[system, person] = before if before is not None and late else n
    return found


def _first(person: int) -> dict[str, str]:
    values = {name: f"{name} of person {person}" for name in TRUTH}
    return values | {"email": f"person{person}@example.com", "phone": f"+49 30 {1_000_000 + person}"}


def _edited(random: Random, system: str, fields: Mapping[str, str]) -> dict[str, str]:
    """Two fields with new content: mostly those in which the system is believed first."""
    own = [name for name in TRUTH if TRUTH[name][0] == system and name != "email"]
    other = [name for name in TRUTH if name not in own and name != "email"]
    names = (random.choice(own if random.random() < 0.9 else other) for _ in range(2))
    return {**fields, **{name: f"{name} {random.randrange(1_000_000)}" for name in names}}


def encoded(
    reports: list[Report], encode: Callable[[str, dict[str, Any]], bytes]
) -> Iterator[tuple[str, bytes, bytes]]:
    """(system, key, framed value) of every delivery; `encode` is that of a `Codec`."""
    for one in reports:
        yield one.system, b"%d" % one.person, encode("event", one.event().to_avro())


def golden(reports: list[Report]) -> Golden:
    """The reference: of each system its newest report, and of each field the first system believed that has one."""
    newest: dict[int, dict[str, Report]] = {}
    for one in reports:
        of = newest.setdefault(one.person, {})
        if one.system not in of or of[one.system].at < one.at:
            of[one.system] = one
    chosen = (
        {name: next(of[s].fields[name] for s in order if s in of) for name, order in TRUTH.items()}
        for of in newest.values()
    )
    return {fields["email"]: fields for fields in chosen}


def wrong(found: Golden, expected: Golden) -> str | None:
    """What is wrong with an outcome, in a few words; None where it is right."""
    differing = [email for email in expected if found.get(email) != expected[email]]
    foreign = found.keys() - expected.keys()
    if not differing and not foreign:
        return None
    example = min(differing or foreign)
    told = orjson.dumps({"is": found.get(example), "must be": expected.get(example)}).decode()
    return f"{len(differing)} of {len(expected)} records differ, {len(foreign)} are foreign; {example}: {told}"
