"""What the hub sets up in an audience, and what its check says of it."""

from collections.abc import AsyncIterator

import pytest

from connectors.mailchimp.connector import Mailchimp
from hub.errors import ConfigError
from hub.mapping import FieldMap
from tests.connectors.mailchimp_support import LIST, SECRET, Rig, rigged
from tests.sandboxes.mailchimp_support import receiving

CITY = FieldMap("city", ("CITY",))
READ_ONLY = FieldMap("score", ("SCORE",), direction="in")


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A connector on a sandbox."""
    async with rigged() as rig:
        yield rig


async def fields(rig: Rig) -> dict[str, str]:
    """The audience's merge fields with their types."""
    answer = (await rig.api.get(f"/lists/{LIST}/merge-fields", params={"count": 100})).json()
    return {field["tag"]: field["type"] for field in answer["merge_fields"]}


async def test_missing_merge_fields_that_are_written_are_created_once(rig: Rig) -> None:
    connector = rig.connect(CITY, READ_ONLY, FieldMap("score", ("POINTS",)))
    for _ in range(2):
        await connector.open()
    there = await fields(rig)
    assert (there["CITY"], there["POINTS"], "SCORE" in there) == ("text", "number", False)


async def test_nothing_is_created_where_that_is_not_wanted(rig: Rig) -> None:
    connector = rig.connect(CITY, provision=False)
    await connector.open()
    assert "CITY" not in await fields(rig)
    findings = await connector.check()
    assert [(f.what, f.suggestion) for f in findings if not f.ok] == [
        ("the audience has no merge field 'CITY'", "create it there, or set provision")
    ]


async def test_a_misspelt_merge_field_is_corrected(rig: Rig) -> None:
    findings = await rig.connect(FieldMap("city", ("FNAM",)), provision=False).check()
    assert [f.suggestion for f in findings if not f.ok] == ["did you mean FNAME?"]


async def test_the_webhook_is_registered_once_and_corrected(rig: Rig) -> None:
    with receiving() as receiver:
        url = receiver.url.partition("?")[0]
        for secret in (SECRET, SECRET, "rotated"):
            connector = rig.connect(webhook_url=url, webhook_secret=secret)
            await connector.open()
            assert [f.what for f in await connector.check() if not f.ok] == []
    hooks = (await rig.api.get(f"/lists/{LIST}/webhooks")).json()["webhooks"]
    assert [hook["url"] for hook in hooks] == [f"{url}?secret=rotated"]
    assert hooks[0]["sources"] == {"user": True, "admin": True, "api": False}
    assert all(hooks[0]["events"].values())


async def test_a_webhook_that_cannot_be_reached_is_a_finding_and_no_error(rig: Rig) -> None:
    with receiving() as receiver:
        receiver.probe_status = 404
        connector = rig.connect(webhook_url=receiver.url.partition("?")[0])
        await connector.open()
    findings = [f for f in await connector.check() if not f.ok]
    assert [f.what for f in findings] == ["the webhook is not registered"]


async def test_a_check_of_a_good_connection(rig: Rig) -> None:
    await rig.seed({"email_address": "a@example.com", "status": "subscribed"})
    assert [(f.ok, f.what) for f in await rig.connector.check()] == [
        (True, "the credentials are accepted"),
        (True, "audience 'Customers': 1 subscribed members"),
    ]


@pytest.mark.parametrize("wrong", [{"api_key": "bad0123-us1"}, {"list_id": "nowhere"}])
async def test_a_check_of_a_bad_one_says_what_is_wrong(rig: Rig, wrong: dict[str, str]) -> None:
    findings = await rig.connect(**wrong).check()
    assert [f.ok for f in findings][-1] is False
    assert "bad0123" not in str(findings)


def test_a_key_without_a_data_centre_is_a_configuration_error() -> None:
    for settings in ({"api_key": "nodatacentre"}, {"api_key": "key-us1", "server": "evil.example.com/"}):
        with pytest.raises(ConfigError) as caught:
            Mailchimp("mailchimp", {**settings, "list_id": LIST}, {})
        assert "nodatacentre" not in str(caught.value)


def test_the_vendors_own_address_follows_from_the_key() -> None:
    connector = Mailchimp("mailchimp", {"api_key": "key-us19", "list_id": LIST}, {})
    assert connector._base_url == "https://us19.api.mailchimp.com/3.0"


async def test_what_is_mapped_is_polled(rig: Rig) -> None:
    assert [stream.name for stream in rig.connector.streams()] == ["members", "activity"]


async def test_the_address_of_the_api_may_be_given_with_or_without_its_version(rig: Rig) -> None:
    for base_url in (rig.url, f"{rig.url}/3.0/"):
        assert all(finding.ok for finding in await rig.connect(base_url=base_url).check())
