"""Own times, what is unexplained, and that they sum to the client's time."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrices.evidence.traces import Span, Trace
from matrices.statistics.waterfall import Parts, parts_of, waterfall
from tests.matrices.traces import RUN_SPAN, external, span, without


def own(parts: Parts) -> dict[str, float]:
    return {part.path[-1]: part.own_s for part in parts.parts}


def taken(spans: list[Span], latency_s: float | None = None) -> Parts:
    parts = parts_of(Trace.of(spans), latency_s=latency_s)
    assert parts is not None
    return parts


def test_own_times_and_what_no_stage_claims() -> None:
    parts = taken(external())
    assert own(parts) == {
        "invoke_agent": 1,
        RUN_SPAN: 1,
        "chat": 0,
        "attempt model": 2,
        "treni.v1.InferenceService/Generate": 0,
        "engine": 0,
        "engine.prefill": 3,
        "engine.decode": 2,
    }
    assert (parts.unexplained_s, parts.unexplained) == (1, 0.1)


def test_a_difference_to_the_client_s_own_time_is_unexplained() -> None:
    assert taken(external(), latency_s=9.5).unexplained_s == pytest.approx(1.5)


def test_time_of_a_call_outside_its_attempts_is_unexplained() -> None:
    spans = [
        dataclasses.replace(one, duration_s=7.0) if one.name == "attempt model" else one for one in external()
    ]
    assert taken(spans).unexplained_s == 2


def test_spans_that_come_to_more_than_what_they_are_in_are_unexplained() -> None:
    spans = [*external(), span("backoff", "chat", at=3, lasts=4)]
    assert taken(spans).unexplained_s == 1 + 4


def test_an_attempt_that_failed_is_its_hop_s_whatever_was_still_done_for_it() -> None:
    late = dataclasses.replace(external()[4], duration_s=100.0)
    failed = dataclasses.replace(external()[3], attributes={"treni.outcome": "unknown"})
    parts = taken([*external()[:3], failed, late])
    assert own(parts)["attempt model"] == 8
    assert parts.unexplained_s == 0


def test_what_a_server_does_after_its_caller_has_the_answer_is_not_the_client_s_time() -> None:
    late = dataclasses.replace(external()[4], duration_s=8.5)
    parts = taken([*external()[:4], late, *external()[5:]])
    assert own(parts)["attempt model"] == 0
    assert own(parts)[late.name] == 2
    assert parts.unexplained_s == 1


def test_no_single_root_is_no_waterfall() -> None:
    assert parts_of(without(RUN_SPAN)) is None


@given(st.data())
def test_the_parts_sum_to_the_client_s_time(data: st.DataObject) -> None:
    """In any tree whose spans lie in their parents, one after the other."""
    spans = [span("invoke_agent a", lasts=1.0)]
    room = {"invoke_agent a": 1.0}
    names = st.sampled_from(
        ["chat", "engine", "engine.decode", "attempt tool", "tool x", "backoff", RUN_SPAN]
    )
    for number in range(data.draw(st.integers(0, 12))):
        parent = data.draw(st.sampled_from(sorted(room)))
        lasts = room[parent] * data.draw(st.floats(0, 1))
        room[parent] -= lasts
        id = f"{number:03}"
        room[id] = lasts
        spans.append(span(data.draw(names), parent, lasts=lasts, id=id, outcome="ok"))
    parts = taken(spans)
    whole = math.fsum(part.own_s for part in parts.parts) + parts.unexplained_s
    assert whole == pytest.approx(1.0, abs=1e-9)
    together = waterfall([parts, parts])
    assert math.fsum(row.own_s for row in together.rows) + together.unexplained_s == pytest.approx(1.0)
    paths = [row.path for row in together.rows]
    assert all(path[:-1] in paths[:place] for place, path in enumerate(paths) if len(path) > 1)
