"""Faults of the client's call of the agent: what is planned of them, and a campaign with every kind, in both arms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from matrices.checks.check import check
from matrices.evidence.campaign import load_campaign
from matrices.evidence.events import Deliveries, Event, Outcome
from matrices.planning.expectation import ExpectedRun, site_of
from matrices.planning.expected import expectation_of
from matrices.planning.plan import plan_cell
from matrices.spec.profiles import load_profile, validated
from matrices.spec.suites import load_suite
from tests.matrices import harness as h
from treni.errors import TreniError

ARMS = ("internal", "external")

PROFILE = """
name = "agent"
title = "Every kind of fault on the client's call, and refusals of the tool"

[policy]
tool_timeout = "10s"
model_timeout = "25s"
run_timeout = "25s"
retries = 1
backoff_initial = "1ms"

[faults]
hop = "agent"
by = "request"
seed = 8

[[faults.rules]]
kind = "status"
code = "ABORTED"
rate = 0.15

[[faults.rules]]
kind = "reset"
rate = 0.15

[[faults.rules]]
kind = "stall"
direction = "response"
rate = 0.1

[[faults.rules]]
kind = "stall"
direction = "request"
rate = 0.1

[[faults.rules]]
kind = "latency"
delay = "30ms"
rate = 0.5

[[faults.rules]]
hop = "tool"
kind = "status"
rate = 0.3
"""


def runs(rule: dict[str, object], **policy: object) -> dict[str, ExpectedRun]:
    """What each arm does with a task that makes one entry in the ledger while the rule strikes every client's call."""
    profile = validated(
        {
            "name": "a",
            "title": "t",
            "policy": {"retries": 1, "run_timeout": "8s", **policy},
            "faults": {"hop": "agent", "by": "request", "rules": [{**rule, "every": 1}]},
        },
        "here",
    )
    cell = plan_cell(profile, load_suite("tool_only"), runs=3)
    assert site_of(cell.counters) == "agent"
    expected = expectation_of(cell)
    (pair,) = [
        pair for pair in expected.pairs if [call.name for call in pair.task.calls] == ["ledger_append"]
    ][:1]
    return pair.runs


@pytest.mark.parametrize(
    ("rule", "code", "definite", "arrives", "waits_s"),
    [
        ({"kind": "status", "code": "INTERNAL"}, "INTERNAL", True, False, 0.0),
        ({"kind": "reset"}, "UNAVAILABLE", False, False, 0.0),
        ({"kind": "stall", "direction": "request"}, "DEADLINE_EXCEEDED", False, False, 8.0),
        ({"kind": "stall", "direction": "response"}, "DEADLINE_EXCEEDED", False, True, 8.0),
        ({"kind": "latency", "delay": "9s"}, "DEADLINE_EXCEEDED", False, True, 8.0),
    ],
)
def test_a_client_that_is_told_nothing_may_have_had_its_way(
    rule: dict[str, object], code: str, definite: bool, arrives: bool, waits_s: float
) -> None:
    for run in runs(rule).values():
        assert run.error is not None
        assert (run.error.code, run.error.definite, run.error.hop) == (code, definite, "agent")
        assert run.lost
        assert len(run.faults) == 1  # the client tries once
        assert (len(run.effects), run.phantoms, len(run.attempts)) == ((1, 1, 3) if arrives else (0, 0, 0))
        assert run.waits_s == waits_s


def test_a_late_answer_is_one() -> None:
    for run in runs({"kind": "latency", "delay": "500ms"}).values():
        assert (run.ok, run.lost, run.waits_s, len(run.attempts)) == (True, False, 0.5, 3)


def test_what_fails_on_the_client_s_call_keeps_the_other_hops_from_being_reached(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(PROFILE, encoding="utf-8")
    prediction = plan_cell(load_profile(path), load_suite("tool_only"), runs=12).prediction("external")
    assert prediction is not None
    for request in prediction.requests:
        hops = [attempt.hop for attempt in request.attempts]
        assert hops.count("agent") == 1
        first = request.attempts[0]
        if first.is_error:
            assert request.failed
            assert ("tool" in hops) == first.tool_runs
    strata = {request.stratum for request in prediction.requests}
    assert {"agent.F", "agent.R", "agent.L", "agent.L,tool.F", "-"} <= strata


def test_the_client_s_calls_are_planned_by_request(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    for wrong, says in (
        (
            PROFILE.replace('by = "request"\n', "").replace("rate =", "every = 3 #"),
            "hop: .agent. is planned by request",
        ),
        (
            PROFILE.replace('by = "request"\n', "")
            .replace("rate =", "every = 3 #")
            .replace('hop = "agent"\n', "", 1)
            + '\n[[faults.rules]]\nhop = "agent"\nkind = "reset"\nevery = 3\n',
            r"rules.6.hop: .agent. is planned by request",
        ),
        (PROFILE.replace("[faults]", '[faults]\nsite = "tool"'), 'hop: expected "tool" with site = "tool"'),
    ):
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(TreniError, match=says):
            load_profile(path)


@pytest.mark.chaos
@pytest.mark.slow
def test_a_campaign_with_every_kind_is_as_planned_and_what_is_changed_of_it_is_found(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(PROFILE, encoding="utf-8")
    result = h.matrix(
        tmp_path / "out", str(path), "--suite", "tool_only", "--runs", "3", "--concurrency", "2"
    )
    assert result.status in (0, 3), result.stdout + result.stderr
    campaign, manifest, history = load_campaign(result.folder)

    def found(events: list[Event]) -> set[str]:
        judged = check(manifest, events, campaign.expectations)
        return {finding.kind for cell in judged for finding in cell.findings}

    events = list(history.events)
    assert found(events) == set()
    cell = campaign.cells[1]
    for arm in ARMS:
        prediction = cell.prediction(arm)
        assert prediction is not None
        row = result.summary("agent", arm)
        assert int(row["errors"]) == prediction.errors > 0
        assert int(row["effects_phantom"]) == prediction.phantoms == 1
        at_agent = {
            fault.kind.name
            for request in prediction.requests
            for fault in request.faults
            if fault.hop == "agent"
        }
        assert at_agent == {"status", "reset", "stall", "latency"}
        for stage in ("planned", "delivered", "observed"):
            assert int(row[f"faults_{stage}"]) == len(prediction.fault_ids)
    for number, event in enumerate(events):
        if isinstance(event, Deliveries) and event.cell == "agent" and event.arm == "internal":
            less = [*events[:number], replace(event, faults=event.faults[1:]), *events[number + 1 :]]
            assert "fault_not_delivered" in found(less)
    late = {
        (pair.pair, arm)
        for pair in campaign.expectations[1].pairs
        for arm, run in pair.runs.items()
        if run.entry is not None and run.ok
    }
    for number, event in enumerate(events):
        if isinstance(event, Outcome) and event.cell == "agent" and (event.pair, event.arm) in late:
            quick = [*events[:number], replace(event, latency_s=0.02, ttft_s=0.01), *events[number + 1 :]]
            assert "fault_not_observed" in found(quick)
            break
    else:
        raise AssertionError("nothing was late")
