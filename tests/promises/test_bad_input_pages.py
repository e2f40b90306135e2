"""Bad records on a vendor's page: each is parked with its reason or loses the bad field, and the good ones arrive."""

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from connectors.hubspot import source
from connectors.kit import parsing
from connectors.mailchimp import scan
from hub import event
from hub.errors import Reject, Retry
from streams import aside, quarantine
from streams.capture import Capture
from streams.quarantine import Chosen, Said
from streams.records import Batch
from streams.refetch import Refetch
from streams.topics import notices_topic
from tests.connectors.hubspot_support import contact
from tests.promises import bad_input
from tests.promises.mutations import broken, mutation

HUGE = b'"' + b"x" * 2_000_000 + b'"'
TEXTS = {
    "nul": rb'"a\u0000b"', "half": rb'"cut \ud83d"', "other half": rb'"\ude00 cut"', "number": b"12345678901234567890123",
    "fraction": b"0.1000000000000000055511151231257827", "exponent": b"1e400", "list": b'["a", {"b": [null]}]',
    "twice": b'"a", "lastname": "b"', "deep": b"[" * 60 + b"]" * 60, "long": b'"' + b"y" * 70_000 + b'"',
}  # fmt: skip
CLOCKS = {
    "garbage": b'"yesterday"', "number": b"12", "year 10000": b'"10000-01-01T00:00:00Z"',
}  # fmt: skip
EXTREMES = {"empty": b"null", "year 9999": b'"9999-12-31T23:59:59Z"', "year 1": b'"0001-01-01T00:00:00Z"'}


def seconds(number: int) -> str:
    """A time of its own for each record, which stands nowhere else in an answer."""
    return f"2026-09-01T10:{number // 60:02d}:{number % 60:02d}Z"


async def check_odd_hubspot_page(pool: asyncpg.Pool) -> dict[str, int]:
    """One page with every kind of bad record, each between good ones."""
    async with bad_input.tampered_hubspot(pool) as (hub, vendor, rig):
        texts = {str(100 + n): value for n, value in enumerate(TEXTS.values())}
        clocks = {str(200 + n): value for n, value in enumerate((CLOCKS | EXTREMES).values())}
        people = [contact(i, firstname=f"BAD{i}") for i in (*texts, "300")]
        people += [contact(i, at=seconds(int(i) - 199)) for i in clocks]
        good = [str(i) for i in range(400, 420)]
        await rig.seed(contacts=[*people, *(contact(i) for i in good)])
        vendor.replace = {f'"BAD{i}"'.encode(): value for i, value in texts.items()} | {b'"BAD300"': HUGE}
        vendor.replace |= {
            f'"updatedAt":"{seconds(int(i) - 199)}"'.encode(): b'"updatedAt":' + value for i, value in clocks.items()
        }
        await bad_input.read(hub, "contacts")
        await bad_input.assert_arrived(hub, "hubspot", "contacts", [*good, *texts, "203", "204", "205"])
        unread = {str(200 + n): "cannot be read" for n in range(len(CLOCKS))}
        await bad_input.assert_parked(hub, unread | {"300": "an event of"})
        for i in texts:
            assert (await hub.values("hubspot", "contacts", i))["email"] == f"c{i}@example.com", i
        assert (await hub.values("hubspot", "contacts", "100"))["first_name"] == "ab"
        assert (await hub.values("hubspot", "contacts", "103"))["first_name"] == "12345678901234567890123"
        assert (await hub.values("hubspot", "contacts", "104"))["first_name"] == TEXTS["fraction"].decode()
        assert not (await hub.replay()).differences
        return {"bad": len(people), "good": len(good), "parked": len(unread) + 1}


async def test_bad_records_on_a_page_of_hubspot(pool: asyncpg.Pool, figures: Callable[..., None]) -> None:
    figures("P9", **await check_odd_hubspot_page(pool))


MUTATIONS = [
    pytest.param(aside, "unfit", lambda change: "", id="nothing-unfit"),
    pytest.param(aside, "MAX_EVENT_BYTES", 2**40, id="no-bound"),
    pytest.param(parsing, "_DECODER", json.JSONDecoder(), id="floats"),
]


@pytest.mark.parametrize(("owner", "name", "instead"), MUTATIONS)
async def test_the_check_of_a_page_fails_without_its_guards(
    pool: asyncpg.Pool, owner: Any, name: str, instead: Any
) -> None:
    if name == "_DECODER":
        instead = _Floats()
    with mutation(owner, name, instead), broken(name):
        await check_odd_hubspot_page(pool)


class _Floats:
    """JSON as most programs read it: numbers with a fraction are floats."""

    def decode(self, body: bytes) -> Any:
        return json.loads(body, parse_constant=str)


async def check_future_hubspot_record(pool: asyncpg.Pool) -> None:
    """A record from the year 9999 that comes to its senses is read again, and does not win until then."""
    async with bad_input.tampered_hubspot(pool) as (hub, vendor, rig):
        await rig.seed(contacts=[contact("1", at=seconds(1), firstname="Future")])
        vendor.replace = {seconds(1).encode(): b"9999-12-31T23:59:59Z"}
        await bad_input.read(hub, "contacts")
        vendor.replace = {}
        await rig.edit("contacts", "1", properties={"firstname": "Present"})
        await bad_input.read(hub, "contacts")
        found = (await hub.values("hubspot", "contacts", "1"))["first_name"]
        assert found == "Present", f"the record from the future still says {found}"


async def test_a_record_from_the_future_is_believed_no_longer_than_any(pool: asyncpg.Pool) -> None:
    await check_future_hubspot_record(pool)


async def test_the_future_check_fails_where_the_memory_keeps_it(pool: asyncpg.Pool) -> None:
    with mutation(source, "AHEAD_MICROS", 2**62), broken("the future is remembered"):
        await check_future_hubspot_record(pool)


async def test_the_future_check_fails_where_versions_are_not_clamped(pool: asyncpg.Pool) -> None:
    plainly = event.record

    def unclamped(change: Any, *more: Any) -> Any:
        made = plainly(change, *more)
        return event.Event(**{n: getattr(made, n) for n in event.NAMES if n != "version"}, version=change.version)

    with mutation(event, "record", unclamped), broken("a version from the future"):
        await check_future_hubspot_record(pool)


def member(number: int, name: str = "Fine", changed: int = 0) -> dict[str, Any]:
    """A subscriber."""
    return {
        "email_address": f"m{number}@example.com", "status": "subscribed", "merge_fields": {"FNAME": name},
        "timestamp_opt": "2026-08-01T00:00:00+00:00", "last_changed": seconds(changed).replace("Z", "+00:00"),
    }  # fmt: skip


async def check_odd_mailchimp_page(pool: asyncpg.Pool) -> dict[str, int]:
    """One page of members with every kind of bad one; then an edit, which must be seen too."""
    async with bad_input.tampered_mailchimp(pool) as (hub, vendor, rig):
        texts = dict(enumerate(TEXTS.values(), start=100))
        clocks = dict(enumerate((CLOCKS | EXTREMES).values(), start=200))
        people = [member(i, f"BAD{i}", 30) for i in texts] + [member(i, changed=i - 199) for i in clocks]
        await rig.seed(*people, *(member(i, changed=40) for i in range(400, 420)))
        vendor.replace = {f'"BAD{i}"'.encode(): value for i, value in texts.items()}
        vendor.replace |= {
            b'"last_changed":"' + seconds(i - 199).replace("Z", "+00:00").encode() + b'"': b'"last_changed":' + value
            for i, value in clocks.items()
        }
        await bad_input.within(30, bad_input.read(hub, "members"))
        await rig.edit("profile", "m400@example.com", merge_fields={"FNAME": "Edited"})
        await bad_input.within(30, bad_input.read(hub, "members"))
        names = {g.values()["email"]: g.values().get("first_name") for g in (await hub.goldens()).values()}
        expected = {f"m{i}@example.com" for i in (*texts, 203, 204, 205, *range(400, 420))}
        assert expected <= names.keys(), f"members that did not arrive: {sorted(expected - names.keys())}"
        assert names["m400@example.com"] == "Edited", "an edit after the bad page was not seen"
        parked = [row["reason"] for row in await hub.parked()]
        assert len(parked) == len(CLOCKS), f"parked: {parked}"
        assert all("last_changed cannot be read" in reason for reason in parked), parked
        return {"bad_members": len(people), "parked_members": len(parked)}


async def test_bad_records_on_a_page_of_mailchimp(pool: asyncpg.Pool, figures: Callable[..., None]) -> None:
    figures("P9", **await check_odd_mailchimp_page(pool))


async def test_the_mailchimp_check_fails_where_the_future_moves_the_cursor(pool: asyncpg.Pool) -> None:
    def believing(page: Any, default: int) -> int:
        return max((scan.second(change) for change in page.changes), default=default)

    with mutation(scan, "_last", believing), broken("a cursor in the year 9999"):
        await check_odd_mailchimp_page(pool)


def bomb(megabytes: int, wbits: int = 31) -> bytes:
    """A small body that unpacks to so much."""
    packer = zlib.compressobj(9, wbits=wbits)
    zeros = bytes(1024 * 1024)
    return b"".join(packer.compress(zeros) for _ in range(megabytes)) + packer.flush()


def check_bounded_unpacking() -> None:
    """However much a body unpacks to, no more than was asked for is in memory."""
    given = parsing.inflater("gzip")(bomb(20), 1_000)
    assert len(given) <= 1_000, f"{len(given)} bytes were unpacked where 1,000 were let in"


def test_no_more_is_unpacked_than_is_let_in() -> None:
    check_bounded_unpacking()


def test_the_check_of_unpacking_fails_without_the_bound() -> None:
    def whole(encoding: str) -> parsing.Inflate:
        return lambda piece, most: gzip.decompress(piece)

    with mutation(parsing, "inflater", whole), broken("unbounded"):
        check_bounded_unpacking()


@pytest.mark.parametrize(
    ("body", "encoding", "error", "words"),
    [
        (bomb(80), "gzip", Reject, "longer than"),
        (bomb(80, 15), "deflate", Reject, "longer than"),
        (bomb(1), "br", Retry, "not asked for"),
        (bomb(1)[:200], "gzip", Retry, "cut off"),
        (b"plain", "gzip", Retry, "not gzip"),
        (b'{"results": [', "", Retry, "not JSON"),
        (b'{"results": NaN}', "", Retry, "not JSON"),
        (b'{"results": "\xff\xfe"}', "", Retry, "not JSON"),
        (b"[" * 100_000, "", Retry, "not JSON"),
        (b"[" * 5_000 + b"]" * 5_000, "", Retry, "too deep"),
    ],
)
async def test_a_page_that_cannot_be_read_is_a_clear_error_and_passes(
    pool: asyncpg.Pool, body: bytes, encoding: str, error: type[Exception], words: str
) -> None:
    async with bad_input.tampered_hubspot(pool) as (hub, vendor, rig):
        await rig.seed(contacts=[contact(1)])
        vendor.whole = (body, encoding)
        capture = Capture(hub.context, "hubspot", next(s for s in rig.connector.streams() if s.name == "contacts"))
        with pytest.raises(error, match=words):
            await bad_input.within(60, capture.step())
        vendor.whole = None
        await bad_input.read(hub, "contacts")
        await bad_input.assert_arrived(hub, "hubspot", "contacts", ["1"])
        assert not await hub.parked()


async def test_a_report_that_was_parked_is_fetched_anew(pool: asyncpg.Pool) -> None:
    """Retry asks the vendor for the record once more; what is fit now is captured like any other."""
    async with bad_input.tampered_hubspot(pool) as (hub, vendor, rig):
        await rig.seed(contacts=[contact("1", at=seconds(1)), contact("2", at=seconds(2))])
        vendor.replace = {f'"updatedAt":"{seconds(1)}"'.encode(): b'"updatedAt":"yesterday"'}
        await bad_input.read(hub, "contacts")
        await bad_input.assert_parked(hub, {"1": "cannot be read"})
        vendor.replace = {}
        (row,) = await hub.parked()
        assert await quarantine.retry(hub.context, Chosen([str(row["id"])]), Said("ann", "mended there")) == 1
        topic = notices_topic("hubspot").name
        for (name, partition), end in (await hub.context.log.ends([topic])).items():
            if records := await hub.context.log.read(name, partition, 0, end):
                await Refetch(hub.context, "hubspot")([Batch(name, partition, tuple(records))])
        await hub.run()
        await bad_input.assert_arrived(hub, "hubspot", "contacts", ["1", "2"])
        await bad_input.assert_parked(hub, {})
