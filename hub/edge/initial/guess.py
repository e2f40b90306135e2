"""What `hub init` proposes for a database: which tables are which entities, and why the others are left out. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from connectors.postgresql.catalogue import Column, ForeignKey, Table
from hub.edge.initial import words
from hub.edge.initial.columns import Guess, Samples, guess, kind_of, singular, spell


@dataclass(frozen=True, slots=True)
class Proposed:
    """A table as an object. `why` are sentences for comments, `left` the columns that nothing is proposed for."""

    table: Table
    object: str
    entity: str
    key: tuple[str, ...]
    fields: tuple[Guess, ...]
    constants: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    create: bool = True
    read_only: bool = False
    requires: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Proposal:
    """What takes part, and by table what does not and why."""

    objects: tuple[Proposed, ...]
    left: Mapping[str, str] = field(default_factory=dict)

    def entities(self) -> list[str]:
        """The entities that any object holds, in the order of the objects."""
        return list(dict.fromkeys(proposed.entity for proposed in self.objects))


def propose(tables: Sequence[Table], samples: Mapping[str, Samples], held: frozenset[str] | None = None) -> Proposal:
    """A proposal for tables with samples of their values; `held`: the entities that the targets have objects for."""
    left: dict[str, str] = {}
    found: list[Proposed] = []
    for table in tables:
        outcome = _table(table, samples.get(table.full_name, {}))
        if isinstance(outcome, str):
            left[table.full_name] = outcome
        else:
            found.append(outcome)
    found = _named_apart(_one_source(_without_last_resorts(found, left)))
    found = [_with_references(_for_targets(proposed, found, held), found) for proposed in found]
    return Proposal(tuple(_finished(proposed) for proposed in sorted(found, key=_order)), left)


ORDER = ("company", "contact", "product", "deal", "invoice", "order", "ticket", "engagement")


def _order(proposed: Proposed) -> tuple[int, str]:
    return (ORDER.index(proposed.entity), proposed.object)


def _table(table: Table, samples: Samples) -> Proposed | str:
    """The best reading of a table, or why there is none."""
    head = _head(table)
    if reason := words.NOT_MEANT.get(head):
        return reason
    entities = words.TABLES.get(head, ())
    readings = [reading for entity in entities if (reading := _reading(table, entity, samples))]
    if not entities and (reading := _by_columns(table, samples)):
        readings = [reading]
    if not readings:
        return (
            f"looks like {entities[0]}, but has no column for {_essentials(entities[0])}"
            if entities
            else "not recognised"
        )
    if not (key := _key(table)):
        return "no primary key, and no unique columns that are NOT NULL: rows could not be told apart"
    best = max(readings, key=lambda reading: _weight(reading, samples))
    return replace(best, key=key)


def _essentials(entity: str) -> str:
    return " or ".join(words.ESSENTIAL[entity])


def _head(table: Table) -> str:
    """The word of a table's name that says what it holds."""
    parts = [singular(word) for word in spell(table.name).split("_")]
    meaning = [word for word in parts if word not in words.AFFIXES and not word.isdigit()]
    return meaning[-1] if meaning else ""


def _reading(table: Table, entity: str, samples: Samples) -> Proposed | None:
    fields = guess(entity, table, samples)
    if not {entry.name for entry in fields} & set(words.ESSENTIAL[entity]):
        return None
    why = (f"{table.full_name}: a table of this name usually holds {_plural(entity)}",)
    return Proposed(table, spell(table.name), entity, (), tuple(fields), why=why)


def _by_columns(table: Table, samples: Samples) -> Proposed | None:
    """A table of any name that holds names and e-mail addresses of people."""
    reading = _reading(table, "contact", samples)
    if reading is None or not {"email", "last_name"} <= {entry.name for entry in reading.fields}:
        return None
    return replace(reading, why=(f"{table.full_name}: holds names and e-mail addresses",))


def _plural(entity: str) -> str:
    return "companies" if entity == "company" else f"{entity}s"


def _weight(reading: Proposed, samples: Samples) -> float:
    """How much a reading explains. A table of companies gives itself away by what only companies have."""
    names = {entry.name for entry in reading.fields}
    weight = float(len(names))
    if reading.entity == "company":
        weight += 3 * len(names & words.COMPANYLIKE)
        named = next((samples.get(entry.columns[0], ()) for entry in reading.fields if entry.name == "name"), ())
        weight += 5 * (_firms(named) > 0.2)
    if reading.entity == "contact":
        weight += 2 * ("email" in names) + 2 * ({"first_name", "last_name"} <= names)
    return weight


def _firms(values: Sequence[str]) -> float:
    """The share of names that end as companies' names do."""
    ends = [spell(value).split("_")[-1] for value in values]
    return sum(end in words.COMPANY_SUFFIXES for end in ends) / len(ends) if ends else 0.0


def _key(table: Table) -> tuple[str, ...]:
    """What tells rows apart: the primary key, else unique columns that are never NULL."""
    nullable = {column.name for column in table.columns if column.nullable}
    return table.primary_key or next((unique for unique in table.unique if not nullable & set(unique)), ())


def _without_last_resorts(found: list[Proposed], left: dict[str, str]) -> list[Proposed]:
    """Tables of logins or accounts are no contacts where there is a table of contacts."""
    sure = {p.entity for p in found if _head(p.table) not in words.LAST_RESORT}
    for proposed in found:
        if _head(proposed.table) in words.LAST_RESORT and proposed.entity in sure:
            left[proposed.table.full_name] = f"may hold {_plural(proposed.entity)} too, but another table surely does"
    return [p for p in found if p.table.full_name not in left]


def _one_source(found: list[Proposed]) -> list[Proposed]:
    """Of several tables of one entity, only the richest gets the records that come from elsewhere."""
    best: dict[str, Proposed] = {}
    for proposed in found:
        so_far = best.setdefault(proposed.entity, proposed)
        if (len(proposed.fields), proposed.table.rows) > (len(so_far.fields), so_far.table.rows):
            best[proposed.entity] = proposed
    return [p if best[p.entity] is p else _uncreated(p, f"new ones go into {best[p.entity].object}") for p in found]


def _uncreated(proposed: Proposed, why: str) -> Proposed:
    return replace(proposed, create=False, why=(*proposed.why, f"create: false, for {why}"))


def _named_apart(found: list[Proposed]) -> list[Proposed]:
    """Tables of one name in several schemas bear the schema's name too."""
    names = [p.object for p in found]
    return [
        p
        if names.count(p.object) == 1 and p.object[0].isalpha()
        else replace(p, object=f"{spell(p.table.schema)}_{p.object}")
        for p in found
    ]


def _for_targets(proposed: Proposed, found: Sequence[Proposed], held: frozenset[str] | None) -> Proposed:
    """A document that no target has an object for goes as a deal, if there is no table of deals to mix it up with."""
    if proposed.entity not in words.DOCUMENTS:
        return proposed
    read_only = replace(proposed, read_only=True, create=False)
    others = {p.entity for p in found}
    rival = proposed.entity == "order" and "invoice" in others
    if held is None or proposed.entity in held or "deal" not in held or "deal" in others or rival:
        return read_only
    fields = [
        replace(entry, name=words.AS_DEAL[entry.name]) for entry in proposed.fields if entry.name in words.AS_DEAL
    ]
    number = next((entry.columns for entry in proposed.fields if entry.name == "number"), proposed.key[-1:])
    name = Guess(
        "name", number, f"{proposed.entity}s have no name", {"codec": {"prefix": f"{proposed.entity.title()} "}}
    )
    why = f"No target has {proposed.entity}s: each becomes a deal that is won."
    return replace(
        read_only, entity="deal", fields=(name, *fields), constants={"stage": "closedwon"}, why=(*proposed.why, why)
    )


def _with_references(proposed: Proposed, found: Sequence[Proposed]) -> Proposed:
    """Foreign keys of one column as references to the objects that hold what they refer to."""
    by_table = {(p.table.schema, p.table.name): p for p in found}
    fields = list(proposed.fields)
    used: set[tuple[str, ...]] = set()
    for name, (entity, speaking) in words.REFERENCES.get(proposed.entity, {}).items():
        keys = [
            key
            for key in _foreign_keys(proposed.table, found)
            if len(key.columns) == 1
            and key.columns not in used
            and (target := by_table.get((key.schema, key.table))) is not None
            and (target.entity, target.key) == (entity, key.references)
        ]
        if keys:
            key = min(keys, key=lambda k: (not set(spell(k.columns[0]).split("_")) & set(speaking), len(k.columns[0])))
            used.add(key.columns)
            fields.append(Guess(name, key.columns, "", {"object": by_table[key.schema, key.table].object}))
    return replace(proposed, fields=tuple(fields))


def _foreign_keys(table: Table, found: Sequence[Proposed]) -> list[ForeignKey]:
    """The declared ones; and, for databases that declare none, columns named after another table's key."""
    declared = {column for key in table.foreign_keys for column in key.columns}
    implied = []
    for column in table.columns:
        for other in found:
            own = singular(spell(other.table.name).split("_")[-1])
            names = {f"{own}_{spell(other.key[-1])}", f"{own}_id", f"{own}_no"}
            if (
                column.name not in declared
                and len(other.key) == 1
                and spell(column.name) in names
                and other.table != table
            ):
                implied.append(ForeignKey((column.name,), other.table.schema, other.table.name, other.key))
    return [*table.foreign_keys, *implied]


def _finished(proposed: Proposed) -> Proposed:
    """With what remains to be said: settings, whether the hub can create rows, and the columns that are left out."""
    table = proposed.table
    used = {column for entry in proposed.fields for column in entry.columns} | set(proposed.key)
    settings = _settings(table)
    used |= {str(settings.get("clock", "")), *settings.get("soft_delete", {})}
    left = tuple(column.name for column in table.columns if column.name not in used)
    proposed = replace(proposed, settings=settings, left=left)
    if not proposed.create:
        return proposed
    if needs := _unfillable(proposed):
        return _uncreated(proposed, f"a new row needs {', '.join(needs)}, which the hub does not know")
    required = {c.name for c in table.columns if not c.nullable and not c.default and not c.identity}
    return replace(proposed, requires=tuple(e.name for e in proposed.fields if set(e.columns) & required))


def _unfillable(proposed: Proposed) -> list[str]:
    """Columns that a new row must have and the mapping does not write."""
    written = {c for entry in proposed.fields if "in" not in (entry.extra.get("direction"),) for c in entry.columns}
    halves = {c for entry in proposed.fields if "split_name" in str(entry.extra.get("codec")) for c in entry.columns}
    return [
        column.name
        for column in proposed.table.columns
        if not (column.nullable or column.default or column.identity or column.generated)
        and column.name not in written - halves
    ]


def _settings(table: Table) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if clock := _named(table, words.CHANGED_AT):
        settings["clock"] = clock.name
    if deleted := _named(table, words.DELETED_AT):
        settings["soft_delete"] = {deleted.name: "now"}
    return settings


def _named(table: Table, known: str) -> Column | None:
    timed = [c for c in table.columns if kind_of(c) == "timestamp"]
    return next((c for name in known.split() for c in timed if spell(c.name) == name), None)
