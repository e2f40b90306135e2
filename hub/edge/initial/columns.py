"""Which column holds which canonical field: by name, by type, and by what a sample of its values looks like."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from connectors.postgresql.catalogue import Column, Table
from hub.config.entities import canonical
from hub.edge.initial import words
from hub.values import CONSENT, InvalidValue, parse

Samples = Mapping[str, Sequence[str]]
"""Column -> some of its values as text, without NULLs."""

ENOUGH = 0.6  # of the sampled values must be of the field's type
ALIKE = 0.88  # SequenceMatcher's ratio from which a name counts as a misspelt one
TOLD = 0.9  # of the values of a column with any name must be e-mail addresses, for it to be the e-mail column


@dataclass(frozen=True, slots=True)
class Guess:
    """One canonical field and the columns that seem to hold it. `why` is for a comment; `extra` are keys beside native."""

    name: str
    columns: tuple[str, ...]
    why: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible match; the lower the rank, the surer."""

    rank: float
    name: str
    column: Column
    why: str


def guess(entity: str, table: Table, samples: Samples) -> list[Guess]:
    """The fields of an entity that a table's columns hold, except references; each field and column at most once."""
    samples = {**samples, **{column.name: column.labels for column in table.columns if column.labels}}
    foreign = {name for key in table.foreign_keys for name in key.columns}
    columns = [c for c in table.columns if c.name not in foreign and c.generated != "v"]
    found = _choices(entity, _pick(_candidates(entity, table, columns, samples)), samples)
    used = {column for entry in found for column in entry.columns}
    if entity == "contact":
        free = [column for column in columns if column.name not in used]
        found += _full_name(table, free, {entry.name for entry in found}, samples) + _consent(table, free, samples)
    order = list(canonical()[entity].fields)
    return sorted(found, key=lambda entry: order.index(entry.name))


def spell(name: str) -> str:
    """A name as lower-case words with _ between: "CustomerEMail", "customer e-mail" and "CUSTOMER_EMAIL" are alike."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return "_".join(re.findall(r"[a-z0-9]+", text.lower()))


def singular(word: str) -> str:
    """The singular of an English word, near enough to look it up."""
    for ending, instead in (("ies", "y"), ("sses", "ss"), ("ses", "se"), ("s", "")):
        if word.endswith(ending) and not word.endswith(("ss", "us", "is")) and len(word) > 3:
            return word[: -len(ending)] + instead
    return word


def kind_of(column: Column) -> str:
    """The column's type in a word: text, integer, number, date, timestamp, boolean, enum, list, json or other."""
    base = re.sub(r"\(.*\)", "", column.type.lower()).strip()
    if column.labels:
        return "enum"
    if base.endswith("[]"):
        return "list"
    return next((kind for kind, names in TYPES.items() if base in names), "other")


TYPES: Mapping[str, frozenset[str]] = {
    "text": frozenset({"text", "character varying", "character", "citext", "name", "uuid", "bpchar"}),
    "integer": frozenset({"smallint", "integer", "bigint"}),
    "number": frozenset({"numeric", "real", "double precision"}),
    "date": frozenset({"date"}),
    "timestamp": frozenset({"timestamp without time zone", "timestamp with time zone"}),
    "boolean": frozenset({"boolean"}),
    "json": frozenset({"json", "jsonb"}),
}

# Field type -> column types that can hold it.
HOLDS: Mapping[str, frozenset[str]] = {
    "text": frozenset({"text", "enum", "integer"}),
    "email": frozenset({"text"}),
    "phone": frozenset({"text"}),
    "domain": frozenset({"text"}),
    "decimal": frozenset({"number", "integer"}),
    "integer": frozenset({"integer", "number"}),
    "date": frozenset({"date", "timestamp"}),
    "timestamp": frozenset({"timestamp", "date"}),
    "tags": frozenset({"list", "json"}),
}


def _candidates(entity: str, table: Table, columns: Iterable[Column], samples: Samples) -> Iterable[Candidate]:
    """Every column for every field whose type it has, whose name it bears, and whose values it seems to hold."""
    fields = canonical()[entity].fields
    for name, known in words.COLUMNS[entity].items():
        kind = fields[name].type
        for column in columns:
            values = samples.get(column.name, ())
            if kind_of(column) not in HOLDS[kind] or not _plausible(name, kind, values):
                continue
            rank, why = _rank(column, table, known.split())
            if rank > 1 and kind == "email" and _share(kind, values) >= TOLD and len(values) >= 3:
                rank, why = 0.9, "its values are e-mail addresses"
            if rank <= 1:
                yield Candidate(rank, name, column, why)


def _pick(candidates: Iterable[Candidate]) -> list[Guess]:
    taken: set[str] = set()
    found: dict[str, Guess] = {}
    for candidate in sorted(candidates, key=lambda c: (c.rank, c.name, c.column.name)):
        if candidate.name not in found and candidate.column.name not in taken:
            taken.add(candidate.column.name)
            generated = {"direction": "in"} if candidate.column.generated else {}
            found[candidate.name] = Guess(candidate.name, (candidate.column.name,), candidate.why, generated)
    return list(found.values())


def _rank(column: Column, table: Table, known: Sequence[str]) -> tuple[float, str]:
    """How well the column's name is one of the known ones (0 best, above 1 not at all), and why where it is not plain."""
    spelt = spell(column.name)
    bare = _bare(spelt, table)
    for name in dict.fromkeys((spelt, bare)):
        if name in known:
            return known.index(name) / 100, ""
    near = max((SequenceMatcher(None, bare, name).ratio(), name) for name in known)
    return (1.9 - near[0], f"spelt like {near[1]}") if near[0] >= ALIKE and len(bare) > 4 else (2.0, "")


def _bare(spelt: str, table: Table) -> str:
    """Without the table's own name in front, or the last word of it: customer_email and cust_email of customers."""
    own = spell(table.name).split("_")
    first, _, rest = spelt.partition("_")
    prefixes = {singular(own[-1]), own[-1], spell(table.name), "str", "txt", "fld"}
    short = len(first) >= 3 and own[-1].startswith(first)
    return rest if rest and (first in prefixes or short) else spelt


def _plausible(name: str, kind: str, values: Sequence[str]) -> bool:
    """Whether a sample speaks against the column; nothing does where there are no values."""
    if not values:
        return True
    if name == "job_title":
        return sum(v.strip(" .").lower() in words.SALUTATIONS for v in values) < len(values) / 2
    return kind not in ("email", "phone", "domain") or _share(kind, values) >= ENOUGH


def _share(kind: str, values: Sequence[str]) -> float:
    def fits(value: str) -> bool:
        try:
            return parse(kind, value) is not None
        except InvalidValue:
            return False

    return sum(map(fits, values)) / len(values) if values else 0.0


def _choices(entity: str, found: list[Guess], samples: Samples) -> list[Guess]:
    """Fields whose values are a choice are kept only where every value seen is understood, and then with its meaning."""
    kept = []
    for entry in found:
        known = words.CHOICES.get((entity, entry.name))
        options = _options(known, samples.get(entry.columns[0], ())) if known else {}
        if options is not None:
            kept.append(
                Guess(
                    entry.name, entry.columns, entry.why, {**entry.extra, **({"options": options} if options else {})}
                )
            )
    return kept


def _options(known: Mapping[str, str], values: Sequence[str]) -> dict[str, str] | None:
    """Native -> canonical for the values that differ from their canonical word; None where one is not understood."""
    options: dict[str, str] = {}
    for value in dict.fromkeys(values):
        meaning = value if value in known.values() else known.get(spell(value).replace("_", " "))
        if meaning is None:
            return None
        if meaning != value:
            options[value] = meaning
    return options


def _full_name(table: Table, free: Sequence[Column], have: set[str], samples: Samples) -> list[Guess]:
    """A whole name in one column, read as its halves, where there are no columns for them."""
    if {"first_name", "last_name"} & have:
        return []
    known = words.FULL_NAME.split()
    column = next((c for name in known for c in free if name in (spell(c.name), _bare(spell(c.name), table))), None)
    if column is None or kind_of(column) != "text":
        return []
    halves = (("first_name", "first"), ("last_name", "last"))
    return [
        Guess(n, (column.name,), "half of a whole name: only read", {"codec": {"split_name": h}}) for n, h in halves
    ]


def _consent(table: Table, free: Sequence[Column], samples: Samples) -> list[Guess]:
    def named(known: str, fits: Callable[[str], bool]) -> Column | None:
        names = known.split()
        return next(
            (c for n in names for c in free if n in (spell(c.name), _bare(spell(c.name), table)) and fits(kind_of(c))),
            None,
        )

    status = named(words.OPT_IN, lambda kind: kind in ("boolean", "text", "enum"))
    opposite = None if status else named(words.OPT_OUT, lambda kind: kind == "boolean")
    column = status or opposite
    if column is None:
        return []
    if kind_of(column) != "boolean" and any(v.strip().lower() not in CONSENT for v in samples.get(column.name, ())):
        return []
    at = named(words.CONSENT_TIMES, lambda kind: kind in ("timestamp", "date"))
    extra, why = _consent_words(column, samples.get(column.name, ()), opposite is not None)
    return [Guess("consent", (column.name, *((at.name,) if at else ())), why, extra)]


def _consent_words(column: Column, values: Sequence[str], opposite: bool) -> tuple[dict[str, Any], str]:
    """How the column says in and out, so that the hub writes what the application understands."""
    if opposite:
        return {"codec": {"consent": {"out": True}}}, "says only who must not be written to"
    if kind_of(column) == "boolean":
        return {"codec": {"consent": {"in": True, "out": False}}}, ""
    seen = {value.strip().lower() for value in values}
    if seen <= {"in", "out"}:
        return {"codec": "consent"}, ""
    pair = next((pair for pair in words.CONSENT_WORDS if seen <= set(pair)), None)
    spelt = {value.strip().lower(): value for value in values}
    if pair is None or not set(pair) <= seen:
        return {"codec": "consent", "direction": "in"}, "only read: it is not clear how it is written"
    return {"codec": {"consent": {"in": spelt[pair[0]], "out": spelt[pair[1]]}}}, ""
