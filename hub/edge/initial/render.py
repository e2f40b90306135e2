"""A proposal as the text of a commented hub.yaml: why each part was proposed, and what was left out. Never a secret."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from hub.config.manifest import ManifestLike, SettingLike
from hub.config.settings import variable
from hub.edge.initial.columns import Guess
from hub.edge.initial.guess import Proposal, Proposed

WIDTH = 118
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
AMBIGUOUS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


@dataclass(frozen=True, slots=True)
class Target:
    """A system that the records are to reach, with the objects of it that the proposal has entities for."""

    name: str
    manifest: ManifestLike
    objects: tuple[str, ...]
    marketing: bool = False


def render(
    database: str,
    system: str,
    source: ManifestLike,
    proposal: Proposal,
    targets: Sequence[Target],
    settings: Mapping[str, str],
) -> str:
    """The text of hub.yaml. `settings` are further settings of the source system, with the comment that belongs to each."""
    lines = [*_head(database, system, targets), "systems:", f"  {system}:", f"    connector: {source.name}"]
    lines += [
        f"    url: {variable(system, 'url')}",
        *(f"    {setting}" for setting in _commented(settings)),
        "    objects:",
    ]
    for proposed in proposal.objects:
        lines += ["", *_object(proposed)]
    for target in targets:
        lines += ["", *_target(target, proposal)]
    lines += ["", *_rules(proposal, system, targets), *_left_out(proposal)]
    return "\n".join(lines).rstrip() + "\n"


def flow(value: Any) -> str:
    """A value in YAML's short notation, quoted where it could be read as something else."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str):
        plain = PLAIN.fullmatch(value) and value.lower() not in AMBIGUOUS
        return value if plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)


def _head(database: str, system: str, targets: Sequence[Target]) -> Iterator[str]:
    yield "# yaml-language-server: $schema=./hub.schema.json"
    yield from _comment(
        f"Proposed by `hub init` from the database {database}. Read it through. A column that is left out can be added: "
        "declare a field for it under entities, and name the column at the object. Then:"
    )
    yield f"#   export {variable(system, 'url')[2:-1]}=...  # the address that was given to hub init; it is not kept here"
    for target in targets:
        for setting in _required(target.manifest):
            yield f"#   export {variable(target.name, setting.name)[2:-1]}=...  # {setting.what}"
    yield "#   hub check && hub run"
    yield from ("version: 1", "log: embedded", "state: embedded")
    yield "phone_region: US  # how to read phone numbers that have no country code"
    yield ""


def _object(proposed: Proposed) -> Iterator[str]:
    for why in proposed.why:
        yield from _comment(why, 6)
    yield f"      {proposed.object}:"
    yield f"        entity: {proposed.entity}"
    yield f"        table: {flow(proposed.table.full_name)}"
    yield f"        key: {flow(proposed.key[0] if len(proposed.key) == 1 else proposed.key)}"
    for name, value in proposed.settings.items():
        yield f"        {name}: {flow(value)}"
    if proposed.read_only:
        yield "        direction: in  # what has been issued is not changed from elsewhere"
    elif not proposed.create:
        yield "        create: false"
    if proposed.requires:
        yield f"        requires: {flow(proposed.requires)}  # NOT NULL, without a default"
    yield "        fields:"
    for entry in proposed.fields:
        yield from _field(entry)
    if proposed.constants:
        yield f"        constants: {flow(proposed.constants)}"
    if proposed.left:
        yield from _comment(f"Left out: {', '.join(proposed.left)}.", 8)


def _field(entry: Guess) -> Iterator[str]:
    """A field on one line, or where that is too long, its keys and then its options on one each."""
    start = f"          {entry.name}:"
    columns = entry.columns[0] if len(entry.columns) == 1 else entry.columns
    said = {"native": columns, **entry.extra}
    line = f"{start} {flow(said if entry.extra else columns)}{_why(entry)}"
    if len(line) <= WIDTH:
        yield line
        return
    yield f"{start}{_why(entry)}"
    for key, value in said.items():
        if key == "options" and isinstance(value, Mapping):
            yield f"            {key}:"
            yield from (f"              {flow(native)}: {flow(canonical)}" for native, canonical in value.items())
        else:
            yield f"            {key}: {flow(value)}"


def _why(entry: Guess) -> str:
    return f"  # {entry.why}" if entry.why else ""


def _target(target: Target, proposal: Proposal) -> Iterator[str]:
    if not target.objects:
        yield from _comment(f"{target.name} has no object for any of {', '.join(proposal.entities())}.", 2)
    if target.marketing and not _knows_consent(proposal):
        yield from _comment(
            f"No column tells who agreed to be written to, so {target.name} gets nobody that it does not have.", 2
        )
    yield f"  {target.name}:"
    yield f"    connector: {target.manifest.name}"
    for setting in target.manifest.settings:
        asked = setting in _required(target.manifest)
        default = "" if setting.default is None else f" (default {flow(setting.default)})"
        line = f"{setting.name}: {variable(target.name, setting.name)}"
        yield f"    {line}" if asked else f"    # {line}  # {setting.what}{default}"
    yield f"    objects: {flow(target.objects)}"


def _required(manifest: ManifestLike) -> list[SettingLike]:
    """What must be given; where a connector can log in by several ways, the credential that it names first."""
    required = [setting for setting in manifest.settings if setting.required and setting.default is None]
    first = next((setting for setting in manifest.settings if setting.secret), None)
    return required if first is None or any(s.secret for s in required) else [first, *required]


def _knows_consent(proposal: Proposal) -> bool:
    return any(entry.name == "consent" for proposed in proposal.objects for entry in proposed.fields)


def _rules(proposal: Proposal, source: str, targets: Sequence[Target]) -> Iterator[str]:
    """What holds without being written, and how another rule would be written."""
    yield from _comment(
        f"Where systems differ, the one that stands first above ({source}) is believed, then the next; an opt-out always "
        "stands. Another rule for a field is written as here:"
    )
    yield "# entities:"
    for name in proposal.entities()[:1]:
        systems = [*(t.name for t in targets if name in {s.entity for s in t.manifest.objects}), source]
        fields = [e.name for p in proposal.objects if p.entity == name for e in p.fields if "object" not in e.extra]
        yield from (f"#   {name}:", "#     fields:", f"#       {fields[0]}: {{truth: {flow(systems)}}}")
        yield from (
            f"#       {field}: latest  # or oldest, most_common, {{follow: {fields[0]}}}" for field in fields[1:2]
        )


def _left_out(proposal: Proposal) -> Iterator[str]:
    if proposal.left:
        yield ""
        yield from _comment("Tables that nothing is proposed for:")
        for table, reason in proposal.left.items():
            yield from _comment(f"  {table}: {reason}")


def _commented(settings: Mapping[str, str]) -> Iterable[str]:
    return (f"{setting}  # {why}" for setting, why in settings.items())


def _comment(text: str, indent: int = 0) -> Iterator[str]:
    start = " " * indent + "# "
    lead = text[: len(text) - len(text.lstrip())]
    for line in wrap(text, WIDTH - indent - 2, break_long_words=False, subsequent_indent=lead):
        yield start + line
