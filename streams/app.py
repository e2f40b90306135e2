"""Stages on Faust: one app (consumer group) per stage, and workers that keep apps and services running."""

import asyncio
import logging
import signal
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import faust
import mode
from faust.tables.manager import TableManager

from streams import metrics
from streams.stage import CALL_RECORDS, WAITING_RECORDS, Handler, Health, Stage

__all__ = ["Handler", "Health", "Stage", "StageApp", "Workers", "run", "stage_app"]

_RESTART_SECONDS = (0.5, 1.0, 2.0, 5.0)
_STOP_SECONDS = 10.0

_log = logging.getLogger(__name__)


class _NoTables(TableManager):
    """Faust gives tables a second to register themselves; there are none to wait for."""

    async def sleep(self, n: mode.Seconds) -> None:
        """Not at all."""


# Streams only: no tables, no web server, no leader topic, no directories. Positions are stored four times a second.
# A worker that dies without a word is missed after the session timeout (Kafka).
_SETTINGS = {
    "autodiscover": False,
    "broker_commit_interval": 0.25,
    "broker_heartbeat_interval": 0.5,
    "broker_session_timeout": 6.0,
    "TableManager": _NoTables,
    "stream_buffer_maxsize": 100_000,  # never reached: the stage bounds what is fetched
    "stream_wait_empty": False,
    "table_standby_replicas": 0,  # else Faust assigns partitions by its own protocol
    "topic_allow_declare": False,
    "topic_disable_leader": True,
    "web_enabled": False,
    "worker_redirect_stdouts": False,
}


class StageApp(faust.App):
    """The Faust app that runs a stage."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.log_url = stage.log_url
        super().__init__(stage.group, broker=_broker(stage.log_url), **_SETTINGS)
        topic = self.topic(*stage.topics, key_serializer="raw", value_serializer="raw", internal=False)
        self.agent(topic, name=stage.name)(self._consume)

    async def _consume(self, stream: faust.StreamT) -> None:
        """The agent: one call of the handler for all that is ready. Positions move only after it."""
        self.stage.attach(stream.channel.queue)
        async for event in stream.noack().events():
            batches = self.stage.take(event.message)
            if await self.stage.handle(batches, partial(self._is_current, event.message.generation_id)):
                for batch in batches:
                    self.consumer.handled(batch)

    def _is_current(self, generation: int) -> bool:
        """Whether the partitions are still assigned as they were."""
        return bool(self.consumer_generation_id == generation)

    def on_rebalance_end(self) -> None:
        """Partitions were assigned (perhaps none) and their positions are known: the stage takes part."""
        super().on_rebalance_end()
        self.stage.health.assigned(self.consumer.assignment())
        self.stage.ready.set()

    def _create_directories(self) -> None:
        """Without tables there is nothing to keep in a directory."""


def stage_app(
    stage: str,
    log_url: str,
    topics: Sequence[str],
    handler: Handler,
    *,
    call_records: int = CALL_RECORDS,
    waiting_records: int = WAITING_RECORDS,
) -> StageApp:
    """The Faust app of a stage: consumer group `hub-<stage>` reads `topics` from the log at `log_url`.

    The topics must exist when it starts. `handler` gets a list of batches, at most one per partition, with at
    most `call_records` records in all, while at most `waiting_records` wait in memory. The app's `stage` tells its health.
    """
    return StageApp(Stage(stage, log_url, tuple(topics), handler, call_records, waiting_records))


def _broker(log_url: str) -> str:
    scheme, _, rest = log_url.partition("://")
    if scheme == "kafka":
        return ";".join(f"hub-kafka://{server}" for server in rest.rstrip("/").split(","))
    return "hub-postgres://log"


class Workers:
    """Runs stages and services in the current event loop until stopped.

    A stage whose app breaks down (the log is away) is unhealthy and started anew until it runs. A service that crashes is a
    fault of the program: it ends `wait`, which raises its error.
    """

    def __init__(self, apps: Sequence[StageApp], services: Sequence[mode.ServiceT] = ()) -> None:
        self.stages = [app.stage for app in apps]
        self._apps = list(apps)
        self._services = list(services)
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Start the services, in order, and then every stage; returns at once, `ready` waits."""
        for service in self._services:
            await service.start()
            self._tasks.append(asyncio.create_task(self._watch(service)))
        self._tasks += [asyncio.create_task(self._keep_running(app)) for app in self._apps]

    async def ready(self) -> None:
        """Return when every stage takes part in its consumer group."""
        await asyncio.gather(*(stage.ready.wait() for stage in self.stages))

    def services(self) -> dict[str, BaseException | None]:
        """What every service crashed with, by its name; None while it runs."""
        return {s.label: (s.crash_reason or RuntimeError("crashed")) if s.crashed else None for s in self._services}

    async def wait(self) -> None:
        """Return after `stop` was called; raises what a service crashed with."""
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            done, _ = await asyncio.wait([stopping, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            stopping.cancel()

    async def stop(self) -> None:
        """Let the batches in hand finish, stop the stages and then the services in reverse order."""
        self._stopping.set()
        stages = self._tasks[len(self._services) :]
        await asyncio.gather(*stages, return_exceptions=True)
        for service in reversed(self._services):
            await service.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, service: mode.ServiceT) -> None:
        await service.wait_until_stopped()
        if service.crashed and not self._stopping.is_set():
            raise service.crash_reason or RuntimeError(f"{service.label} crashed")
        await self._stopping.wait()

    async def _keep_running(self, app: StageApp) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                await self._run_until_stopped(app)
            except Exception as error:
                _log.warning("stage %s: %s: %s; starting it again", app.stage.name, type(error).__name__, error)
                app.stage.ready.clear()
                app.stage.health.failed(error)
                metrics.failed(app.stage.name, metrics.HUB, error)
                pause = _RESTART_SECONDS[min(failures, len(_RESTART_SECONDS) - 1)]
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
                failures += 1
                app = StageApp(app.stage)

    async def _run_until_stopped(self, app: StageApp) -> None:
        """Run the app; raises when it broke down, returns when it was stopped."""
        running = asyncio.create_task(_run_app(app))
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not running.done():
            await _stop_app(app)
        await running


async def _run_app(app: StageApp) -> None:
    try:
        await app.start()
        await app.wait_until_stopped()
    except BaseException:
        await _stop_app(app)
        raise
    if app.crashed:
        await _stop_app(app)
        raise app.crash_reason or RuntimeError("the Faust app crashed")


async def _stop_app(app: StageApp) -> None:
    """Stop fetching, let the batch in hand finish, and stop the app."""
    app.flow_control.suspend()
    await app.stage.quiesce(_STOP_SECONDS)
    with suppress(Exception):
        await app.stop()


async def run(apps: Sequence[StageApp], services: Sequence[mode.ServiceT] = ()) -> None:
    """Run until SIGTERM or SIGINT, then stop in order. Raises what a service crashed with."""
    workers = Workers(apps, services)
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    await workers.start()
    waiting = [asyncio.create_task(told.wait()), asyncio.create_task(workers.wait())]
    try:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in waiting:
            task.cancel()
        await workers.stop()
