"""Commands that ask: status, ledger, show, why, conflicts."""

from collections.abc import Awaitable
from typing import Annotated

import typer

from hub.edge import history, inquiry, reasons
from hub.edge.cli import DEFAULT_CONFIG, DEFAULT_DATA, AsJson, ConfigPath, DataDir, Exit, app, with_hub
from hub.edge.inquiry import Json
from hub.edge.output import as_json, out, table, text
from hub.edge.wiring import Hub
from streams.ledger import Ledger, balance
from streams.outcomes import OUTCOMES

EntityName = Annotated[str, typer.Argument(help="An entity of the configuration, such as contact.")]
Name = Annotated[str, typer.Argument(help="A golden id, system:id, system/object/id, or an e-mail or domain.")]
At = Annotated[str | None, typer.Option(help="An instant such as 2026-11-01T12:00Z (UTC), or an event's id.")]
AUDITED = ("system", "object", "mode", "state", "missing", "stale", "extra", "ended")
Limit = Annotated[int, typer.Option(help="At most so many.", min=1, max=10_000)]


@app.command()
def status(config: ConfigPath = DEFAULT_CONFIG, data_dir: DataDir = DEFAULT_DATA, json: AsJson = False) -> None:
    """How the hub fares: sources, lag per stage, queue per target, pauses."""
    found: Json = with_hub(config, data_dir, lambda hub: inquiry.status(hub.context), connect=True)
    if json:
        as_json(found)
        return
    table("Golden records", ("entity", "records"), list(found["golden"].items()))
    table("Stages", ("stage", "waiting"), list(found["lag"].items()))
    table("Write queue", ("target", "state", "rows"), [tuple(r.values()) for r in found["queue"]])
    sources = [(s["system"], s["stream"], s["changes"], s["polled_at"], s["error"]) for s in found["sources"]]
    table("Sources", ("system", "stream", "changes", "read", "error"), sources)
    if found["audits"]:
        audits = [tuple(a[n] for n in AUDITED) for a in found["audits"]]
        table("Last audits", AUDITED, audits)
    for fault in found["trouble"]:
        out.print(f"[red]{fault['fault']}[/] {fault['subject']}: {fault['what']}")
    for pause in found["paused"]:
        out.print(f"[red]paused[/] {pause['target']}: {pause['reason']}")
    for circuit in found["open"]:
        out.print(f"[red]does not answer[/] {circuit['target']} since {circuit['opened_at']}: {circuit['reason']}")
    out.print(
        "idle: every change has its outcome"
        if found["idle"]
        else f"busy; not read since the last write: {found['unread']}"
    )


@app.command()
def ledger(config: ConfigPath = DEFAULT_CONFIG, data_dir: DataDir = DEFAULT_DATA, json: AsJson = False) -> None:
    """Prove that every captured change has one outcome per target. Exit 1 when something is unaccounted for."""

    async def work(hub: Hub) -> Ledger:
        return await balance(hub.context)

    found: Ledger = with_hub(config, data_dir, work)
    if json:
        as_json(ledger_json(found))
    else:
        print_ledger(found)
    raise Exit(1 if found.unaccounted else 0)


def ledger_json(found: Ledger) -> Json:
    """The ledger as JSON data."""
    return {
        "captured": found.captured,
        "events": found.events,
        "duplicates": found.duplicates,
        "parked": found.parked,
        "waiting": found.waiting,
        "unaccounted": found.unaccounted,
        "pending": found.pending,
        "targets": found.targets,
    }


def print_ledger(found: Ledger) -> None:
    """The ledger for people."""
    print_outcomes(found.targets)
    out.print(
        f"captured {found.captured:,} = events {found.events:,} + duplicates {found.duplicates:,} + parked {found.parked:,}"
        f" + waiting {found.waiting:,}; [bold]{found.unaccounted:,} unaccounted[/]"
    )


def print_outcomes(targets: dict[str, dict[str, int]]) -> None:
    """What became of every change at every target."""
    outcomes = [o for o in (*OUTCOMES, "pending") if any(o in counts for counts in targets.values())]
    rows = [(outcome, *(counts.get(outcome, 0) for counts in targets.values())) for outcome in outcomes]
    table("Outcomes: one per change and target", ("outcome", *targets), rows)


@app.command()
def show(
    entity: EntityName,
    name: Name,
    at: At = None,
    config: ConfigPath = DEFAULT_CONFIG,
    data_dir: DataDir = DEFAULT_DATA,
    json: AsJson = False,
) -> None:
    """The golden record, where each value comes from, and what every system holds; or as it was."""

    def work(hub: Hub) -> Awaitable[Json]:
        now = at is None
        return inquiry.show(hub.context, entity, name) if now else history.show(hub.context, entity, name, str(at))

    found: Json = with_hub(config, data_dir, work)
    if json:
        as_json(found)
        return
    version = f"version {found['version']}" if at is None else f"as of {at}"
    out.print(f"[bold]{found['golden_id']}[/] {version}{' (deleted)' if found['deleted'] else ''}")
    rows = [(n, f["value"], f["system"], f.get("at"), f["rule"]) for n, f in found["fields"].items()]
    table("Golden record", ("field", "value", "from", "at", "rule"), rows)
    for record in found["records"]:
        title = f"{record['system']}/{record['object']}/{record['external_id']}{' (gone)' if record['gone'] else ''}"
        table(title, ("field", "holds"), list(record["holds"].items()))
    for row in found.get("waiting", ()):
        out.print(f"{row['target']}: {row['state']} {text(row['waits_for'])} {row['reason']}")


@app.command()
def why(
    entity: EntityName,
    name: Name,
    field: Annotated[str, typer.Argument(help="A field of the entity.")],
    at: At = None,
    proof: Annotated[
        bool, typer.Option("--proof", help="Recompute it from the cited events, and without them.")
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    data_dir: DataDir = DEFAULT_DATA,
    json: AsJson = False,
) -> None:
    """Why a field has its value: who won, who lost and why, the rule and its version; or why it had it then."""
    found: Json = with_hub(config, data_dir, lambda hub: reasons.why(hub.context, entity, name, field, at, proof))
    as_json(found) if json else print_why(found)


def print_why(found: Json) -> None:
    """An answer to *why* for people."""
    out.print(f"[bold]{found['golden_id']}.{found['field']} = {text(found['value'])}[/]")
    out.print(f"rule {found['rule']} (version {found['rule_version'][:12]})")
    if found["pin"]:
        out.print(f"pinned by {found['pin']['author']}: {found['pin']['reason']}")
    winner = found["winner"] or {}
    rows = [("won", text(found["value"]), _who(winner), winner.get("at"), _how(winner), "", winner.get("payload"))]
    rows += [
        ("lost", text(x["value"]), _who(x), x["at"], _how(x), x["reason"], x.get("payload")) for x in found["losers"]
    ]
    table("Claims", ("", "value", "record", "at", "through", "reason", "payload"), rows)
    for read in winner.get("transforms", ()):
        codec = f" by {read['codec']}" if read["codec"] else ""
        out.print(f"read from {read['natives']}{codec} as {read['type']}: {text(read['value'])}", soft_wrap=True)
    if "proof" in found:
        print_proof(found["proof"])


def _how(claim: Json) -> str:
    return f"{claim.get('channel', '')}{' by ' + str(claim['author']) if claim.get('author') else ''}"


def print_proof(proof: Json) -> None:
    """A proof for people."""
    verdict = "gives the same" if proof["holds"] else "[red]gives another[/]"
    out.print(f"recomputed from {len(proof['cited'])} cited events: {text(proof['value'])}, which {verdict}")
    for drop in proof["without"]:
        value = text(drop["value"]) if drop["known"] else "unknown"
        by = f", by {drop['by']['system']} event {drop['by']['event_id']}" if drop["by"] else ""
        out.print(f"without event {drop['event_id']} it would be {value}{by}", soft_wrap=True)


def _who(claim: Json) -> str:
    return "/".join(str(claim[n]) for n in ("system", "object", "external_id") if claim.get(n)) or "-"


@app.command()
def conflicts(
    open_: Annotated[bool, typer.Option("--open", help="Only those that wait for a person.")] = False,
    limit: Limit = 50,
    config: ConfigPath = DEFAULT_CONFIG,
    data_dir: DataDir = DEFAULT_DATA,
    json: AsJson = False,
) -> None:
    """Claims that lost against differing ones: both sides, the base, the rule."""
    state = "open" if open_ else None
    found: list[Json] = with_hub(config, data_dir, lambda hub: inquiry.conflicts(hub.context, state, limit))
    if json:
        as_json(found)
        return
    rows = [(c["golden_id"], c["field"], c["system"], c["value"], c["golden"], c["rule"], c["state"]) for c in found]
    table("Conflicts", ("golden id", "field", "system", "it said", "golden", "rule", "state"), rows)
