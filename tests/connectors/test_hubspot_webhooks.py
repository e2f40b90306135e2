"""HubSpot's webhooks: signed, read into notices, fetched as the records are now."""

import asyncio
import time
from typing import Any

import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request as WebRequest
from starlette.responses import Response
from starlette.routing import Route

from connectors.kit.connector import Request
from connectors.kit.sandbox import serve
from hub.change import Notice
from hub.errors import Reject
from tests.connectors.hubspot_support import HOOK, SECRET, contact, rig, signed

EVENT = {
    "eventId": 1, "subscriptionId": 12345, "portalId": 62515, "appId": 54321, "occurredAt": 1_788_256_800_000,
    "subscriptionType": "contact.propertyChange", "attemptNumber": 0, "objectId": 123, "propertyName": "email",
    "propertyValue": "a@b.c", "changeSource": "CRM_UI",
}  # fmt: skip


def body(*events: dict[str, Any]) -> bytes:
    """A request's body."""
    return orjson.dumps([EVENT | event for event in events])


async def test_a_signed_request_becomes_notices() -> None:
    async with rig() as hub:
        (notice,) = await hub.connector.receive(signed(body({})))
        assert (notice.system, notice.object, notice.external_id) == ("hubspot", "contacts", "123")
        assert (notice.kind, notice.at) == ("propertyChange", 1_788_256_800_000_000)
        assert notice.data["propertyName"] == "email"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (signed(body({}), secret="another"), "signature"),
        (signed(body({}), age=301), "stale"),
        (signed(body({}), age=-301), "stale"),
        (Request("POST", HOOK, {}, body({}), 1_788_256_800.0), "signature"),
        (signed(b"{not json"), "malformed"),
        (signed(b'{"eventId": 1}'), "malformed"),
        (signed(b"[7]"), "malformed"),
        (signed(orjson.dumps([EVENT] * 1001)), "malformed"),
        (signed(body({"objectId": None})), "malformed"),
        (signed(body({"objectId": "1/../2"})), "malformed"),
        (signed(body({"occurredAt": "yesterday"})), "malformed"),
        (signed(body({"portalId": 1})), "account"),
        (signed(b" " * (1024 * 1024 + 1)), "too-long"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_forged_stale_foreign_or_malformed_is_refused(request_: Request, code: str) -> None:
    async with rig() as hub:
        with pytest.raises(Reject) as refused:
            await hub.connector.receive(request_)
        assert refused.value.code == code


async def test_a_tampered_body_and_another_url_are_refused() -> None:
    async with rig() as hub:
        honest = signed(body({}))
        for forged in (
            Request(honest.method, honest.url, honest.headers, body({"objectId": 999}), honest.received_at),
            Request(honest.method, honest.url + "?a=1", honest.headers, honest.body, honest.received_at),
            Request("PUT", honest.url, honest.headers, honest.body, honest.received_at),
        ):
            with pytest.raises(Reject, match="signature"):
                await hub.connector.receive(forged)


async def test_without_a_secret_nothing_is_believed() -> None:
    async with rig() as hub:
        for secret in ("", None):
            with pytest.raises(Reject):
                await hub.connect(client_secret=secret).receive(signed(body({}), secret=""))


async def test_kinds_are_read_and_what_concerns_nothing_mapped_is_counted() -> None:
    async with rig() as hub:
        kinds = ["creation", "deletion", "privacyDeletion", "restore"]
        events: list[dict[str, Any]] = [{"subscriptionType": f"contact.{kind}"} for kind in kinds]
        events += [
            {"subscriptionType": "object.creation", "objectTypeId": "0-3", "objectId": 5},
            {"subscriptionType": "contact.merge", "primaryObjectId": 1, "mergedObjectIds": [2], "newObjectId": 3},
            {"subscriptionType": "contact.merge", "primaryObjectId": 1, "mergedObjectIds": [2]},
            {"subscriptionType": "contact.propertyChange", "propertyName": "nobody_maps_this"},
            {"subscriptionType": "ticket.creation"},
            {"subscriptionType": "contact.somethingNew"},
        ]
        notices = await hub.connector.receive(signed(body(*events)))
        assert [n.kind for n in notices[:4]] == kinds
        assert [(n.object, n.external_id, n.kind) for n in notices[4:]] == [
            ("deals", "5", "creation"), ("contacts", "3", "merge"), ("contacts", "1", "merge"),
        ]  # fmt: skip
        assert dict(hub.connector.ignored) == {"contact.propertyChange": 1, "unknown": 2}


async def test_a_changed_association_concerns_the_end_whose_reference_is_mapped() -> None:
    async with rig() as hub:
        one = {"subscriptionType": "company.associationChange", "associationType": "COMPANY_TO_CONTACT",
               "fromObjectId": 7, "toObjectId": 1, "associationRemoved": False}  # fmt: skip
        other = {"subscriptionType": "object.associationChange", "fromObjectTypeId": "0-3", "toObjectTypeId": "0-1",
                 "fromObjectId": 9, "toObjectId": 1}  # fmt: skip
        notices = await hub.connector.receive(signed(body(one, other)))
        assert [(n.object, n.external_id) for n in notices] == [("contacts", "1"), ("deals", "9")]


async def test_fetching_reads_what_is_deletes_what_is_gone_and_believes_no_other_absence() -> None:
    async with rig() as hub:
        await hub.seed(contacts=[contact(1), contact(2), contact(3), contact(4)])
        await hub.edit("contacts", "2", action="archive")
        await hub.edit("contacts", "3", action="erase")
        notices = [
            Notice("hubspot", "contacts", "1", "propertyChange", at=5),
            Notice("hubspot", "contacts", "1", "propertyChange", at=6),
            Notice("hubspot", "contacts", "2", "deletion", at=7),
            Notice("hubspot", "contacts", "3", "privacyDeletion", at=8),
            Notice("hubspot", "contacts", "77", "creation", at=9),
            Notice("hubspot", "contacts", "4", "deletion", at=9),
        ]
        changes = await hub.connector.fetch(notices)
        assert sorted((c.external_id, c.op) for c in changes) == [
            ("1", "upsert"), ("2", "delete"), ("3", "delete"), ("4", "upsert"),
        ]  # fmt: skip
        assert next(c for c in changes if c.external_id == "3").at == 8


async def test_a_merge_is_told_once_by_the_record_and_by_the_notice_where_the_record_does_not() -> None:
    async with rig() as hub:
        await hub.seed(contacts=[contact(1), contact(2), contact(5)])
        made = (await hub.edit("contacts", "2", action="merge", into="1"))["id"]
        told = {"subscriptionType": "contact.merge", "primaryObjectId": 1, "mergedObjectIds": [2]}
        notices = await hub.connector.receive(signed(body(told | {"newObjectId": int(made)})))
        merges = [c for c in await hub.connector.fetch(notices) if c.op == "merge"]
        assert [(c.external_id, {"1", "2", made} - {*c.merged}) for c in merges] == [(made, {made})]
        silent = await hub.connector.receive(signed(body(told | {"newObjectId": 5, "mergedObjectIds": [8]})))
        merge, state = await hub.connector.fetch(silent)
        assert (merge.op, merge.external_id, merge.merged, state.op) == ("merge", "5", ("1", "8"), "upsert")


async def test_a_restored_record_is_newer_than_its_deletion() -> None:
    async with rig() as hub:
        await hub.seed(contacts=[contact(1)])
        (change,) = await hub.connector.fetch([Notice("hubspot", "contacts", "1", "restore", at=4_000_000_000_000_000)])
        assert change.version == change.at == 4_000_000_000_000_000


async def test_the_vendors_own_requests_arrive_duplicated_and_reordered_and_give_the_present_state() -> None:
    received: list[Notice] = []
    async with rig() as hub:

        async def hook(web: WebRequest) -> Response:
            headers = {name.lower(): value for name, value in web.headers.items()}
            request = Request(web.method, str(web.url), headers, await web.body(), time.time())
            received.extend(await hub.connector.receive(request))
            return Response(status_code=200)

        app = Starlette(routes=[Route("/hook", hook, methods=["POST"])])
        async with serve(app) as listening:
            kinds = ("creation", "propertyChange", "deletion", "merge", "associationChange")
            wanted: list[dict[str, Any]] = [{"eventType": f"contact.{kind}", "active": True} for kind in kinds]
            wanted[1]["propertyName"] = "firstname"
            await hub.seed(contacts=[contact(1), contact(2)], subscriptions=wanted)
            mode = {"duplicate": 0.5, "reorder": True, "seed": 7}
            aim = {"url": f"{listening.url}/hook", "secret": SECRET, "mode": mode}
            (await hub.control.post("/_sandbox/webhooks", json=aim)).raise_for_status()
            for name in ("Ada", "Bea", "Cora"):
                await hub.edit("contacts", "1", properties={"firstname": name})
            await hub.edit("contacts", "2", action="archive")
            async with asyncio.timeout(20):
                while {n.external_id for n in received} != {"1", "2"} or len(received) < 4:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        changes = {c.external_id: c for c in await hub.connector.fetch(received)}
        assert changes["1"].fields["firstname"] == "Cora"
        assert changes["2"].op == "delete"
