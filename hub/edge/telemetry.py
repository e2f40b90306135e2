"""Telemetry: /metrics for Prometheus and, where an exporter is installed and named, traces for OpenTelemetry.

A scrape never waits: gauges are asked in the background and the scrape gets what is known, with its age. One worker of a
hub at a time asks (it holds a lock in the state database); the others show only what belongs to their own process.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from connectors.kit.http import OBSERVERS
from hub.edge import health
from hub.edge.assembly import Worker
from hub.edge.gauges import GROUPS, Group, Sample
from hub.edge.wiring import Hub
from streams import heartbeat, metrics, tracing
from streams.context import Context
from streams.faults import INFRASTRUCTURE
from streams.log_postgres import Connection
from streams.outcomes import OUTCOMES
from streams.services import ended

STANDBY_SECONDS = 5.0
LONGEST_SECONDS = 60.0
SHARE = 0.05
"""A group that is slow to answer is asked less often, so that asking takes at most this share of the time."""
MOST_SECONDS = 300.0

_LOCK = "hub/metrics"
_EXPORTERS = {
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http.trace_exporter",
}
RECEIPTS = ("applied", "unchanged", "deferred", "held", "refused")

log = structlog.get_logger(__name__)


class Gauges(Collector):
    """What is known of a hub's gauges, and how this worker's parts fare."""

    def __init__(self, context: Context, worker: Worker, groups: tuple[Group, ...] = GROUPS) -> None:
        self._context = context
        self._worker = worker
        self._groups = groups
        self._known: dict[str, tuple[float, list[Sample]]] = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Every sample that is known now, and its age."""
        families: dict[str, GaugeMetricFamily] = {}
        for metric, labels, value in self._samples():
            if metric.name not in families:
                families[metric.name] = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
            families[metric.name].add_metric(labels, value)
        yield from families.values()

    def _samples(self) -> Iterator[Sample]:
        for part, wrong in health.parts(self._worker).items():
            yield metrics.HEALTHY, part, wrong is None
        yield metrics.LOOP_LAG, (), heartbeat.worst()
        yield from health.faults(self._worker)
        for name, (asked_at, samples) in list(self._known.items()):
            yield metrics.AGE, (name,), time.monotonic() - asked_at
            yield from samples

    async def forever(self) -> None:
        """Ask for as long as no other worker does. While the state database is away what is known gets older."""
        while True:
            try:
                async with self._context.pool.acquire() as conn:
                    await self._ask_under_lock(conn)
            except* INFRASTRUCTURE as errors:
                log.warning("metrics wait", error=type(errors.exceptions[0]).__name__)
            await asyncio.sleep(STANDBY_SECONDS)

    async def _ask_under_lock(self, conn: Connection) -> None:
        if not await conn.fetchval("select pg_try_advisory_lock(hashtextextended($1, 7))", _LOCK):
            self._known.clear()
            return
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_hold(conn))
                for group in self._groups:
                    tasks.create_task(self._ask_forever(group))
        finally:
            with suppress(*INFRASTRUCTURE):
                await conn.execute("select pg_advisory_unlock(hashtextextended($1, 7))", _LOCK)

    async def _ask_forever(self, group: Group) -> None:
        while True:
            began = time.monotonic()
            await self._ask(group)
            took = time.monotonic() - began
            await asyncio.sleep(max(group.seconds, min(took / SHARE, MOST_SECONDS)))

    async def _ask(self, group: Group) -> None:
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                samples = await group.ask(self._context)
        except Exception as error:
            log.warning("no metrics", group=group.name, error=f"{type(error).__name__}: {error}"[:500])
        else:
            self._known[group.name] = (time.monotonic(), samples)


async def _hold(conn: Connection) -> None:
    """The lock lives with this connection: no connection, no asking."""
    while True:
        await asyncio.sleep(STANDBY_SECONDS)
        await conn.fetchval("select 1")


@asynccontextmanager
async def measured(hub: Hub, worker: Worker) -> AsyncIterator[CollectorRegistry]:
    """Keep the gauges up to date meanwhile; gives the registry of everything there is to scrape of this worker."""
    if metrics.called not in OBSERVERS:
        OBSERVERS.append(metrics.called)
    expect(hub.context, worker)
    gauges = Gauges(hub.context, worker)
    registry = CollectorRegistry()
    for live in metrics.LIVE.values():
        registry.register(live)
    registry.register(gauges)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    asking = asyncio.create_task(gauges.forever())
    try:
        yield registry
    finally:
        await ended(asking)


def mount(app: FastAPI, registry: CollectorRegistry) -> None:
    """Serve the registry at /metrics, in the format that the scraper asks for."""

    @app.get("/metrics", include_in_schema=False)
    async def scrape(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})


def expect(context: Context, worker: Worker) -> None:
    """Show the counters that this worker may count, from 0 on: a rate has no beginning otherwise."""
    sources = {("capture", capture.system) for capture in worker.captures}
    stages = {(stage.name, metrics.HUB) for stage in worker.workers.stages}
    targets = {("deliver", deliverer.target) for deliverer in worker.deliverers}
    webhooks = {("webhook", system) for system in context.connectors}
    for stage, system in sources | stages | targets | webhooks:
        metrics.expect(metrics.ATTEMPTS, stage, system)
        for kind in metrics.CLASSES:
            metrics.expect(metrics.ERRORS, stage, system, kind)
    for system in context.connectors:
        metrics.expect(metrics.NEAR_MISSES, system)
        for result in ("accepted", "refused", "failed"):
            metrics.expect(metrics.WEBHOOKS, system, result)
    for entity in context.model.entities:
        metrics.expect(metrics.GOLDEN, entity)
        for state in ("open", "resolved"):
            metrics.expect(metrics.CONFLICTS, entity, state)
    for _, target in targets:
        metrics.expect(metrics.JOURNEY_SECONDS, target)
        for receipt in RECEIPTS:
            metrics.expect(metrics.RECEIPTS, target, receipt)
        for outcome in OUTCOMES:
            metrics.expect(metrics.OUTCOMES, target, outcome)


@asynccontextmanager
async def exported(env: Mapping[str, str] = os.environ) -> AsyncIterator[None]:
    """Export traces meanwhile, where OTEL_EXPORTER_OTLP_ENDPOINT says to where. The SDK reads the other OTEL_ variables."""
    exporter = None if tracing.on() else _exporter(env)
    if exporter is None:
        yield
        return
    named = {} if env.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: "integration-hub"}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        await asyncio.to_thread(provider.shutdown)


def _exporter(env: Mapping[str, str]) -> SpanExporter | None:
    if not (env.get("OTEL_EXPORTER_OTLP_ENDPOINT") or env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
        return None
    module = _EXPORTERS.get(env.get("OTEL_EXPORTER_OTLP_PROTOCOL", ""), _EXPORTERS["http/protobuf"])
    try:
        made: Any = import_module(module).OTLPSpanExporter()
    except ImportError:
        package = module.removeprefix("opentelemetry.exporter.").removesuffix(".trace_exporter").replace(".", "-")
        log.warning("no traces are exported: install the exporter", package=f"opentelemetry-exporter-{package}")
        return None
    exporter: SpanExporter = made
    return exporter
