"""What the oracle expects, on worlds small enough to be sure of the answer."""

import pytest

from hub.edge.demo.data import World
from tests.demo.small import at, contact, member, row, small
from tests.oracle import Edit, Thing, expected
from tests.oracle_judge import judge
from tests.oracle_maps import TYPES


def only(of: World, *edits: Edit) -> Thing:
    """The one golden record of a world."""
    things = expected(of, edits)
    assert len(things) == 1
    return things[0]


def test_one_address_however_written_is_one_person_but_a_roles_is_not() -> None:
    same = small(
        [row(1, 1, email=" ANN@x.example ")], [contact(7, 2, email="ann@x.example")], [member("Ann@X.example", 3)]
    )
    assert only(same).records == [
        ("crm", "contacts", "1"),
        ("hubspot", "contacts", "7"),
        ("mailchimp", "members", "ann@x.example"),
    ]
    assert len(expected(small([row(1, 1, email="info@x.example"), row(2, 1, email="info@x.example")]))) == 2
    assert len(expected(small([row(1, 1, email="ann smith@x.example"), row(2, 1, email="ann smith@x.example")]))) == 2


def test_records_are_one_through_a_chain_of_foreign_id_and_address() -> None:
    chain = small(
        [row(1, 1, email="a@x.example")],
        [contact(7, 2, email="b@x.example", external_id=" 1")],
        [member("b@x.example", 3)],
    )
    assert only(chain).values["email"] == ["a@x.example"]


def test_truth_takes_the_next_system_where_one_says_nothing_or_nonsense() -> None:
    of = small([row(1, 9, email="a@x.example", job_title="Boss", city=None)],
               [contact(7, 1, email="a@x.example", jobtitle="CEO", city="Oslo", country="Norway")])  # fmt: skip
    values = only(of).values
    assert (values["job_title"], values["city"], values["country"]) == (["CEO"], ["Oslo"], ["Norway"])
    assert "last_name" not in values
    without = only(small([row(1, 9, email="at nowhere")], [contact(7, 1, email="a@x.example", external_id="1")]))
    assert without.values["email"] == ["a@x.example"]


def test_country_follows_the_record_that_won_the_city() -> None:
    of = small(
        [row(1, 9, email="a@x.example", city="Lyon", country=None)],
        [contact(7, 1, email="a@x.example", country="Norway")],
    )
    assert "country" not in only(of).values


def test_within_one_system_the_newest_row_wins_and_equally_new_ones_both_may() -> None:
    twice = [row(1, 5, email="a@x.example", last_name="Old"), row(2, 6, email="a@x.example", last_name="New")]
    assert only(small(twice)).values["last_name"] == ["New"]
    assert only(small([twice[0], twice[1] | {"updated_at": at(5)}])).values["last_name"] == ["Old", "New"]


@pytest.mark.parametrize(
    ("crm_day", "crm", "hubspot", "phone"),
    [
        (1, "415 555 0100", "415 555 0199", "+14155550199"),
        (3, "415 555 0100", "415 555 0199", "+14155550100"),
        (3, None, "415 555 0199", "+14155550199"),
        (3, "call mobile!", "415 555 0199", "+14155550199"),
    ],
)
def test_latest_wins_but_not_where_it_is_invalid_or_empty_at_first_sight(
    crm_day: int, crm: str | None, hubspot: str, phone: str | None
) -> None:
    of = small([row(1, crm_day, email="a@x.example", phone=crm)], [contact(7, 2, email="a@x.example", phone=hubspot)],
               [member("a@x.example", 9, PHONE="415 555 0177")])  # fmt: skip
    assert only(of).values["phone"] == [phone]


def test_without_a_clock_the_crms_rows_are_as_old_as_their_reading() -> None:
    of = small(
        [row(1, 1, email="a@x.example", phone="415 555 0100")],
        [contact(7, 2, email="a@x.example", phone="415 555 0199")],
    )
    assert expected(of)[0].values["phone"] == ["+14155550199"]
    assert expected(of, crm_read_at=at(9))[0].values["phone"] == ["+14155550100"]


@pytest.mark.parametrize(
    ("crm", "crm_day", "status", "day", "consent"),
    [
        ("in", 1, "unsubscribed", 2, "out"),
        ("in", 3, "unsubscribed", 2, "in"),
        ("in", None, "unsubscribed", 2, "out"),
        ("out", 1, "subscribed", 4, "in"),
        ("out", 9, "subscribed", 4, "out"),
        ("out", None, "subscribed", 4, "out"),
        ("in", 2, "unsubscribed", 2, "out"),
        (None, None, "subscribed", 2, "in"),
        (None, None, "cleaned", 2, "out"),
    ],
)
def test_an_opt_out_stands_until_a_later_dated_opt_in(
    crm: str | None, crm_day: int | None, status: str, day: int, consent: str
) -> None:
    told = row(1, 10, email="a@x.example", email_consent=crm, consent_at=at(crm_day) if crm_day else None)
    assert only(small([told], [], [member("a@x.example", day, status)])).values["consent"] == [consent]


def test_hubspots_opt_in_counts_for_nothing_and_its_opt_out_for_all() -> None:
    out = row(1, 5, email="a@x.example", email_consent="in", consent_at=at(5))
    said = {"email": "a@x.example", "hub_consent_at": at(6).isoformat()}
    assert only(small([out], [contact(7, 6, **said, hub_consent="out")])).values["consent"] == ["out"]
    assert only(small([], [contact(7, 6, **said, hub_consent="in")])).one("consent") is None
    assert only(small([out], [contact(7, 6, email="a@x.example", hs_email_optout="true")])).values["consent"] == ["out"]


def test_tags_are_united() -> None:
    of = small([row(1, 1, email="a@x.example", tags=["b", "a"])], [], [member("a@x.example", 2, tags=["c", "a"])])
    assert only(of).values["tags"] == [["a", "b", "c"]]


def test_references_name_the_thing_referred_to() -> None:
    companies = [
        {
            "id": 4,
            **dict.fromkeys(TYPES["company"]),
            "name": "X",
            "domain": "https://www.x.example/",
            "updated_at": at(1),
        }
    ]
    of = small([row(1, 1, email="a@x.example", company_id=4)], [contact(7, 2, email="a@x.example")], companies=companies,
               associations=[{"from": ["contacts", "7"], "to": ["companies", "5"], "typeId": 1}])  # fmt: skip
    of.hubspot["companies"] = [{"id": "5", "properties": {"domain": "x.example"}, "updatedAt": at(2).isoformat()}]
    of.hubspot["contacts"].append(contact(8, 2, email="b@x.example"))
    of.hubspot["associations"].append({"from": ["companies", "5"], "to": ["contacts", "8"], "typeId": 2})
    company, ann, bob = sorted(expected(of), key=lambda thing: str(thing.one("email") or ""))
    assert company.records == [("crm", "companies", "4"), ("hubspot", "companies", "5")]
    assert ann.values["company"] == bob.values["company"] == [("crm", "companies", "4")]


def test_edits_are_the_newest_word_of_their_record() -> None:
    of = small([row(1, 1, email="a@x.example", phone="415 555 0100", last_name="Abt")], [], [member("a@x.example", 2)])
    called = Edit("hubspot", "contacts", "99", at(20), {"phone": "415 555 0111"}, of=("crm", "contacts", "1"))
    married = Edit("crm", "contacts", "1", at(21), {"last_name": "Bell"})
    left = Edit("mailchimp", "members", "a@x.example", at(22), {"status": "unsubscribed"})
    values = only(of, called, married, left).values
    assert (values["phone"], values["last_name"], values["consent"]) == (["+14155550111"], ["Bell"], ["out"])


def test_a_delete_in_the_crm_goes_everywhere_and_one_in_hubspot_only_takes_its_word_back() -> None:
    of = small([row(1, 1, email="a@x.example", job_title="Boss")], [contact(7, 2, email="a@x.example", jobtitle="CEO")])
    assert only(of, Edit("crm", "contacts", "1", at(9), None)).gone
    detached = only(of, Edit("hubspot", "contacts", "7", at(9), None))
    assert (detached.gone, detached.values["job_title"]) == (False, ["Boss"])
    assert judge([detached], small(of.crm["contacts"])) == []
