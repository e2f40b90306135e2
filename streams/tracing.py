"""Tracing: one trace from a change to its receipts, carried by the event as a W3C traceparent.

A change that is sampled gets its traceparent when it is captured; golden events, rows of the write queue and receipts
hand it on, and every stage adds its span to it. What has no traceparent costs nothing. Attributes name systems, objects
and event ids, never what a record says nor its id in a system (which may be an e-mail address).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NoOpTracerProvider, ProxyTracerProvider, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Attributes = dict[str, str | int]

_tracer = trace.get_tracer("streams")
_format = TraceContextTextMapPropagator()
_NAME = "traceparent"


def on() -> bool:
    """Whether spans go anywhere. Ask once for a batch of changes, not for each."""
    return not isinstance(trace.get_tracer_provider(), ProxyTracerProvider | NoOpTracerProvider)


def begin(name: str, attributes: Attributes, since_us: int, parent: str | None = None) -> str | None:
    """A span of its own from `since_us` (microseconds since 1970) until now, where a trace begins or comes in from
    outside; its traceparent, or None where it is not sampled."""
    context = _context(parent) or Context()
    span = _tracer.start_span(name, context, kind=SpanKind.CONSUMER, attributes=attributes, start_time=since_us * 1_000)
    span.end()
    return _traceparent(span)


@contextmanager
def working(name: str, traces: Iterable[str | None], attributes: Attributes | None = None) -> Iterator[None]:
    """Spans around work on several changes at once: one in every sampled trace. The first is current meanwhile, so that
    calls of vendors belong to it, and it and the others are linked."""
    distinct = dict.fromkeys(one for one in traces if one)
    contexts = [context for one in distinct if (context := _context(one)) is not None]
    if not contexts:
        yield
        return
    with _spans(name, contexts, (attributes or {}) | {"hub.batch.traces": len(contexts)}):
        yield


@contextmanager
def _spans(name: str, contexts: list[Context], attributes: Attributes) -> Iterator[None]:
    links = [Link(trace.get_current_span(context).get_span_context()) for context in contexts[1:]]
    first = _tracer.start_span(name, contexts[0], attributes=attributes, links=links)
    back = [Link(first.get_span_context())]
    spans = [first, *(_tracer.start_span(name, context, attributes=attributes, links=back) for context in contexts[1:])]
    try:
        with trace.use_span(first, record_exception=False, set_status_on_exception=False):
            yield
    except BaseException as error:
        for span in spans:  # the kind of error only: its text may repeat what a record says
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        raise
    finally:
        for span in spans:
            span.end()


def _context(traceparent: str | None) -> Context | None:
    """None where there is none, or it is malformed."""
    if not traceparent:
        return None
    context = _format.extract({_NAME: traceparent}, Context())
    return context if trace.get_current_span(context).get_span_context().is_valid else None


def _traceparent(span: Span) -> str | None:
    if not span.get_span_context().trace_flags.sampled:
        return None
    carrier: dict[str, str] = {}
    _format.inject(carrier, trace.set_span_in_context(span))
    return carrier[_NAME]
