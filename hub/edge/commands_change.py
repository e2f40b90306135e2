"""Commands that change the configuration of a hub that has a history: whatif, apply, rollback, versions."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from hub.config import Config
from hub.edge import changing, report
from hub.edge.cli import DEFAULT_CONFIG, DEFAULT_DATA, AsJson, ConfigPath, DataDir, app, with_hub
from hub.edge.commands_steward import Author, Reason
from hub.edge.output import as_json, out, table
from hub.edge.wiring import Hub
from hub.errors import Reject
from streams.versions import Version
from streams.whatif import Outlook, Scope

Instant = Annotated[datetime | None, typer.Option(help="Only golden records with changes seen from then on (UTC).")]


Yes = Annotated[bool, typer.Option("--yes", help="Merge records and set them apart without asking.")]


@app.command()
def whatif(
    config: ConfigPath = DEFAULT_CONFIG,
    data_dir: DataDir = DEFAULT_DATA,
    sample: Annotated[int | None, typer.Option(help="Look at so many golden records only.", min=1)] = None,
    since: Instant = None,
    until: Annotated[datetime | None, typer.Option(help="The same, before then (UTC).")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a report that any browser shows.")] = None,
    json: AsJson = False,
) -> None:
    """Show what a changed configuration would do to everything captured so far. Nothing is changed, nobody is called."""
    scope = Scope(sample, _micros(since), _micros(until))

    async def work(hub: Hub) -> tuple[dict[str, Any], Outlook]:
        former, outlook = await changing.look(hub, scope)
        return report.document(outlook, former.version, hub.config.deployment), outlook

    document, _ = with_hub(config, data_dir, work)
    if html is not None:
        html.write_text(report.page(document), encoding="utf-8")
    _print(document, json)


@app.command("apply")
def apply_(
    author: Author,
    reason: Reason,
    yes: Yes = False,
    config: ConfigPath = DEFAULT_CONFIG,
    data_dir: DataDir = DEFAULT_DATA,
    json: AsJson = False,
) -> None:
    """Put a changed configuration into effect: do what `hub whatif` shows, as events, and queue just those writes.

    Asks before it merges records or sets them apart; where there is nobody to ask, --yes says so beforehand."""

    async def work(hub: Hub) -> dict[str, Any]:
        former = (await changing.every_version(hub))[-1]
        outlook = await changing.deploy(hub, author, reason, agreed=await _agreed(hub, yes))
        return report.document(outlook, former.version, hub.config.deployment)

    document = with_hub(config, data_dir, work)
    _print(document, json)
    _in_effect(document["to"], json)


@app.command()
def rollback(
    author: Author,
    reason: Reason,
    version: Annotated[
        str | None, typer.Argument(help="As `hub versions` lists them; without one, the former.")
    ] = None,
    yes: Yes = False,
    config: ConfigPath = DEFAULT_CONFIG,
    data_dir: DataDir = DEFAULT_DATA,
    json: AsJson = False,
) -> None:
    """Put an earlier configuration into effect again, like `hub apply`."""

    async def work(hub: Hub) -> dict[str, Any]:
        found = await changing.every_version(hub)
        wanted = changing.configuration_of(hub, changing.chosen(found, version))
        agreed = await _agreed(hub, yes, wanted)
        outlook = await changing.deploy(hub, author, reason, wanted, agreed=agreed)
        return report.document(outlook, found[-1].version, wanted.deployment)

    document = with_hub(config, data_dir, work)
    _print(document, json)
    _in_effect(document["to"], json)


@app.command()
def versions(
    config: ConfigPath = DEFAULT_CONFIG,
    data_dir: DataDir = DEFAULT_DATA,
    show: Annotated[str | None, typer.Option(help="Print this version's configuration, without its comments.")] = None,
    json: AsJson = False,
) -> None:
    """List the configurations that were in effect, the present one last."""

    async def work(hub: Hub) -> list[Version]:
        return await changing.every_version(hub)

    found: list[Version] = with_hub(config, data_dir, work)
    if show is not None:
        YAML().dump(changing.chosen(found, show).document, sys.stdout)
    elif json:
        as_json([{n: getattr(one, n) for n in ("version", "author", "reason", "at")} for one in found])
    else:
        rows = [(one.version, f"{one.at:%Y-%m-%d %H:%M}", one.author, one.reason) for one in found]
        table("Configurations", ("version", "since (UTC)", "by", "why"), rows)


async def _agreed(hub: Hub, yes: bool, config: Config | None = None) -> tuple[int, int] | None:
    """How many golden records somebody agrees to merge and to set apart; None where any number will do. Raises Reject where
    there are some and nobody agrees, or there is nobody to ask."""
    if yes:
        return None
    _, outlook = await changing.look(hub, Scope(), config=config)
    merged, split = outlook.regroups
    if merged or split:
        what = f"This merges {merged:,} golden records into others and sets {split:,} apart"
        if not sys.stdin.isatty():
            raise Reject(f"{what}: look at `hub whatif`, and say --yes if that is meant", "unconfirmed")
        if not typer.confirm(f"{what}. Go on?", err=True):
            raise Reject("nothing was changed", "unconfirmed")
    return merged, split


def _micros(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    if moment.year < 1970:
        raise Reject(f"{moment:%Y} is before any change")
    return int(moment.timestamp() * 1_000_000)


def _print(document: dict[str, Any], json: bool) -> None:
    if json:
        as_json(document)
    else:
        report.tables(document)


def _in_effect(version: str, json: bool) -> None:
    if not json:
        out.print(f"{version} is in effect: restart the workers with this configuration; others wait until then")
