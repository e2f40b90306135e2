"""P1: no captured change is lost, whatever is killed, restarted or refused meanwhile.

Every row of a table is numbered through: each statement gives all rows the next number. The log must hold every number
of every row in order, the ledger must balance, and the systems must end as the oracle says.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import asyncpg
import orjson
import pytest

from hub.edge import embedded, kafka_local, sandboxes
from hub.edge.embedded import Embedded
from hub.edge.kafka_local import Broker
from hub.edge.wiring import open_hub, read_config
from streams.topics import changes_topic
from tests import oracle
from tests.e2e.process import Process, finish
from tests.e2e.systems import LONG, Systems, show, systems_on
from tests.e2e.test_faults import LIMITED, LOST_HUBSPOT, LOST_MAILCHIMP
from tests.promises.mutations import broken, mutated

pytestmark = pytest.mark.timeout(4 * 3600 if LONG else 1_200)

SCALE, EVENTS, KILLS, RESTARTS = (1.0, 1_000_000, 40, 4) if LONG else (0.2, 50_000, 6, 1)
SEED = 11
SESSION_SECONDS = 6.0  # for so long Kafka takes a worker that was killed for a living one, and gives its work to nobody
SKEW_SECONDS = 90.0
CHUNK = 10_000
BROKEN = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.TransactionRollbackError,  # a deadlock with what the hub writes: whoever updates many rows tries again
)

Figures = Callable[..., None]


@pytest.fixture
async def own_postgres() -> AsyncIterator[Embedded]:
    """A PostgreSQL of the test's own, which it may restart."""
    with TemporaryDirectory(prefix="hub-test-", ignore_cleanup_errors=True) as directory:
        server = await embedded.start_async(Path(directory) / "data")
        yield server
        server.leave()


async def test_nothing_is_lost_on_the_postgresql_log(own_postgres: Embedded, tmp_path: Path, figures: Figures) -> None:
    async with systems_on(own_postgres, tmp_path, SCALE) as systems:
        trouble = Trouble(systems, own_postgres, KILLS)
        await nothing_is_lost(systems, trouble, EVENTS)
        figures("P1", log="postgresql", events=EVENTS, **trouble.counted)


@pytest.mark.kafka
async def test_nothing_is_lost_on_kafka(
    own_postgres: Embedded, own_broker: Broker, tmp_path: Path, figures: Figures
) -> None:
    # In the short form fewer: the broker takes seconds to miss each worker that was killed.
    events, kills = (EVENTS, KILLS) if LONG else (EVENTS // 5, KILLS // 2)
    async with systems_on(own_postgres, tmp_path, SCALE, own_broker.url) as systems:
        trouble = Trouble(systems, own_postgres, kills, own_broker)
        await nothing_is_lost(systems, trouble, events)
        figures("P1", log="kafka", events=events, **trouble.counted)


async def nothing_is_lost(systems: Systems, trouble: "Trouble", events: int) -> None:
    """Number the rows through while everything is in trouble; then check log, ledger and systems."""
    rows = len(systems.world.crm["contacts"])
    numbers = -(-events // rows)
    numbering = asyncio.create_task(number_through(systems, numbers))
    async with ended_with(numbering):
        await trouble.until(numbering)
    await numbering
    ledger = await finish(systems, 3_600.0 if LONG else 600.0)
    assert ledger["captured"] > events, ledger
    await assert_every_number_is_on_the_log(systems, numbers)
    assert (problems := await systems.problems()) == [], show(problems)
    await assert_created_once(systems)


async def test_a_change_is_missed_where_a_source_forgets_it_before_it_is_on_the_log(
    postgres: Embedded, tmp_path: Path
) -> None:
    async with systems_on(postgres, tmp_path, scale=0.02) as systems:
        await numbered_and_killed(systems, "dies_before_it_acknowledges")
        await assert_every_number_is_on_the_log(systems, 3)
    async with systems_on(postgres, tmp_path, scale=0.02) as systems:
        await numbered_and_killed(systems, "forgets_before_it_stores")
        with broken("a checkpoint stored before its changes"):
            await assert_every_number_is_on_the_log(systems, 3)


async def numbered_and_killed(systems: Systems, mutation: str) -> None:
    """Number the rows while a mutated hub dies at it; another hub, as it should be, does the rest."""
    hub = Process(systems, mutated(f"tests.promises.p1:{mutation}"))
    await hub.start()
    numbering = asyncio.create_task(number_through(systems, 3))
    await hub.ended()
    await numbering
    await finish(systems)


@asynccontextmanager
async def ended_with(task: "asyncio.Task[None]") -> AsyncIterator[None]:
    """End the task where the block fails."""
    try:
        yield
    except BaseException:
        task.cancel()
        with suppress(asyncio.CancelledError, *BROKEN):
            await task
        raise


async def number_through(systems: Systems, numbers: int) -> None:
    """Give the contacts that the CRM began with the next number, so many times; edit the other systems in between.

    Begins when all was read once: of a row edited before that nobody can tell what in it is new. A statement whose
    answer was lost is sent again, which numbers the rows with the same number.
    """
    await systems.read_once()
    random = Random(SEED)
    # Only fields that the hub does not write to HubSpot meanwhile: HubSpot lets the last writer win, whoever it is.
    titled = [r["id"] for r in systems.world.hubspot["contacts"] if r["properties"].get("jobtitle")]
    members = systems.world.mailchimp["lists"][0]["members"]
    staying = [m["email_address"] for m in members if m["status"] == "subscribed"]
    leaving = random.sample(staying, len(staying) // 4)
    # Not those that the hub creates meanwhile.
    began_with = ", ".join(str(row["id"]) for row in systems.world.crm["contacts"])
    for number in range(1, numbers + 1):
        await _committed(systems, f"update contacts set city = 'Number {number}' where id in ({began_with})")
        if number % 4 == 0:
            await systems.hubspot_edit("contacts", random.choice(titled), jobtitle=f"Title {number}")
        if leaving and number % 20 == 0:
            await systems.mailchimp_edit(leaving.pop(), "unsubscribe", {"status": "unsubscribed"})
        await asyncio.sleep(0.05)
    last = datetime.now(UTC)  # one statement, one moment: of two rows of one person either may be the newer one
    for row in systems.world.crm["contacts"]:
        systems.note("crm", "contacts", str(row["id"]), {"city": f"Number {numbers}"}, at=last)


async def _committed(systems: Systems, statement: str) -> None:
    while True:
        try:
            await systems.script(statement)
            return
        except BROKEN:
            await asyncio.sleep(0.2)


class Trouble:
    """Kills the hub, restarts what it stands on, arms the vendors' faults and puts a vendor's clock ahead."""

    def __init__(self, systems: Systems, server: Embedded, kills: int, broker: Broker | None = None) -> None:
        self.systems = systems
        self.server = server
        self.kills = kills
        self.broker = broker
        self.random = Random(SEED)
        self.counted = {"kills": 0, "postgresql_restarts": 0, "broker_restarts": 0}

    async def until(self, editing: "asyncio.Task[None]") -> None:
        """Trouble again and again: so many kills at least, and until the edits are over. The hub is dead at the end."""
        while self.counted["kills"] < self.kills or not editing.done():
            hub = Process(self.systems)
            await hub.start()
            await self._while_it_works(editing)
            assert hub.running, self.systems.config.with_suffix(".log").read_text()[-3_000:]
            await hub.kill()
            self.counted["kills"] += 1
            await self._vendors()
            await self._restarts()

    async def _while_it_works(self, editing: "asyncio.Task[None]") -> None:
        settle = SESSION_SECONDS if self.broker else 0.0
        awhile = asyncio.create_task(asyncio.sleep(settle + self.random.uniform(1.0, 7.0)))
        await asyncio.wait([awhile if self.counted["kills"] < self.kills else editing])

    async def _vendors(self) -> None:
        if self.counted["kills"] % 2:
            await self.systems.faults("hubspot", *LIMITED, *LOST_HUBSPOT)
            await self.systems.faults("mailchimp", *LIMITED, *LOST_MAILCHIMP)
        if self.counted["kills"] == self.kills // 2:
            await sandboxes.control(self.systems.hubspot, "clock", {"advance_seconds": SKEW_SECONDS})

    async def _restarts(self) -> None:
        """Also in the middle of the hub's work: PostgreSQL without a chance to tidy up, the broker in good order."""
        if self.counted["postgresql_restarts"] < RESTARTS and self.counted["kills"] % 3 == 0:
            async with running(self.systems):
                await asyncio.sleep(self.random.uniform(1.0, 4.0))
                await asyncio.to_thread(self.server.restart)
                self.counted["postgresql_restarts"] += 1
                if self.broker is not None:
                    await asyncio.to_thread(kafka_local.down, self.broker.data_dir)
                    await asyncio.to_thread(kafka_local.up, self.broker.data_dir, self.broker.port)
                    self.counted["broker_restarts"] += 1
                await asyncio.sleep(self.random.uniform(1.0, 4.0))


@asynccontextmanager
async def running(systems: Systems) -> AsyncIterator[None]:
    """A hub that is killed in the end."""
    hub = Process(systems)
    await hub.start()
    try:
        yield
        assert hub.running, systems.config.with_suffix(".log").read_text()[-3_000:]
    finally:
        await hub.kill()


async def numbers_on_the_log(systems: Systems) -> dict[str, list[int]]:
    """Of each contact of the CRM the numbers that its capture brought to the log, in the order of the log. A row that a
    write found edited meanwhile is told as it is then, ahead of what the capture will tell: that proves nothing of it."""
    found: dict[str, list[int]] = defaultdict(list)
    async with open_hub(read_config(systems.config, systems.env), env=systems.env, connect=False) as hub:
        topic = changes_topic("crm", "contacts").name
        for (_, partition), end in (await hub.context.log.ends([topic])).items():
            for start in range(0, end, CHUNK):
                records = await hub.context.log.read(topic, partition, start, min(CHUNK, end - start))
                await hub.context.codec.learn(record.value for record in records)
                for record in records:
                    datum = hub.context.codec.decode(record.value or b"")[1]
                    city = orjson.loads(datum["payload"]).get("city") or ""
                    if datum["channel"] != "read" and city.startswith("Number "):
                        found[datum["external_id"]].append(int(city.removeprefix("Number ")))
    return found


async def assert_every_number_is_on_the_log(systems: Systems, numbers: int) -> None:
    """Each row's numbers are there without a gap and in order; a redelivered change may repeat some."""
    found = await numbers_on_the_log(systems)
    assert len(found) == len(systems.world.crm["contacts"]), "a row is missing altogether"
    for row, held in found.items():
        missing = sorted(set(range(1, numbers + 1)) - set(held))
        assert not missing, (
            f"contact {row}: {len(missing)} changes are not on the log, the first is number {missing[0]}"
        )
        first = list(dict.fromkeys(held))  # in the order in which each stands there first
        assert first == sorted(first), f"contact {row}: changes stand on the log in another order than they were made"


async def assert_created_once(systems: Systems) -> None:
    """Of what was not there at first, each system has one record for each golden record, and none that nobody knows."""
    first = {record.key for record in oracle.records(systems.world)}
    conn = await asyncpg.connect(systems.state_url)
    try:
        rows = await conn.fetch("select system, object, external_id, golden_id from hub.record where not gone")
    finally:
        await conn.close()
    made = [
        row for row in rows if tuple(row)[:3] not in first and row["object"] not in ("members", "activity", "golden")
    ]
    assert made
    assert len({(row["system"], row["golden_id"]) for row in made}) == len(made)
    known = {tuple(row)[:3] for row in rows}
    there = [record.key for record in oracle.records(await systems.now_held()) if record.key[0] != "mailchimp"]
    assert [key for key in there if key not in known] == []
