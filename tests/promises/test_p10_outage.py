"""P10: a target that is away is left alone, and nothing is used up, parked or asked of it meanwhile; see hub.failure."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg

from hub.change import Change, Notice
from hub.errors import AuthError, Limited, Retry
from hub.failure import TABLE, Failure, rendered
from hub.receipt import Deferred, Held, Refused
from hub.write import Write
from streams import breaker, finishing, overdue, probing, queue, refetch, refused
from streams.ledger import balance
from streams.log import Batch
from streams.refetch import Refetch
from streams.topics import ALERTS, notices_topic
from tests.promises.mutations import broken, mutation
from tests.promises.told import Scene, Vendor, scene

ROOT = Path(__file__).parents[2]
PEOPLE = 40
HOURS = 12


async def told(stage: Scene) -> list[tuple[str, str, str]]:
    """Every alert: name, subject, state."""
    (end,) = (await stage.context.log.ends([ALERTS.name])).values()
    data = [stage.context.codec.decode(r.value)[1] for r in await stage.context.log.read(ALERTS.name, 0, 0, end + 1)]
    return [(datum["name"], datum["subject"], datum["state"]) for datum in data]


class Away:
    """A vendor that is away until it is back."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error

    async def __call__(self, writes: Sequence[Write]) -> None:
        if self.error:
            raise self.error


async def check_a_night(pool: asyncpg.Pool) -> tuple[int, int]:
    """A vendor is away for a night, looked at once a minute. In the morning all is written, nothing is parked."""
    away = Away(ConnectionRefusedError("nobody listens"))
    shop = Vendor("shop", batch=10, behave=away)
    stage = await scene(pool, shop)
    await stage.people(PEOPLE)
    one = stage.deliverer("shop")
    for _ in range(HOURS * 12):
        await stage.round(one)
        await stage.pass_time(300.0)
    night = len(shop.calls)
    assert "parked" not in await stage.queue("shop"), f"{await stage.queue('shop')}: parked because a vendor was away"
    attempts = await stage.pool.fetchval("select max(attempts) from hub.write where target = 'shop'")
    assert attempts == 0, f"the outage used up {attempts} attempts"
    away.error = None
    for _ in range(6):
        await stage.pass_time(1_000.0)
        await stage.round(one)
    assert len(shop.applied) == PEOPLE, f"only {len(shop.applied)} of {PEOPLE} were written when it was back"
    assert await told(stage) == [("target_down", "shop", "raised"), ("target_down", "shop", "cleared")]
    return night, len(shop.calls) - night


async def test_a_night_without_the_vendor_uses_nothing_up(pool: asyncpg.Pool, figures: Callable[..., None]) -> None:
    night, after = await check_a_night(pool)
    figures("P10", outage_hours=HOURS, calls_meanwhile=night, calls_after=after, parked=0)


async def test_the_night_fails_when_outages_use_up_attempts(pool: asyncpg.Pool) -> None:
    counted = {**TABLE, Failure.outage: replace(TABLE[Failure.outage], counts="always")}
    with mutation(finishing, "TABLE", counted), broken("outages count"):
        await check_a_night(pool)


async def check_it_is_left_alone(pool: asyncpg.Pool) -> int:
    """Once several calls in a row had no answer, only probes go: one write, by one of all who ask, at its time."""
    shop = Vendor("shop", batch=10, behave=Away(Retry("503")))
    stage = await scene(pool, shop, breaker_calls=5)
    await stage.people(PEOPLE)
    many = [stage.deliverer("shop") for _ in range(4)]
    await stage.round(many[0])
    opened = len(shop.calls)
    assert opened <= 14, f"{opened} calls before it was left alone"
    await stage.pool.execute("update hub.write set due_at = now()")
    await stage.pool.execute("update hub.breaker set probe_at = now() + interval '1 hour'")
    await asyncio.gather(*(stage.round(one) for one in many))
    assert len(shop.calls) == opened, f"{len(shop.calls) - opened} calls although the circuit was open"
    await stage.pass_time(7_200.0)
    await stage.pool.execute("update hub.breaker set failures = 100")  # so that the next probe is not due at once
    await asyncio.gather(*(one.step(queue.Lane.any) for one in many))
    probes = shop.calls[opened:]
    assert 1 <= len(probes) <= 2, f"{len(probes)} probes at once"
    assert all(len(call) == 1 for call in probes), "a probe of more than one write"
    return opened


async def test_a_target_that_does_not_answer_is_left_alone(pool: asyncpg.Pool, figures: Callable[..., None]) -> None:
    figures("P10", calls_until_open=await check_it_is_left_alone(pool), deliverers=4)


async def test_leaving_alone_fails_without_a_circuit(pool: asyncpg.Pool) -> None:
    async def closed(*_: Any) -> breaker.Circuit:
        return breaker.Circuit.closed

    with mutation(breaker, "admit", closed), broken("no circuit"):
        await check_it_is_left_alone(pool)


async def test_a_bad_record_alone_does_not_keep_the_circuit_open_for_others(pool: asyncpg.Pool) -> None:
    bad: set[str] = set()

    async def behave(writes: Sequence[Write]) -> None:
        if bad & {w.golden_id for w in writes}:
            raise Retry("500")

    shop = Vendor("shop", behave=behave)
    stage = await scene(pool, shop)
    bad |= set(await stage.people(1))
    one = stage.deliverer("shop")
    for _ in range(20):
        await stage.round(one)
        await stage.pass_time(120.0)
    assert ("target_down", "shop", "raised") in await told(stage)
    await stage.people(5, first=1)
    for _ in range(60):
        await stage.round(one)
        await stage.pass_time(400.0)
        await stage.rename(2, f"Other {_}")
    assert len(shop.applied) == 5
    assert await stage.queue("shop") in ({"parked": 1}, {"parked": 1, "due": 1}), "others were taken: it is the record"


async def test_a_limit_uses_nothing_up_and_opens_no_circuit(pool: asyncpg.Pool) -> None:
    shop = Vendor("shop", behave=Away(Limited("429", 7.0)))
    stage = await scene(pool, shop, attempts=2)
    await stage.people(2)
    for _ in range(10):
        await stage.round(stage.deliverer("shop"))
        await stage.pass_time(8.0)
    rows = await stage.pool.fetch("select attempts, state, due_at > now() - interval '2 s' as ok from hub.write")
    assert {(r["attempts"], r["state"]) for r in rows if r["ok"] is not None} == {(0, "due")}
    assert await told(stage) == []


async def test_the_vendors_word_about_when_to_come_again_counts(pool: asyncpg.Pool) -> None:
    shop = Vendor("shop", behave=Away(Retry("503", 90.0)))
    stage = await scene(pool, shop)
    await stage.people(1)
    await stage.round(stage.deliverer("shop"))
    seconds = await stage.pool.fetchval(
        "select extract(epoch from due_at - now()) from hub.write where target = 'shop'"
    )
    assert 60 < seconds <= 90


async def test_after_the_last_attempt_it_is_parked(pool: asyncpg.Pool) -> None:
    async def locked(writes: Sequence[Write]) -> Any:
        return [Deferred("locked") for _ in writes]

    shop = Vendor("shop", behave=locked)
    stage = await scene(pool, shop, attempts=3)
    await stage.people(1)
    for _ in range(6):
        await stage.round(stage.deliverer("shop"))
        await stage.pass_time(1_000.0)
    assert len(shop.calls) == 3
    row = await stage.pool.fetchrow("select state, code, reason from hub.write where target = 'shop'")
    assert (row["state"], row["code"]) == ("parked", "attempts")
    assert "3 attempts" in row["reason"]


class Secrets:
    """The shop's credentials, which somebody may change."""

    def __init__(self, vendor: Vendor, secret: bytes) -> None:
        self.vendor, self.secret, self._used = vendor, secret, secret

    def used(self, system: str) -> bytes:
        """What the connector was made with."""
        return self._used

    def now(self, system: str) -> bytes | None:
        """What it would be made with."""
        return self.secret

    def make(self, system: str) -> Vendor:
        """Another connector to the same shop."""
        self._used = self.secret
        return self.vendor


async def check_it_resumes_by_itself(pool: asyncpg.Pool) -> None:
    """A refused token pauses the shop with one alert; it is not tried again; other credentials are proven, once, and used."""
    refusing = Vendor("shop", behave=Away(AuthError("401")))
    stage = await scene(pool, refusing)
    secrets = Secrets(Vendor("shop"), b"old")
    stage.context.renewal = secrets
    await stage.people(9)
    one = stage.deliverer("shop")
    for _ in range(3):
        await stage.round(one)
        stage.context.looked.clear()
    assert len(refusing.calls) <= 4, "a refused token was tried again"
    assert await told(stage) == [("target_paused", "shop", "raised")]
    secrets.secret = b"new"
    for _ in range(3):
        await stage.round(one)
    assert len(secrets.vendor.applied) == 9, "it did not resume with new credentials"
    assert await told(stage) == [("target_paused", "shop", "raised"), ("target_paused", "shop", "cleared")]
    assert await stage.pool.fetchval("select max(attempts) from hub.write") in (None, 0)


async def test_new_credentials_resume_a_paused_target(pool: asyncpg.Pool) -> None:
    await check_it_resumes_by_itself(pool)


async def test_resuming_fails_without_a_look_at_the_credentials(pool: asyncpg.Pool) -> None:
    with mutation(probing, "_time_to_look", lambda context, target: False), broken("nobody looks"):
        await check_it_resumes_by_itself(pool)


def test_a_digest_tells_only_whether_it_is_the_same() -> None:
    known = refused.digest(b"token")
    assert refused.same(b"token", known)
    assert not refused.same(b"another", known)
    assert not refused.same(b"token", "")
    assert b"token".hex() not in known
    assert known != refused.digest(b"token")


async def test_what_waits_for_too_long_raises_one_alert(pool: asyncpg.Pool) -> None:
    waits = [True]

    async def behave(writes: Sequence[Write]) -> Any:
        return [Held("company_x") for _ in writes] if waits else None

    stage = await scene(pool, Vendor("shop", behave=behave), overdue_seconds=60.0)
    await stage.people(3)
    await stage.round(stage.deliverer("shop"))
    assert await overdue.look(stage.context) == []
    await stage.pool.execute("update hub.write set held_since = held_since - interval '2 minutes'")
    assert await overdue.look(stage.context) == await overdue.look(stage.context) == ["shop"]
    await stage.pool.execute("update hub.write set state = 'due', waits_for = null, held_since = null")
    assert await overdue.look(stage.context) == []
    assert await told(stage) == [("held_overdue", "shop", "raised"), ("held_overdue", "shop", "cleared")]


async def notices(stage: Scene, count: int) -> list[Batch]:
    """Notices of so many records of the CRM, on the log."""
    await refetch.take(stage.context, [Notice("crm", "contacts", f"c{n}", "changed") for n in range(count)])
    topic = notices_topic("crm").name
    read = [await stage.context.log.read(topic, p, 0, 1_000) for p in range(4)]
    return [Batch(topic, records[0].partition, tuple(records)) for records in read if records]


async def check_notices_go_on(pool: asyncpg.Pool) -> None:
    """Of 20 notices one cannot be fetched, for ever; the others are captured, and it is parked."""

    async def fetching(some: Sequence[Notice]) -> list[Change]:
        if any(n.external_id == "c7" for n in some):
            raise Retry("500")
        return [Change("crm", "contacts", n.external_id, {"name": n.external_id}, version=1) for n in some]

    stage = await scene(pool, Vendor("crm", fetching=fetching))
    handler, batches = Refetch(stage.context, "crm"), await notices(stage, 20)
    for _ in range(5):
        try:
            await handler(batches)
        except ConnectionError:
            continue
    await stage.hub.project()
    seen = await stage.pool.fetchval("select count(*) from hub.record where system = 'crm'")
    assert seen == 19, f"{seen} of 19 good notices were captured"
    assert len(await stage.hub.parked()) == 1


async def test_a_notice_that_cannot_be_fetched_stops_no_other(pool: asyncpg.Pool) -> None:
    await check_notices_go_on(pool)


async def test_notices_going_on_fails_without_sifting(pool: asyncpg.Pool) -> None:
    async def nobody(self: Refetch, notices: Sequence[Notice], error: Exception) -> frozenset[str]:
        raise ConnectionError(str(error))

    with mutation(Refetch, "_sift", nobody), broken("no sifting"):
        await check_notices_go_on(pool)


async def test_a_vendor_that_is_away_is_waited_for_and_no_notice_is_parked(pool: asyncpg.Pool) -> None:
    away = [True]

    async def fetching(some: Sequence[Notice]) -> list[Change]:
        if away:
            raise ConnectionRefusedError("nobody listens")
        return [Change("crm", "contacts", n.external_id, {"name": "x"}, version=1) for n in some]

    stage = await scene(pool, Vendor("crm", fetching=fetching))
    handler, batches = Refetch(stage.context, "crm"), await notices(stage, 20)
    waited = 0
    for _ in range(5):
        try:
            await handler(batches)
        except ConnectionError:
            waited += 1
    assert (waited, await stage.hub.parked()) == (5, [])
    away.clear()
    await handler(batches)
    await stage.hub.project()
    assert await stage.pool.fetchval("select count(*) from hub.record where system = 'crm'") == 20


def test_the_documentation_has_the_table() -> None:
    assert rendered() in (ROOT / "docs/failures.md").read_text(), "docs/failures.md: paste hub.failure.rendered()"


async def test_every_class_ends_where_the_table_says(pool: asyncpg.Pool) -> None:
    """One write of each class, on the queue."""
    found = Change("shop", "customers", "x", {"name": "found"}, version=1)
    answers: Mapping[Failure, Any] = {
        Failure.transient: Deferred("locked"), Failure.outage: Retry("503"), Failure.limited: Limited("429", 1.0),
        Failure.conflict: Deferred("edited", 0.5, (found,)), Failure.gone: Refused("404", "gone"),
        Failure.dependency: Held("company_x"), Failure.invalid: Refused("bad"), Failure.defect: ValueError("a bug"),
        Failure.auth: AuthError("401"),
    }  # fmt: skip
    assert set(answers) == set(TABLE)
    turn = iter(answers.values())

    async def behave(writes: Sequence[Write]) -> Any:
        answer = next(turn)
        if isinstance(answer, Exception):
            raise answer
        return [answer for _ in writes]

    stage = await scene(pool, Vendor("shop", behave=behave))
    for number, failure in enumerate(answers):
        (golden_id,) = await stage.people(1, first=number)
        await stage.pool.execute(
            "update hub.write set due_at = now() + interval '1 day' where golden_id <> $1", golden_id
        )
        await stage.round(stage.deliverer("shop"))
        row = await stage.pool.fetchrow(
            "select state, attempts from hub.write where target = 'shop' and golden_id = $1", golden_id
        )
        counts = TABLE[failure].counts == "always"
        assert (row["state"], row["attempts"]) == (TABLE[failure].row, int(counts)), failure
    assert (await balance(stage.context)).unaccounted == 0
    assert await stage.pool.fetchval("select count(*) from hub.pause") == 1
