"""The commands as a user calls them, on a hub that has done its work: exit codes, shapes, and what they prove."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pyarrow.parquet

from tests.e2e.process import command, finish, running
from tests.e2e.systems import Friend, Systems, eventually

AUTHOR = ("--author", "ann", "--reason", "she told me")


async def first_name(systems: Systems, friend: Friend) -> tuple[str, str, str]:
    """What CRM, HubSpot and Mailchimp call a friend."""
    now = await systems.now_held()
    row = next(r for r in now.crm["contacts"] if r["id"] == friend.crm)
    contact = next(r for r in now.hubspot["contacts"] if r["id"] == friend.hubspot)
    member = next(m for m in now.mailchimp["lists"][0]["members"] if m["email_address"] == friend.email)
    return row["first_name"], contact["properties"]["firstname"], member["merge_fields"]["FNAME"]


async def ask(systems: Systems, *args: str, code: int = 0) -> Any:
    """The JSON answer of a command, whose exit code must be this one."""
    got, said = await command(systems, *args, "--json")
    assert got == code, (args, got, said)
    return said


async def test_what_a_user_may_ask_of_a_finished_run(systems: Systems) -> None:
    friend = systems.friends[0]
    await systems.crm("update contacts set first_name = 'Contested' where id = $1", friend.crm)
    await finish(systems)

    status = await ask(systems, "status")
    assert status["idle"] is True, status["sources"]
    assert status["unaccounted"] == 0
    assert {s["system"] for s in status["sources"]} == {"crm", "hubspot", "mailchimp"}

    ledger = await ask(systems, "ledger")
    assert ledger["captured"] == sum(ledger[name] for name in ("events", "duplicates", "parked", "waiting"))
    counted = {target: sum(outcomes.values()) for target, outcomes in ledger["targets"].items() if target != "-"}
    assert set(counted) == {"crm", "hubspot", "mailchimp"}

    shown = await ask(systems, "show", "contact", friend.email)
    assert shown == await ask(systems, "show", "contact", shown["golden_id"])
    assert shown == await ask(systems, "show", "contact", f"crm:{friend.crm}")
    assert {r["system"] for r in shown["records"]} == {"crm", "hubspot", "mailchimp"}
    await ask(systems, "show", "contact", "nobody@nowhere.example", code=2)
    await ask(systems, "why", "contact", friend.email, "shoe_size", code=2)

    await assert_why_cites_its_event(systems, friend)

    await assert_the_past_is_told(systems, friend)

    conflicts = await ask(systems, "conflicts", "--limit", "500")
    contested = [c for c in conflicts if c["golden_id"] == shown["golden_id"] and c["field"] == "first_name"]
    assert {(c["value"], c["golden"]) for c in contested} == {("Friend0", "Contested")}

    parked = await ask(systems, "parked", code=1)
    assert {p["code"] for p in parked if p["kind"] == "write"} >= {"duplicate"}

    replayed = await ask(systems, "replay")
    assert (replayed["differences"], replayed["swapped"]) == ([], False)
    assert replayed["golden"] > 50


async def assert_why_cites_its_event(systems: Systems, friend: Friend) -> None:
    """The event that *why* names stands on the log where it says, and holds the value."""
    why = await ask(systems, "why", "contact", friend.email, "first_name")
    assert why["value"] == "Contested"
    assert (why["winner"]["system"], why["rule"]) == ("crm", "truth(crm, hubspot, mailchimp)")
    assert {loser["value"] for loser in why["losers"]} == {"Friend0"}
    history = await ask(systems, "history", "contact", friend.email)
    (event,) = [e for e in history if e["id"] == why["winner"]["event_id"]]
    assert event["fields"]["first_name"] == "Contested"
    topic, _, place = why["winner"]["payload"].rpartition("/")
    partition, _, offset = place.partition("@")
    conn = await asyncpg.connect(systems.state_url)
    try:
        payload = await conn.fetchval(
            "select r.value from hub_log.record r join hub_log.partition p on p.id = r.partition_id"
            " join hub_log.topic t on t.id = p.topic_id"
            ' where t.name = $1 and p.number = $2 and r."offset" = $3', topic, int(partition), int(offset),
        )  # fmt: skip
    finally:
        await conn.close()
    assert b"Contested" in payload


async def assert_the_past_is_told(systems: Systems, friend: Friend) -> None:
    """The record before the edit and after it, a proof, the event that broke a rule, and exports."""
    history = await ask(systems, "history", "contact", friend.email)
    edits = [h for h in history if h["kind"] == "event" and h["fields"].get("first_name") == "Contested"]
    place = history.index(edits[0])
    assert history[place]["changes"][0]["fields"]["first_name"]["after"] == "Contested"
    assert {h["system"] for h in history if h["kind"] == "receipt"} >= {"hubspot", "mailchimp"}
    after = await ask(systems, "show", "contact", friend.email, "--at", edits[0]["id"])
    assert after["fields"]["first_name"]["value"] == "Contested"
    await ask(systems, "show", "contact", friend.email, "--at", "2001-01-01", code=2)
    now = await ask(systems, "show", "contact", friend.email)
    last = await ask(systems, "show", "contact", friend.email, "--at", history[-1]["processed_at"])
    assert (last["fields"], last["records"]) == (now["fields"], now["records"])
    proof = (await ask(systems, "why", "contact", friend.email, "first_name", "--proof"))["proof"]
    assert (proof["holds"], [d["value"] for d in proof["without"]]) == (True, ["Friend0"])
    search = ("bisect", "contact", "--invariant", "first_name == 'Friend0'", "--name", friend.email)
    assert (await ask(systems, *search, code=1))["first"]["id"] == edits[0]["id"]
    assert (await ask(systems, "export", "contact", friend.email))["steps"] == history
    path = systems.config.with_name("contacts.parquet")
    written = await ask(systems, "export", "contact", "--format", "parquet", "--output", str(path))
    rows = pyarrow.parquet.read_table(path).to_pylist()
    assert written["records"] == len(rows)
    assert [row["first_name"] for row in rows if row["email"] == friend.email] == ["Contested"]


async def test_what_a_steward_decides(systems: Systems) -> None:
    pinned, passing = systems.friends[:2]
    async with running(systems):
        await systems.read_once()
        said = await ask(systems, "pin", "contact", pinned.email, "first_name", "Pinned", *AUTHOR)
        assert (said["action"], said["author"]) == ("pin", "ann")
        expiry = datetime.now(UTC) + timedelta(seconds=20)
        until = ("--expires", expiry.strftime("%Y-%m-%dT%H:%M:%S"))
        await ask(systems, "pin", "contact", passing.email, "first_name", "Passing", *AUTHOR, *until)

        async def named(friend: Friend, name: str) -> bool:
            return await first_name(systems, friend) == (name,) * 3

        await eventually(lambda: named(pinned, "Pinned"))
        await eventually(lambda: named(passing, "Passing"))
        why = await ask(systems, "why", "contact", pinned.email, "first_name")
        assert (why["value"], why["pin"]["author"], why["pin"]["reason"]) == ("Pinned", "ann", "she told me")
        # An edit does not get past a pin; an expiry and an unpin give the field back to its rule.
        await systems.crm("update contacts set first_name = 'Ignored' where id = $1", pinned.crm)
        await eventually(lambda: named(passing, "Friend1"))
        await eventually(lambda: named(pinned, "Pinned"))
        await ask(systems, "unpin", "contact", pinned.email, "first_name", *AUTHOR)
        await eventually(lambda: named(pinned, "Ignored"))
        assert (await ask(systems, "why", "contact", pinned.email, "first_name"))["pin"] is None
        await ask(systems, "keep", "contact", pinned.email, "first_name", *AUTHOR)
        await ask(systems, "pin", "contact", pinned.email, "email", "not an address", *AUTHOR, code=2)
    await finish(systems)
    assert (await ask(systems, "replay"))["differences"] == []


async def test_a_refused_write_waits_for_a_person_and_is_tried_again(systems: Systems) -> None:
    friend = systems.friends[0]
    refuse = "alter table contacts add constraint known_cities check (city is distinct from 'Atlantis') not valid"
    await systems.crm(refuse)
    async with running(systems):
        await systems.read_once()
        await systems.hubspot_edit("contacts", friend.hubspot, city="Atlantis")

        async def parked() -> list[Any]:
            _, said = await command(systems, "parked", "--json")
            return [p for p in said if p["kind"] == "write" and p["target"] == "crm"]

        (row,) = await eventually(parked)
        assert "known_cities" in row["reason"]
        await systems.crm("alter table contacts drop constraint known_cities")
        code, said = await command(systems, "parked", "retry", "--target", "crm", "--author", "ann")
        assert code == 0
        assert said.strip() in ("1 are tried again", "0 are tried again"), "0 where a newer version is due"

        async def arrived() -> bool:
            return bool(await systems.crm("select city = 'Atlantis' from contacts where id = $1", friend.crm))

        await eventually(arrived)
        assert await parked() == []
    await finish(systems)
