"""Stock Faust with a Table (in memory, with its changelog topic), as its documentation shows it."""

import asyncio
import sys
import tempfile
import uuid
from typing import Any

import faust
import orjson
from folding import Clock, Task, collect_seldom


async def main(task: Task, directory: str) -> None:
    """Run the app until all events are folded and sent."""
    clock, done = Clock(task.events), asyncio.Event()
    app = faust.App(
        f"fold-{uuid.uuid4().hex}", broker=f"aiokafka://{task.bootstrap}", datadir=directory, web_enabled=False,
        topic_disable_leader=True, worker_redirect_stdouts=False, autodiscover=False, topic_partitions=4,
    )  # fmt: skip
    people = app.Table("people", default=dict, partitions=4)
    golden_topic = app.topic(task.sink, key_serializer="raw", value_serializer="raw")

    @app.agent(app.topic(task.source, key_serializer="raw", value_serializer="raw"))
    async def fold(stream: Any) -> None:
        async for key, value in stream.items():
            state = people[key.decode()]
            golden = task.fold(state, task.decode(value))
            if golden is not None:
                people[key.decode()] = state
                await golden_topic.send(key=key, value=orjson.dumps(golden))
            if clock.count():
                done.set()

    await app.start()
    await done.wait()
    await app.producer.flush()
    clock.stop()
    await app.stop()


if __name__ == "__main__":
    collect_seldom()
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(main(Task.of(sys.argv[1:]), scratch))
