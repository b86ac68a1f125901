"""What the plan expects of time where faults break hosts: how long who waits, and which steps follow at once."""

from __future__ import annotations

import pytest

from matrices.checks.clock import of_clocks
from matrices.evidence import events as ev
from matrices.planning.expected import expectation_of
from matrices.planning.plan import plan_cell
from matrices.spec.profiles import Profile
from matrices.spec.suites import load_suite


@pytest.mark.parametrize(
    ("rule", "internal_s", "external_s"),
    [
        # Inside the hang stops the clock of the timeout too; outside the caller gives up.
        ({"kind": "hang", "duration": "3s"}, 3.0, 2.0),
        ({"kind": "hang", "duration": "1s"}, 1.0, 1.0),
        ({"kind": "hog", "duration": "1s"}, 1.0, 1.0),
        ({"kind": "crash"}, 0.0, 0.0),
        ({"kind": "leak", "size_mb": 1}, 0.0, 0.0),
    ],
)
def test_how_long_each_arm_waits_for_its_host(
    rule: dict[str, str | int], internal_s: float, external_s: float
) -> None:
    profile = Profile.model_validate(
        {
            "name": "b",
            "title": "t",
            "policy": {"tool_timeout": "2s", "retries": 0},
            "faults": {"site": "tool", "by": "request", "rules": [{**rule, "every": 1}]},
        }
    )
    expected = expectation_of(plan_cell(profile, load_suite("tool_only"), runs=1))
    for pair in expected.pairs:
        assert pair.waits_s == {"internal": internal_s, "external": external_s}


def invoke(arm: str, mono_s: float) -> ev.Invoke:
    wall_time = f"2026-01-01T00:00:{mono_s:06.3f}+00:00"
    return ev.Invoke(
        cell="b",
        pair=0,
        arm=arm,
        run_id=f"b/0/{arm}/0",
        request_index=0,
        wall_time=wall_time,
        mono_s=mono_s,
    )


def outcome(arm: str, latency_s: float) -> ev.Outcome:
    return ev.Outcome(
        cell="b",
        pair=0,
        arm=arm,
        run_id=f"b/0/{arm}/0",
        outcome="ok",
        error=None,
        latency_s=latency_s,
        ttft_s=None,
        answer="a",
        correct=True,
        record=None,
    )


def clock_findings(second_s: float, *, holding: set[str], concurrency: int) -> list[str]:
    start = ev.Block(cell="b", block=0, phase="start", mono_s=1.0, conditions={})
    events: list[ev.Event] = [
        start,
        invoke("internal", 1.0),
        outcome("internal", 1.0),
        invoke("external", second_s),
    ]
    found = of_clocks(
        events, created_utc="2026-01-01T00:00:00+00:00", concurrency=concurrency, holding=holding
    )
    return [finding.kind for finding in found]


def test_a_request_may_wait_for_a_host_beside_others_but_never_goes_back_in_time() -> None:
    assert clock_findings(20.0, holding={"b"}, concurrency=8) == []
    assert clock_findings(20.0, holding=set(), concurrency=8) == ["clock_impossible"]
    # One at a time too each step waits until every process answers; elsewhere nothing excuses the wait.
    assert clock_findings(20.0, holding={"b"}, concurrency=1) == []
    assert clock_findings(20.0, holding=set(), concurrency=1) == ["clock_impossible"]
    assert clock_findings(1.5, holding={"b"}, concurrency=8) == ["clock_impossible"]


def test_the_counts_after_a_crash_are_those_of_the_plan_though_its_record_is_lost() -> None:
    profile = Profile.model_validate(
        {
            "name": "b",
            "title": "t",
            "policy": {"tool_timeout": "2s", "retries": 0},
            "faults": {"site": "tool", "by": "request", "rules": [{"kind": "crash", "every": 1}]},
        }
    )
    expected = expectation_of(plan_cell(profile, load_suite("tool_only"), runs=1))
    assert all(pair.runs["internal"].lost for pair in expected.pairs)
    assert expected.counts([]) == {"internal": 2, "external": 2}
    assert expected.counts([0, 1]) == {"internal": 4, "external": 4}
