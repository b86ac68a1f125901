"""The paired difference and its interval: by textbook formulas, and where a drift, a hang or a wait may not mislead."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import stdtr, stdtrit

from matrices.statistics.estimates import (
    SPENT,
    PairSample,
    lone_strata,
    paired_difference,
    steadiness,
)
from tests.matrices.statistics.samples import campaigns, samples_of
from treni.errors import TreniError


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


@given(campaigns())
def test_the_interval_surrounds_the_value_and_agrees_with_the_p_value(samples: list[PairSample]) -> None:
    for carry_drift in (True, False):
        estimate = paired_difference(samples, carry_drift=carry_drift)
        assert estimate.low <= estimate.value <= estimate.high
        assert 0 <= estimate.p_value <= 1
        if min(abs(estimate.low), abs(estimate.high)) > 1e-9:
            assert estimate.contains(0.0) == (estimate.p_value >= 0.05)


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
