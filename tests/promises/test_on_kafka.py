"""On Kafka too: what the other tests of effects, deletes, replay and bad input check on the log in PostgreSQL."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random

import asyncpg
import pytest

from hub.edge.embedded import Embedded
from hub.edge.kafka_local import Broker
from streams import context
from streams.context import Context
from streams.records import NewRecord
from tests.e2e.systems import LONG, systems_on
from tests.e2e.test_ring import LATEST, check_ring
from tests.promises.auditing import bench
from tests.promises.mutations import broken, mutation
from tests.promises.small import opened
from tests.promises.test_bad_input_rows import check_odd_log
from tests.promises.test_p2_effects import check_answer_lost, check_delivered, check_killed_everywhere
from tests.promises.test_p5_deletes import check_history
from tests.promises.test_p7_replay import check_any_order
from tests.promises.test_p9_trouble import check_each_fault, check_failing_stage, check_rebalance, scene_on
from tests.promises.vendors import hubspot
from tests.stages.model import model
from tests.stages.support import Stages, make

pytestmark = pytest.mark.kafka
Figures = Callable[..., None]


@pytest.fixture
async def hub(pool: asyncpg.Pool, broker: Broker) -> AsyncIterator[Stages]:
    """A hub whose log is a broker of its own."""
    made = await make(pool, model(), broker.url)
    yield made
    await made.context.log.close()


async def test_killed_at_every_call_of_the_log(
    postgres: Embedded, broker: Broker, tmp_path: Path, figures: Figures
) -> None:
    """Also between the commit and what is published after it; the long form, at every call there is."""
    async with opened(postgres, tmp_path, broker.url) as hub:
        hub.bench.points.only = "" if LONG else "log"
        told = await check_killed_everywhere(hub)
        assert told.kills > 10
        for times in (1, 2, 5):
            await check_delivered(hub, times)
    figures("P2", log="kafka", kills=told.kills, stories=told.stories, deliveries="1, 2 and 5 times", effects_doubled=0)


async def forgets_first(publishing: Context, limit: int) -> int:
    """Empties the outbox, and appends then."""
    rows = await publishing.pool.fetch("delete from hub.outbox returning topic, key, value")
    if rows:
        await publishing.log.append([NewRecord(*row) for row in rows])
    return len(rows)


async def test_fails_where_the_outbox_is_emptied_before_it_is_published(
    postgres: Embedded, broker: Broker, tmp_path: Path
) -> None:
    async with opened(postgres, tmp_path, broker.url) as hub:
        with mutation(context, "_publish", forgets_first), broken("an outbox emptied first"):
            await check_answer_lost(hub, "log append")


async def test_a_complete_scan_deletes_exactly_what_is_missing(
    pool: asyncpg.Pool, broker: Broker, figures: Figures
) -> None:
    async with hubspot() as vendor, bench(pool, vendor, broker.url) as made:
        figures("P5", log="kafka", untold_deletes=await check_history(made, Random(7), 1_000))
        await made.stages.context.log.close()


@pytest.mark.skipif(not LONG, reason="loops end by views and intents, whatever the log: make soak runs it")
async def test_loops_end(postgres: Embedded, broker: Broker, tmp_path: Path, figures: Figures) -> None:
    async with systems_on(postgres, tmp_path, scale=0.02, log=broker.url, rules=LATEST) as ring:
        figures("P6", log="kafka", writes=await check_ring(ring))


async def test_any_interleaving_gives_the_bytes_of_live(hub: Stages, figures: Figures) -> None:
    figures("P7", log="kafka", rebuilds=await check_any_order(hub, 1, orders=2))


async def test_damaged_records_of_the_log_are_parked(hub: Stages, figures: Figures) -> None:
    figures("P9", log="kafka", **await check_odd_log(hub, 1, 30))


@pytest.mark.skipif(not LONG, reason="the faults are told of by sources and state, whatever the log: make soak runs it")
async def test_each_fault_turns_health_and_its_metric_on(
    postgres: Embedded, broker: Broker, tmp_path: Path, figures: Figures
) -> None:
    async with scene_on(postgres, tmp_path, broker.url) as scene:
        figures("P9", log="kafka", faults_seen=await check_each_fault(scene))
        await check_failing_stage(scene)


async def test_a_rebalance_does_not_hide_a_failing_stage(kafka: Broker, pool: asyncpg.Pool, figures: Figures) -> None:
    figures("P9", log="kafka", looked_at_after_a_rebalance=(kept := await check_rebalance(kafka.url, pool)))
    assert kept >= 1
