"""Changing: a configuration held against the one in effect, and put in its place."""

import os
from collections.abc import Mapping

import orjson

from hub.config import Config
from hub.config.loading import loads
from hub.edge.wiring import MANIFESTS, Hub
from hub.errors import Reject
from streams import applying, versions, whatif
from streams.versions import Deployment, Version
from streams.whatif import Outlook, Scope


async def every_version(hub: Hub) -> list[Version]:
    """Every deployed version, the one in effect last. Raises Reject where none was deployed yet."""
    found = await _known(hub)
    if not found:
        raise Reject("no configuration is in effect yet: the first `hub run` records the one it is given", "first")
    return found


def configuration_of(hub: Hub, version: Version, env: Mapping[str, str] = os.environ) -> Config:
    """A deployed version as a configuration; files are found beside the present one. Raises ConfigError."""
    text = orjson.dumps(version.document).decode()
    return loads(text, MANIFESTS, env, hub.config.path.parent / f"version-{version.version}")


async def look(
    hub: Hub, scope: Scope, env: Mapping[str, str] = os.environ, config: Config | None = None
) -> tuple[Version, Outlook]:
    """What a configuration (without one, the hub's own) would change, held against the one in effect."""
    former = (await every_version(hub))[-1]
    old = configuration_of(hub, former, env)
    return former, await whatif.whatif(hub.context, old.model, (config or hub.config).model, scope)


async def deploy(
    hub: Hub,
    author: str,
    reason: str,
    config: Config | None = None,
    env: Mapping[str, str] = os.environ,
    agreed: tuple[int, int] | None = None,
) -> Outlook:
    """Put a configuration (without one, the hub's own) into effect, with all that follows; `agreed` as in
    `applying.apply`."""
    new = config or hub.config
    former = (await every_version(hub))[-1]
    old = configuration_of(hub, former, env)
    said = Deployment(new.deployment, new.document, author, reason)
    return await applying.apply(hub.context, old.model, new.model, said, former.version, agreed)


async def deploy_if_other(
    hub: Hub, reason: str, env: Mapping[str, str] = os.environ, again: bool = True
) -> Outlook | None:
    """The same where another is in effect; None where there is none, or it is this one, also because somebody else was
    faster. Unless `again`, one that was replaced stays so: of a fleet that is being renewed, a worker that starts once more
    with the old file must not take everything back. Raises Reject."""
    found = await _known(hub)
    if not found or found[-1].version == hub.config.deployment:
        return None
    if not again and hub.config.deployment in {one.version for one in found}:
        raise Reject(
            f"this configuration ({hub.config.deployment}) was replaced by {found[-1].version} ({found[-1].author}:"
            f" {found[-1].reason}): start this worker with the new file; to go back on purpose, `hub rollback`",
            "configuration",
        )
    try:
        return await deploy(hub, os.environ.get("USER", "hub"), reason, env=env)
    except Reject:
        if (await _known(hub))[-1].version == hub.config.deployment:
            return None
        raise


async def _known(hub: Hub) -> list[Version]:
    async with hub.context.pool.acquire() as conn:
        return await versions.deployed(conn)


def chosen(found: list[Version], wanted: str | None) -> Version:
    """The version to go back to: the one named (its beginning is enough), else the former one. Raises Reject."""
    if wanted is None:
        if len(found) < 2:
            raise Reject("there is no former version to go back to", "first")
        return found[-2]
    fitting = [one for one in found if one.version.startswith(wanted)]
    if len(fitting) != 1:
        known = ", ".join(one.version for one in found)
        raise Reject(f"{'no' if not fitting else 'more than one'} version begins with {wanted!r}; there are {known}")
    return fitting[0]
