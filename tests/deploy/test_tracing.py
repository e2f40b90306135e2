"""One edit is one trace, from its capture to the receipt; what is not sampled leaves nothing."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

from hub.edge import running
from hub.edge.embedded import Embedded
from hub.edge.running import Running
from hub.edge.wiring import open_hub, read_config
from streams import tracing
from tests.deploy.hubs import TwoSystems, two_systems, until


class Switch(Sampler):
    """Samples every trace, or none, as a test likes; what follows a parent does as the parent."""

    on = True

    def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, links=None, trace_state=None):  # type: ignore[no-untyped-def]
        parent = trace.get_current_span(parent_context).get_span_context()
        sampled = parent.trace_flags.sampled if parent.is_valid else self.on
        return SamplingResult(Decision.RECORD_AND_SAMPLE if sampled else Decision.DROP, attributes)

    def get_description(self) -> str:
        return "switch"


@pytest.fixture(scope="module")
def recorded() -> InMemorySpanExporter:
    """Where every span of this process goes; a process has one provider for good."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=Switch())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def spans(recorded: InMemorySpanExporter) -> Iterator[InMemorySpanExporter]:
    Switch.on = True
    recorded.clear()
    yield recorded
    Switch.on = False


@pytest.fixture
async def systems(postgres: Embedded, tmp_path: Path) -> AsyncIterator[TwoSystems]:
    async with two_systems(postgres, tmp_path) as made:
        yield made


@pytest.fixture
async def hub(systems: TwoSystems) -> AsyncIterator[Running]:
    config = read_config(systems.config, systems.env)
    async with open_hub(config, env=systems.env) as opened, running.started(opened, port=0) as started:
        yield started


async def arrived(systems: TwoSystems, email: str, name: str) -> None:
    async def there() -> bool:
        found = await systems.execute("shop", "select given_name from customers where mail = $1", email)
        return bool(found == name)

    await until(there, lambda: f"{email} with the name {name} in the shop")


def by_trace(spans: InMemorySpanExporter) -> dict[int, list[ReadableSpan]]:
    traces: dict[int, list[ReadableSpan]] = {}
    for span in spans.get_finished_spans():
        traces.setdefault(span.context.trace_id, []).append(span)
    return traces


async def test_one_edit_is_one_trace_from_capture_to_receipt(
    spans: InMemorySpanExporter, systems: TwoSystems, hub: Running
) -> None:
    await systems.execute("crm", "insert into contacts (email, first_name) values ('ada@lovelace.example', 'Ada')")
    await arrived(systems, "ada@lovelace.example", "Ada")

    async def complete() -> list[ReadableSpan]:
        traces = by_trace(spans).values()
        return next((one for one in traces if {"capture", "receipt"} <= {s.name for s in one} and _of(one, "crm")), [])

    found = await until(
        complete, lambda: f"a complete trace among {[[s.name for s in one] for one in by_trace(spans).values()]}"
    )
    assert {"capture", "project", "plan", "deliver", "receipt"} <= {span.name for span in found}
    (root,) = [span for span in found if span.parent is None]
    assert root.name == "capture"
    assert [s.name for s in sorted(found, key=lambda s: s.end_time or 0)][:3] == ["capture", "project", "plan"]
    assert await _receipts_trace(hub) == {root.context.trace_id}


def _of(spans: list[ReadableSpan], system: str) -> bool:
    return any((span.attributes or {}).get("hub.system") == system for span in spans)


async def _receipts_trace(hub: Running) -> set[int]:
    """The traces that receipts of the shop name."""
    context = hub.worker.hub.context
    found = set()
    for (topic, partition), _ in (await context.log.ends(["hub.receipts"])).items():
        records = await context.log.read(topic, partition, 0, 100)
        await context.codec.learn(record.value for record in records)
        data = [context.codec.decode(record.value)[1] for record in records if record.value]
        found |= {int(d["trace"].split("-")[1], 16) for d in data if d["trace"] and d["target"] == "shop"}
    return found


async def test_a_span_holds_nothing_of_what_a_record_says(
    spans: InMemorySpanExporter, systems: TwoSystems, hub: Running
) -> None:
    await systems.execute("crm", "insert into contacts (email, first_name) values ('grace@hopper.example', 'Grace')")
    await arrived(systems, "grace@hopper.example", "Grace")
    told = " ".join(span.to_json() for span in spans.get_finished_spans())
    assert "capture" in told
    assert "hopper" not in told
    assert "Grace" not in told


async def test_what_is_not_sampled_leaves_no_span_and_no_traceparent(
    spans: InMemorySpanExporter, systems: TwoSystems, hub: Running
) -> None:
    Switch.on = False
    await systems.execute("crm", "insert into contacts (email, first_name) values ('alan@turing.example', 'Alan')")
    await arrived(systems, "alan@turing.example", "Alan")
    assert not [s for s in spans.get_finished_spans() if s.name in ("capture", "project", "plan", "deliver", "receipt")]
    assert await _receipts_trace(hub) == set()


def test_work_on_many_traces_is_one_span_in_each_and_they_are_linked(spans: InMemorySpanExporter) -> None:
    traces = [tracing.begin("capture", {}, since_us=1) for _ in range(3)]
    assert all(traces)
    vendor = trace.get_tracer("vendor")
    with tracing.working("project", [*traces, None, "nonsense", traces[0]]), vendor.start_as_current_span("call"):
        pass
    work = [span for span in spans.get_finished_spans() if span.name == "project"]
    first = next(span for span in work if len(span.links) == 2)
    assert len({span.context.trace_id for span in work}) == 3
    assert all(span.links[0].context == first.context for span in work if span is not first)
    (call,) = [span for span in spans.get_finished_spans() if span.name == "call"]
    assert call.parent is not None
    assert call.parent.span_id == first.context.span_id


def test_a_failure_is_told_by_its_kind_only(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError), tracing.working("project", [tracing.begin("capture", {}, since_us=1)]):
        raise ValueError("ada@lovelace.example is wrong")
    (span,) = [span for span in spans.get_finished_spans() if span.name == "project"]
    assert span.status.description == "ValueError"
    assert "lovelace" not in span.to_json()


def test_a_traceparent_from_outside_is_continued_and_nonsense_is_not(spans: InMemorySpanExporter) -> None:
    outside = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    continued = tracing.begin("webhook", {}, since_us=1, parent=outside)
    begun = tracing.begin("webhook", {}, since_us=1, parent="00-zz")
    assert continued is not None
    assert continued.split("-")[1] == outside.split("-")[1]
    assert begun is not None
    assert begun.split("-")[1] != outside.split("-")[1]
