"""Commands about what waits for a person: parked list, show, edit, retry, discard."""

from typing import Annotated, Any

import orjson
import typer

from hub.edge import inquiry
from hub.edge.cli import DEFAULT_CONFIG, DEFAULT_DATA, AsJson, ConfigPath, DataDir, Exit, app, with_hub
from hub.edge.commands_ask import Limit
from hub.edge.commands_steward import Author, Reason, parsed
from hub.edge.inquiry import Json
from hub.edge.output import as_json, out, table, text
from hub.edge.wiring import Hub
from hub.errors import Reject
from streams import quarantine
from streams.quarantine import Chosen, Said
from streams.services import order

parked = typer.Typer(
    help="What waits for a person: unreadable events and refused writes. Without a command: list them.",
    invoke_without_command=True,
)
app.add_typer(parked, name="parked")

Names = Annotated[list[str] | None, typer.Argument(help="Names as listed: 12, or hubspot/<golden id>.")]
OneName = Annotated[str, typer.Argument(help="A name as listed: 12, or hubspot/<golden id>.")]
Fingerprint = Annotated[str, typer.Option(help="All of one cause: the fingerprint that the list shows.")]

OfTarget = Annotated[str, typer.Option("--target", help="All writes that this target refused.")]


@parked.callback()
def _all(
    context: typer.Context, fingerprint: Fingerprint = "", limit: Limit = 50,
    config: ConfigPath = DEFAULT_CONFIG, data_dir: DataDir = DEFAULT_DATA, json: AsJson = False,
) -> None:  # fmt: skip
    """What waits for a person: unreadable events and refused writes. Exit 1 when there are any."""
    if context.invoked_subcommand is None:
        list_(fingerprint, limit, config, data_dir, json)


@parked.command("list")
def list_(
    fingerprint: Fingerprint = "", limit: Limit = 50,
    config: ConfigPath = DEFAULT_CONFIG, data_dir: DataDir = DEFAULT_DATA, json: AsJson = False,
) -> None:  # fmt: skip
    """List them, each with its reason and the fingerprint of its cause. Exit 1 when there are any."""
    found: list[Json] = with_hub(config, data_dir, lambda hub: inquiry.parked(hub.context, limit, fingerprint))
    if json:
        as_json(found)
    else:
        events = [
            (p["name"], p["stage"], _where(p), p["fingerprint"], p["reason"]) for p in found if p["kind"] == "event"
        ]
        writes = [(p["name"], p["code"], p["fingerprint"], p["reason"]) for p in found if p["kind"] == "write"]
        table("Parked events", ("name", "stage", "where", "fingerprint", "reason"), events)
        table("Refused writes", ("name", "code", "fingerprint", "reason"), writes)
    raise Exit(1 if found else 0)


def _where(event: Json) -> str:
    return f"{event['topic']}/{event['partition']}@{event['offset']}"


@parked.command()
def show(
    name: OneName, config: ConfigPath = DEFAULT_CONFIG, data_dir: DataDir = DEFAULT_DATA, json: AsJson = False
) -> None:
    """One of them, whole: what the event holds, or what would be written."""
    found: Json = with_hub(config, data_dir, lambda hub: inquiry.parked_one(hub.context, name))
    if json:
        as_json(found)
        return
    for key, value in found.items():
        out.print(f"[bold]{key}[/] {text(value)}", soft_wrap=True)


@parked.command()
def edit(
    name: OneName,
    author: Author,
    reason: Reason,
    set_: Annotated[list[str], typer.Option("--set", help="A native field, as field=value; JSON, or else text.")],
    config: ConfigPath = DEFAULT_CONFIG,
    data_dir: DataDir = DEFAULT_DATA,
) -> None:
    """Put a parked change on the log anew with other native fields; or pin fields of the golden record of a refused
    write, whose next version is then written in its place."""
    fields = dict(map(_pair, set_))

    async def work(hub: Hub) -> None:
        if "/" in name:
            row = await inquiry.parked_one(hub.context, name)
            said = {"action": "pin", "entity": row["entity"], "author": author, "reason": reason, "expires_at": None}
            pins = [said | {"field": f, "value": parsed(hub, row["entity"], f, v)} for f, v in fields.items()]
            await order(hub.context, [(row["golden_id"], pin) for pin in pins])
        else:
            natives = {field: _native(value) for field, value in fields.items()}
            await quarantine.edit(hub.context, name, natives, Said(author, reason))

    with_hub(config, data_dir, work)
    out.print(f"{name} is edited; a running hub acts on it at once")


def _pair(given: str) -> tuple[str, str]:
    name, sign, value = given.partition("=")
    if not (name and sign):
        raise typer.BadParameter(f"{given!r} is no field=value")
    return name, value


def _native(value: str) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


@parked.command()
def retry(
    author: Author, names: Names = None, fingerprint: Fingerprint = "", target: OfTarget = "", reason: Reason = "",
    config: ConfigPath = DEFAULT_CONFIG, data_dir: DataDir = DEFAULT_DATA,
) -> None:  # fmt: skip
    """Try them again, after their cause is mended."""
    count = with_hub(
        config, data_dir, _deciding(quarantine.retry, Chosen(names or (), fingerprint, target), Said(author, reason))
    )
    out.print(f"{count} are tried again")


@parked.command()
def discard(
    author: Author, reason: Reason, names: Names = None, fingerprint: Fingerprint = "", target: OfTarget = "",
    config: ConfigPath = DEFAULT_CONFIG, data_dir: DataDir = DEFAULT_DATA,
) -> None:  # fmt: skip
    """Give them up for good. The target keeps what it has until the record changes again."""
    count = with_hub(
        config, data_dir, _deciding(quarantine.discard, Chosen(names or (), fingerprint, target), Said(author, reason))
    )
    out.print(f"{count} are discarded")


def _deciding(decide: Any, chosen: Chosen, said: Said) -> Any:
    async def work(hub: Hub) -> int:
        if chosen == Chosen():
            raise Reject("say which: names, --fingerprint or --target", "unknown")
        count: int = await decide(hub.context, chosen, said)
        return count

    return work
