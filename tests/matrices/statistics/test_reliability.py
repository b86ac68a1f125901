import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from matrices.statistics.estimates import PairSample
from matrices.statistics.reliability import RunCost, cost_per_success, error_rate_difference
from treni.errors import TreniError


def pairs_of(both: int, only_baseline: int, only_compared: int, neither: int) -> list[PairSample]:
    """Pairs by who failed: both arms, only the baseline, only the compared one, neither."""
    kinds = [(False, False)] * both + [(False, True)] * only_baseline
    kinds += [(True, False)] * only_compared + [(True, True)] * neither
    return [
        PairSample(
            block=number % 6,
            stratum="-",
            baseline_s=0.2,
            compared_s=0.2,
            planned_s=0.0,
            baseline_first=number % 2 == 0,
            baseline_ok=baseline,
            compared_ok=compared,
        )
        for number, (baseline, compared) in enumerate(kinds)
    ]


counts = st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.integers(0, 40)).filter(any)


def test_tangos_published_example() -> None:
    """Tango (1998): 44 pairs of which 0 and 1 are discordant: -2.7 % to 11.8 % around 2.3 %."""
    rates = error_rate_difference(pairs_of(0, 0, 1, 43))
    assert rates.value == pytest.approx(1 / 44)
    assert (rates.low, rates.high) == pytest.approx((-0.0594, 0.1185), abs=5e-4)


@given(counts)
def test_the_p_value_is_the_exact_binomial_test_of_discordant_pairs(split: tuple[int, int, int, int]) -> None:
    rates = error_rate_difference(pairs_of(*split))
    _, one, other, _ = split
    exact = binomtest(one, one + other).pvalue if one + other else 1.0
    assert rates.p_value == pytest.approx(exact, abs=1e-12)
    assert (rates.baseline_alone, rates.compared_alone) == (one, other)
    assert rates.compared_errors - rates.baseline_errors == other - one
    assert -1 <= rates.low <= rates.value <= rates.high <= 1


@given(counts)
def test_swapping_the_arms_mirrors_the_interval(split: tuple[int, int, int, int]) -> None:
    both, one, other, neither = split
    rates, mirror = (
        error_rate_difference(pairs_of(both, a, b, neither)) for a, b in ((one, other), (other, one))
    )
    assert (rates.low, rates.high) == pytest.approx((-mirror.high, -mirror.low), abs=1e-9)
    assert rates.p_value == mirror.p_value


@pytest.mark.parametrize(
    ("pairs", "baseline", "compared"), [(24, 0.05, 0.2), (48, 0.1, 0.1), (96, 0.05, 0.15)]
)
def test_the_interval_covers_a_planted_difference(pairs: int, baseline: float, compared: float) -> None:
    rng = np.random.default_rng(pairs)
    covered = 0
    for _ in range(1000):
        fails = rng.random((pairs, 2)) < (baseline, compared)
        both = int(fails.all(axis=1).sum())
        one, other = (int(column.sum()) - both for column in fails.T)
        rates = error_rate_difference(pairs_of(both, one, other, pairs - both - one - other))
        covered += rates.low <= compared - baseline <= rates.high
    assert 0.93 <= covered / 1000 <= 0.99


def test_no_pairs_have_no_rates() -> None:
    with pytest.raises(TreniError) as caught:
        error_rate_difference([])
    assert caught.value.kind == "rates_in_pairs"


def runs_of(amounts: Sequence[float], right: Sequence[bool], per_block: int = 4) -> list[RunCost]:
    return [
        RunCost(block=number // per_block, amount=amount, correct=correct)
        for number, (amount, correct) in enumerate(zip(amounts, right, strict=True))
    ]


def test_a_failed_run_is_paid_for_by_the_right_answers() -> None:
    cost = cost_per_success(runs_of([1.0, 1.0, 2.0, 2.0] * 4, [True, True, True, False] * 4))
    assert cost.value == pytest.approx(6 / 3)
    assert cost.successes == 12
    assert (cost.low, cost.high) == pytest.approx((2.0, 2.0))


def test_its_interval_covers_what_a_right_answer_costs() -> None:
    rng = np.random.default_rng(9)
    covered = 0
    for _ in range(1000):
        right = rng.random(48) < 0.8
        amounts = rng.lognormal(0, 0.5, 48) * np.where(right, 1.0, 2.0)
        cost = cost_per_success(runs_of(amounts.tolist(), right.tolist()))
        expected = math.exp(0.125) * (0.8 + 0.2 * 2.0) / 0.8
        covered += cost.low <= expected <= cost.high
    assert 0.92 <= covered / 1000 <= 0.98


def test_without_a_right_answer_or_enough_blocks_it_has_no_bounds() -> None:
    none = cost_per_success(runs_of([1.0] * 12, [False] * 12))
    assert (none.value, none.low, none.high) == (math.inf, -math.inf, math.inf)
    few = cost_per_success(runs_of([1.0] * 8, [True] * 8))
    assert (few.value, few.low, few.high) == (1.0, -math.inf, math.inf)
    lone = cost_per_success(runs_of([1.0] * 12, [True] + [False] * 11))
    assert (lone.value, lone.high) == (12.0, math.inf)
    with pytest.raises(TreniError) as caught:
        cost_per_success([])
    assert caught.value.kind == "cost_in_runs"
