"""Helpers of the log's tests."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path

from streams.log import NewRecord, Record

ROOT = Path(__file__).parents[2]


class Worker:
    """A worker in a process of its own, which writes down what its handler is given (tests/log/worker.py)."""

    def __init__(self, log_url: str, stage: str, topic: str, path: Path, delay: float = 0.0) -> None:
        self.path = path
        self.path.touch()
        command = [sys.executable, str(Path(__file__).with_name("worker.py")), log_url, stage, topic, path, str(delay)]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.errors = path.with_suffix(".err")
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen([str(part) for part in command], env=env, stderr=errors)

    def handled(self) -> list[tuple[int, int]]:
        """(partition, offset) of every record whose handling was completed, in that order."""
        lines = self.path.read_text().splitlines()
        return [(int(p), int(o)) for p, o, done in (line.split() for line in lines if line.endswith("."))]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Stop in order; fails when the worker did."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=120) == 0, self.errors.read_text()


async def until(condition: Callable[[], bool | Awaitable[object]], seconds: float = 240.0) -> None:
    """Wait for the condition, synchronous or not; a test that waits in vain fails here."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.02)


def numbered(topic: str, start: int, end: int, keys: int = 50, size: int = 0) -> list[NewRecord]:
    """Records numbered in their values, over so many keys."""
    return [NewRecord(topic, b"key-%d" % (n % keys), b"%d" % n + b" " * size) for n in range(start, end)]


def everything(ends: dict[tuple[str, int], int]) -> set[tuple[int, int]]:
    """Every (partition, offset) below the ends."""
    return {(partition, offset) for (_, partition), end in ends.items() for offset in range(end)}


def by_key(records: list[Record]) -> dict[bytes, list[int]]:
    """The numbers of `numbered` records, per key, in the order given."""
    found: dict[bytes, list[int]] = defaultdict(list)
    for record in records:
        found[record.key].append(int(record.value or b"-1"))
    return found
