"""Commands by which a person decides: pin, unpin, keep, unmerge, retry, resume."""

from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import typer

from hub import values
from hub.edge import inquiry
from hub.edge.cli import DEFAULT_CONFIG, DEFAULT_DATA, AsJson, ConfigPath, DataDir, Exit, app, with_hub
from hub.edge.commands_ask import EntityName, Name
from hub.edge.output import as_json, out
from hub.edge.wiring import Hub
from hub.errors import Reject
from streams.receipts import resume as lift
from streams.services import order

FieldName = Annotated[str, typer.Argument(help="A field of the entity.")]
Author = Annotated[str, typer.Option(help="Who decides.", envvar="USER")]
Reason = Annotated[str, typer.Option(help="Why; kept with the decision.")]


@app.command()
def pin(
    entity: EntityName,
    name: Name,
    field: FieldName,
    value: Annotated[str, typer.Argument(help="The value; JSON for consent, tags and references, else as it is.")],
    author: Author,
    reason: Reason,
    expires: Annotated[datetime | None, typer.Option(help="When the rule decides again (UTC).")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    data_dir: DataDir = DEFAULT_DATA,
    json: AsJson = False,
) -> None:
    """Decide a field's value: it beats every rule until it is unpinned or expires."""

    async def work(hub: Hub) -> dict[str, Any]:
        golden_id = await inquiry.find(hub.context, entity, name)
        decision: dict[str, object] = {
            "action": "pin", "entity": entity, "field": field, "value": parsed(hub, entity, field, value),
            "author": author, "reason": reason, "expires_at": _utc(expires),
        }  # fmt: skip
        await order(hub.context, [(golden_id, decision)])
        return {"golden_id": golden_id, **decision}

    _said(with_hub(config, data_dir, work), json)


def parsed(hub: Hub, entity: str, field: str, value: str) -> Any:
    """A value of a field as a person typed it. Raises Reject where it is none."""
    definition = hub.config.entities.get(entity)
    if definition is None or field not in definition.fields:
        raise Reject(f"{entity} has no field {field!r}", "unknown")
    kind = definition.fields[field].kind
    try:
        native = orjson.loads(value) if kind in ("consent", "tags", "ref", "json") and value[:1] in "[{" else value
        return values.parse(kind, native, hub.config.phone_region)
    except ValueError as error:
        raise Reject(f"{value!r} is not a {kind}: {error}") from None


def _utc(when: datetime | None) -> str | None:
    return when.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z") if when else None


@app.command()
def unpin(
    entity: EntityName, name: Name, field: FieldName, author: Author, reason: Reason = "",
    config: ConfigPath = DEFAULT_CONFIG, data_dir: DataDir = DEFAULT_DATA, json: AsJson = False,
) -> None:  # fmt: skip
    """Let the rule decide a field again."""
    decision: dict[str, object] = {"action": "unpin", "field": field, "author": author, "reason": reason}
    _said(with_hub(config, data_dir, lambda hub: _order(hub, entity, name, decision)), json)


@app.command()
def keep(
    entity: EntityName, name: Name, field: FieldName, author: Author, reason: Reason = "",
    config: ConfigPath = DEFAULT_CONFIG, data_dir: DataDir = DEFAULT_DATA, json: AsJson = False,
) -> None:  # fmt: skip
    """Settle a field's open conflict for the golden value, which is then written to the target that differs."""
    decision: dict[str, object] = {"action": "keep", "field": field, "author": author, "reason": reason}
    _said(with_hub(config, data_dir, lambda hub: _order(hub, entity, name, decision)), json)


@app.command()
def unmerge(
    entity: EntityName, name: Name, author: Author, reason: Reason,
    config: ConfigPath = DEFAULT_CONFIG, data_dir: DataDir = DEFAULT_DATA, json: AsJson = False,
) -> None:  # fmt: skip
    """Take a merged golden record apart again; its parts are never merged by machine after that."""
    decision: dict[str, object] = {"action": "unmerge", "author": author, "reason": reason}
    _said(with_hub(config, data_dir, lambda hub: _order(hub, entity, name, decision)), json)


async def _order(hub: Hub, entity: str, name: str, decision: dict[str, object]) -> dict[str, Any]:
    golden_id = await inquiry.find(hub.context, entity, name)
    await order(hub.context, [(golden_id, decision)])
    return {"golden_id": golden_id, **decision}


def _said(decision: dict[str, Any], json: bool) -> None:
    if json:
        as_json(decision)
    else:
        out.print(f"{decision['action']} recorded for {decision['golden_id']}; a running hub acts on it at once")


@app.command()
def resume(
    target: Annotated[str, typer.Argument(help="The paused target.")],
    config: ConfigPath = DEFAULT_CONFIG,
    data_dir: DataDir = DEFAULT_DATA,
) -> None:
    """Write to a target again that was paused because it refused the credentials. Exit 1 when it was not paused."""

    async def work(hub: Hub) -> bool:
        async with hub.context.pool.acquire() as conn:
            return await lift(hub.context, conn, target)

    resumed = with_hub(config, data_dir, work)
    out.print("resumed" if resumed else f"{target} was not paused")
    raise Exit(0 if resumed else 1)
