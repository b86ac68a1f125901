from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrices.statistics.estimates import Equivalence, Estimate, PairSample
from matrices.statistics.reliability import RateDifference
from matrices.statistics.verdicts import (
    AA_CONFIDENCE,
    ALPHA,
    Floor,
    Latency,
    ReliabilityVerdict,
    Row,
    Verdict,
    adjusted,
    judge,
    judge_aa,
    judge_reliability,
    measure_floor,
)

MARGIN_S = 0.010


def estimate_of(low: float, high: float) -> Estimate:
    return Estimate(
        value=(low + high) / 2,
        low=low,
        high=high,
        p_value=0.5,
        error=(high - low) / 4,
        dof=11,
        spent=1.0,
        blocks=12,
        pairs=48,
        confidence=0.95,
    )


def latency_of(low: float, high: float, margin_s: float = MARGIN_S) -> Latency:
    """A difference with that interval; equivalent where all of it lies within the margin."""
    inside = -margin_s < low and high < margin_s
    tested = Equivalence(margin_s=margin_s, p_value=0.01 if inside else 0.5, low=low, high=high)
    return Latency(difference=estimate_of(low, high), equivalence=tested)


def row_of(
    low_ms: float,
    high_ms: float,
    p: float = 0.001,
    *,
    floor_ms: tuple[float, float] = (-5, 3),
    errors: tuple[int, int] = (0, 0),
    answered: Latency | None = None,
) -> Row:
    return Row(
        every=latency_of(low_ms / 1e3, high_ms / 1e3),
        answered=answered,
        adjusted_p=p,
        floor=Floor(estimate=estimate_of(floor_ms[0] / 1e3, floor_ms[1] / 1e3)),
        baseline_errors=errors[0],
        compared_errors=errors[1],
    )


ends_ms = st.tuples(st.integers(-60, 60), st.integers(-60, 60)).map(sorted)
p_values = st.one_of(st.floats(0, 1), st.floats(0, 0.06))
latencies = ends_ms.map(lambda ends: latency_of(ends[0] / 1e3, ends[1] / 1e3))
rows = st.builds(
    Row,
    every=latencies,
    answered=st.one_of(st.none(), latencies),
    adjusted_p=p_values,
    floor=ends_ms.map(lambda ends: Floor(estimate=estimate_of(ends[0] / 1e3, ends[1] / 1e3))),
    baseline_errors=st.integers(0, 3),
    compared_errors=st.integers(0, 3),
)


@given(rows)
def test_a_direction_needs_its_interval_its_p_and_to_lie_beyond_the_floor(row: Row) -> None:
    verdict = judge(row).verdict
    if verdict.is_direction:
        difference = row.every.difference
        assert not difference.contains(0.0)
        assert row.adjusted_p < ALPHA
        assert abs(difference.value) > row.floor.bound_s
        assert (verdict is Verdict.SLOWER) == (difference.value > 0)
        assert not row.every.equivalence.shown


@given(rows)
def test_equivalence_needs_the_margin_and_a_floor_no_coarser(row: Row) -> None:
    if judge(row).verdict is Verdict.EQUIVALENT:
        assert row.every.equivalence.shown
        assert row.floor.bound_s <= row.every.equivalence.margin_s


@given(rows)
def test_no_arm_with_more_errors_is_faster_unless_the_answered_pairs_say_so(row: Row) -> None:
    verdict = judge(row).verdict
    excess = row.compared_errors - row.baseline_errors
    wins_by_failing = (verdict is Verdict.FASTER and excess > 0) or (verdict is Verdict.SLOWER and excess < 0)
    if wins_by_failing:
        assert row.answered is not None
        assert not row.answered.difference.contains(0.0)
        assert (row.answered.difference.value > 0) == (verdict is Verdict.SLOWER)
    if verdict is Verdict.EQUIVALENT and excess:
        assert row.answered is not None
        assert row.answered.equivalence.shown


def mirrored(latency: Latency) -> Latency:
    return latency_of(-latency.difference.high, -latency.difference.low, latency.equivalence.margin_s)


@given(rows)
def test_swapping_the_arms_mirrors_the_verdict(row: Row) -> None:
    mirror = {
        Verdict.SLOWER: Verdict.FASTER,
        Verdict.FASTER: Verdict.SLOWER,
    }
    swapped = replace(
        row,
        every=mirrored(row.every),
        answered=None if row.answered is None else mirrored(row.answered),
        baseline_errors=row.compared_errors,
        compared_errors=row.baseline_errors,
    )
    one, other = judge(row), judge(swapped)
    assert other.verdict is mirror.get(one.verdict, one.verdict)
    assert other.held_back == one.held_back


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (row_of(20, 30), Verdict.SLOWER),
        (row_of(-30, -20), Verdict.FASTER),
        (row_of(20, 30, p=0.05), Verdict.INCONCLUSIVE),  # resolved alone, not among the profiles
        (row_of(1, 12), Verdict.SLOWER),
        (row_of(1, 12, floor_ms=(-7, 7)), Verdict.INCONCLUSIVE),  # no more than the harness itself can make
        (row_of(-3, 4, p=0.8), Verdict.EQUIVALENT),
        (row_of(2, 4), Verdict.EQUIVALENT),  # resolved, and within the margin
        (row_of(-3, 4, p=0.8, floor_ms=(-11, 3)), Verdict.INCONCLUSIVE),  # a coarse floor
        (row_of(-3, 11, p=0.8), Verdict.INCONCLUSIVE),
        # An arm that fails 24 of 24 requests at once, and answers none that could be compared.
        (row_of(-300, -200, errors=(0, 24)), Verdict.INCONCLUSIVE),
        (row_of(-30, -20, errors=(0, 4), answered=latency_of(0.001, 0.004)), Verdict.INCONCLUSIVE),
        (row_of(-30, -20, errors=(0, 4), answered=latency_of(-0.02, -0.01)), Verdict.FASTER),
        (row_of(-30, -20, errors=(4, 0), answered=None), Verdict.FASTER),
        (row_of(20, 30, errors=(0, 4), answered=latency_of(-0.02, -0.01)), Verdict.SLOWER),
        (row_of(20, 30, errors=(4, 0), answered=latency_of(-0.001, 0.001)), Verdict.INCONCLUSIVE),
        (row_of(-3, 4, errors=(0, 2), answered=latency_of(0.02, 0.03)), Verdict.INCONCLUSIVE),
        (row_of(-3, 4, errors=(0, 2), answered=latency_of(-0.003, 0.004)), Verdict.EQUIVALENT),
    ],
)
def test_latency_verdicts_over_a_margin_of_ten_milliseconds(row: Row, verdict: Verdict) -> None:
    assert judge(row).verdict is verdict


def test_what_failures_held_back_is_told() -> None:
    judgement = judge(row_of(-300, -200, errors=(0, 24)))
    assert (judgement.leaning, judgement.held_back) == (Verdict.FASTER, True)
    assert not judge(row_of(-30, -20)).held_back
    assert not judge(row_of(-30, 20, errors=(0, 24))).held_back, "nothing to hold back"


def rates_of(baseline: int, compared: int, low: float, high: float) -> RateDifference:
    return RateDifference(
        pairs=48,
        baseline_errors=baseline,
        compared_errors=compared,
        baseline_alone=baseline,
        compared_alone=compared,
        value=(compared - baseline) / 48,
        low=low,
        high=high,
        p_value=0.5,
        confidence=0.95,
    )


@pytest.mark.parametrize(
    ("rates", "p", "verdict"),
    [
        (rates_of(0, 12, 0.1, 0.4), 0.001, ReliabilityVerdict.FAILS_MORE),
        (rates_of(12, 0, -0.4, -0.1), 0.001, ReliabilityVerdict.FAILS_LESS),
        (rates_of(0, 12, 0.1, 0.4), 0.06, ReliabilityVerdict.INCONCLUSIVE),
        (rates_of(0, 1, -0.03, 0.1), 1.0, ReliabilityVerdict.INCONCLUSIVE),
        (rates_of(3, 3, -0.1, 0.1), 1.0, ReliabilityVerdict.SAME),
        (rates_of(0, 0, -0.07, 0.07), 1.0, ReliabilityVerdict.SAME),
    ],
)
def test_reliability_verdicts(rates: RateDifference, p: float, verdict: ReliabilityVerdict) -> None:
    assert judge_reliability(rates, p) is verdict


@given(st.integers(0, 48), st.integers(0, 48), p_values)
def test_rates_that_differ_are_never_the_same_errors(baseline: int, compared: int, p: float) -> None:
    value = (compared - baseline) / 48
    verdict = judge_reliability(rates_of(baseline, compared, value - 0.1, value + 0.1), p)
    assert (verdict is ReliabilityVerdict.SAME) == (baseline == compared)


def test_verdicts_read_as_published() -> None:
    assert [verdict.of("external") for verdict in Verdict] == [
        "external slower",
        "external faster",
        "equivalent within the margin",
        "inconclusive",
    ]
    assert [verdict.of("external") for verdict in ReliabilityVerdict] == [
        "external fails more",
        "external fails less",
        "same errors",
        "inconclusive",
    ]


def test_rows_without_an_estimate_count_in_holms_family() -> None:
    assert adjusted([0.01, None, 0.02]) == pytest.approx((0.03, 1.0, 0.04))
    assert adjusted([0.01, None, None])[0] > adjusted([0.01])[0]


@given(ends_ms)
def test_the_aa_row_is_a_direction_exactly_when_its_interval_excludes_zero(ends: list[int]) -> None:
    floor = Floor(estimate=estimate_of(ends[0] / 1e3, ends[1] / 1e3))
    verdict = judge_aa(floor, MARGIN_S).verdict
    assert verdict.is_direction == (not floor.unbiased)
    assert (verdict is Verdict.EQUIVALENT) == (floor.unbiased and floor.bound_s <= MARGIN_S)


def aa_samples(bias_s: float) -> list[PairSample]:
    wobble_s = [0.001, -0.002, 0.0015, -0.0005, 0.001, -0.001] * 4
    return [
        PairSample(
            block=number // 4,
            stratum="-",
            baseline_s=0.2,
            compared_s=0.2 + bias_s + wobble_s[number],
            planned_s=0.0,
            baseline_first=number % 4 in (0, 3),
        )
        for number in range(24)
    ]


def test_a_biased_harness_fails_its_own_aa_row() -> None:
    assert judge_aa(measure_floor(aa_samples(0.0)), MARGIN_S).verdict is Verdict.EQUIVALENT
    assert judge_aa(measure_floor(aa_samples(0.05)), MARGIN_S).verdict is Verdict.SLOWER
    assert judge_aa(measure_floor(aa_samples(-0.05)), MARGIN_S).verdict is Verdict.FASTER


def test_the_floor_is_the_far_end_of_the_aa_interval() -> None:
    floor = measure_floor(aa_samples(0.001))
    assert floor.estimate.confidence == AA_CONFIDENCE
    assert floor.estimate.spent == 1.0, "exact for independent blocks"
    assert floor.bound_s == floor.estimate.high > -floor.estimate.low
    assert measure_floor(aa_samples(0.001), confidence=0.9).bound_s < floor.bound_s
