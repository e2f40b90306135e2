"""What the Python peers share: an event decoded, a person's state folded, and a clock. Needs fastavro and orjson only.

A peer is called with BOOTSTRAP IN_TOPIC OUT_TOPIC EVENTS SCHEMA TRUTH [POSTGRESQL], and prints its seconds and CPU seconds
from the first event on until all that it made of the last is durable.
"""

import gc
import json
import sys
import time
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
from fastavro import parse_schema, schemaless_reader

State = dict[str, dict[str, Any]]
"""System -> {"at": its clock, "fields": its newest report}."""


@dataclass
class Task:
    """What a peer was called with."""

    bootstrap: str
    source: str
    sink: str
    events: int
    schema: Any
    truth: dict[str, list[str]]
    postgresql: str = ""

    @classmethod
    def of(cls, arguments: list[str]) -> "Task":
        """From the command line."""
        bootstrap, source, sink, events, schema, truth, *rest = arguments
        parsed = parse_schema(json.loads(Path(schema).read_text()))
        return cls(bootstrap, source, sink, int(events), parsed, json.loads(truth), *rest)

    def decode(self, value: bytes) -> dict[str, Any]:
        """An event in Confluent format."""
        return dict(schemaless_reader(BytesIO(value[5:]), self.schema, None))

    def fold(self, state: State, event: dict[str, Any]) -> dict[str, Any] | None:
        """Fold an event into a person's state; the golden record, or None where the event is no news."""
        system = event["system"]
        if system in state and state[system]["at"] >= event["at"]:
            return None
        state[system] = {"at": event["at"], "fields": orjson.loads(event["payload"])}
        return {name: next(state[s]["fields"][name] for s in order if s in state) for name, order in self.truth.items()}


class Clock:
    """Counts events down and says what they took."""

    def __init__(self, events: int) -> None:
        self.left = events
        self.began: tuple[float, float] | None = None

    def count(self, events: int = 1) -> bool:
        """Call before or after the work on events; whether these were the last."""
        self.began = self.began or (time.perf_counter(), time.process_time())
        self.left -= events
        return self.left <= 0

    def stop(self) -> None:
        """Print what it took."""
        assert self.began
        took = {"seconds": time.perf_counter() - self.began[0], "cpu": time.process_time() - self.began[1]}
        print(json.dumps(took), file=sys.__stdout__, flush=True)


def collect_seldom() -> None:
    """As the hub does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(300_000, 20, 20)
