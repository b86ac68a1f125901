import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import stdtr, stdtrit

from matrices.statistics import (
    P99_MIN_SAMPLES,
    PairSample,
    holm,
    latency_ratio,
    latency_summary,
    paired_difference,
    quantile,
)
from treni.errors import Code, TreniError


def samples_of(
    differences: Sequence[float],
    blocks: Sequence[int],
    strata: Sequence[str] | None = None,
    base_s: float = 0.2,
) -> list[PairSample]:
    return [
        PairSample(
            block=blocks[i],
            stratum="-" if strata is None else strata[i],
            internal_s=base_s,
            external_s=base_s + difference,
        )
        for i, difference in enumerate(differences)
    ]


@st.composite
def campaigns(draw: st.DrawFn) -> list[PairSample]:
    """3 to 6 blocks of unequal size, up to 3 strata, latencies of 1 ms to 2 s."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=3, max_size=6))
    latency = st.integers(1, 2000).map(lambda ms: ms / 1e3)
    samples = [
        PairSample(
            block=block,
            stratum=draw(st.sampled_from(["-", "-", "F", "F,T"])),
            internal_s=draw(latency),
            external_s=draw(latency),
        )
        for block, size in enumerate(sizes)
        for _ in range(size)
    ]
    by_stratum: dict[str, set[int]] = {}
    for sample in samples:
        by_stratum.setdefault(sample.stratum, set()).add(sample.block)
    assume(any(len(blocks) > 1 for blocks in by_stratum.values()))
    return samples


def test_one_stratum_in_equal_blocks_is_students_t_on_block_means() -> None:
    differences = np.random.default_rng(1).normal(0.01, 0.02, (6, 4))
    estimate = paired_difference(samples_of(differences.ravel(), np.repeat(range(6), 4)))
    means = differences.mean(axis=1)
    error = means.std(ddof=1) / math.sqrt(6)
    margin = stdtrit(5, 0.975) * error
    assert estimate.value == pytest.approx(means.mean())
    assert (estimate.low, estimate.high) == pytest.approx((means.mean() - margin, means.mean() + margin))
    assert estimate.dof == pytest.approx(5)
    assert estimate.p_value == pytest.approx(2 * stdtr(5, -abs(means.mean()) / error))
    assert (estimate.blocks, estimate.pairs, estimate.confidence) == (6, 24, 0.95)


def test_one_pair_per_block_is_the_pooled_variance_of_the_strata() -> None:
    differences = np.random.default_rng(2).normal(0, 0.02, 9)
    strata = ["-", "F", "-", "-", "F", "T", "-", "T", "F"]
    estimate = paired_difference(samples_of(differences, range(9), strata))
    squares = sum(
        float(((group - group.mean()) ** 2).sum())
        for group in (differences[[s == name for s in strata]] for name in ("-", "F", "T"))
    )
    error = math.sqrt(squares / (9 - 3) / 9)
    assert estimate.dof == pytest.approx(6)
    assert estimate.high - estimate.value == pytest.approx(stdtrit(6, 0.975) * error)


def test_a_stratum_that_occurs_once_widens_the_interval_and_costs_degrees_of_freedom() -> None:
    differences = np.random.default_rng(3).normal(0, 0.02, 24)
    blocks = np.repeat(range(6), 4)
    strata = ["-"] * 24
    strata[9] = "F"
    kept = np.arange(24) != 9
    alone = differences.copy()
    alone[9] = differences[kept].mean()  # a singleton that adds nothing to the residuals of the rest
    plain = paired_difference(samples_of(alone, blocks))
    stratified = paired_difference(samples_of(alone, blocks, strata))
    assert stratified.dof < plain.dof
    assert stratified.high - stratified.low > plain.high - plain.low


def test_unequal_blocks_and_singleton_strata_are_covered_as_promised() -> None:
    """Every campaign loses pairs at random, as void pairs do; noise of pairs and of whole blocks; truth 0."""
    rng = np.random.default_rng(4)
    blocks = np.repeat(range(12), 4)
    strata = np.array(["-"] * 48)
    strata[[5, 18]] = "F"
    strata[30] = "F,T"
    cost = np.where(strata == "-", 0.0, 0.3)
    covered = 0
    for _ in range(2000):
        kept = rng.random(48) > 0.15
        values = cost + rng.normal(0, 0.01, 48) + np.repeat(rng.normal(0, 0.005, 12), 4)
        estimate = paired_difference(samples_of(values[kept], blocks[kept], strata[kept].tolist()))
        covered += estimate.contains(float(cost[kept].mean()))
    assert 0.93 <= covered / 2000 <= 0.98


@given(campaigns(), st.dictionaries(st.sampled_from(["-", "F", "F,T"]), st.integers(0, 900)))
def test_a_constant_cost_of_a_stratum_moves_the_estimate_and_not_its_width(
    samples: list[PairSample], costs_ms: dict[str, int]
) -> None:
    def cost_s(sample: PairSample) -> float:
        return costs_ms.get(sample.stratum, 0) / 1e3

    before = paired_difference(samples)
    after = paired_difference([replace(s, external_s=s.external_s + cost_s(s)) for s in samples])
    assert after.value - before.value == pytest.approx(
        math.fsum(map(cost_s, samples)) / len(samples), abs=1e-9
    )
    assert after.high - after.low == pytest.approx(before.high - before.low, abs=1e-9)


@given(campaigns(), st.randoms(use_true_random=False))
def test_the_order_of_the_samples_and_the_names_of_blocks_do_not_matter(
    samples: list[PairSample], random: object
) -> None:
    shuffled = [replace(sample, block=100 - sample.block) for sample in samples]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for estimate in (paired_difference, latency_ratio):
        assert estimate(samples) == estimate(shuffled)  # every bit


@given(campaigns())
def test_swapping_the_arms_negates_the_difference_and_inverts_the_ratio(samples: list[PairSample]) -> None:
    swapped = [replace(s, internal_s=s.external_s, external_s=s.internal_s) for s in samples]
    one, other = paired_difference(samples), paired_difference(swapped)
    assert (-one.value, -one.high, -one.low) == pytest.approx((other.value, other.low, other.high), abs=1e-9)
    ratio, inverse = latency_ratio(samples), latency_ratio(swapped)
    assert ratio.value * inverse.value == pytest.approx(1)
    if math.isfinite(ratio.high) and math.isfinite(inverse.high) and ratio.low > 1e-3 and inverse.low > 1e-3:
        assert (1 / ratio.high, 1 / ratio.low) == pytest.approx((inverse.low, inverse.high), rel=1e-6)


@given(campaigns())
def test_the_interval_surrounds_the_value_and_agrees_with_the_p_value(samples: list[PairSample]) -> None:
    estimate = paired_difference(samples)
    assert estimate.low <= estimate.value <= estimate.high
    assert 0 <= estimate.p_value <= 1
    assume(min(abs(estimate.low), abs(estimate.high)) > 1e-9)
    assert estimate.contains(0.0) == (estimate.p_value >= 0.05)


@given(campaigns())
def test_the_ratio_excludes_one_exactly_when_the_difference_excludes_zero(samples: list[PairSample]) -> None:
    difference, ratio = paired_difference(samples), latency_ratio(samples)
    assume(math.isfinite(ratio.high))
    assume(min(abs(difference.low), abs(difference.high)) > 1e-9)
    assert ratio.contains(1.0) == difference.contains(0.0)
    assert ratio.low <= ratio.value <= ratio.high


def test_more_confidence_is_a_wider_interval() -> None:
    samples = samples_of(np.random.default_rng(5).normal(0, 0.02, 24), np.repeat(range(6), 4))
    narrow, wide = paired_difference(samples, confidence=0.9), paired_difference(samples, confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("internal_s", [0.1, 0.3, 1.7])
def test_equal_arms_give_zero_with_no_width_and_p_one(internal_s: float) -> None:
    estimate = paired_difference(samples_of([0.0] * 12, np.repeat(range(3), 4), base_s=internal_s))
    assert (estimate.value, estimate.low, estimate.high, estimate.p_value) == (0.0, 0.0, 0.0, 1.0)
    ratio = latency_ratio(samples_of([0.0] * 12, np.repeat(range(3), 4), base_s=internal_s))
    assert (ratio.value, ratio.low, ratio.high, ratio.p_value) == pytest.approx((1.0, 1.0, 1.0, 1.0))


def test_a_constant_difference_has_no_width_and_p_zero() -> None:
    samples = [PairSample(block=i // 4, stratum="-", internal_s=0.1, external_s=0.1 + 0.7) for i in range(12)]
    estimate = paired_difference(samples)
    assert estimate.low == estimate.value == estimate.high == pytest.approx(0.7)
    assert estimate.p_value == 0.0


def test_an_internal_mean_lost_in_noise_gives_an_unbounded_ratio() -> None:
    internal = [0.001, 0.001, 3.0]
    samples = [
        PairSample(block=i, stratum="-", internal_s=value, external_s=0.5) for i, value in enumerate(internal)
    ]
    ratio = latency_ratio(samples)
    assert (ratio.low, ratio.high) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("kind", "samples"),
    [
        ("difference_in_blocks", []),
        ("difference_in_blocks", samples_of([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1])),
        ("difference_in_strata", samples_of([0.1, 0.2, 0.3], [0, 1, 2], ["-", "F", "T"])),
        ("difference_in_strata", samples_of([0.1] * 6, [0, 0, 1, 1, 2, 2], ["-", "-", "F", "F", "T", "T"])),
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
        latency_ratio(samples_of([0.1, 0.2, 0.3], [0, 1, 2], base_s=0.0))
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
