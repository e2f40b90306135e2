"""In force: which configuration was at work when, by the events of its deployments."""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from hub.errors import ConfigError, Reject
from hub.model import Model
from streams.context import Context
from streams.regrouping import CAUSE


@dataclass(frozen=True, slots=True)
class InForce:
    """A configuration that took effect: at which place in the order of processing (0 where that was not noted), when, by
    whom and why. `model` is what it says of entities and mappings."""

    number: int
    at: int
    version: str
    former: str
    author: str
    reason: str
    model: Model

    @property
    def id(self) -> str:
        """What names it where an event could have led to something."""
        return f"{CAUSE}/{self.number}"


async def deployments(context: Context) -> list[InForce]:
    """Every deployment that is indexed, in order. Raises Reject where a version's document cannot be read any more."""
    rows = await context.pool.fetch('select * from hub.deployment order by "offset"')
    return [
        InForce(r["processed"], r["at"], r["version"], r["former"], r["author"], r["reason"], model)
        for r in rows
        if (model := await _model(context, r["version"])) is not None
    ]


async def _model(context: Context, version: str) -> Model | None:
    """A version's model, read once; None where this process cannot read documents, and so knows only its own."""
    if version == context.configuration:
        return context.model
    if version not in context.models and context.load_model is not None:
        document = await context.pool.fetchval("select document from hub.configuration where version = $1", version)
        if document is None:
            return None
        try:
            context.models[version] = context.load_model(orjson.loads(document))
        except ConfigError as error:
            raise Reject(
                f"configuration {version} was in force, and cannot be read any more: {error}", "version"
            ) from error
    return context.models.get(version)


def before(known: Sequence[InForce], number: int, at: int) -> InForce | None:
    """What was in force right before a place in the order of processing. The first version is that of all before it, for
    it was recorded by a hub that already worked by it."""
    past = [one for one in known if (one.number < number if one.number else one.at < at)]
    return past[-1] if past else next(iter(known), None)
