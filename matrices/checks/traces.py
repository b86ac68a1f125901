"""Whether traces are whole: nobody's parent is missing, and what answered has left its span."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from matrices.evidence.traces import Span, Trace
from treni import spans as names


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """What a trace lacks. `run_id` is "" where it does not say whose it is."""

    trace_id: str
    run_id: str
    lacks: str

    def __str__(self) -> str:
        """The gap in one line."""
        of = f" of {self.run_id}" if self.run_id else ""
        return f"trace {self.trace_id or '(none)'}{of}: {self.lacks}"


def gaps(traces: Mapping[str, Trace], expected: Collection[str]) -> Iterator[Gap]:
    """What the traces lack, whose runs should be the `expected` ones: any are right where there are none of these.

    An attempt that answered has a span on the other side, unless what is called there is nobody that keeps traces with
    us: then no attempt on that hop under the same agent has one.
    """
    followed = {
        _way(trace, span) for trace in traces.values() for span in _answered(trace) if _seen(trace, span)
    }
    found = set()
    for trace_id, trace in traces.items():
        run_id = trace.run_id
        found.add(run_id)
        for lacks in _lacking(trace, followed, measured=run_id in expected):
            yield Gap(trace_id=trace_id, run_id=run_id, lacks=lacks)
    for run_id in sorted(set(expected) - found):
        yield Gap(trace_id="", run_id=run_id, lacks="all spans")


def _lacking(trace: Trace, followed: Collection[tuple[str, str]], *, measured: bool) -> Iterator[str]:
    root = trace.root
    if root is None:
        yield from (f"the parent of {span.name} in {span.service}" for span in trace.begins if span.parent)
        if (roots := sum(span.parent == "" for span in trace.begins)) != 1:
            yield f"a single root: there are {roots}"
    elif measured and root.kind != "client":
        yield "the client's span"
    for span in trace.spans:
        answered = span.name.startswith(names.INVOKE) and span.kind == "client" and not span.failed
        if answered and not _seen(trace, span):
            yield f"the other side of {span.name}"
    for span in _answered(trace):
        if _way(trace, span) in followed and not _seen(trace, span):
            yield f"the other side of {span.name}"


def _answered(trace: Trace) -> list[Span]:
    return [
        span
        for span in trace.spans
        if span.name.startswith(names.ATTEMPT) and span.attributes.get(names.OUTCOME) == "ok"
    ]


def _seen(trace: Trace, span: Span) -> bool:
    return bool(trace.children.get(span.id))


def _way(trace: Trace, span: Span) -> tuple[str, str]:
    root = trace.root
    agent = "" if root is None else str(root.attributes.get(names.AGENT_NAME, ""))
    return agent, str(span.attributes.get(names.HOP, ""))
