"""What the judge says of systems that are in line, and of such that are not."""

from typing import Any

import pytest

from hub.edge.demo.data import World
from tests.demo.small import at, contact, member, row, small
from tests.oracle import Edit, expected
from tests.oracle_judge import judge
from tests.oracle_maps import TYPES

START = small(
    [row(1, 1, email="A@x.example", last_name="Abt", email_consent="in", consent_at=at(1))],
    [contact(7, 2, email="a@x.example", lastname="Abbot", jobtitle="CEO")],
)
END = small(
    [row(1, 9, email="A@x.example", last_name="Abt", job_title="CEO", email_consent="in", consent_at=at(1))],
    [contact(7, 9, email="a@x.example", lastname="Abt", jobtitle="CEO", hub_consent="in")],
    [member("a@x.example", 9, LNAME="Abt")],
)


def test_systems_in_line_are_found_right() -> None:
    assert judge(expected(START), END) == []


def _without(of: World, **more: Any) -> World:
    parts = {
        "crm": of.crm["contacts"],
        "hubspot": of.hubspot["contacts"],
        "mailchimp": of.mailchimp["lists"][0]["members"],
    }
    return small(**(parts | more))


WRONG = {
    "mailchimp lacks": _without(END, mailchimp=[]),
    "has last_name 'Abbot', not ['Abt']": _without(END, hubspot=[contact(7, 9, email="a@x.example", lastname="Abbot",
                                                                        jobtitle="CEO", hub_consent="in")]),
    "has job_title None": _without(END, crm=[row(1, 9, email="a@x.example", last_name="Abt", email_consent="in")]),
    "nothing asks for ('hubspot', 'contacts', '8')": _without(END, hubspot=[*END.hubspot["contacts"],
                                                                           contact(8, 9, lastname="Abt")]),
    "nothing asks for ('mailchimp', 'members', 'b@x.example')": _without(
        END, mailchimp=[*END.mailchimp["lists"][0]["members"], member("b@x.example", 9)]),
    "hubspot lacks": _without(END, hubspot=[]),
}  # fmt: skip


@pytest.mark.parametrize("words", WRONG)
def test_what_is_wrong_is_said(words: str) -> None:
    problems = judge(expected(START), WRONG[words])
    assert len(problems) == 1
    assert words in problems[0]


def test_nobody_who_opted_out_may_be_subscribed_and_who_left_cannot_be_brought_back() -> None:
    opted_out = small(
        [row(1, 9, email="a@x.example", email_consent="out", consent_at=at(9))], [], [member("a@x.example", 2)]
    )
    there = _without(opted_out, hubspot=[contact(7, 9, email="a@x.example", hub_consent="out")])
    assert "has consent" in judge(expected(opted_out), there)[0]
    assert judge(expected(opted_out), _without(there, mailchimp=[member("a@x.example", 9, "unsubscribed")])) == []
    nobody_asked = small([row(1, 9, email="a@x.example")])
    beside = _without(nobody_asked, hubspot=[contact(7, 9, email="a@x.example")], mailchimp=[member("a@x.example", 9)])
    assert "nothing asks for" in judge(expected(nobody_asked), beside)[0]


def test_only_who_left_there_may_stay_away_though_the_crm_was_told_yes() -> None:
    told = row(1, 9, email="a@x.example", email_consent="in", consent_at=at(9))
    in_line = {"hubspot": [contact(7, 9, email="a@x.example", hub_consent="in")]}
    away = member("a@x.example", 5, "unsubscribed")
    left, stayed = small([told], [], [away]), small([told], [], [member("a@x.example", 2)])
    assert judge(expected(left), _without(left, **in_line)) == []
    assert "has consent" in judge(expected(stayed), _without(stayed, mailchimp=[away], **in_line))[0]


def test_a_contact_that_hubspot_gets_without_a_lifecycle_may_become_a_lead_everywhere() -> None:
    of = small([row(1, 1, email="a@x.example")])
    assert expected(of)[0].values["lifecycle"] == [None, "lead"]
    lead = (
        [row(1, 9, email="a@x.example", lifecycle="lead")],
        [contact(7, 9, email="a@x.example", lifecyclestage="lead")],
    )
    assert judge(expected(of), small(*lead)) == []
    assert expected(small(*lead))[0].values["lifecycle"] == ["lead"]


def _mailing(whom: str, other: str) -> World:
    """A mailing to two people whom both other systems know, and what each system was told of it."""
    people = {1: "a@x.example", 2: "b@x.example"}
    consent = {"email_consent": "in", "consent_at": at(1)}
    empty = dict.fromkeys(TYPES["engagement"])
    talks = [{"id": 10 + id_, **empty, "kind": "email", "subject": "News: sent", "occurred_at": at(3),
              "contact_id": id_, "company_id": None, "deal_id": None, "updated_at": at(4)} for id_ in (1, 2)]  # fmt: skip
    of = small([row(id_, 1, email=email, **consent) for id_, email in people.items()],
               [contact(id_, 1, email=email, hub_consent="in") for id_, email in people.items()],
               [member(email, 1) for email in people.values()], engagements=talks,
               associations=[{"from": ["emails", "21"], "to": ["contacts", whom], "typeId": 198},
                             {"from": ["emails", "22"], "to": ["contacts", other], "typeId": 198}])  # fmt: skip
    mail = {"hs_timestamp": at(3).isoformat(), "hs_email_subject": "News: sent"}
    of.hubspot["emails"] = [{"id": id_, "properties": mail, "updatedAt": at(4).isoformat()} for id_ in ("21", "22")]
    return of


def test_what_was_mailed_to_two_people_at_once_is_told_apart_by_the_person() -> None:
    after = _mailing("2", "1")
    before = _mailing("2", "1")
    before.crm.pop("engagements")
    before.hubspot.pop("emails")
    before.hubspot["associations"].clear()
    before.mailchimp["campaigns"] = [{"id": "c", "title": "News", "send_time": at(3).isoformat(), "activity": []}]
    assert judge(expected(before), after) == []
    problems = judge(expected(before), _mailing("1", "1"))
    assert len(problems) == 2  # one is lacking for the second person, and one too many for the first
    assert any("hubspot lacks" in problem for problem in problems)


def test_what_was_deleted_must_be_gone_and_who_was_archived_is() -> None:
    deleted = expected(START, [Edit("crm", "contacts", "1", at(9), None)])
    assert len(judge(deleted, START)) == 2
    archived = END.mailchimp["lists"][0]["members"][0] | {"status": "archived"}
    assert judge(deleted, small([], [], [archived])) == []


def test_a_member_who_has_another_address_gets_the_golden_one() -> None:
    of = small(
        [row(1, 1, email="a@x.example")],
        [contact(7, 2, email="b@x.example", external_id="1")],
        [member("b@x.example", 3)],
    )
    there = {"hubspot": [contact(7, 9, email="a@x.example", hub_consent="in")]}
    crm = [row(1, 9, email="a@x.example", email_consent="in")]
    assert judge(expected(of), _without(of, crm=crm, mailchimp=[member("a@x.example", 9)], **there)) == []
    assert "has email 'b@x.example'" in judge(expected(of), _without(of, crm=crm, **there))[0]


def test_what_belongs_to_somebody_who_cannot_be_there_waits() -> None:
    note = {"id": 9, **dict.fromkeys(TYPES["engagement"]), "kind": "note", "occurred_at": at(3), "contact_id": 2,
            "company_id": None, "deal_id": None, "updated_at": at(4)}  # fmt: skip
    rows = [row(1, 1, email="info@x.example"), row(2, 1, email="info@x.example", last_name="B")]
    hubspot = [contact(7, 1, email="info@x.example")]
    known = small([row(2, 1, email="b@x.example")], [contact(7, 1, email="b@x.example")], engagements=[note])
    assert ["hubspot lacks ('crm', 'engagements', '9')" in problem for problem in judge(expected(known), known)] == [
        True
    ]
    of = small(rows, hubspot, engagements=[note])
    after = small([*rows, row(3, 9, email="info@x.example")], hubspot, engagements=[note])
    assert judge(expected(of), after) == []


def test_of_two_people_with_a_roles_address_only_one_can_be_in_hubspot() -> None:
    two = small([row(1, 1, email="info@x.example", last_name="A"), row(2, 1, email="info@x.example", last_name="B")])
    one_there = _without(two, hubspot=[contact(7, 9, email="info@x.example", lastname="B")])
    assert judge(expected(two), one_there) in ([], ["('hubspot', 'contacts', '7') has last_name 'B', not ['A']"])
    assert len(judge(expected(two), _without(two, hubspot=[]))) >= 1
