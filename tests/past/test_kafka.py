"""Time travel where the log is on Kafka: what was decided gets there by way of the outbox, and is found there all the same."""

from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random

import asyncpg
import pytest

from hub.edge.kafka_local import Broker
from streams import steward
from streams.log import open_log
from streams.topics import STATIC, changes_topic, golden_topic, notices_topic
from tests.changes.support import Deployed
from tests.past.snapshots import assert_as_live, instants, watch
from tests.past.test_in_force import go_on
from tests.stages.histories import live
from tests.stages.model import model
from tests.stages.support import Stages, make


@pytest.fixture
async def hub(pool: asyncpg.Pool, broker: Broker) -> AsyncIterator[Stages]:
    """A hub whose log is on Kafka."""
    made, log = await make(pool, model()), open_log(broker.url)
    known = made.context.model
    changes = [changes_topic(s, o) for s, o in known.mappings] + [changes_topic(steward.SYSTEM, steward.OBJECT)]
    await log.ensure_topics([*STATIC, *changes, *map(golden_topic, known.entities), *map(notices_topic, known.systems)])
    yield Stages(replace(made.context, log=log))
    await log.close()


@pytest.mark.kafka
async def test_any_instant_on_kafka_is_as_live_had_it(hub: Stages) -> None:
    await watch(hub)
    await live(hub, 3, 20)
    assert await assert_as_live(hub, await instants(hub, Random(3), 20), 3) > 5


@pytest.mark.kafka
async def test_any_instant_between_deployments_on_kafka_is_as_live_had_it(hub: Stages) -> None:
    await go_on(Deployed(await watch(hub)), 1, ["transform"], times=1)
    assert await assert_as_live(hub, await instants(hub, Random(1), 20), 1) > 3
