"""What the tests of the Mailchimp connector share: a connector on a served sandbox, mappings, writes and polls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx

from connectors.kit.connector import Checkpoint, Page
from connectors.kit.sandbox import serve
from connectors.mailchimp.connector import MANIFEST, Mailchimp
from connectors.mailchimp.sandbox import create_app
from hub.change import Change
from hub.entity import Entity, Field
from hub.mapping import FieldMap, ObjectMap, encode
from hub.rules import Rule
from hub.write import Write
from tests.sandboxes.mailchimp_support import DESCRIPTION, bearer_too, md5, unchecked
from tests.sandboxes.openapi import Recorder, load

LIST = "a1"
KEY = "0123456789abcdef0123456789abcdef-us1"
SECRET = "only-the-vendor-knows"
KINDS = {
    "contact": {
        "email": "email", "first_name": "text", "last_name": "text", "phone": "phone", "consent": "consent",
        "tags": "tags", "city": "text", "score": "decimal",
    },
    "engagement": {
        "kind": "text", "subject": "text", "body": "text", "occurred_at": "timestamp", "status": "text",
        "contact": "ref",
    },
}  # fmt: skip
ENTITIES = {
    name: Entity(name, {field: Field(field, kind, Rule()) for field, kind in kinds.items()})
    for name, kinds in KINDS.items()
}
FIELDS = [
    {"tag": "FNAME", "name": "First Name", "type": "text"},
    {"tag": "LNAME", "name": "Last Name", "type": "text"},
    {"tag": "PHONE", "name": "Phone", "type": "phone", "options": {"phone_format": "US"}},
]


def mappings(*more: FieldMap) -> dict[str, ObjectMap]:
    """The manifest's usual mappings under the name "mailchimp", members with more fields."""
    usual = {
        spec.name: ObjectMap(
            "mailchimp",
            spec.name,
            ENTITIES[spec.entity],
            spec.fields,
            constants=spec.constants,
            create=spec.create,
            marketing=spec.marketing,
            requires=spec.requires,
            dialect=MANIFEST.dialect,
        )
        for spec in MANIFEST.objects
    }
    return usual | {"members": replace(usual["members"], fields=(*usual["members"].fields, *more))}


@dataclass
class Rig:
    """A connector on a sandbox of its own. `control` talks to the sandbox's control API, `api` to the vendor's."""

    url: str
    recorder: Recorder
    control: httpx.AsyncClient
    api: httpx.AsyncClient
    connector: Mailchimp

    def connect(self, *more: FieldMap, **settings: Any) -> Mailchimp:
        """Another connector on the same sandbox."""
        given = {"api_key": KEY, "base_url": f"{self.url}/3.0", "list_id": LIST, "webhook_secret": SECRET}
        return Mailchimp("mailchimp", given | settings, mappings(*more))

    async def seed(self, *members: dict[str, Any], **more: Any) -> None:
        """Load members into the one audience."""
        audience = {"id": LIST, "name": "Customers", "merge_fields": FIELDS, "members": list(members)}
        answer = await self.control.post("/seed", json={"lists": [audience], "api_key": KEY, **more})
        answer.raise_for_status()

    async def edit(self, action: str, email: str, **more: Any) -> Any:
        """Edit as a person would, there."""
        body = {"list": LIST, "email": email, "action": action, **more}
        return (await self.control.post("/edit", json=body)).raise_for_status().json()

    async def fault(self, kind: str, match: str | None = None, **more: Any) -> None:
        """Arm one fault."""
        fault = {"kind": kind, "match": match, **more}
        (await self.control.post("/faults", json=fault)).raise_for_status()

    async def member(self, email: str) -> dict[str, Any]:
        """A member as the vendor shows it."""
        path = f"/lists/{LIST}/members/{md5(email)}"
        member: dict[str, Any] = (await self.api.get(path)).raise_for_status().json()
        return member

    async def calls(self, since: int = 0) -> list[str]:
        """ "METHOD path" of the calls from number `since` on."""
        journal = (await self.control.get("/requests", params={"since": since})).json()["requests"]
        return [f"{call['method']} {call['path']}" for call in journal]

    async def last_call(self) -> int:
        """The number of the last call."""
        return int((await self.control.get("/requests", params={"since": 10**9})).json()["last"])


@asynccontextmanager
async def rigged(*, judged: bool = True, **settings: Any) -> AsyncIterator[Rig]:
    """A rig; at the end every exchange is validated against the vendor's official description, unless it is about
    something else."""
    checker = load(DESCRIPTION, bearer_too) if judged else None
    recorder = Recorder(create_app(api_key=KEY), "/3.0")
    async with serve(recorder) as server:
        control = httpx.AsyncClient(base_url=f"{server.url}/_sandbox", timeout=60, trust_env=False)
        api = httpx.AsyncClient(base_url=f"{server.url}/3.0", auth=("any", KEY), timeout=30, trust_env=False)
        async with control, api:
            rig = Rig(server.url, recorder, control, api, None)  # type: ignore[arg-type]
            rig.connector = rig.connect(**settings)
            await rig.seed()
            yield rig
            await rig.connector.close()
    for exchange in recorder.exchanges:
        if checker and not unchecked(exchange):
            checker.check(exchange)


async def pages(connector: Mailchimp, stream: str, checkpoint: Checkpoint | None) -> list[Page]:
    """All pages of one poll."""
    return [page async for page in connector.poll(stream, checkpoint)]


async def drain(
    connector: Mailchimp, stream: str = "members", checkpoint: Checkpoint | None = None
) -> tuple[list[Change], Checkpoint | None]:
    """All changes of one poll, and the checkpoint after it."""
    read = await pages(connector, stream, checkpoint)
    return [change for page in read for change in page.changes], read[-1].checkpoint if read else checkpoint


def emails(changes: Sequence[Change]) -> list[str]:
    """The addresses in changes, in lower case, in order."""
    return sorted(str(change.fields["email_address"]).lower() for change in changes)


def write(op: Any, values: Mapping[str, Any], expected: Mapping[str, Any] | None = None, **more: Any) -> Write:
    """A write as the hub plans it."""
    mapping = more.pop("mapping", mappings()["members"])
    natives = encode(mapping, values)
    return Write(
        "mailchimp", "members", more.pop("golden_id", "contact_1"), 1, op, mapping,
        values=values, natives=natives, expected=expected or {}, **more,
    )  # fmt: skip


OPTED_IN = {"status": "in", "at": "2026-01-01T00:00:00Z"}
OPTED_OUT = {"status": "out", "at": "2026-02-01T00:00:00Z"}
