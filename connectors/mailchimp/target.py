"""Writing to an audience: one receipt per write, nobody added without an opt-in, nothing overwritten unseen."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from connectors.kit.http import Refusal
from connectors.mailchimp.audience import Audience
from connectors.mailchimp.members import TAGS, body, subscriber_hash
from hub.change import Change
from hub.errors import Limited, Reject, Retry
from hub.failure import Failure
from hub.mapping import decode, encode
from hub.receipt import Applied, Deferred, Receipt, Refused, Unchanged
from hub.values import Value, same
from hub.write import Write

SOON = 0.5
CONSENT = "consent"


class Target:
    """The members of one audience as a target.

    resubscribe   whether who opted out with the vendor is asked to confirm ("pending") or the write refused ("never")
    unarchive     whether a create may bring an archived member back
    """

    def __init__(self, audience: Audience, resubscribe: str = "never", unarchive: bool = False) -> None:
        self._audience = audience
        self._resubscribe = resubscribe
        self._unarchive = unarchive
        self._by_op: Mapping[str, Callable[[Write], Awaitable[Receipt]]] = {
            "create": self._create,
            "update": self._update,
            "delete": self._delete,
        }

    async def deliver(self, writes: Sequence[Write]) -> list[Receipt]:
        """Try all, as many at once as the budget lets; raises only once all are through, and only what concerns all."""
        outcomes = await asyncio.gather(*(self._one(write) for write in writes), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, Retry):
                raise outcome
        waits = [outcome for outcome in outcomes if isinstance(outcome, Retry)]
        if waits and len(waits) == len(writes):
            raise max(waits, key=lambda wait: wait.after or 0)
        return [_deferred(outcome) if isinstance(outcome, Retry) else outcome for outcome in outcomes]  # type: ignore[misc]

    async def _one(self, write: Write) -> Receipt:
        try:
            return await self._by_op[write.op](write)
        except Reject as refusal:
            return Refused(refusal.reason, refusal.code)

    async def _create(self, write: Write) -> Receipt:
        if not _opted_in(write.values):
            return Refused("nobody is added to an audience without an opt-in", "consent")
        email = write.natives.get("email_address")
        if not email:
            return Refused("a member needs an e-mail address")
        tags = write.natives.get(TAGS)
        content = {**body(write.natives), "status": "subscribed", **({TAGS: tags} if tags else {})}
        try:
            # This call only ever adds: the vendor refuses it for an address it knows, so no search need come first.
            return _applied(await self._audience.add(content))
        except Refusal:
            there = await self._audience.find(subscriber_hash(str(email)))
            if there is None:
                raise
            return await self._found(there, write)

    async def _found(self, there: Change, write: Write) -> Receipt:
        """A create whose member exists: it is captured first. An archived one was taken out by somebody, on purpose."""
        if there.op != "delete":
            return Deferred("the address is in the audience already", SOON, (there,))
        if not self._unarchive:
            return Refused("the address was archived in the audience: restore it there, or set unarchive", "archived")
        return await self._send(there, write.natives)

    async def _update(self, write: Write) -> Receipt:
        there = await self._audience.find(_id(write))
        if there is None or there.op == "delete":
            return Refused("the member is in the audience no more", "gone")
        held = decode(write.mapping, there.fields).values
        if any(_edited(held, write, name) for name in write.values):
            return Deferred("edited meanwhile", SOON, (there,))
        differing = {name: value for name, value in write.values.items() if not _holds(held, name, value)}
        if not differing:
            return Unchanged(there.external_id, there.version or 0)
        return await self._send(there, encode(write.mapping, differing))

    async def _send(self, there: Change, natives: Mapping[str, Any]) -> Receipt:
        content = body(natives)
        now = await self._change(there.external_id, content) if content else there
        if TAGS not in natives:
            return _applied(now)
        tags = list(natives[TAGS] or ())
        await self._audience.tag(str(now.fields["email_address"]), there.fields.get(TAGS) or (), tags)
        return _applied(now, {TAGS: sorted(tags)})

    async def _change(self, member: str, content: dict[str, Any]) -> Change:
        try:
            return await self._audience.change(member, content)
        except Refusal as refusal:
            confirm = refusal.code == "compliance" and content.get("status") == "subscribed"
            if not confirm or self._resubscribe != "pending":
                raise
            asked = {name: value for name, value in content.items() if name != "timestamp_opt"}
            return await self._audience.change(member, asked | {"status": "pending"})

    async def _delete(self, write: Write) -> Receipt:
        there = await self._audience.find(_id(write))
        if there is None or there.op == "delete":
            return Unchanged(_id(write))
        await self._audience.archive(there.external_id)
        return Applied(there.external_id)


def _id(write: Write) -> str:
    if not write.external_id:
        raise Reject(f"the {write.op} names no member")
    return write.external_id


def _applied(change: Change, also: Mapping[str, Any] | None = None) -> Applied:
    return Applied(change.external_id, {**change.fields, **(also or {})}, change.version or 0)


def _deferred(wait: Retry) -> Deferred:
    failure = Failure.limited if isinstance(wait, Limited) else Failure.outage
    return Deferred(str(wait), wait.after, failure=failure)


def _opted_in(values: Mapping[str, Value]) -> bool:
    consent = values.get(CONSENT)
    return bool(consent and consent["status"] == "in")


def _holds(held: Mapping[str, Value], name: str, value: Value) -> bool:
    """Whether a field already says this; of consent its time does not count, for the vendor keeps its own."""
    if name not in held:
        return False
    if name == CONSENT and value and held[name]:
        return bool(held[name]["status"] == value["status"])
    return bool(held[name] == value)


def _edited(held: Mapping[str, Value], write: Write, name: str) -> bool:
    """Whether a field holds neither what it was believed to hold nor what is to be written."""
    if name not in write.expected or name not in held or _holds(held, name, write.values[name]):
        return False
    return not same(held[name], write.expected[name])
