"""Identity: the same records are the same things, in whatever order they are met."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.entity import Entity, Field
from hub.identity import ROLES, Key, RecordId, golden_id, keys, own_key, resolve, survivor
from hub.rules import Rule

CONTACT = Entity(
    "contact",
    {"email": Field("email", "email", Rule()), "domain": Field("domain", "domain", Rule())},
    match=("email", "domain"),
)
records = st.lists(
    st.tuples(st.sampled_from(("crm", "shop", "news")), st.integers(1, 4), st.sampled_from("abcd"), st.sampled_from("12345")),
    max_size=8,
)  # fmt: skip
Met = tuple[str, int, str, str]


def key_set(met: Met) -> list[Key]:
    system, number, email, foreign = met
    values = {"email": f"{email}@example.com"}
    return keys(CONTACT, (system, "o", str(number)), values, {"crm.o": foreign} if system == "shop" else {})


def group(history: list[Met]) -> dict[RecordId, str]:
    """Golden id per record, by resolving one after the other and merging as found."""
    owner: dict[Key, str] = {}
    linked: dict[RecordId, str] = {}
    for met in history:
        record = (met[0], "o", str(met[1]))
        hits = [(key, owner[key]) for key in sorted(key_set(met)) if key in owner]
        found = resolve(CONTACT, record, linked.get(record), hits, golden_id("contact", record))
        same = {found.golden_id, *found.merges}
        lives = survivor(same)
        linked[record] = found.golden_id
        owner |= dict.fromkeys(key_set(met), found.golden_id)
        owner = {key: lives if golden in same else golden for key, golden in owner.items()}
        linked = {one: lives if golden in same else golden for one, golden in linked.items()}
    return linked


def partition(linked: dict[RecordId, str]) -> set[frozenset[RecordId]]:
    """Which records are one thing, whatever it is called."""
    return {frozenset(r for r, g in linked.items() if g == golden) for golden in linked.values()}


@given(records, st.randoms(use_true_random=False))
def test_the_order_in_which_records_are_met_does_not_matter(history: list[Met], random: object) -> None:
    again = list(history)
    random.shuffle(again)  # type: ignore[attr-defined]
    assert partition(group(again)) == partition(group(history))


@given(records)
def test_the_survivor_is_the_smallest_id_that_was_minted(history: list[Met]) -> None:
    for golden in group(history).values():
        assert golden in {golden_id("contact", (met[0], "o", str(met[1]))) for met in history}


@given(st.lists(st.text(min_size=1), min_size=1, unique=True))
def test_the_survivor_is_the_same_whoever_asks(ids: list[str]) -> None:
    assert {survivor(order) for order in list(permutations(ids[:4]))} == {survivor(ids[:4])}
    assert survivor([survivor(ids[:2]), *ids[2:]]) == survivor(ids)


def test_a_minted_id_depends_on_record_and_generation() -> None:
    seen = {
        golden_id(entity, record, generation)
        for entity in ("contact", "company")
        for record in (("a", "b", "c"), ("a", "b", "d"), ("a", "bc", ""), ("ab", "", "c"))
        for generation in range(3)
    }
    assert len(seen) == 24
    assert golden_id("contact", ("a", "b", "c")) == golden_id("contact", ("a", "b", "c"))


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_role_mailbox_is_no_key(role: str) -> None:
    assert keys(CONTACT, ("crm", "o", "1"), {"email": f"{role}@example.com"}, {}) == [("record", "crm/o/1")]


def test_keys() -> None:
    held = keys(
        CONTACT, ("shop", "o", "9"), {"email": "Ann@Example.com", "domain": None}, {"crm.o": "7", "golden": "g"}
    )
    assert set(held) == {
        ("record", "shop/o/9"), ("record", "crm/o/7"), ("golden", "g"), ("email", "ann@example.com")
    }  # fmt: skip
    assert own_key(("a", "b", "c")) == ("record", "a/b/c")


def test_a_linked_record_stays_where_it_is() -> None:
    hits = [(("email", "x"), "contact_2"), (("record", "r"), "contact_3")]
    found = resolve(CONTACT, ("crm", "o", "1"), "contact_1", hits, "")
    assert (found.golden_id, found.merges, found.new) == ("contact_1", ("contact_2", "contact_3"), False)
    assert resolve(CONTACT, ("crm", "o", "1"), None, [], "contact_9").new
