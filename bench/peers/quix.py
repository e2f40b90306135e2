"""Quix Streams: state in RocksDB with a changelog, the golden record to a topic, or to its stock PostgreSQL sink."""

import logging
import sys
import tempfile
import uuid
from typing import Any

from folding import Clock, State, Task, collect_seldom
from quixstreams import Application
from quixstreams.sinks.community.postgresql import PostgreSQLSink


def main(task: Task, directory: str) -> None:
    """Run until all events are folded, and committed."""
    clock = Clock(task.events)
    app = Application(
        broker_address=task.bootstrap, consumer_group=uuid.uuid4().hex, auto_offset_reset="earliest",
        state_dir=directory, loglevel=logging.ERROR,
    )  # fmt: skip
    source = app.topic(task.source, key_deserializer="str", value_deserializer="bytes")
    folded = app.dataframe(source).apply(lambda value, state: step(task, clock, app, value, state), stateful=True)
    golden = folded.filter(lambda value: value is not None)
    golden = golden.to_topic(app.topic(task.sink, key_serializer="str", value_serializer="json"))
    if task.postgresql:
        golden.sink(sink(task.postgresql))
    app.run()
    clock.stop()


def step(task: Task, clock: Clock, app: Application, value: bytes, state: Any) -> dict[str, Any] | None:
    """Fold one event; the application ends after the last."""
    if clock.count():
        app.stop()
    reports: State = state.get("reports", {})
    golden = task.fold(reports, task.decode(value))
    if golden is not None:
        state.set("reports", reports)
    return golden


def sink(socket: str) -> PostgreSQLSink:
    """The stock sink; `socket` is a directory and a database."""
    directory, _, database = socket.partition("#")
    return PostgreSQLSink(
        host=directory, port=5432, dbname=database, user="postgres", password="", table_name="golden",
        primary_key_columns="email", upsert_on_primary_key=True, schema_auto_update=True,
    )  # fmt: skip


if __name__ == "__main__":
    collect_seldom()
    with tempfile.TemporaryDirectory() as scratch:
        main(Task.of(sys.argv[1:]), scratch)
