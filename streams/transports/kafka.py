"""The Faust driver for Kafka: Faust's own aiokafka driver, handing on whole batches.

Faust's consumer thread, group membership and supervision stay as they are. What differs: one message per partition and
fetch; a commit that fails (a broker restarts, the group rebalances) is tried again instead of breaking the app down.
"""

from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka
from faust.types import TP
from mode import Service

from streams.log_kafka import record_of
from streams.records import Batch
from streams.transports.batches import BatchConsumer

WATCH_SECONDS = 2.0


class ConsumerThread(aiokafka.AIOKafkaConsumerThread):
    """Faust's thread around the aiokafka consumer; records become batches here, off the main event loop."""

    async def fetch(self, partitions: set[TP], seconds: float, limit: int) -> list[Batch]:
        """What the brokers have delivered, at most `limit` records, waiting up to `seconds` for the first."""
        return await self.call_thread(self._fetch, self._ensure_consumer(), partitions, seconds, limit)

    async def _fetch(self, consumer: AIOKafkaConsumer, partitions: set[TP], seconds: float, limit: int) -> list[Batch]:
        found = await self._fetch_records(consumer, partitions, timeout=seconds, max_records=limit)
        return [Batch(tp.topic, tp.partition, tuple(map(record_of, part))) for tp, part in found.items() if part]

    async def brokers_answer(self) -> bool:
        """Whether any broker answers at present."""
        return bool(await self.call_thread(self._ensure_consumer()._client.force_metadata_update))

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        mine = self.assignment()
        wanted = {TopicPartition(*tp): OffsetAndMetadata(offset, "") for tp, offset in offsets.items() if tp in mine}
        try:
            await self._ensure_consumer().commit(wanted)
        except KafkaError as error:
            self.log.warning("cannot store positions yet: %s", error)
            return False
        return True


class Consumer(BatchConsumer, aiokafka.Consumer):
    """Faust's aiokafka consumer with batches."""

    @Service.task
    async def _watch_brokers(self) -> None:
        """aiokafka waits for brokers that are away without a word; the stage's health is to show it."""
        away = False
        async for _ in self.itertimer(WATCH_SECONDS, name="watch brokers"):
            if not await self._thread.brokers_answer():
                self.app.stage.health.failed(KafkaConnectionError("the brokers do not answer"))
                away = True
            elif away:
                self.app.stage.health.recovered()
                away = False

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def fetch(self, partitions: set[TP], seconds: float, limit: int) -> list[Batch]:
        """One batch per partition from the consumer thread."""
        return await self._thread.fetch(partitions, seconds, limit)

    def highwater(self, tp: TP) -> int:
        """Faust's monitor wants a number; lag is measured from `Log.ends` and `Log.committed`."""
        return 0

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust looks for slow agents by single records; `Stage.health` tells what is stuck and why."""


class Transport(aiokafka.Transport):
    """Registered as `hub-kafka`."""

    Consumer = Consumer
