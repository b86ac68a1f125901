"""What is counted of a run, by its record."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controller.metrics import RunMetrics
from treni import metrics
from treni.errors import Code, TreniError
from treni.metrics import Page
from treni.v1 import agent_pb2, common_pb2

RUN = {"arm": "external", "profile": "p03"}
TOOL = {**RUN, "hop": "tool"}


@pytest.fixture
def page() -> Iterator[Page]:
    metrics.work_for("p03", {"agent": "external"})
    yield Page()
    metrics.work_for("", {})


def value(page: Page, name: str, labels: dict[str, str]) -> float | None:
    return page.registry.get_sample_value(f"treni_agent_{name}", labels)


def record() -> agent_pb2.RunRecord:
    attempts = [
        agent_pb2.Attempt(hop="model", outcome="ok", code="OK", duration_s=0.5),
        agent_pb2.Attempt(
            hop="tool", outcome="unknown", code="UNAVAILABLE", kind="reset", duration_s=0.1, fault_id="f1"
        ),
        agent_pb2.Attempt(hop="tool", attempt=1, outcome="ok", code="OK", duration_s=0.2, fault_id="f2"),
        agent_pb2.Attempt(hop="model", call_index=1, outcome="ok", code="OK", duration_s=0.25),
    ]
    return agent_pb2.RunRecord(
        attempts=attempts,
        tools=[agent_pb2.ToolUse(name="calculator"), agent_pb2.ToolUse(name="calculator", is_error=True)],
        usage=common_pb2.Usage(prompt_tokens=30, completion_tokens=7, cached_prompt_tokens=12),
        total_s=1.25,
        loop_s=0.05,
        backoff_s=0.15,
    )


def test_a_run_that_was_retried_is_counted_by_hop_and_fault(page: Page) -> None:
    page.part(RunMetrics).over("external", record(), None, {})
    assert value(page, "runs_total", {**RUN, "outcome": "ok"}) == 1
    assert value(page, "runs_total", {**RUN, "outcome": "fail"}) == 0
    assert value(page, "run_seconds_sum", RUN) == 1.25
    assert value(page, "attempts_total", {**TOOL, "outcome": "unknown", "code": "UNAVAILABLE"}) == 1
    assert value(page, "attempts_total", {**TOOL, "outcome": "ok", "code": "OK"}) == 1
    assert value(page, "attempt_errors_total", {**TOOL, "code": "UNAVAILABLE", "kind": "reset"}) == 1
    assert value(page, "retries_total", TOOL) == 1
    assert value(page, "retries_total", {**TOOL, "hop": "model"}) == 0
    assert value(page, "faults_observed_total", {**TOOL, "outcome": "unknown"}) == 1
    assert value(page, "faults_observed_total", {**TOOL, "outcome": "ok"}) == 1
    assert value(page, "faults_observed_total", {**TOOL, "hop": "model", "outcome": "ok"}) == 0
    parts = {part: value(page, "part_seconds_total", {**RUN, "part": part}) for part in ("loop", "backoff")}
    assert parts == {"loop": 0.05, "backoff": 0.15}
    assert value(page, "part_seconds_total", {**RUN, "part": "model"}) == 0.75
    tokens = {
        kind: value(page, "tokens_total", {**RUN, "kind": kind})
        for kind in ("prompt", "cached_prompt", "completion")
    }
    assert tokens == {"prompt": 30, "cached_prompt": 12, "completion": 7}
    assert value(page, "tool_uses_total", {**RUN, "outcome": "refused"}) == 1
    assert (value(page, "last_success_timestamp_seconds", RUN) or 0) > 0


def test_a_run_that_failed_is_no_success_and_has_its_kind(page: Page) -> None:
    failure = TreniError(Code.UNAVAILABLE, "tool_hop_failed", expected="a", got="b", todo="c", definite=False)
    page.part(RunMetrics).over("external", record(), failure, {})
    assert value(page, "runs_total", {**RUN, "outcome": "unknown"}) == 1
    assert value(page, "runs_total", {**RUN, "outcome": "ok"}) == 0
    assert value(page, "run_errors_total", {**RUN, "code": "UNAVAILABLE", "kind": "tool_hop_failed"}) == 1
    assert value(page, "last_success_timestamp_seconds", RUN) is None


def test_without_a_testbed_the_arm_is_the_servers_own() -> None:
    page = Page()
    page.part(RunMetrics).over("mine", agent_pb2.RunRecord(), None, {})
    assert value(page, "runs_total", {"arm": "mine", "profile": "", "outcome": "ok"}) == 1
