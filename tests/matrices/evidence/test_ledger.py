"""Which pairs are void, and what becomes of side effects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.policy import Policy
from matrices.arms.external import EXTERNAL
from matrices.evidence import events as ev
from matrices.evidence.history import state_of
from matrices.evidence.hops import NAMES, hops_of, mean_hops
from matrices.evidence.ledger import EffectCounts, count_effects, pair_work
from matrices.evidence.runs import Run, pair_runs
from matrices.planning.trace import Terms, expected_run
from tests.matrices import faithful as f
from tests.matrices import histories as h
from treni.errors import TreniError


def _pair(**outcomes: ev.Outcome) -> dict[str, Run]:
    events = h.pair_events("p00", 0, block=0, outcomes=outcomes)
    return pair_runs(state_of(events)["p00"])[0]


def _external(**record: Any) -> ev.Outcome:
    return h.outcome("p00", 0, "external", record=h.record("external", **record))


def test_arms_that_did_the_same_work_are_not_void() -> None:
    entry = pair_work(0, _pair())
    assert entry.void is None
    assert entry.work["internal"] == entry.work["external"]
    assert entry.work["external"].prompt_tokens == 200


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"prompt": 201}, "prompt tokens differ: external 201, internal 200"),
        ({"completion": 13}, "completion tokens differ: external 13, internal 12"),
        ({"constrained": True}, "decoding differs: external constrained, internal free"),
        ({"cached": 0}, "cached prompt tokens differ: external 0, internal 100"),
        (
            {"tools": [h.tool_use()]},
            'tool calls differ: external ledger_append{"account":"rent","amount":5}, internal none',
        ),
    ],
)
def test_different_work_voids_the_pair_with_its_reason(record: dict[str, Any], why: str) -> None:
    void = pair_work(0, _pair(external=_external(**record))).void
    assert void == why


def test_arguments_are_compared_as_values_and_not_as_text() -> None:
    spaced = h.tool_use()
    spaced.arguments_json = ' {"amount":5 ,"account":"rent"}'
    same = {"internal": h.outcome("p00", 0, "internal", record=h.record("internal", tools=[h.tool_use()]))}
    assert pair_work(0, _pair(**same, external=_external(tools=[spaced]))).void is None
    other = _external(tools=[h.tool_use(amount=6)])
    assert "6" in str(pair_work(0, _pair(**same, external=other)).void)


def test_a_pair_in_which_an_arm_failed_is_not_void() -> None:
    lost = h.failed("p00", 0, "external", record=h.record("external", prompt=999))
    assert pair_work(0, _pair(external=lost)).void is None
    gone = h.failed("p00", 0, "external", record=None)
    entry = pair_work(0, _pair(external=gone))
    assert entry.void is None
    assert list(entry.work) == ["internal"]


def test_a_record_that_is_none_is_an_error() -> None:
    with pytest.raises(TreniError) as caught:
        _pair(external=h.outcome("p00", 0, "external", record={"colour": "red"}))
    assert caught.value.kind == "history_malformed"


def test_the_hops_sum_to_the_clients_latency() -> None:
    attempts = [h.attempt(), h.attempt("tool", code="UNAVAILABLE"), h.attempt("tool", nth=1)]
    told = h.record("external", attempts=attempts, tools=[h.tool_use()], backoff_s=0.01)
    hops = hops_of(_pair(external=h.outcome("p00", 0, "external", latency_s=0.05, record=told))["external"])
    assert hops is not None
    assert sum(getattr(hops, name) for name in NAMES) == pytest.approx(0.05, abs=1e-12)
    assert hops.backoff == pytest.approx(0.01)
    assert hops.tool == pytest.approx(0.001)
    assert hops.tool_hop == pytest.approx(0.007)
    assert hops.unexplained == pytest.approx(0, abs=1e-12)
    assert mean_hops([hops, hops]) == hops
    assert mean_hops([]) is None


def test_text_that_is_passed_on_within_an_attempt_is_counted_once() -> None:
    """The attempt took 4 ms, of which the loop awaited 3 and passed text on for 1."""
    told = h.record("external", loop_s=0.0015)
    told["total_s"] = 0.0045
    hops = hops_of(_pair(external=h.outcome("p00", 0, "external", record=told))["external"])
    assert hops is not None
    assert hops.loop == pytest.approx(0.0005)
    assert hops.model_hop == pytest.approx(0.0002)
    assert hops.unexplained == pytest.approx(0, abs=1e-12)
    assert sum(getattr(hops, name) for name in NAMES) == pytest.approx(0.006)


def test_what_was_awaited_outside_of_any_attempt_is_unexplained() -> None:
    told = h.record("external")
    told["total_s"] += 0.002
    hops = hops_of(_pair(external=h.outcome("p00", 0, "external", latency_s=0.01, record=told))["external"])
    assert hops is not None
    assert hops.unexplained == pytest.approx(0.002)
    assert sum(getattr(hops, name) for name in NAMES) == pytest.approx(0.01)


RUN = h.run_id("p00", 0, "external")
COUNTS = EffectCounts(recorded=0, lost=0, duplicate=0, phantom=0, stranger=0, superseded=0)


def _count(calls: int, rows: list[ev.EffectRow], *, answered: bool) -> EffectCounts:
    """One run that made `calls` entries of 5 to "rent", held against the ledger."""
    arm = Terms(arm=EXTERNAL, policy=Policy(), idempotency=True, side_effect_tools=("ledger_append",))
    task = f.task(0, calls=calls)
    planned = f.expectation("p00", runs=1, per_block=1)
    pair = replace(planned.pairs[0], runs={"external": expected_run(task, arm, request_index=0)})
    outcome = _external() if answered else h.failed("p00", 0, "external")
    run = _pair(external=outcome)["external"]
    return count_effects(rows, {0: run}, {"gone"}, replace(planned, pairs=(pair,)), "external")


@pytest.mark.parametrize(
    ("calls", "answered", "rows", "want"),
    [
        (1, True, [h.effect(RUN)], {"recorded": 1}),
        (1, True, [], {"lost": 1}),
        (1, True, [h.effect(RUN, amount=6)], {"recorded": 1, "lost": 1, "stranger": 1}),
        (1, True, [h.effect(RUN, key=""), h.effect(RUN, key="", nth=1)], {"recorded": 2, "duplicate": 1}),
        (1, True, [h.effect(RUN), h.effect(RUN, nth=1)], {"recorded": 2, "duplicate": 1}),
        (
            1,
            True,
            [h.effect(RUN, key="a"), h.effect(RUN, key="b"), h.effect(RUN)],
            {"recorded": 3, "duplicate": 2},
        ),
        (2, True, [h.effect(RUN), h.effect(RUN, key=f"{RUN}/1")], {"recorded": 2}),
        (2, True, [h.effect(RUN, key="")] * 3, {"recorded": 3, "duplicate": 1}),
        (2, True, [h.effect(RUN)], {"recorded": 1, "lost": 1}),
        (0, True, [], {}),
        (0, True, [h.effect(RUN)], {"recorded": 1, "stranger": 1}),
        (0, False, [], {}),
        (0, False, [h.effect(RUN)], {"recorded": 1, "phantom": 1}),
        (0, False, [h.effect(RUN), h.effect(RUN, key="x")], {"recorded": 2, "phantom": 1, "duplicate": 1}),
        (1, False, [h.effect(RUN)], {"recorded": 1, "phantom": 1}),
        (1, False, [], {"lost": 1}),
        (1, True, [h.effect(RUN), h.effect("who")], {"recorded": 1, "stranger": 1}),
        (1, True, [h.effect(RUN), h.effect("gone"), h.effect("gone")], {"recorded": 1, "superseded": 2}),
    ],
)
def test_effects_are_accounted_for(
    calls: int, answered: bool, rows: list[ev.EffectRow], want: dict[str, int]
) -> None:
    assert _count(calls, rows, answered=answered) == replace(COUNTS, **want)


@pytest.mark.parametrize("refused", [0, 1])
def test_a_call_that_the_tool_refuses_is_owed_no_row(refused: int) -> None:
    arm = Terms(arm=EXTERNAL, policy=Policy(), idempotency=True, side_effect_tools=("ledger_append",))
    run = expected_run(f.task(0, calls=2, refused=refused), arm, request_index=0)
    assert [effect.call_index for effect in run.effects] == [0, 1][refused:]
    assert next(attempt.code for attempt in run.attempts if attempt.hop == "tool") == (
        "INVALID_ARGUMENT" if refused else "OK"
    )


def test_a_retried_model_call_may_find_more_in_the_cache() -> None:
    again = [h.attempt(code="DEADLINE_EXCEEDED"), h.attempt(nth=1)]
    assert pair_work(0, _pair(external=_external(attempts=again, cached=199))).void is None
    assert pair_work(0, _pair(external=_external(cached=199))).void is not None
