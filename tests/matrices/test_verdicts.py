from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrices.statistics import Estimate, PairSample
from matrices.verdicts import (
    AA_CONFIDENCE,
    ALPHA,
    CONTAMINATED_LIMIT,
    FLOOR_LIMIT,
    VOID_LIMIT,
    Evidence,
    Floor,
    Verdict,
    claim_safe,
    gates,
    judge,
    judge_aa,
    measure_floor,
)


def estimate_of(low: float, high: float) -> Estimate:
    return Estimate(
        value=(low + high) / 2,
        low=low,
        high=high,
        p_value=0.5,
        dof=11,
        blocks=12,
        pairs=48,
        confidence=0.95,
    )


milliseconds = st.integers(-100, 100).map(lambda ms: ms / 1e3)
estimates = st.tuples(milliseconds, milliseconds).map(lambda ends: estimate_of(min(ends), max(ends)))
floors = estimates.map(lambda estimate: Floor(estimate=estimate))
p_values = st.one_of(st.floats(0, 1), st.floats(0, 0.06))


@given(estimates, p_values, floors)
def test_no_direction_whose_interval_includes_zero(delta: Estimate, p: float, floor: Floor) -> None:
    if judge(delta, p, floor).is_direction:
        assert not delta.contains(0.0)


@given(estimates, p_values, floors)
def test_a_direction_needs_a_small_p_and_an_estimate_beyond_the_floor(
    delta: Estimate, p: float, floor: Floor
) -> None:
    verdict = judge(delta, p, floor)
    if verdict.is_direction:
        assert p < ALPHA
        assert abs(delta.value) > floor.bound_s
        assert (verdict is Verdict.EXTERNAL_SLOWER) == (delta.value > 0)


@given(estimates, p_values, floors)
def test_parity_needs_an_interval_around_zero_within_the_floor(
    delta: Estimate, p: float, floor: Floor
) -> None:
    if judge(delta, p, floor) is Verdict.PARITY:
        assert -floor.bound_s <= delta.low <= 0 <= delta.high <= floor.bound_s


@given(estimates, p_values, floors)
def test_inconclusive_only_where_nothing_else_holds(delta: Estimate, p: float, floor: Floor) -> None:
    if judge(delta, p, floor) is Verdict.INCONCLUSIVE:
        excludes_zero, bound = not delta.contains(0.0), floor.bound_s
        assert not (excludes_zero and p < ALPHA and abs(delta.value) > bound)
        assert excludes_zero or max(abs(delta.low), abs(delta.high)) > bound


@given(estimates, p_values, floors)
def test_swapping_the_arms_mirrors_the_verdict(delta: Estimate, p: float, floor: Floor) -> None:
    mirror = {
        Verdict.EXTERNAL_SLOWER: Verdict.EXTERNAL_FASTER,
        Verdict.EXTERNAL_FASTER: Verdict.EXTERNAL_SLOWER,
    }
    verdict = judge(delta, p, floor)
    assert judge(estimate_of(-delta.high, -delta.low), p, floor) is mirror.get(verdict, verdict)


@pytest.mark.parametrize(
    ("low_ms", "high_ms", "p", "verdict"),
    [
        (20, 30, 0.001, Verdict.EXTERNAL_SLOWER),
        (-30, -20, 0.001, Verdict.EXTERNAL_FASTER),
        (20, 30, 0.05, Verdict.INCONCLUSIVE),  # resolved alone, not among the profiles
        (1, 9, 0.001, Verdict.INCONCLUSIVE),  # resolved, but no more than the harness itself can make
        (-3, 4, 0.8, Verdict.PARITY),
        (-3, 6, 0.8, Verdict.INCONCLUSIVE),
        (1, 4, 0.001, Verdict.INCONCLUSIVE),
    ],
)
def test_verdicts_over_a_floor_of_five_milliseconds(
    low_ms: int, high_ms: int, p: float, verdict: Verdict
) -> None:
    floor = Floor(estimate=estimate_of(-0.005, 0.003))
    assert judge(estimate_of(low_ms / 1e3, high_ms / 1e3), p, floor) is verdict


def test_verdicts_read_as_published() -> None:
    assert [str(verdict) for verdict in Verdict] == [
        "external slower",
        "external faster",
        "parity within the floor",
        "inconclusive",
    ]


@given(floors)
def test_the_aa_row_is_parity_exactly_when_its_interval_contains_zero(floor: Floor) -> None:
    verdict = judge_aa(floor)
    assert (verdict is Verdict.PARITY) == floor.estimate.contains(0.0) == floor.unbiased
    assert verdict is not Verdict.INCONCLUSIVE


def aa_samples(bias_s: float) -> list[PairSample]:
    wobble_s = [0.001, -0.002, 0.0015, -0.0005, 0.001, -0.001]
    return [
        PairSample(block=block, stratum="-", internal_s=0.2, external_s=0.2 + bias_s + wobble_s[block])
        for block in range(6)
    ]


def test_a_biased_harness_fails_its_own_aa_row() -> None:
    assert judge_aa(measure_floor(aa_samples(0.0))) is Verdict.PARITY
    assert judge_aa(measure_floor(aa_samples(0.05))) is Verdict.EXTERNAL_SLOWER
    assert judge_aa(measure_floor(aa_samples(-0.05))) is Verdict.EXTERNAL_FASTER


def test_the_floor_is_the_far_end_of_the_aa_interval() -> None:
    floor = measure_floor(aa_samples(0.001))
    assert floor.estimate.confidence == AA_CONFIDENCE
    assert floor.bound_s == floor.estimate.high > -floor.estimate.low


CLEAN = Evidence(
    floor=Floor(estimate=estimate_of(-0.005, 0.003)),
    verdict=Verdict.EXTERNAL_SLOWER,
    verdict_clean=Verdict.EXTERNAL_SLOWER,
    internal_mean_s=0.005 / FLOOR_LIMIT,
    unexplained_errors=0,
    faults_planned=frozenset({"p04:tool:n2:status"}),
    faults_delivered=frozenset({"p04:tool:n2:status"}),
    faults_observed=frozenset({"p04:tool:n2:status"}),
    pairs=48,
    pairs_void=int(48 * VOID_LIMIT),
    blocks=12,
    blocks_contaminated=int(12 * CONTAMINATED_LIMIT),
    findings=(),
)


def test_a_clean_row_is_claim_safe() -> None:
    checked = gates(CLEAN)
    assert claim_safe(checked)
    assert len({gate.name for gate in checked}) == len(checked)


@pytest.mark.parametrize(
    ("gate", "change"),
    [
        ("aa_unbiased", {"floor": Floor(estimate=estimate_of(0.001, 0.003))}),
        ("floor_fine", {"internal_mean_s": 0.004 / FLOOR_LIMIT}),
        ("floor_fine", {"internal_mean_s": 0.0}),
        ("errors_explained", {"unexplained_errors": 1}),
        ("faults_delivered", {"faults_delivered": frozenset()}),
        ("faults_delivered", {"faults_delivered": CLEAN.faults_planned | {"p04:tool:n9:status"}}),
        ("faults_observed", {"faults_observed": frozenset()}),
        ("pairs_valid", {"pairs_void": int(48 * VOID_LIMIT) + 1}),
        ("pairs_valid", {"pairs": 0, "pairs_void": 0}),
        ("blocks_clean", {"blocks_contaminated": int(12 * CONTAMINATED_LIMIT) + 1}),
        ("contamination_harmless", {"verdict_clean": Verdict.INCONCLUSIVE}),
        ("contamination_harmless", {"verdict_clean": None}),
        ("check_clean", {"findings": ("pair 3: the arms called different tools",)}),
    ],
)
def test_each_gate_alone_makes_a_row_unsafe(gate: str, change: dict[str, Any]) -> None:
    checked = gates(replace(CLEAN, **change))
    assert [g.name for g in checked if not g.passed] == [gate]
    assert not claim_safe(checked)


def test_no_gates_is_not_safe() -> None:
    assert not claim_safe([])


def test_a_failed_fault_gate_names_the_faults() -> None:
    (failed,) = (gate for gate in gates(replace(CLEAN, faults_observed=frozenset())) if not gate.passed)
    assert "p04:tool:n2:status" in failed.why
