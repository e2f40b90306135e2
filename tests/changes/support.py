"""Configurations that change, on the small model of the stages' tests: each variant differs in one thing from that model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from hub.entity import Entity
from hub.mapping import Codec, FieldMap, ObjectMap
from hub.model import Model
from hub.rules import Rule
from hub.write import Write
from streams import versions
from streams.applying import apply
from streams.topics import golden_topic
from streams.versions import Deployment
from streams.whatif import Outlook, whatif
from tests.stages.model import COMPANY, CONTACT, CRM, FIRMS, NEWS, SHOP
from tests.stages.support import Stages


def model_of(contact: Entity = CONTACT, company: Entity = COMPANY, maps: tuple[ObjectMap, ...] = ()) -> Model:
    """A model of these entities; `maps` take the place of the usual mappings of the same objects."""
    given = {(m.system, m.object): m for m in maps}
    chosen = {(m.system, m.object): m for m in (CRM, FIRMS, SHOP, NEWS)} | given
    placed = {p: replace(m, entity=contact if m.entity.name == "contact" else company) for p, m in chosen.items()}
    entities = {"contact": contact, "company": company}
    return Model(entities, placed, "")


def ruled(**rules: Rule) -> Entity:
    """The contact with other rules."""
    fields = {n: replace(f, rule=rules.get(n, f.rule)) for n, f in CONTACT.fields.items()}
    return replace(CONTACT, fields=fields, version="ruled " + " ".join(sorted(rules)))


def without(mapping: ObjectMap, *names: str) -> ObjectMap:
    """A mapping without some fields."""
    return replace(mapping, fields=tuple(f for f in mapping.fields if f.name not in names))


def instead(mapping: ObjectMap, *fields: FieldMap) -> ObjectMap:
    """A mapping with these fields in place of those of the same names."""
    given = {f.name: f for f in fields}
    return replace(mapping, fields=tuple(given.get(f.name, f) for f in mapping.fields))


def _upper(natives: Mapping[str, Any]) -> Any:
    value = next(iter(natives.values()))
    return value.upper() if isinstance(value, str) else value


SHOUTED = FieldMap("name", ("name",), codec=Codec(_upper, lambda value: {"name": value}))

BASE = model_of()
VARIANTS: dict[str, Model] = {
    "rules": model_of(ruled(name=Rule("truth", ("news", "shop", "crm")), city=Rule("latest"), phone=Rule("latest"))),
    "review": model_of(ruled(city=Rule("truth", ("shop", "crm"), review=True))),
    "no review": model_of(ruled(tier=Rule("latest"))),
    "transform": model_of(maps=(instead(CRM, SHOUTED), instead(SHOP, SHOUTED))),
    "swapped": model_of(maps=(instead(SHOP, FieldMap("city", ("zip",)), FieldMap("zip", ("city",))),)),
    "options": model_of(maps=(instead(CRM, FieldMap("lifecycle", ("lifecycle",), options={"lead": "won"})),)),
    "field gone": model_of(maps=(without(CRM, "city", "tier"),)),
    "told only": model_of(maps=(instead(NEWS, FieldMap("name", ("name",), "out")),)),
    "object gone": Model(BASE.entities, {p: m for p, m in BASE.mappings.items() if p[0] != "shop"}, ""),
    "one target less": model_of(maps=(replace(SHOP, fields=tuple(replace(f, direction="in") for f in SHOP.fields)),)),
    "condition": model_of(maps=(replace(NEWS, when="city == 'Bonn'"), replace(SHOP, requires=("name",)))),
    "matched more": model_of(replace(CONTACT, match=("email", "phone"), version="both")),
    "matched otherwise": model_of(replace(CONTACT, match=("phone",), version="phone")),
    "deletes": model_of(replace(CONTACT, deletes={"crm": "detach", "shop": "propagate"}, version="deletes")),
}


@dataclass(slots=True)
class Deployed:
    """A hub whose configuration changes; `version` counts."""

    hub: Stages
    version: int = 1

    async def adopt(self) -> None:
        """Record the first configuration."""
        self.hub.context.configuration = "1"
        await versions.adopt(self.hub.context, {"version": 1}, "ann")

    async def whatif(self, new: Model) -> Outlook:
        """What a model would change."""
        return await whatif(self.hub.context, self.hub.context.model, new)

    async def apply(self, new: Model) -> Outlook:
        """Put a model into effect, and go on with it, as after a restart."""
        former, self.version = str(self.version), self.version + 1
        said = Deployment(str(self.version), {"version": self.version}, "ann", "because")
        await self.hub.context.log.ensure_topics(map(golden_topic, new.entities))
        outlook = await apply(self.hub.context, self.hub.context.model, new, said, former)
        self.hub.context.models[former] = self.hub.context.model
        self.hub.context.model, self.hub.context.configuration = new, str(self.version)
        return outlook

    async def deliver(self) -> list[tuple[str, ...]]:
        """Bring every target in line until nothing is left; all writes, in a form that can be compared."""
        written: list[Write] = []
        while True:
            some = [w for t in self.hub.context.model.systems for p in await self.hub.deliver(t) for w in p.writes]
            written += some
            if not some:
                return seen(written)


def seen(writes: list[Write]) -> list[tuple[str, ...]]:
    """Writes as their targets see them, in order of content; ids of created records stand as their golden ids."""
    return sorted(
        (
            w.target, w.object, w.op, (w.external_id or "").removeprefix(f"{w.target}-").removeprefix("new:"),
            orjson.dumps(_named(w.target, dict(w.values)), option=orjson.OPT_SORT_KEYS).decode(),
        )
        for w in writes
    )  # fmt: skip


def _named(target: str, values: dict[str, Any]) -> dict[str, Any]:
    ids = {n: str(v["id"]).removeprefix(f"{target}-").removeprefix("new:") for n, v in values.items() if _is_ref(v)}
    return {n: {**v, "id": ids[n]} if n in ids else v for n, v in values.items()}


def _is_ref(value: Any) -> bool:
    return isinstance(value, dict) and "id" in value
