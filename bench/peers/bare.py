"""Bare aiokafka in and out, with the state in a dict: what Python can do at best. It promises nothing after a crash."""

import asyncio
import sys
import uuid

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from folding import Clock, State, Task, collect_seldom


async def main(task: Task) -> None:
    """Read, fold, send."""
    clock, people = Clock(task.events), dict[bytes, State]()
    consumer = AIOKafkaConsumer(
        task.source, bootstrap_servers=task.bootstrap, group_id=uuid.uuid4().hex, auto_offset_reset="earliest",
        enable_auto_commit=False,
    )  # fmt: skip
    producer = AIOKafkaProducer(bootstrap_servers=task.bootstrap, linger_ms=20)
    async with consumer, producer:
        done = False
        while not done:
            sent = []
            for part in (await consumer.getmany(timeout_ms=1_000, max_records=5_000)).values():
                done = clock.count(len(part))
                for one in part:
                    golden = task.fold(people.setdefault(one.key, {}), task.decode(one.value))
                    if golden is not None:
                        sent.append(await producer.send(task.sink, orjson.dumps(golden), key=one.key))
            await asyncio.gather(*sent)
            await consumer.commit()
    clock.stop()


if __name__ == "__main__":
    collect_seldom()
    asyncio.run(main(Task.of(sys.argv[1:])))
