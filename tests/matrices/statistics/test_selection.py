from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrices.statistics.estimates import PairSample
from matrices.statistics.selection import SELECTIVE_LEVEL, Share, void_selective_p, voids_of


def pair_of(difference_s: float, *, stratum: str = "-", baseline_first: bool = True) -> PairSample:
    return PairSample(
        block=0,
        stratum=stratum,
        baseline_s=0.2,
        compared_s=0.2 + difference_s,
        planned_s=0.0,
        baseline_first=baseline_first,
    )


@given(st.lists(st.integers(-4, 4), min_size=2, max_size=7), st.data())
def test_the_p_value_counts_all_ways_to_draw_the_void_pairs(values: list[int], data: st.DataObject) -> None:
    drawn = data.draw(st.integers(1, len(values) - 1))
    pairs = [pair_of(value / 1e3) for value in values]
    ordered = sorted(values)
    ranks = [(ordered.index(value) + 1 + len(ordered) - ordered[::-1].index(value)) / 2 for value in values]
    centre = drawn * (len(values) + 1) / 2
    observed = abs(sum(ranks[:drawn]) - centre)
    ways = [abs(sum(chosen) - centre) >= observed - 1e-9 for chosen in combinations(ranks, drawn)]
    assert void_selective_p(pairs[:drawn], pairs[drawn:]) == pytest.approx(sum(ways) / len(ways))


def test_dropping_the_slow_pairs_of_one_arm_is_seen() -> None:
    rng = np.random.default_rng(1)
    pairs = sorted((pair_of(float(d)) for d in rng.normal(0, 0.01, 48)), key=lambda p: p.compared_s)
    assert void_selective_p(pairs[-4:], pairs[:-4]) < SELECTIVE_LEVEL
    assert void_selective_p(pairs[:4], pairs[4:]) < SELECTIVE_LEVEL
    assert void_selective_p(pairs[22:26], [*pairs[:22], *pairs[26:]]) > 0.5


def test_honest_voids_are_no_finding() -> None:
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(500):
        pairs = [pair_of(float(d)) for d in rng.standard_t(3, 48) * 0.01]
        found += void_selective_p(pairs[:3], pairs[3:]) < SELECTIVE_LEVEL
    assert found <= 3


def test_pairs_that_are_slow_in_both_arms_select_nothing() -> None:
    pairs = [pair_of(0.001 * (number % 5)) for number in range(40)]
    slow = [replace(pair, baseline_s=9.0, compared_s=9.0 + pair.compared_s - 0.2) for pair in pairs[:4]]
    assert void_selective_p(slow, pairs[4:]) > 0.1


def test_waits_that_the_plan_fixes_are_no_selection() -> None:
    rng = np.random.default_rng(3)
    pairs = [pair_of(float(d)) for d in rng.normal(0, 0.001, 40)]
    waited = [replace(pair, compared_s=pair.compared_s + 0.35, planned_s=0.35) for pair in pairs[:4]]
    assert void_selective_p(waited, pairs[4:]) == pytest.approx(void_selective_p(pairs[:4], pairs[4:]))


def test_nothing_void_or_nothing_valid_is_nothing_to_compare() -> None:
    pairs = [pair_of(0.01), pair_of(0.02)]
    assert void_selective_p([], pairs) == void_selective_p(pairs, []) == 1.0


def test_voids_are_counted_by_stratum_and_by_order() -> None:
    void = [pair_of(0.0, stratum="F", baseline_first=False), pair_of(0.0)]
    valid = [pair_of(0.0, stratum="F"), pair_of(0.0), pair_of(0.0, baseline_first=False)]
    voids = voids_of(void, valid)
    assert voids.by_stratum == (("-", Share(void=1, pairs=3)), ("F", Share(void=1, pairs=2)))
    assert (voids.baseline_first, voids.compared_first) == (Share(void=1, pairs=3), Share(void=1, pairs=2))
    assert voids.total == Share(void=2, pairs=5)
