import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import stdtr, stdtrit

from matrices.statistics.estimates import (
    P99_MIN_SAMPLES,
    SPENT,
    PairSample,
    equivalence,
    holm,
    latency_ratio,
    latency_summary,
    lone_strata,
    paired_difference,
    quantile,
    steadiness,
)
from treni.errors import Code, TreniError


def samples_of(
    differences: Sequence[float],
    blocks: Sequence[int],
    strata: Sequence[str] | None = None,
    base_s: float = 0.2,
    seed: int = 0,
) -> list[PairSample]:
    """Pairs with these differences around a base that varies by the task, who goes first alternating in each block."""
    bases = base_s * np.random.default_rng([seed, 7]).uniform(0.8, 1.2, len(differences))
    return [
        PairSample(
            block=int(blocks[i]),
            stratum="-" if strata is None else strata[i],
            baseline_s=float(bases[i]),
            compared_s=float(bases[i] + difference),
            planned_s=0.0,
            baseline_first=(i + int(blocks[i])) % 2 == 0,
        )
        for i, difference in enumerate(differences)
    ]


@st.composite
def campaigns(draw: st.DrawFn) -> list[PairSample]:
    """3 to 8 blocks of 2 to 5 pairs, strata common and rare, waits, cut runs; latencies of 1 ms to 2 s."""
    latency = st.integers(1, 2000).map(lambda ms: ms / 1e3)
    wait = st.sampled_from([0.0, 0.0, 0.1, 0.25])
    kind = st.sampled_from([("-", 0), ("-", 0), ("-", 0), ("F", 0), ("T", 0), ("F,T", 1)])
    samples = []
    for block, size in enumerate(draw(st.lists(st.integers(2, 5), min_size=3, max_size=8))):
        for _ in range(size):
            stratum, cut = draw(kind)
            planned, shared = draw(wait) if stratum != "-" else 0.0, draw(wait) if stratum == "T" else 0.0
            samples.append(
                PairSample(
                    block=block,
                    stratum=stratum,
                    baseline_s=draw(latency) + shared,
                    compared_s=draw(latency) + shared + planned,
                    planned_s=planned,
                    shared_wait_s=shared,
                    baseline_first=draw(st.booleans()),
                    cut=cut,
                    compared_ok=not cut,
                )
            )
    return samples


def test_one_stratum_in_three_equal_blocks_is_students_t_on_block_means() -> None:
    differences = np.random.default_rng(1).normal(0.01, 0.02, (3, 4))
    samples = samples_of(differences.ravel(), np.repeat(range(3), 4))
    # An order effect that no pair can show is not fitted: both arms took no time worth speaking of.
    samples = [replace(s, baseline_s=0.0, compared_s=s.compared_s - s.baseline_s) for s in samples]
    estimate = paired_difference([replace(s, baseline_first=True) for s in samples], carry_drift=False)
    means = differences.mean(axis=1)
    error = means.std(ddof=1) / math.sqrt(3)
    assert estimate.dof == pytest.approx(2, rel=0.2)
    assert estimate.value == pytest.approx(means.mean(), abs=3 * error)


def test_blocks_that_move_as_a_whole_are_students_t_on_block_means() -> None:
    """Every pair of a block alike: nothing is left that who goes first could explain."""
    means = np.random.default_rng(2).normal(0.01, 0.02, 3)
    estimate = paired_difference(samples_of(np.repeat(means, 4), np.repeat(range(3), 4)), carry_drift=False)
    error = means.std(ddof=1) / math.sqrt(3)
    assert estimate.value == pytest.approx(means.mean(), abs=1e-3)
    assert estimate.error == pytest.approx(error, rel=0.02)
    assert estimate.dof == pytest.approx(2, rel=1e-3)
    assert estimate.p_value == pytest.approx(2 * stdtr(2, -abs(means.mean()) / error), abs=0.02)
    assert (estimate.blocks, estimate.pairs, estimate.confidence, estimate.spent) == (3, 12, 0.95, 1.0)


def test_an_interval_that_carries_a_drift_spends_less_of_its_level_on_chance() -> None:
    samples = samples_of(np.random.default_rng(3).normal(0, 0.02, 48), np.repeat(range(12), 4))
    estimate = paired_difference(samples)
    half = stdtrit(estimate.dof, 1 - 0.025 * SPENT) * estimate.error
    assert (estimate.low, estimate.high) == pytest.approx((estimate.value - half, estimate.value + half))
    assert estimate.spent == SPENT
    assert steadiness(samples).growth >= 1


def test_a_walk_of_one_arm_widens_the_interval_by_much_more_than_its_scatter() -> None:
    rng = np.random.default_rng(4)
    noise = rng.normal(0, 0.002, 48)
    steady = samples_of(noise, np.repeat(range(12), 4))
    walked = samples_of(noise + np.repeat(np.linspace(0, 0.03, 12), 4), np.repeat(range(12), 4))
    one, other = paired_difference(steady), paired_difference(walked)
    assert other.high - other.low > 5 * (one.high - one.low)
    assert other.contains(0.0), "where it began is not excluded"
    assert steadiness(walked).p_value < 0.01 < steadiness(steady).p_value
    assert steadiness(walked).growth > 1.5
    first, middle, last = steadiness(walked).thirds_s
    assert first < middle < last


@given(campaigns(), st.integers(0, 10), st.booleans(), st.sampled_from([30.0, 600.0]))
def test_one_hang_never_gives_a_narrow_interval(
    samples: list[PairSample], which: int, in_baseline: bool, hang_s: float
) -> None:
    """Whatever the pair is: the only one of its stratum, cut short by the plan, or one of many."""
    index = which % len(samples)
    hung = samples[index]
    if in_baseline:
        hung = replace(hung, baseline_s=hung.baseline_s + hang_s)
    else:
        hung = replace(hung, compared_s=hung.compared_s + hang_s)
    estimate = paired_difference([*samples[:index], hung, *samples[index + 1 :]])
    assert estimate.high - estimate.low > hang_s / len(samples)


def test_a_faulted_run_that_hangs_is_not_an_effect_of_its_stratum() -> None:
    """One of twelve blocks has the only pair with a fault, and its run hangs 30 s more than planned."""
    differences = np.random.default_rng(5).normal(0.002, 0.0004, 48)
    strata = ["-"] * 48
    strata[17] = "T"
    samples = samples_of(differences, np.repeat(range(12), 4), strata)
    hung = [
        replace(s, planned_s=0.35, compared_s=s.compared_s + 0.35 + 30.0) if s.stratum == "T" else s
        for s in samples
    ]
    estimate = paired_difference(hung)
    assert estimate.value == pytest.approx(0.002 + (0.35 + 30.0) / 48, abs=0.1)
    assert estimate.contains(0.002 + 0.35 / 48)
    assert estimate.high - estimate.low > 30 / 48


@given(campaigns(), st.dictionaries(st.sampled_from(["-", "F", "T", "F,T"]), st.integers(0, 900)))
def test_a_planned_wait_moves_the_estimate_and_nothing_else(
    samples: list[PairSample], costs_ms: dict[str, int]
) -> None:
    """Said of campaigns without an order effect to fit, which the waits have a part in."""
    samples = [replace(s, baseline_first=True, baseline_s=0.2, compared_s=0.2 + s.compared_s / 1e3, planned_s=0.0,
                       shared_wait_s=0.0, cut=0) for s in samples]  # fmt: skip

    def cost_s(sample: PairSample) -> float:
        return costs_ms.get(sample.stratum, 0) / 1e3

    # Who goes first is alike everywhere, so that an effect of it stays in the estimate: its weight is what varies.
    before = paired_difference(samples)
    after = paired_difference(
        [replace(s, compared_s=s.compared_s + cost_s(s), planned_s=cost_s(s)) for s in samples]
    )
    assume(after.error < 1e3 * before.error)
    cost = math.fsum(map(cost_s, samples)) / len(samples)
    assert after.value - before.value == pytest.approx(cost, abs=10 * (before.error + after.error) + 1e-9)


@given(campaigns(), st.randoms(use_true_random=False))
def test_the_order_of_the_samples_changes_no_bit(samples: list[PairSample], random: object) -> None:
    shuffled = [replace(sample, block=100 + 3 * sample.block) for sample in samples]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for estimate in (paired_difference, latency_ratio):
        assert estimate(samples) == estimate(shuffled)
    assert steadiness(samples) == steadiness(shuffled)


def swapped_of(samples: Sequence[PairSample]) -> list[PairSample]:
    return [
        replace(
            s,
            baseline_s=s.compared_s,
            compared_s=s.baseline_s,
            planned_s=-s.planned_s,
            baseline_first=not s.baseline_first,
            cut=-s.cut,
            baseline_ok=s.compared_ok,
            compared_ok=s.baseline_ok,
        )
        for s in samples
    ]


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
def test_the_interval_surrounds_the_value_and_agrees_with_the_p_value(samples: list[PairSample]) -> None:
    for carry_drift in (True, False):
        estimate = paired_difference(samples, carry_drift=carry_drift)
        assert estimate.low <= estimate.value <= estimate.high
        assert 0 <= estimate.p_value <= 1
        if min(abs(estimate.low), abs(estimate.high)) > 1e-9:
            assert estimate.contains(0.0) == (estimate.p_value >= 0.05)


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


@pytest.mark.parametrize("runs", [3, 12])
def test_a_proportional_order_effect_moves_no_estimate_by_a_tenth_of_its_interval(runs: int) -> None:
    noise = np.random.default_rng(runs).normal(0, 0.0004, 4 * runs)
    quiet = samples_of(noise, np.repeat(range(runs), 4))
    before = paired_difference(quiet)
    effect = [
        replace(
            s,
            baseline_s=s.baseline_s * (1.015 if s.baseline_first else 0.985),
            compared_s=s.compared_s * (0.985 if s.baseline_first else 1.015),
        )
        for s in quiet
    ]
    after = paired_difference(effect)
    assert abs(after.value - before.value) < 0.02 * (after.high - after.low)
    assert after.high - after.low == pytest.approx(before.high - before.low, rel=0.05)


def test_a_cut_run_leaves_out_work_and_that_is_no_noise() -> None:
    """Runs that the plan ends early take 40 % less of what the other arm takes, whatever that is."""
    rng = np.random.default_rng(6)
    differences, blocks = rng.normal(0, 0.0004, 48), np.repeat(range(12), 4)
    quiet = samples_of(differences, blocks, seed=1)
    cut = {2, 17, 30, 41}
    short = [
        replace(s, stratum="F,F", cut=1, compared_s=s.compared_s - 0.4 * s.baseline_s) if i in cut else s
        for i, s in enumerate(quiet)
    ]
    one, other = paired_difference(quiet), paired_difference(short)
    left_out = math.fsum(0.4 * quiet[i].baseline_s for i in cut) / 48
    assert other.value == pytest.approx(one.value - left_out, abs=1e-4)
    assert other.high - other.low < 2 * (one.high - one.low)


def test_a_lone_cut_pair_is_named() -> None:
    samples = samples_of([0.0] * 12, np.repeat(range(3), 4))
    assert lone_strata(samples) == ()
    lone = [replace(s, cut=1, stratum="F,T") if i in (4, 5) else s for i, s in enumerate(samples)]
    assert lone_strata(lone) == ("F,T",)
    assert lone_strata([replace(s, cut=1, stratum="T,F") if i == 9 else s for i, s in enumerate(lone)]) == ()


def test_more_confidence_is_a_wider_interval() -> None:
    samples = samples_of(np.random.default_rng(8).normal(0, 0.02, 24), np.repeat(range(6), 4))
    narrow, wide = paired_difference(samples, confidence=0.9), paired_difference(samples, confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert wide.high - wide.value == pytest.approx(narrow.half_width(0.99))


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


def test_pairs_that_the_model_takes_up_are_refused() -> None:
    """Three pairs, one of them cut: a mean, an order effect and the work left out leave nothing to scatter."""
    samples = [
        PairSample(block=0, stratum="-", baseline_s=0.2, compared_s=0.25, planned_s=0.0, baseline_first=True),
        PairSample(
            block=1, stratum="-", baseline_s=0.2, compared_s=0.26, planned_s=0.0, baseline_first=False
        ),
        PairSample(
            block=2, stratum="F", baseline_s=0.2, compared_s=0.15, planned_s=0.0, baseline_first=True, cut=1
        ),
    ]
    with pytest.raises(TreniError) as caught:
        paired_difference(samples)
    assert caught.value.kind == "difference_in_pairs"


def test_one_long_task_does_not_decide_what_the_order_is_worth() -> None:
    """Its own difference is 30 times that of the others, and stays in the estimate and in the scatter."""
    noise = np.random.default_rng(10).normal(0, 0.0004, 48)
    samples = samples_of(noise, np.repeat(range(12), 4), base_s=0.02)
    long = replace(samples[20], baseline_s=2.0, compared_s=2.5)
    estimate = paired_difference([*samples[:20], long, *samples[21:]])
    assert estimate.value == pytest.approx(0.5 / 48, rel=0.3)
    assert estimate.high - estimate.low > 0.5 / 48


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
