"""Report: what would change, as one document, as tables for a terminal, and as a page that stands by itself."""

from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from hub.edge.output import out, table, text
from hub.write import Write
from streams.whatif import Outlook, summary

EXAMPLES = 20
ROWS = 1_000
Document = Mapping[str, Any]


def document(outlook: Outlook, former: str, to: str) -> dict[str, Any]:
    """Everything, as JSON values: counts, and each field, conflict, merge, split and write."""
    return {
        "from": former,
        "to": to,
        "summary": summary(outlook),
        "fields": [
            {
                "golden_id": c.golden_id, "entity": c.entity, "field": c.field, "before": c.before, "after": c.after,
                "rule": c.rule,
            }
            for c in outlook.fields
        ],
        "conflicts": {
            "opened": [
                {
                    "golden_id": c.golden_id, "entity": c.entity.name, "field": c.field, "golden": c.choice.value,
                    "system": c.candidate.system, "external_id": c.candidate.external_id,
                    "value": c.candidate.claim.value,
                }
                for c in outlook.opened if c.open
            ],
            "closed": [
                {n: row[n] for n in ("golden_id", "entity", "field", "system", "external_id")} for row in outlook.closed
            ],
        },
        "merged": {loser: into for loser, into in sorted(outlook.regrouped.merged.items()) if into},
        "split": dict(sorted(outlook.regrouped.split.items())),
        "writes": [_write(write) for write in outlook.writes],
        "not_written": [
            {"target": target, "outcome": outcome, "reason": reason, "records": n}
            for (target, outcome, reason), n in sorted(outlook.foretold.kept.items())
        ],
    }  # fmt: skip


def _write(write: Write) -> dict[str, Any]:
    told = {name: write.expected.get(name) for name in write.values}
    return {
        "target": write.target, "object": write.object, "op": write.op, "external_id": write.external_id,
        "golden_id": write.golden_id, "values": dict(write.values), "instead_of": told if write.op == "update" else {},
    }  # fmt: skip


def tables(told: Document) -> None:
    """The document for a terminal: counts, and the first examples of each kind."""
    counts = told["summary"]
    out.print(
        f"{told['from']} -> {told['to']}: {counts['events']:,} events read, {counts['golden_records']:,} golden records"
        f" looked at, {counts['changed']:,} change"
    )
    for title, columns, rows in sections(told):
        if rows:
            table(title, columns, rows[:EXAMPLES])
            if len(rows) > EXAMPLES:
                out.print(f"… and {len(rows) - EXAMPLES:,} more: --json tells them all")
    if not any(rows for _, _, rows in sections(told)):
        out.print("nothing that anybody would see changes")


Section = tuple[str, tuple[str, ...], list[tuple[Any, ...]]]


def sections(told: Document) -> list[Section]:
    """Title, columns and rows of every part."""
    counts = told["summary"]
    fields = [(name, n) for name, n in counts["fields"].items()]
    writes = [(*name.rsplit(" ", 1), n) for name, n in counts["writes"].items()]
    return [
        ("Fields that change", ("field", "golden records"), fields),
        ("Writes", ("object", "operation", "writes"), writes),
        (
            "Not written",
            ("target", "outcome", "reason", "golden records"),
            [tuple(r.values()) for r in told["not_written"]],
        ),
        ("Merged", ("golden id", "into"), list(told["merged"].items())),
        ("Split", ("golden id", "set apart"), [(g, ", ".join(parts)) for g, parts in told["split"].items()]),
        ("Conflicts opened", ("field", "golden", "against", "of"), _opened(told["conflicts"]["opened"])),
        ("Conflicts closed", ("field", "of", "golden id"), _closed(told["conflicts"]["closed"])),
        ("Values", ("golden id", "field", "before", "after", "rule"), _values(told["fields"])),
        ("Each write", ("target", "operation", "record", "fields"), [_said(w) for w in told["writes"]]),
    ]


def _values(fields: Sequence[Document]) -> list[tuple[Any, ...]]:
    return [
        (f["golden_id"], f"{f['entity']}.{f['field']}", text(f["before"]), text(f["after"]), f["rule"]) for f in fields
    ]


def _opened(opened: Sequence[Document]) -> list[tuple[Any, ...]]:
    return [
        (f"{c['entity']}.{c['field']}", text(c["golden"]), text(c["value"]), f"{c['system']}/{c['external_id']}")
        for c in opened
    ]


def _closed(closed: Sequence[Document]) -> list[tuple[Any, ...]]:
    return [(f"{c['entity']}.{c['field']}", f"{c['system']}/{c['external_id']}", c["golden_id"]) for c in closed]


def _said(write: Document) -> tuple[Any, ...]:
    old = write["instead_of"]
    fields = ", ".join(
        f"{name}: {text(old[name])} -> {text(value)}" if name in old else f"{name}: {text(value)}"
        for name, value in write["values"].items()
    )
    record = f"{write['object']}/{write['external_id'] or 'new'} ({write['golden_id']})"
    return (write["target"], write["op"], record, fields)


def page(told: Document) -> str:
    """A page in HTML, which loads nothing from anywhere; of each part up to ROWS rows. All values are escaped."""
    counts = told["summary"]
    cards = [
        ("events read", counts["events"]),
        ("golden records", counts["golden_records"]),
        ("change", counts["changed"]),
        ("field values", len(told["fields"])),
        ("conflicts opened", counts["conflicts_opened"]),
        ("conflicts closed", counts["conflicts_closed"]),
        ("merged", counts["merged"]),
        ("split off", counts["split"]),
        ("writes", len(told["writes"])),
    ]
    shown = "".join(f"<li><b>{n:,}</b>{escape(what)}</li>" for what, n in cards)
    body = "".join(_section(*section) for section in sections(told) if section[2])
    template = Template(files("hub.edge").joinpath("report.html").read_text(encoding="utf-8"))
    nothing = "" if body else "<p>Nothing that anybody would see changes.</p>"
    return template.substitute(
        style=style(), former=escape(told["from"]), to=escape(told["to"]), cards=shown, body=body + nothing
    )


@cache
def style() -> str:
    """The style of all pages."""
    return files("hub.edge").joinpath("style.css").read_text(encoding="utf-8")


def _section(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    lines = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows[:ROWS])
    more = f"<p>… and {len(rows) - ROWS:,} more: <code>--json</code> tells them all.</p>" if len(rows) > ROWS else ""
    opened = " open" if len(rows) <= EXAMPLES else ""
    return (
        f"<details{opened}><summary>{escape(title)} <span>{len(rows):,}</span></summary>"
        f"<div><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>{more}</div></details>"
    )


def _cell(cell: Any) -> str:
    kind = ' class="n"' if isinstance(cell, int) else ""
    return f"<td{kind}>{escape(text(cell))}</td>"
