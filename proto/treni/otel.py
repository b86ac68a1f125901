"""The tracer that is OpenTelemetry's SDK: spans go to a file or to an OTLP endpoint, in a thread of their own.

The one module that imports OpenTelemetry, and imported only where traces are asked for.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from treni.storage import writing
from treni.tracing import TRACEPARENT, TRACESTATE, Attributes, Kind, Span

EVERY_S = 0.5
"""How long an ended span may wait for others to be sent with; what a kill takes along is no older."""

END_LIMIT_S = 3.0
"""How long the end of a process waits for spans to be taken by whoever does not answer."""

TRACESTATE_CHARS = 512
"""How much of a caller's own state is passed on, as much as W3C asks for: it must fit beside our headers on a hop."""

_KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_W3C = TraceContextTextMapPropagator()

# One pair: spans of a process never overlap for a step of the wall clock.
_WALL_LESS_STEADY_NS = time.time_ns() - time.perf_counter_ns()


def wall_ns(at_s: float | None) -> int:
    """The moment of a `time.perf_counter()`, now for None, by the wall clock as it was when the process began."""
    steady_ns = time.perf_counter_ns() if at_s is None else round(at_s * 1e9)
    return _WALL_LESS_STEADY_NS + steady_ns


class OtelSpan:
    """A `treni.tracing.Span` over one of the SDK's."""

    __slots__ = ("raw",)

    def __init__(self, raw: trace.Span) -> None:
        self.raw = raw

    def set(self, attributes: Attributes) -> None:
        """Adds attributes, as `Span` says."""
        self.raw.set_attributes(attributes)

    def rename(self, name: str) -> None:
        """Gives it another name, as `Span` says."""
        self.raw.update_name(name)

    def event(self, name: str, attributes: Attributes, *, at_s: float | None = None) -> None:
        """Adds an event, as `Span` says."""
        self.raw.add_event(name, attributes, wall_ns(at_s))

    def fail(self, kind: str, said: str) -> None:
        """Makes its status an error, as `Span` says."""
        self.raw.set_attribute("error.type", kind)
        self.raw.set_status(StatusCode.ERROR, said)

    def end(self, *, at_s: float | None = None) -> None:
        """Ends it, as `Span` says."""
        self.raw.end(wall_ns(at_s))


class OtelTracer:
    """A `treni.tracing.Tracer` over a provider of the SDK. The current span is OpenTelemetry's own current one."""

    def __init__(self, provider: trace.TracerProvider) -> None:
        self._tracer = provider.get_tracer("treni")

    def start(
        self,
        name: str,
        attributes: Attributes,
        *,
        kind: Kind = "internal",
        parent: Span | None = None,
        start_s: float | None = None,
    ) -> OtelSpan:
        """Starts a span, as `Tracer` says."""
        within = None if parent is None else trace.set_span_in_context(cast(OtelSpan, parent).raw)
        return OtelSpan(
            self._tracer.start_span(
                name, within, kind=_KINDS[kind], attributes=attributes, start_time=wall_ns(start_s)
            )
        )

    def receive(
        self, name: str, attributes: Attributes, headers: Sequence[tuple[str, str | bytes]]
    ) -> OtelSpan:
        """Starts a server's span, as `Tracer` says."""
        carrier: dict[str, list[str]] = {}
        for key, value in headers:
            if key in (TRACEPARENT, TRACESTATE) and isinstance(value, str):
                carrier.setdefault(key, []).append(value)
        if sum(map(len, carrier.get(TRACESTATE, ()))) > TRACESTATE_CHARS:
            del carrier[TRACESTATE]
        within = Context()
        if len(carrier.get(TRACEPARENT, ())) == 1:  # of two, nobody can say which is meant
            within = _W3C.extract(carrier, within)
        return OtelSpan(
            self._tracer.start_span(
                name, within, kind=SpanKind.SERVER, attributes=attributes, start_time=wall_ns(None)
            )
        )

    def enter(self, span: Span) -> Context:
        """Makes the span current, as `Tracer` says."""
        before = context.get_current()
        context.attach(trace.set_span_in_context(cast(OtelSpan, span).raw, before))
        return before

    def leave(self, before: object) -> None:
        """Takes back what `enter` did, as `Tracer` says."""
        # Not by detaching: a generator may be closed in another context than it was entered in.
        context.attach(cast(Context, before))

    def current(self) -> OtelSpan | None:
        """The current span, where there is a valid one."""
        raw = trace.get_current_span()
        return OtelSpan(raw) if raw.get_span_context().is_valid else None

    def headers(self) -> tuple[tuple[str, str], ...]:
        """The headers `traceparent` and `tracestate`, as `Tracer` says."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return tuple(carrier.items())

    def trace_id(self) -> str | None:
        """The id of the current trace, where it is sampled."""
        at = trace.get_current_span().get_span_context()
        return trace.format_trace_id(at.trace_id) if at.is_valid and at.trace_flags.sampled else None


class FileSpans(SpanExporter):
    """Appends spans to a file, a line of OTLP JSON for those that come together, each line by one write."""

    def __init__(self, path: Path) -> None:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
            if self._file.tell() > 0:  # what was killed here before may have left half a line
                self._file.write(b"\n")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Writes the spans; FAILURE where the disk does not take them whole."""
        line = encode_spans(spans).to_json().encode() + b"\n"
        try:
            whole = self._file.write(line) == len(line)
        except OSError:
            whole = False
        return SpanExportResult.SUCCESS if whole else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Closes the file."""
        self._file.close()


class Sending(BatchSpanProcessor):
    """A bounded queue before an exporter. What does not fit, or is not taken, is dropped and counted."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._taken = _Taken(exporter)
        self._given = itertools.count()
        self._exporter = exporter
        super().__init__(self._taken, schedule_delay_millis=EVERY_S * 1000)

    def on_end(self, span: ReadableSpan) -> None:
        """Counts a span and queues it."""
        next(self._given)
        super().on_end(span)

    def close(self) -> tuple[int, int]:
        """Sends what is left, for `END_LIMIT_S` at most: how many spans there were, and how many were dropped."""
        ending = threading.Thread(target=self.shutdown, daemon=True)
        ending.start()
        ending.join(END_LIMIT_S)
        if ending.is_alive():
            self._exporter.shutdown()
        given = next(self._given)
        return given, given - self._taken.count


class _Taken(SpanExporter):
    """An exporter that counts the spans which were taken."""

    def __init__(self, exporter: SpanExporter) -> None:
        self.count = 0
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.count += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class Traces:
    """The traces of this process, from `begin` until they are closed."""

    def __init__(self, provider: TracerProvider, sending: dict[str, Sending]) -> None:
        self.tracer = OtelTracer(provider)
        self._sending = sending

    def close(self) -> dict[str, tuple[int, int]]:
        """For each place that spans went to: how many there were, and how many of them were dropped."""
        return {place: sending.close() for place, sending in self._sending.items()}


def begin(service: str, *, path: Path | None, to_endpoint: bool) -> Traces:
    """Has a process keep traces under that service's name: in a file, at the endpoint that the environment names.

    The SDK's own variables count (OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_
    MAX_QUEUE_SIZE, ...). Raises `TreniError` for a file that cannot be written.
    """
    # What it would log of an endpoint that does not answer, once a batch, is told once at the end.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    resource = Resource.create(
        {"service.name": service, "service.namespace": "treni-route", "process.pid": os.getpid()}
    )
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    sending: dict[str, Sending] = {}
    if path is not None:
        sending[str(path)] = Sending(FileSpans(path))
    if to_endpoint:
        exporter = OTLPSpanExporter()
        sending[exporter._endpoint] = Sending(exporter)
    for one in sending.values():
        provider.add_span_processor(one)
    trace.set_tracer_provider(provider)  # for libraries that make spans of their own: the MCP SDK does
    return Traces(provider, sending)
