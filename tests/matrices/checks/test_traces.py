"""What traces lack is found, and nothing else."""

from __future__ import annotations

import dataclasses

import pytest

from matrices.checks.traces import gaps
from matrices.evidence.traces import Trace
from tests.matrices.traces import GENERATE, RUN, RUN_SPAN, external, span, without


def lacking(*traces: Trace, expected: tuple[str, ...] = (RUN,)) -> list[str]:
    return [gap.lacks for gap in gaps({str(n): one for n, one in enumerate(traces)}, expected)]


def test_a_whole_trace_lacks_nothing() -> None:
    assert lacking(without()) == []


@pytest.mark.parametrize("name", [RUN_SPAN, "chat", "attempt model", GENERATE, "engine"])
def test_a_missing_parent_is_told(name: str) -> None:
    assert [one for one in lacking(without(name)) if one.startswith("the parent of")]


def test_no_root_and_a_root_too_many_are_told() -> None:
    assert "a single root: there are 2" in lacking(Trace.of([*external(), span("invoke_agent other")]))
    rest = without("invoke_agent external", RUN_SPAN)
    assert "a single root: there are 0" in lacking(rest, expected=())


def test_an_attempt_that_answered_has_another_side_where_others_of_its_hop_have_one() -> None:
    alone = without(GENERATE, "engine", "engine.prefill", "engine.decode")
    assert lacking(alone) == []  # the model is somebody's who keeps no traces with us
    assert lacking(without(), alone) == ["the other side of attempt model"]


def test_an_attempt_that_failed_needs_no_other_side() -> None:
    spans = external()[:4]
    spans[3] = dataclasses.replace(spans[3], attributes={"treni.hop": "model", "treni.outcome": "unknown"})
    assert lacking(without(), Trace.of(spans)) == []


def test_a_client_that_was_answered_has_an_agent() -> None:
    alone = Trace.of(external()[:1])
    assert lacking(alone) == ["the other side of invoke_agent external"]
    assert lacking(Trace.of([dataclasses.replace(external()[0], failed=True)])) == []


def test_a_request_without_any_trace_is_told() -> None:
    assert lacking(without(), expected=(RUN, "p00/1/external/0")) == ["all spans"]


def test_a_trace_that_somebody_else_began_is_no_gap() -> None:
    spans = [
        dataclasses.replace(one, parent="elsewhere" if one.name == RUN_SPAN else one.parent)
        for one in external()[1:]
    ]
    assert lacking(Trace.of(spans), expected=()) == []


def test_a_measured_request_begins_with_its_client() -> None:
    called = dataclasses.replace(external()[1], parent="elsewhere", attributes={"treni.run_id": RUN})
    assert lacking(Trace.of([called, *external()[2:]])) == ["the client's span"]
