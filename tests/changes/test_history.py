"""What a change does to history: mistakes mended after the fact, new fields, targets and entities filled from the log, and
records set apart and brought together. Nothing here has a connector: no system could be called."""

from dataclasses import replace
from typing import Any

from hub.entity import Entity, Field
from hub.fold import DELETED
from hub.mapping import Codec, FieldMap
from hub.model import Model
from hub.rules import Rule
from streams import applying, receipts, rereading
from streams.preparing import prepare
from streams.queue import lease
from streams.whatif import Outlook
from tests.changes.support import BASE, VARIANTS, Deployed, instead, model_of, seen, without
from tests.promises.mutations import broken, mutation
from tests.stages.conftest import hub
from tests.stages.model import COMPANY, CONTACT, CRM, FIRMS
from tests.stages.support import Stages, assert_balanced

__all__ = ["hub"]


def _initial(natives: Any) -> Any:
    """A transform with a mistake: of every name only the first letter."""
    value = natives["name"]
    return value[:1] if isinstance(value, str) else value


MISTAKEN = model_of(maps=(instead(CRM, FieldMap("name", ("name",), codec=Codec(_initial, lambda v: {"name": v}))),))


async def begun(hub: Stages, model: Model = BASE) -> Deployed:
    """A hub with a first configuration and no history."""
    hub.context.model = model
    deployed = Deployed(hub)
    await deployed.adopt()
    assert not hub.context.connectors
    return deployed


async def check_retroactive(hub: Stages) -> None:
    """Three people; the names of two came in shortened, and were written on to the shop. Mended, only those two change,
    by updates of that field alone; what is still under way comes back as an echo, and makes no claim."""
    deployed = await begun(hub, MISTAKEN)
    await hub.crm("1", email="ann@example.com", name="Ann", city="Bonn")
    await hub.crm("2", email="otto@example.com", name="Otto")
    await hub.crm("3", email="x@example.com", name="X")
    written = await deployed.deliver()
    assert {w[:3] for w in written} == {("shop", "customers", "create")}
    golden = await hub.golden_of("crm", "contacts", "1")
    versions = {r["golden_id"]: r["version"] for r in await hub.context.pool.fetch("select * from hub.golden")}

    outlook = await deployed.apply(BASE)
    assert {(c.field, c.before, c.after) for c in outlook.fields if c.field != "label"} == {
        ("name", "A", "Ann"), ("name", "O", "Otto"),
    }  # fmt: skip
    assert len(outlook.changed) == 2, outlook.changed
    rows = await hub.context.pool.fetch("select golden_id, version from hub.golden")
    assert {r["golden_id"] for r in rows if r["version"] > versions[r["golden_id"]]} == outlook.changed
    assert {(w.target, w.object, w.op, *w.values) for w in outlook.writes} == {("shop", "customers", "update", "name")}
    await hub.plan()
    await hub.tell(hub.change("shop", "customers", f"shop-{golden}", name="A", email="ann@example.com"))
    assert (await hub.values("crm", "contacts", "1"))["name"] == "Ann", "an echo of the mistake was taken for an edit"
    assert await deployed.deliver() == seen(outlook.writes)
    assert await deployed.deliver() == [], "something is done twice"
    assert (await deployed.whatif(BASE)).nothing
    assert not (await hub.replay()).differences
    assert_balanced(await hub.ledger())


async def test_a_mended_transform_mends_history(hub: Stages) -> None:
    await check_retroactive(hub)


async def test_the_check_fails_where_what_claims_said_stands(hub: Stages) -> None:
    unseen = mutation(rereading, "_differing", lambda before, after: set())
    with unseen, mutation(rereading, "_misread", lambda claims, event, reading: iter(())), broken("claims stay"):
        await check_retroactive(hub)


async def test_a_fault_of_the_code_is_mended_though_the_configuration_says_the_same(hub: Stages) -> None:
    """The mapping reads the same by both models, and otherwise than when the claims were made."""
    deployed = await begun(hub, MISTAKEN)
    await hub.crm("1", email="ann@example.com", name="Ann")
    hub.context.model = BASE
    outlook = await deployed.apply(BASE)
    assert [(c.before, c.after) for c in outlook.fields if c.field == "name"] == [("A", "Ann")]
    assert not (await hub.replay()).differences


async def test_what_was_written_under_the_old_mapping_is_known_when_it_comes_back(hub: Stages) -> None:
    """An intent without an answer: its echo comes only after the deployment, in the words of the old mapping."""
    named = FieldMap("tier", ("tier",), options={"1": "gold", "2": "silver"})
    shop = instead(BASE.mappings["shop", "customers"], named)
    flipped = replace(BASE, mappings={**BASE.mappings, ("shop", "customers"): shop})
    deployed = await begun(hub)
    await hub.crm("1", email="ann@example.com", tier="1")
    await hub.shop("7", email="ann@example.com")
    written = await deployed.deliver()
    assert any("tier" in w[4] for w in written)
    await deployed.apply(flipped)
    states = {s.id[:2]: s for s in await hub.records(await hub.golden_of("crm", "contacts", "1"))}
    assert states["shop", "customers"].view["tier"].value == "gold", "what it holds, in the new mapping's terms"
    await hub.shop("7", tier="1")
    states = {s.id[:2]: s for s in await hub.records(await hub.golden_of("crm", "contacts", "1"))}
    assert "tier" not in states["shop", "customers"].claims, "an echo was taken for an edit"
    assert not (await hub.replay()).differences


async def check_open_intents_are_known(hub: Stages) -> None:
    """A write that took effect, and of which neither answer nor echo had come when the mapping changed."""
    named = FieldMap("tier", ("tier",), options={"1": "gold", "2": "silver"})
    shop = instead(BASE.mappings["shop", "customers"], named)
    deployed = await begun(hub)
    await hub.crm("1", email="ann@example.com", tier="1")
    await hub.shop("7", email="ann@example.com")
    async with hub.context.pool.acquire() as conn:
        prepared = await prepare(conn, BASE, await lease(conn, "shop", "died", 500))
        await receipts.leave_intents(conn, [w for p in prepared for w in p.writes])
    await deployed.apply(replace(BASE, mappings={**BASE.mappings, ("shop", "customers"): shop}))
    await hub.shop("7", tier="1")
    states = {s.id[:2]: s for s in await hub.records(await hub.golden_of("crm", "contacts", "1"))}
    assert "tier" not in states["shop", "customers"].claims, "an echo was taken for an edit"
    assert not (await hub.replay()).differences


async def test_an_intent_is_known_when_it_comes_back_in_other_terms(hub: Stages) -> None:
    await check_open_intents_are_known(hub)


async def as_they_are(*_: object) -> None:
    """Intents in the old mapping's terms."""


async def test_the_check_fails_where_intents_stay_as_they_are(hub: Stages) -> None:
    with mutation(applying, "_translate_intents", as_they_are), broken("intents stay as they are"):
        await check_open_intents_are_known(hub)


async def test_a_new_field_is_filled_from_the_log(hub: Stages) -> None:
    deployed = await begun(hub, VARIANTS["field gone"])
    await hub.crm("1", email="ann@example.com", city="Bonn", tier="gold")
    await hub.crm("1", city="Berlin")
    await hub.shop("7", email="ann@example.com", city="Kiel")
    await deployed.deliver()
    assert (await hub.values("crm", "contacts", "1"))["city"] == "Kiel"
    outlook = await deployed.apply(BASE)
    values = await hub.values("crm", "contacts", "1")
    assert (values["city"], values["tier"]) == ("Berlin", "gold")
    await hub.plan()
    assert await deployed.deliver() == seen(outlook.writes)
    assert {(w.target, w.op) for w in outlook.writes} == {("shop", "update")}
    assert not (await hub.replay()).differences


async def test_a_new_target_is_filled_from_the_log(hub: Stages) -> None:
    deployed = await begun(hub, VARIANTS["object gone"])
    for number in range(5):
        await hub.crm(str(number), email=f"p{number}@example.com", name=f"P{number}", company_id="9")
    await hub.tell(hub.change("crm", "companies", "9", name="Firm", domain="firm.example.com"))
    await deployed.deliver()
    outlook = await deployed.apply(BASE)
    assert [(w.target, w.op) for w in outlook.writes] == [("shop", "create")] * 5
    assert_balanced(await hub.ledger())
    await hub.plan()
    assert await deployed.deliver() == seen(outlook.writes)
    ledger = await hub.ledger()
    assert_balanced(ledger)
    assert ledger.targets["shop"]["applied"] == 5, ledger.targets
    assert ledger.pending == 0, ledger.targets
    assert not (await hub.replay()).differences


SUPPLIER = Entity(
    "supplier",
    {"name": Field("name", "text", Rule("latest")), "domain": Field("domain", "domain", Rule("latest"))},
    match=("domain",),
    version="s1",
)


async def test_a_new_entity_is_filled_from_the_log(hub: Stages) -> None:
    """What were companies become suppliers, of which two are one; and come back."""
    deployed = await begun(hub)
    for number, domain in enumerate(("a.example.com", "b.example.com")):
        await hub.tell(hub.change("crm", "companies", str(number), name=f"Firm {number}", domain=domain, tax="same"))
    matched = replace(SUPPLIER, fields={**SUPPLIER.fields, "tax": Field("tax", "text", Rule("latest"))}, match=("tax",))
    fields = (*without(FIRMS, "revenue").fields, FieldMap("tax", ("tax",)))
    firms = replace(FIRMS, entity=matched, fields=fields)
    mappings = {**BASE.mappings, ("crm", "companies"): firms}
    await deployed.apply(Model({"contact": CONTACT, "company": COMPANY, "supplier": matched}, mappings, ""))
    living = await hub.goldens()
    assert [(g.entity, g.values()["name"], g.values()["tax"]) for g in living.values()] == [
        ("supplier", "Firm 1", "same")
    ]
    assert not (await hub.replay()).differences
    await hub.tell(hub.change("crm", "companies", "1", name="Firm X"))
    assert (await hub.values("crm", "companies", "0"))["name"] == "Firm X"
    await deployed.apply(BASE)
    assert sorted(g.values()["name"] for g in (await hub.goldens()).values()) == ["Firm 0", "Firm X"]
    assert not (await hub.replay()).differences
    assert_balanced(await hub.ledger())


async def check_merge_and_split(hub: Stages) -> None:
    """Matching by number as well makes two people one; taken back, both have their own ids and values again."""
    deployed = await begun(hub)
    await hub.crm("1", email="ann@example.com", name="Ann", phone="+4930123456")
    await hub.shop("2", email="otto@example.com", name="Otto", phone="+4930123456")
    ids = [await hub.golden_of("crm", "contacts", "1"), await hub.golden_of("shop", "customers", "2")]
    assert ids[0] != ids[1]
    outlook = await deployed.apply(VARIANTS["matched more"])
    assert outlook.regrouped.merged == {max(ids): min(ids)}
    assert await hub.golden_of("crm", "contacts", "1") == await hub.golden_of("shop", "customers", "2") == min(ids)
    assert not (await hub.replay()).differences
    await deployed.apply(BASE)
    assert [await hub.golden_of("crm", "contacts", "1"), await hub.golden_of("shop", "customers", "2")] == ids
    assert [g.values()["name"] for _, g in sorted((await hub.goldens()).items())] == ["Ann", "Otto"][
        :: 1 if ids[0] < ids[1] else -1
    ]
    assert not (await hub.replay()).differences
    assert_balanced(await hub.ledger())


async def test_match_settings_merge_and_split(hub: Stages) -> None:
    await check_merge_and_split(hub)


async def test_the_check_fails_where_identities_are_not_told(hub: Stages) -> None:
    told = applying.foresee

    async def untold(*args: Any) -> Outlook:
        outlook = await told(*args)
        outlook.regrouped.decisions.clear()
        return outlook

    with mutation(applying, "foresee", untold), broken("a rebuild does not know of the merge"):
        await check_merge_and_split(hub)


async def test_what_was_linked_by_a_key_that_counts_no_more_is_set_apart(hub: Stages) -> None:
    """Linked at first sight, by the number: the one who came later gets an id of its own, and its pin stays."""
    deployed = await begun(hub, VARIANTS["matched more"])
    await hub.crm("1", email="ann@example.com", name="Ann", phone="+4930123456")
    await hub.shop("2", email="otto@example.com", name="Otto", phone="+4930123456")
    golden = await hub.golden_of("crm", "contacts", "1")
    assert golden == await hub.golden_of("shop", "customers", "2")
    await hub.order(golden, "pin", field="city", value="Pinned")
    outlook = await deployed.apply(BASE)
    assert [*outlook.regrouped.split] == [golden]
    assert await hub.golden_of("crm", "contacts", "1") == golden
    apart = await hub.golden_of("shop", "customers", "2")
    assert apart != golden
    values = {g: one.values() for g, one in (await hub.goldens()).items()}
    assert (values[golden]["name"], values[golden]["city"], values[apart]["name"]) == ("Ann", "Pinned", "Otto")
    assert "city" not in values[apart]
    assert not (await hub.replay()).differences
    await hub.shop("2", name="Otto II")
    assert (await hub.values("shop", "customers", "2"))["name"] == "Otto II"
    assert not (await hub.replay()).differences


async def test_who_was_set_apart_by_a_person_is_not_merged(hub: Stages) -> None:
    deployed = await begun(hub, VARIANTS["matched more"])
    await hub.crm("1", email="ann@example.com")
    await hub.shop("2", email="otto@example.com", phone="+4930123456")
    await hub.crm("1", phone="+4930123456")
    golden = await hub.golden_of("crm", "contacts", "1")
    assert golden == await hub.golden_of("shop", "customers", "2")
    await hub.order(golden, "unmerge")
    await deployed.apply(BASE)
    await deployed.apply(VARIANTS["matched more"])
    assert await hub.golden_of("crm", "contacts", "1") != await hub.golden_of("shop", "customers", "2")


async def test_a_deleted_record_stays_deleted(hub: Stages) -> None:
    deployed = await begun(hub, VARIANTS["field gone"])
    await hub.crm("1", email="ann@example.com", city="Bonn")
    await hub.shop("7", email="ann@example.com")
    await hub.delete("shop", "customers", "7")
    await deployed.deliver()
    outlook = await deployed.apply(BASE)
    assert [w for w in outlook.writes if w.target == "shop"] == []
    states = {s.id[:2]: s for s in await hub.records(await hub.golden_of("crm", "contacts", "1"))}
    assert states["shop", "customers"].gone
    assert states["shop", "customers"].claims[DELETED].value
