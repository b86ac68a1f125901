"""Traces written by hand, so that tests can say in a line what one has or lacks."""

from __future__ import annotations

from typing import Any

from matrices.evidence.traces import Span, Trace

RUN = "p00/0/external/0"


def span(
    name: str,
    parent: str = "",
    *,
    at: float = 0.0,
    lasts: float = 1.0,
    kind: str = "internal",
    failed: bool = False,
    id: str = "",
    **attributes: Any,
) -> Span:
    """A span whose id is its name, and its parent's the parent's."""
    return Span(
        service="test",
        trace_id="t",
        id=id or name,
        parent=parent,
        name=name,
        kind=kind,
        start_s=at,
        duration_s=lasts,
        failed=failed,
        attributes={f"treni.{key}": value for key, value in attributes.items()},
    )


RUN_SPAN = "treni.v1.AgentService/Run"
GENERATE = "treni.v1.InferenceService/Generate"


def external() -> list[Span]:
    """The spans of a request of 10 s: 1 s to the agent, 1 s its own, 2 s to the model, 5 s in stages, 1 s in none."""
    return [
        span("invoke_agent external", lasts=10, kind="client", run_id=RUN),
        span(RUN_SPAN, "invoke_agent external", at=0.5, lasts=9, kind="server"),
        span("chat", RUN_SPAN, at=1, lasts=8),
        span("attempt model", "chat", at=1, lasts=8, kind="client", outcome="ok", hop="model"),
        span(GENERATE, "attempt model", at=2, lasts=6, kind="server"),
        span("engine", GENERATE, at=2, lasts=6),
        span("engine.prefill", "engine", at=2, lasts=3),
        span("engine.decode", "engine", at=5, lasts=2),
    ]


def without(*names: str) -> Trace:
    """That request without the spans of those names."""
    return Trace.of([one for one in external() if one.name not in names])
