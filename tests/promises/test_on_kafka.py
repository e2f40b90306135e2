"""On Kafka too: what the other tests of deletes, replay and bad input check on the log in PostgreSQL."""

from collections.abc import AsyncIterator, Callable
from random import Random

import asyncpg
import pytest

from hub.edge.kafka_local import Broker
from tests.promises.auditing import bench
from tests.promises.test_bad_input_rows import check_odd_log
from tests.promises.test_p5_deletes import check_history
from tests.promises.test_p7_replay import check_any_order
from tests.promises.test_p9_trouble import check_rebalance
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


async def test_a_complete_scan_deletes_exactly_what_is_missing(
    pool: asyncpg.Pool, broker: Broker, figures: Figures
) -> None:
    async with hubspot() as vendor, bench(pool, vendor, broker.url) as made:
        figures("P5", log="kafka", untold_deletes=await check_history(made, Random(7), 1_000))
        await made.stages.context.log.close()


async def test_any_interleaving_gives_the_bytes_of_live(hub: Stages, figures: Figures) -> None:
    figures("P7", log="kafka", rebuilds=await check_any_order(hub, 1, orders=2))


async def test_damaged_records_of_the_log_are_parked(hub: Stages, figures: Figures) -> None:
    figures("P9", log="kafka", **await check_odd_log(hub, 1, 30))


async def test_a_rebalance_does_not_hide_a_failing_stage(kafka: Broker, pool: asyncpg.Pool, figures: Figures) -> None:
    figures("P9", log="kafka", looked_at_after_a_rebalance=(kept := await check_rebalance(kafka.url, pool)))
    assert kept >= 1
