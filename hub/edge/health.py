"""Health: what is wrong with a worker now. A part that is dead, stuck or in trouble is named; then the worker is not ready."""

import asyncio
import time
from collections.abc import Awaitable, Iterator
from typing import Any

from hub.edge.assembly import Worker
from hub.edge.wiring import Hub
from streams import metrics
from streams.faults import INFRASTRUCTURE
from streams.metrics import Metric
from streams.stage import Stage
from streams.topics import ALERTS
from streams.watch import FAULTS, Fault

STUCK_SECONDS = 300.0
"""Work in hand that has not moved for so long is stuck: longer than any call of a vendor or statement may take."""
ANSWER_SECONDS = 5.0

Part = tuple[str, str]
"""(kind, name): ("stage", "project"), ("source", "crm/wal"), ("target", "hubspot"), ("service", "upkeep")."""


def parts(worker: Worker, stuck_after: float = STUCK_SECONDS) -> dict[Part, str | None]:
    """Every part of the worker with what is wrong with it; None where nothing is. Asks nobody, so it never hangs."""
    return dict(_parts(worker, stuck_after))


def _parts(worker: Worker, stuck_after: float) -> Iterator[tuple[Part, str | None]]:
    for stage in worker.workers.stages:
        yield ("stage", stage.name), _stage_trouble(stage) or _stuck(stage.busy_since, stuck_after)
    for capture in worker.captures:
        wrong = None if capture.healthy else capture.last_error
        yield ("source", f"{capture.system}/{capture.stream.name}"), wrong or _stuck(capture.busy_since, stuck_after)
    for deliverer in worker.deliverers:
        wrong = None if deliverer.healthy else deliverer.last_error
        yield ("target", deliverer.target), wrong or _stuck(deliverer.busy_since, stuck_after)
    for name, crash in worker.workers.services().items():
        yield ("service", name), f"dead: {type(crash).__name__}: {crash}" if crash else None


def _stage_trouble(stage: Stage) -> str | None:
    if not stage.health.healthy:
        return stage.health.last_error
    return None if stage.ready.is_set() else "not yet part of its consumer group"


def _stuck(busy_since: float | None, stuck_after: float) -> str | None:
    if busy_since is None or time.monotonic() - busy_since < stuck_after:
        return None
    return f"stuck: nothing has moved for {time.monotonic() - busy_since:.0f} s"


async def trouble(hub: Hub, worker: Worker) -> dict[str, Any]:
    """What is wrong now, by name; empty when the worker is ready."""
    found: dict[str, Any] = {f"{kind} {name}": wrong for (kind, name), wrong in parts(worker).items() if wrong}
    if wrong := await _answers(hub.context.pool.fetchval("select 1")):
        found["database"] = wrong
    # Its clients wait for brokers that are away without a word, so they are asked.
    if not hub.context.atomic and (wrong := await _answers(hub.context.log.ends([ALERTS.name]))):
        found["log"] = wrong
    return found | {f"{f.kind.name} {f.subject}": str(f) for f in _found(worker) if f.kind.stuck}


def warnings(worker: Worker) -> dict[str, str]:
    """What is odd and yet no reason to take the worker out of service, by name."""
    return {f"{f.kind.name} {f.subject}": str(f) for f in _found(worker) if not f.kind.stuck}


def faults(worker: Worker) -> Iterator[tuple[Metric, tuple[str, str], float]]:
    """What the worker's watch has found as samples; one says so of each kind of which there is nothing. None of a worker
    that does not watch."""
    found = _found(worker)
    for fault in found:
        yield metrics.FAULT, (fault.kind.name, fault.subject), 1.0
    for kind in FAULTS if worker.watcher else ():
        if kind not in {fault.kind for fault in found}:
            yield metrics.FAULT, (kind.name, "none"), 0.0


def _found(worker: Worker) -> list[Fault]:
    return worker.watcher.found if worker.watcher else []


async def _answers(question: Awaitable[object]) -> str | None:
    """Why there was no answer in time; None where there was one."""
    try:
        await asyncio.wait_for(question, ANSWER_SECONDS)
    except INFRASTRUCTURE as error:
        return f"{type(error).__name__}: {error}"
    return None
