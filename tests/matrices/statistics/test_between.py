"""The change of a ratio between two campaigns: what it must not depend on, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrices.statistics.between import Change, ratio_change, work
from matrices.statistics.estimates import PairSample, latency_ratio, paired_difference
from matrices.statistics.one_sided import difference_over_p, ratio_interval, ratio_over_p
from tests.matrices.statistics.samples import campaigns
from treni.errors import TreniError


def campaign(seed: int, *, level: float = 0.04, factor: float = 1.0, blocks: int = 12) -> list[PairSample]:
    """Tasks that are the same for every seed, with noise of its own; the compared arm's work is `factor` as long."""
    tasks = np.random.default_rng(0).uniform(0.1, 0.3, (blocks, 4))
    rng = np.random.default_rng([seed, 1])
    return [
        PairSample(
            block=block,
            stratum="-",
            baseline_s=float(tasks[block, place] * rng.normal(1, level)),
            compared_s=float(1.2 * factor * tasks[block, place] * rng.normal(1, level)),
            planned_s=0.0,
            baseline_first=(block + place) % 2 == 0,
        )
        for block in range(blocks)
        for place in range(4)
    ]


def waiting(samples: list[PairSample], wait_s: float) -> list[PairSample]:
    """The samples with a fixed wait of the compared arm in every third pair."""
    return [
        replace(one, compared_s=one.compared_s + wait_s, planned_s=wait_s) if place % 3 == 0 else one
        for place, one in enumerate(samples)
    ]


def test_a_campaign_against_itself_has_not_changed_at_all() -> None:
    change = ratio_change(campaign(1), campaign(1))
    assert (change.value, change.low, change.high) == pytest.approx((1.0, 1.0, 1.0))
    assert (change.worse_p(1.1), change.within_p(1.1)) == (1.0, 0.0)


def test_what_changed_is_found_and_the_other_way_round_it_is_the_inverse() -> None:
    there, back = (
        ratio_change(campaign(1), campaign(2, factor=1.2)),
        ratio_change(campaign(2, factor=1.2), campaign(1)),
    )
    assert there.low < 1.2 < there.high
    assert there.value * back.value == pytest.approx(1.0)
    assert (there.low * back.high, there.high * back.low) == pytest.approx((1.0, 1.0))
    assert there.worse_p(1.1) < 0.01 < 0.9 < back.worse_p(1.1)
    assert back.within_p(1.1) < 0.01 < 0.9 < there.within_p(1.1)


@given(slower=st.floats(0.1, 10), wait_s=st.floats(0, 1))
def test_a_slower_machine_and_planned_waits_change_nothing(slower: float, wait_s: float) -> None:
    plain = ratio_change(campaign(1), campaign(2))
    scaled = [
        replace(one, baseline_s=one.baseline_s * slower, compared_s=one.compared_s * slower)
        for one in campaign(2)
    ]
    other = ratio_change(waiting(campaign(1), wait_s), waiting(scaled, wait_s))
    assert other.value == pytest.approx(plain.value)
    assert (other.low, other.high) == pytest.approx((plain.low, plain.high))


@given(samples=campaigns())
def test_work_is_what_is_left_without_the_waits_of_either_arm(samples: list[PairSample]) -> None:
    for one in samples:
        baseline, compared = work(one)
        assert compared - baseline == pytest.approx(one.compared_s - one.baseline_s - one.planned_s)
        assert one.baseline_s - baseline >= one.shared_wait_s - 1e-12
        assert one.compared_s - compared >= one.shared_wait_s - 1e-12


def test_a_doubt_widens_both_ends_and_holds_back_both_claims() -> None:
    sure = ratio_change(campaign(1), campaign(2, factor=1.2))
    doubtful = ratio_change(campaign(1), campaign(2, factor=1.2), doubt=math.log(1.5))
    assert (doubtful.low, doubtful.high) == pytest.approx((sure.low / 1.5, sure.high * 1.5))
    assert sure.worse_p(1.1) < 0.05 < doubtful.worse_p(1.1)
    assert sure.within_p(1.3) < 0.05 < doubtful.within_p(1.3)


@given(factor=st.floats(0.5, 2))
def test_a_claim_is_made_exactly_where_the_interval_excludes_the_margin(factor: float) -> None:
    change = ratio_change(campaign(1), campaign(2, level=0.1, factor=1.1))
    assert (change.worse_p(factor) < 0.05) == (change.low > factor)
    assert (change.within_p(factor) < 0.05) == (change.high < factor)


def test_pairs_that_are_not_the_same_and_too_few_blocks_are_refused() -> None:
    for second, kind in (
        (campaign(2)[:-1], "pairs_unmatched"),
        ([replace(one, stratum="F") for one in campaign(2)], "pairs_unmatched"),
        ([replace(one, shared_wait_s=5.0) for one in campaign(2)], "ratio_denominator"),
    ):
        with pytest.raises(TreniError) as caught:
            ratio_change(campaign(1), second)
        assert caught.value.kind == kind
    with pytest.raises(TreniError) as caught:
        ratio_change(campaign(1, blocks=2), campaign(2, blocks=2))
    assert caught.value.kind == "difference_in_blocks"


@given(limit=st.floats(0.8, 1.6))
def test_a_limit_on_a_ratio_is_broken_where_the_interval_of_that_confidence_excludes_it(limit: float) -> None:
    samples = campaign(3, level=0.1)
    ratio = latency_ratio(samples)
    baseline_s = math.fsum(one.baseline_s for one in samples) / len(samples)
    low, high = ratio_interval(ratio, baseline_s, 0.9)
    # But for the order, which the report's mean of the baseline is adjusted for.
    own = latency_ratio(samples, confidence=0.9)
    assert (low, high) == pytest.approx((own.low, own.high), rel=0.01)
    over, under = ratio_over_p(ratio, baseline_s, limit)
    assert (over < 0.05) == (low > limit)
    assert (under < 0.05) == (high < limit)


@given(limit_s=st.floats(-0.2, 0.2))
def test_a_limit_on_a_difference_is_broken_where_the_interval_excludes_it(limit_s: float) -> None:
    difference = paired_difference(campaign(3, level=0.1), confidence=0.9)
    over, under = difference_over_p(difference, limit_s)
    assert (over < 0.05) == (difference.low > limit_s)
    assert (under < 0.05) == (difference.high < limit_s)


def test_a_change_without_scatter_is_certain() -> None:
    sure = Change(
        log_value=0.0,
        error=0.0,
        dof=3.0,
        spent=1.0,
        doubt=0.0,
        low=1.0,
        high=1.0,
        confidence=0.9,
        blocks=3,
        pairs=9,
    )
    assert (sure.worse_p(0.9), sure.worse_p(1.0), sure.within_p(1.1)) == (0.0, 1.0, 0.0)
