"""Estimates of a campaign: the ratio beside the difference, equivalence, several claims at once, quantiles."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from matrices.statistics.estimates import (
    P99_MIN_SAMPLES,
    PairSample,
    equivalence,
    holm,
    latency_ratio,
    latency_summary,
    paired_difference,
    quantile,
    steadiness,
)
from tests.matrices.statistics.samples import campaigns, samples_of, swapped_of
from treni.errors import Code, TreniError


@given(campaigns(), st.randoms(use_true_random=False))
def test_the_order_of_the_samples_changes_no_bit(samples: list[PairSample], random: Random) -> None:
    shuffled = [replace(sample, block=100 + 3 * sample.block) for sample in samples]
    random.shuffle(shuffled)
    for estimate in (paired_difference, latency_ratio):
        assert estimate(samples) == estimate(shuffled)
    assert steadiness(samples) == steadiness(shuffled)


@given(campaigns())
def test_swapping_the_arms_negates_the_difference_and_inverts_the_ratio(samples: list[PairSample]) -> None:
    swapped = swapped_of(samples)
    one, other = paired_difference(samples), paired_difference(swapped)
    scale = max(abs(one.low), abs(one.high), 1e-6)
    assert (-one.value, -one.high, -one.low) == pytest.approx(
        (other.value, other.low, other.high), abs=1e-6 * scale
    )
    ratio, inverse = latency_ratio(samples), latency_ratio(swapped)
    assert ratio.value * inverse.value == pytest.approx(1)
    if math.isfinite(ratio.high) and math.isfinite(inverse.high) and min(ratio.low, inverse.low) > 1e-3:
        assert (1 / ratio.high, 1 / ratio.low) == pytest.approx((inverse.low, inverse.high), rel=1e-6)


@given(campaigns())
def test_the_ratio_excludes_one_exactly_when_the_difference_excludes_zero(samples: list[PairSample]) -> None:
    difference, ratio = paired_difference(samples), latency_ratio(samples)
    assert ratio.low <= ratio.value <= ratio.high
    if math.isfinite(ratio.high) and min(abs(difference.low), abs(difference.high)) > 1e-9:
        assert ratio.contains(1.0) == difference.contains(0.0)


@given(campaigns(), st.floats(0.001, 1.0))
def test_equivalence_is_shown_exactly_where_its_interval_lies_within_the_margin(
    samples: list[PairSample], margin_s: float
) -> None:
    difference = paired_difference(samples)
    tested = equivalence(difference, margin_s)
    assert 0 <= tested.p_value <= 1
    ends = margin_s - tested.high, tested.low + margin_s
    assume(min(map(abs, ends)) > 1e-9)
    assert tested.shown == (min(ends) > 0)
    assert difference.low <= tested.low <= difference.value <= tested.high <= difference.high


@pytest.mark.parametrize("margin_s", [0.0, -0.01, math.inf, math.nan])
def test_a_margin_that_is_none_is_refused(margin_s: float) -> None:
    with pytest.raises(TreniError) as caught:
        equivalence(paired_difference(samples_of([0.1, 0.2, 0.3, 0.4] * 3, np.repeat(range(3), 4))), margin_s)
    assert caught.value.kind == "margin_positive"


@pytest.mark.parametrize("base_s", [0.1, 0.3, 1.7])
def test_equal_arms_give_zero_with_no_width_and_p_one(base_s: float) -> None:
    samples = samples_of([0.0] * 12, np.repeat(range(3), 4), base_s=base_s)
    estimate, ratio = paired_difference(samples), latency_ratio(samples)
    assert (estimate.value, estimate.low, estimate.high, estimate.p_value) == (0.0, 0.0, 0.0, 1.0)
    assert (ratio.value, ratio.low, ratio.high, ratio.p_value) == pytest.approx((1.0, 1.0, 1.0, 1.0))


def test_a_baseline_mean_lost_in_noise_gives_an_unbounded_ratio() -> None:
    samples = [
        PairSample(
            block=i // 2,
            stratum="-",
            baseline_s=value,
            compared_s=0.5,
            planned_s=0.0,
            baseline_first=i % 2 == 0,
        )
        for i, value in enumerate([0.001, 0.002, 0.001, 9.0, 0.003, 0.001])
    ]
    ratio = latency_ratio(samples)
    assert (ratio.low, ratio.high) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("kind", "samples"),
    [
        ("difference_in_blocks", []),
        ("difference_in_blocks", samples_of([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1])),
        ("latency_not_finite", samples_of([0.1, math.nan, 0.3], [0, 1, 2])),
        ("latency_not_finite", samples_of([0.1, math.inf, 0.3], [0, 1, 2])),
    ],
)
def test_samples_that_cannot_give_an_interval_are_refused(kind: str, samples: list[PairSample]) -> None:
    for estimate in (paired_difference, latency_ratio):
        with pytest.raises(TreniError) as caught:
            estimate(samples)
        assert (caught.value.code, caught.value.kind) == (Code.INVALID_ARGUMENT, kind)


def test_a_ratio_over_nothing_is_refused() -> None:
    with pytest.raises(TreniError) as caught:
        latency_ratio(samples_of([0.1, 0.2, 0.3, 0.1, 0.2, 0.3], [0, 0, 1, 1, 2, 2], base_s=0.0))
    assert caught.value.kind == "ratio_denominator"


def test_holm_on_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([]) == ()


@given(st.lists(st.floats(0, 1), max_size=10))
def test_holm_never_helps_keeps_the_order_and_starts_as_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= a <= 1.0 for p, a in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)
    if p_values:
        assert adjusted[order[0]] == min(1.0, len(p_values) * p_values[order[0]])


def test_p99_is_refused_under_a_few_hundred_samples() -> None:
    values = [i / 1000 for i in range(P99_MIN_SAMPLES)]
    with pytest.raises(TreniError) as caught:
        quantile(values[:-1], 0.99)
    assert caught.value.kind == "quantile_in_samples"
    assert quantile(values, 0.99) == pytest.approx(0.99 * 0.299)
    assert latency_summary(values[:-1]).p99_s is None
    assert latency_summary(values).p99_s == quantile(values, 0.99)


def test_latency_summary() -> None:
    summary = latency_summary([0.1, 0.2, 0.3, 0.4, 1.0])
    assert (summary.count, summary.mean_s, summary.p50_s) == pytest.approx((5, 0.4, 0.3))
    assert summary.p95_s == pytest.approx(0.88)
    with pytest.raises(TreniError):
        latency_summary([])
