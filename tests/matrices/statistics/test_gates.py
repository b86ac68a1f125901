from dataclasses import replace
from typing import Any

import pytest

from matrices.statistics.estimates import Steadiness
from matrices.statistics.gates import (
    ABANDONED_LIMIT,
    CONTAMINATED_LIMIT,
    FEW_BLOCKS,
    SELECTIVE_LIMIT,
    VOID_LIMIT,
    Evidence,
    claim_safe,
    gates,
)
from matrices.statistics.selection import Share, Voids
from matrices.statistics.verdicts import Floor, Judgement, Verdict
from tests.matrices.statistics.test_verdicts import MARGIN_S, estimate_of, latency_of

VOIDS = Voids(
    baseline_first=Share(void=2, pairs=24),
    compared_first=Share(void=2, pairs=24),
    by_stratum=(("-", Share(void=3, pairs=40)), ("F", Share(void=1, pairs=8))),
    selective_p=SELECTIVE_LIMIT,
)
STEADY = Steadiness(p_value=0.5, growth=1.0, thirds_s=(0.024, 0.025, 0.026), third_error_s=0.002)
SLOWER = Judgement(verdict=Verdict.SLOWER, leaning=Verdict.SLOWER)
EQUIVALENT = Judgement(verdict=Verdict.EQUIVALENT, leaning=Verdict.EQUIVALENT)
CLEAN = Evidence(
    compared="external",
    floor=Floor(estimate=estimate_of(-0.005, 0.003)),
    margin_s=MARGIN_S,
    latency=latency_of(0.020, 0.030),
    judgement=SLOWER,
    verdict_clean=Verdict.SLOWER,
    steadiness=STEADY,
    lone_strata=(),
    unexplained_errors=0,
    faults_planned=frozenset({"p04:tool:n2:status"}),
    faults_delivered=frozenset({"p04:tool:n2:status"}),
    faults_observed=frozenset({"p04:tool:n2:status"}),
    voids=VOIDS,
    pairs_abandoned=int(48 * ABANDONED_LIMIT),
    blocks=12,
    blocks_contaminated=int(12 * CONTAMINATED_LIMIT),
    findings=(),
    findings_elsewhere=0,
)
CLEAN_EQUIVALENT = replace(
    CLEAN,
    latency=latency_of(-0.001, 0.002),
    judgement=EQUIVALENT,
    verdict_clean=Verdict.EQUIVALENT,
    steadiness=replace(STEADY, thirds_s=(0.0, 0.001, 0.0005), third_error_s=0.001),
)
WALKING = replace(STEADY, thirds_s=(0.007, 0.025, 0.043))


def failed(evidence: Evidence) -> list[str]:
    return [gate.name for gate in gates(evidence) if not gate.passed]


@pytest.mark.parametrize("evidence", [CLEAN, CLEAN_EQUIVALENT])
def test_a_clean_row_is_claim_safe(evidence: Evidence) -> None:
    checked = gates(evidence)
    assert claim_safe(checked), failed(evidence)
    assert len({gate.name for gate in checked}) == len(checked)
    assert all(gate.why for gate in checked)


def voids(**changes: Any) -> dict[str, Any]:
    return {"voids": replace(VOIDS, **changes)}


@pytest.mark.parametrize(
    ("gate", "change"),
    [
        ("aa_unbiased", {"floor": Floor(estimate=estimate_of(0.001, 0.003))}),
        (
            "failures_do_not_win",
            {"judgement": replace(SLOWER, leaning=Verdict.FASTER)},
        ),
        ("beyond_chance", {"latency": latency_of(0.001, 0.049)}),
        ("errors_explained", {"unexplained_errors": 1}),
        ("faults_delivered", {"faults_delivered": frozenset()}),
        ("faults_delivered", {"faults_delivered": CLEAN.faults_planned | {"p04:tool:n9:status"}}),
        ("faults_observed", {"faults_observed": frozenset()}),
        (
            "pairs_valid",
            voids(baseline_first=Share(void=3, pairs=24)),  # 5 of 48
        ),
        (
            "voids_by_order",
            voids(baseline_first=Share(void=3, pairs=24), compared_first=Share(void=0, pairs=24)),
        ),
        (
            "voids_by_stratum",
            voids(by_stratum=(("-", Share(void=0, pairs=44)), ("F", Share(void=1, pairs=1)))),
        ),
        (
            "voids_by_stratum",
            voids(by_stratum=(("-", Share(void=0, pairs=44)), ("F", Share(void=2, pairs=4)))),
        ),
        ("voids_unrelated", voids(selective_p=SELECTIVE_LIMIT / 2)),
        ("pairs_kept", {"pairs_abandoned": int(48 * ABANDONED_LIMIT) + 1}),
        ("strata_repeated", {"lone_strata": ("F,T",)}),
        ("steady", {"steadiness": WALKING}),
        ("steady", {"steadiness": None}),
        (
            "steady",
            {"blocks": FEW_BLOCKS - 1, "blocks_contaminated": 0, "steadiness": replace(STEADY, p_value=0.1)},
        ),
        ("blocks_clean", {"blocks_contaminated": int(12 * CONTAMINATED_LIMIT) + 1}),
        ("contamination_harmless", {"verdict_clean": Verdict.INCONCLUSIVE}),
        ("contamination_harmless", {"verdict_clean": None}),
        ("check_clean", {"findings": ("2 answer_wrong",)}),
        ("check_clean", {"findings_elsewhere": 1}),
    ],
)
def test_each_gate_alone_makes_a_row_unsafe(gate: str, change: dict[str, Any]) -> None:
    evidence = replace(CLEAN, **change)
    assert failed(evidence) == [gate]
    assert not claim_safe(gates(evidence))


@pytest.mark.parametrize(
    ("gate", "change"),
    [
        ("floor_fine", {"margin_s": 0.004}),
        ("beyond_chance", {"latency": latency_of(-0.009, 0.009)}),
        ("steady", {"steadiness": replace(STEADY, thirds_s=(0.0, 0.001, 0.007), third_error_s=0.001)}),
    ],
)
def test_equivalence_has_gates_of_its_own(gate: str, change: dict[str, Any]) -> None:
    assert failed(replace(CLEAN_EQUIVALENT, **change)) == [gate]


def test_a_direction_beyond_a_coarse_floor_is_still_a_claim() -> None:
    assert failed(replace(CLEAN, margin_s=0.001)) == []


def test_inconclusive_is_never_claim_safe() -> None:
    silent = Judgement(verdict=Verdict.INCONCLUSIVE, leaning=Verdict.INCONCLUSIVE)
    evidence = replace(CLEAN, judgement=silent, verdict_clean=Verdict.INCONCLUSIVE)
    assert failed(evidence) == ["conclusive"]


def test_a_row_without_pairs_is_unsafe() -> None:
    nothing = Share(void=0, pairs=0)
    empty = Voids(baseline_first=nothing, compared_first=nothing, by_stratum=(), selective_p=1.0)
    evidence = replace(CLEAN, voids=empty, pairs_abandoned=0, blocks=0, blocks_contaminated=0)
    assert {"pairs_valid", "pairs_kept", "blocks_clean"} <= set(failed(evidence))


def test_no_gates_is_not_safe() -> None:
    assert not claim_safe([])


def test_a_failed_fault_gate_names_the_faults() -> None:
    (gate,) = (gate for gate in gates(replace(CLEAN, faults_observed=frozenset())) if not gate.passed)
    assert "p04:tool:n2:status" in gate.why


def test_the_limit_of_voids_is_the_one_that_is_told() -> None:
    assert VOIDS.total == Share(void=int(48 * VOID_LIMIT), pairs=48)


def test_what_says_nothing_of_the_arms_has_not_passed_and_does_not_stand_against_a_claim() -> None:
    own_way = replace(CLEAN, alike=False, unforeseen=("endpoint",))
    checked = {gate.name: gate for gate in gates(own_way)}
    silent = {name for name, gate in checked.items() if not gate.applicable}
    assert silent == {"pairs_valid", "voids_by_stratum", "voids_by_order", "voids_unrelated", "predicted"}
    assert not any(checked[name].passed or checked[name].failed for name in silent)
    assert {checked[name].word for name in silent} == {"not applicable"}
    alike = {gate.name for gate in gates(replace(CLEAN, unforeseen=()))}
    assert set(checked) == alike | {"predicted"}
    assert not claim_safe(tuple(checked[name] for name in silent))
    assert claim_safe(gates(own_way))
    assert not claim_safe(gates(replace(own_way, unexplained_errors=1)))
