"""The seam between what is traced and what keeps traces: without a tracer, which is the default, nothing is done.

`treni.otel` has the tracer; nothing else imports OpenTelemetry. `treni.spans` has the names of what is traced.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Literal, Protocol, TypeAlias

Value: TypeAlias = str | bool | int | float | Sequence[str]
Attributes: TypeAlias = Mapping[str, Value]
Kind = Literal["internal", "server", "client"]

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"


class Span(Protocol):
    """A piece of work that was begun, for whoever did so to describe and to end. For any thread."""

    def set(self, attributes: Attributes) -> None:
        """Adds to what is said of it."""

    def rename(self, name: str) -> None:
        """Gives it the name that it should have had, were it known before."""

    def event(self, name: str, attributes: Attributes, *, at_s: float | None = None) -> None:
        """Says that something happened in it, now or at that `time.perf_counter()`."""

    def fail(self, kind: str, said: str) -> None:
        """Says that it failed, by the kind of a `TreniError` and in words."""

    def end(self, *, at_s: float | None = None) -> None:
        """Ends it, now or at that `time.perf_counter()`."""


class Tracer(Protocol):
    """Who makes spans. Times are of `time.perf_counter()`, and so monotonic."""

    def start(
        self,
        name: str,
        attributes: Attributes,
        *,
        kind: Kind = "internal",
        parent: Span | None = None,
        start_s: float | None = None,
    ) -> Span:
        """A span within `parent`, else within the current one, begun now or at `start_s`."""
        ...

    def receive(self, name: str, attributes: Attributes, headers: Sequence[tuple[str, str | bytes]]) -> Span:
        """A server's span: within the caller's, if the headers of the call say so in W3C's terms."""
        ...

    def enter(self, span: Span) -> object:
        """Makes the span the current one of this task or thread; gives what `leave` needs."""
        ...

    def leave(self, before: object) -> None:
        """Makes that the current span which was so when `enter` was called."""
        ...

    def current(self) -> Span | None:
        """The current span."""
        ...

    def headers(self) -> tuple[tuple[str, str], ...]:
        """The current span in W3C's terms, for a call of somebody else; none without one."""
        ...

    def trace_id(self) -> str | None:
        """The id of the current span's trace, 32 hexadecimal digits, where the trace is kept."""
        ...


_tracer: Tracer | None = None


def use(tracer: Tracer | None) -> None:
    """Has this process traced by that tracer from now on; by nobody for None."""
    global _tracer
    _tracer = tracer


def tracer() -> Tracer | None:
    """Who traces this process; None, and there is nothing to do, where nobody does."""
    return _tracer


def current_trace_id() -> str | None:
    """The id of the trace that the current work belongs to, 32 hexadecimal digits; None where nobody keeps one."""
    return None if _tracer is None else _tracer.trace_id()


def failed(kind: str, said: str) -> None:
    """Says of the current span that it failed."""
    span = None if _tracer is None else _tracer.current()
    if span is not None:
        span.fail(kind, said)


OFF = contextlib.nullcontext()
"""The context of work that nobody traces."""


class Working:
    """The context of a piece of work: its span is the current one in the block, and ends with it."""

    __slots__ = ("_before", "_tracer", "span")

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self.span = span

    def __enter__(self) -> Span:
        self._before = self._tracer.enter(self.span)
        return self.span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tracer.leave(self._before)
        if error is not None:
            self.span.fail(getattr(error, "kind", type(error).__name__), str(error))
        self.span.end()
