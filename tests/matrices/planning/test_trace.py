"""What a run does, derived: attempts and their endings, turns, effects, and the error at the end."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.faults import Crash, FaultKind, Hang, Latency, Reset, Stall, Status
from chaos.prediction import PlannedCall, predict
from chaos.schedule import Rule, Schedule
from chaos.when import Every
from controller.policy import Policy
from matrices.arms.external import EXTERNAL
from matrices.arms.internal import INTERNAL
from matrices.planning.expectation import ExpectedRun
from matrices.planning.trace import Terms, expected_run
from tests.matrices import faithful as f


def _run(
    kind: FaultKind | None = None,
    *,
    calls: int = 2,
    refused: int = 0,
    retries: int = 0,
    every: int = 2,
    has_hops: bool = True,
    keys: bool = True,
    policy: dict[str, Any] | None = None,
    **schedule: Any,
) -> ExpectedRun:
    """A run of `calls` entries in the ledger whose every 2nd attempt on the hop meets the fault."""
    task = f.task(0, calls=calls, refused=refused)
    terms = Terms(
        arm=EXTERNAL if has_hops else INTERNAL,
        policy=Policy(retries=retries, **(policy or {})),
        idempotency=keys,
        side_effect_tools=("ledger_append",),
    )
    if kind is None:
        return expected_run(task, terms, request_index=0)
    of = Schedule(prefix="x", rules=(Rule(kind=kind, when=Every(every=every)),), **schedule)
    on_hop = calls + (of.hop == "model")
    predicted = predict(
        [of],
        [[PlannedCall(hop=of.hop, index=index) for index in range(on_hop)]],
        retries=retries,
        timeouts_s={of.hop: terms.policy.timeout_s(of.hop)},
        in_process=not has_hops,
    )
    return expected_run(task, terms, request_index=0, request=predicted.requests[0])


def _places(run: ExpectedRun) -> list[tuple[str, int, int]]:
    return [(one.hop, one.call_index, one.attempt) for one in run.attempts]


def test_a_run_without_faults_asks_the_model_after_each_call() -> None:
    run = _run()
    assert _places(run) == [("model", 0, 0), ("tool", 0, 0), ("model", 1, 0), ("tool", 1, 0), ("model", 2, 0)]
    assert (run.ok, run.turns, len(run.calls or ()), run.retries, run.waits_s) == (True, 3, 2, 0, 0.0)
    assert [(one.call_index, one.attempt) for one in run.effects] == [(0, 0), (1, 0)]


def test_a_refused_call_ends_its_attempt_and_leaves_nothing_but_the_run_goes_on() -> None:
    run = _run(refused=1)
    assert [one.code for one in run.attempts if one.hop == "tool"] == ["INVALID_ARGUMENT", "OK"]
    assert [one.call_index for one in run.effects] == [1]
    assert run.ok


@pytest.mark.parametrize(
    ("kind", "has_hops", "site", "ending", "kinds"),
    [
        (Status(), True, "hop", ("fail", "UNAVAILABLE"), {"injected_status"}),
        (Status(code="INTERNAL"), False, "tool", ("fail", "INTERNAL"), {"injected_status"}),
        (Stall(direction="request"), True, "hop", ("unknown", "DEADLINE_EXCEEDED"), {"deadline_exceeded"}),
        (
            Stall(direction="request"),
            False,
            "tool",
            ("unknown", "DEADLINE_EXCEEDED"),
            {"deadline_exceeded", "injected_stall"},
        ),
        (Reset(), True, "hop", ("unknown", "UNAVAILABLE"), {"unavailable"}),
        (Latency(delay_ms=400), True, "hop", ("unknown", "DEADLINE_EXCEEDED"), {"deadline_exceeded"}),
        (Latency(delay_ms=40), True, "hop", ("ok", "OK"), {""}),
        (Crash(), True, "tool", ("unknown", "UNAVAILABLE"), {"unavailable"}),
        (Hang(duration_ms=400), True, "tool", ("unknown", "DEADLINE_EXCEEDED"), {"deadline_exceeded"}),
    ],
)
def test_an_attempt_ends_as_its_fault_says(
    kind: FaultKind, has_hops: bool, site: Any, ending: tuple[str, str], kinds: set[str]
) -> None:
    run = _run(kind, has_hops=has_hops, site=site)
    struck = next(one for one in run.attempts if one.fault is not None)
    assert (struck.hop, struck.call_index, (struck.outcome, struck.code)) == ("tool", 1, ending)
    assert struck.kinds == frozenset(kinds)


@pytest.mark.parametrize(
    ("kind", "site", "has_hops", "how"),
    [
        (Status(), "hop", True, "injector"),
        (Stall(direction="request"), "hop", True, "lane"),
        (Stall(direction="request"), "tool", True, "injector"),
        (Stall(direction="request"), "tool", False, "in-process"),
    ],
)
def test_who_hands_a_fault_out(kind: FaultKind, site: Any, has_hops: bool, how: str) -> None:
    (fault,) = _run(kind, site=site, has_hops=has_hops).faults
    assert (fault.how, fault.site, fault.hop) == (how, site, "tool")


def test_an_error_is_definite_only_if_nothing_may_have_happened() -> None:
    first = _run(Status(), every=1)
    assert first.error is not None
    assert (first.error.kind, first.error.definite, first.turns, len(first.calls or ())) == (
        "tool_hop_failed",
        True,
        1,
        0,
    )
    later = _run(Status(), every=2)  # the first entry stands by then
    assert later.error is not None
    assert (later.error.definite, later.phantoms, later.error.fault_id) == (False, 1, "x:tool:n2:status")
    refused = _run(Status(), every=2, refused=1)
    assert refused.error is not None
    assert refused.error.definite


def test_a_model_that_fails_ends_the_run_after_its_effects() -> None:
    run = _run(Stall(direction="request"), hop="model", every=3)
    assert run.error is not None
    assert (run.error.kind, run.error.hop, run.turns, len(run.effects)) == ("model_hop_failed", "model", 2, 2)
    assert _places(run)[-1] == ("model", 2, 0)


@pytest.mark.parametrize(("keys", "rows"), [(True, [0]), (False, [0, 1])])
def test_a_lost_answer_leaves_one_row_with_a_key_and_one_for_each_attempt_without(
    keys: bool, rows: list[int]
) -> None:
    run = _run(Stall(direction="response"), calls=1, every=3, retries=1, keys=keys, warmup=2)
    assert [one.attempt for one in run.effects] == rows
    assert run.duplicates == len(rows) - 1


def test_waits_are_the_policys_own() -> None:
    policy = Policy(retries=1)
    run = _run(Stall(direction="request"), calls=1, every=3, retries=1, warmup=2)
    wait_s = policy.backoff_s(hop="tool", request_index=0, call_index=0, attempt=1)
    assert [one.backoff_s for one in run.attempts] == [0.0, 0.0, wait_s, 0.0]
    assert run.waits_s == pytest.approx(policy.tool_timeout_s + wait_s)


def test_a_host_that_crashes_inside_takes_the_record_along() -> None:
    inside, outside = (_run(Crash(), site="tool", has_hops=has_hops) for has_hops in (False, True))
    assert inside.error is not None
    assert outside.error is not None
    assert (inside.lost, inside.error.hop, inside.error.fault_id) == (True, "agent", "")
    assert (outside.lost, outside.error.hop, outside.error.fault_id) == (False, "tool", "x:tool:n2:crash")


def test_a_run_whose_waits_use_up_its_time_may_end_by_its_own_deadline() -> None:
    assert not _run(Stall(direction="request"), every=1).hurried
    assert _run(Stall(direction="request"), every=1, retries=3, policy={"run_timeout_s": 1.2}).hurried


def test_faults_on_both_hops_meet_in_one_run() -> None:
    policy = Policy(retries=1, tool_timeout_s=0.25, model_timeout_s=3.0)
    late = Rule(kind=Latency(delay_ms=500), when=Every(every=1))
    lost = Rule(kind=Stall(direction="response"), when=Every(every=2))
    calls = [
        PlannedCall(hop="model", index=0),
        PlannedCall(hop="tool", index=0, has_effect=True),
        PlannedCall(hop="model", index=1),
    ]
    predicted = predict(
        [
            Schedule(prefix="x", hop="model", rules=(late,)),
            Schedule(prefix="x", hop="tool", warmup=1, rules=(lost,)),
        ],
        [calls],
        retries=1,
        timeouts_s={"tool": policy.tool_timeout_s, "model": policy.model_timeout_s},
    )
    terms = Terms(arm=EXTERNAL, policy=policy, idempotency=True, side_effect_tools=("ledger_append",))
    run = expected_run(f.task(0, calls=1), terms, request_index=0, request=predicted.requests[0])
    assert [(one.hop, one.attempt, one.code, one.held_s) for one in run.attempts] == [
        ("model", 0, "OK", 0.5),
        ("tool", 0, "DEADLINE_EXCEEDED", 0.25),
        ("tool", 1, "OK", 0.0),
        ("model", 0, "OK", 0.5),
    ]
    assert [fault.id for fault in run.faults] == [
        "x:model:n1:latency",
        "x:tool:n2:stall",
        "x:model:n2:latency",
    ]
    assert (run.ok, run.duplicates, [one.attempt for one in run.effects]) == (True, 0, [0])
    assert predicted.requests[0].stratum == "model.L,tool.T,model.L"
