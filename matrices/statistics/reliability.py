"""How often each arm fails, and what a right answer costs with the failures counted in."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy.special import bdtr, ndtri, stdtrit

from matrices.statistics.estimates import CONFIDENCE, PairSample
from matrices.statistics.paired_fit import MIN_BLOCKS
from treni.errors import invalid_argument

_HALVINGS = 60
"""Bisections of an interval of length 1: to the last bit of a float."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RateDifference:
    """Error rates of the two arms over the same pairs.

    `value` is the compared arm's rate minus the baseline's, [low, high] its interval at `confidence`, `p_value`
    two-sided for equal rates. `baseline_errors` and `compared_errors` count over `pairs`; `baseline_alone` and
    `compared_alone` are those of pairs in which the other arm answered, which is all that a difference can rest on.
    """

    pairs: int
    baseline_errors: int
    compared_errors: int
    baseline_alone: int
    compared_alone: int
    value: float
    low: float
    high: float
    p_value: float
    confidence: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCost:
    """What one run cost, whatever came of it: its block, an amount (seconds, or attempts), and if it was right."""

    block: int
    amount: float
    correct: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class CostPerSuccess:
    """An amount spent on all runs over the right answers among them, with its interval at `confidence`.

    The value is infinite where no answer was right. The ends are infinite where the blocks do not bound them: under
    three blocks, or with hardly a right answer.
    """

    value: float
    low: float
    high: float
    successes: int
    confidence: float


def error_rate_difference(samples: Sequence[PairSample], *, confidence: float = CONFIDENCE) -> RateDifference:
    """The difference of the arms' error rates, with Tango's score interval (1998) and McNemar's exact p.

    Pairs count as independent: the interval is about pairs like these, not about this schedule, whose planned errors
    are certain. Raises INVALID_ARGUMENT (`rates_in_pairs`) for no pairs.
    """
    if not samples:
        raise invalid_argument(
            "rates_in_pairs",
            expected="at least one pair",
            got="none",
            todo="run the suite, or look why every pair is void",
        )
    baseline_alone = sum(s.compared_ok and not s.baseline_ok for s in samples)
    compared_alone = sum(s.baseline_ok and not s.compared_ok for s in samples)
    pairs, z = len(samples), float(ndtri(0.5 + confidence / 2))

    def too_low(delta: float) -> bool:
        return _score(compared_alone, baseline_alone, pairs, delta) > z

    def too_high(delta: float) -> bool:
        return _score(compared_alone, baseline_alone, pairs, delta) < -z

    value = (compared_alone - baseline_alone) / pairs
    return RateDifference(
        pairs=pairs,
        baseline_errors=sum(not s.baseline_ok for s in samples),
        compared_errors=sum(not s.compared_ok for s in samples),
        baseline_alone=baseline_alone,
        compared_alone=compared_alone,
        value=value,
        low=_edge(too_low, outside=-1.0, inside=value),
        high=_edge(too_high, outside=1.0, inside=value),
        p_value=_mcnemar(baseline_alone, compared_alone),
        confidence=confidence,
    )


def cost_per_success(runs: Sequence[RunCost], *, confidence: float = CONFIDENCE) -> CostPerSuccess:
    """What one right answer cost: Fieller's interval over the blocks' sums, blocks being independent.

    Raises INVALID_ARGUMENT (`cost_in_runs`) for no runs.
    """
    if not runs:
        raise invalid_argument(
            "cost_in_runs", expected="at least one run", got="none", todo="run the suite before its report"
        )
    amounts: dict[int, float] = defaultdict(float)
    rights: dict[int, int] = defaultdict(int)
    for run in runs:
        amounts[run.block] += run.amount
        rights[run.block] += run.correct
    total, successes = math.fsum(amounts.values()), sum(rights.values())
    value = total / successes if successes else math.inf
    low, high = -math.inf, math.inf
    count = len(amounts)
    if successes and count >= MIN_BLOCKS:
        x = [amounts[block] - value * rights[block] for block in sorted(amounts)]
        k = [rights[block] - successes / count for block in sorted(amounts)]
        scale = float(stdtrit(count - 1, 0.5 + confidence / 2)) ** 2 * count / (count - 1)
        square = successes**2 - scale * math.fsum(b * b for b in k)
        linear = scale * math.fsum(a * b for a, b in zip(x, k, strict=True))
        constant = scale * math.fsum(a * a for a in x)
        if square > 0:
            root = math.sqrt(linear**2 + square * constant)
            low, high = value - (linear + root) / square, value + (root - linear) / square
    return CostPerSuccess(value=value, low=low, high=high, successes=successes, confidence=confidence)


def _mcnemar(one: int, other: int) -> float:
    """Two-sided p of a split at least as uneven, were each of the discordant pairs a fair coin."""
    return min(1.0, 2 * float(bdtr(min(one, other), one + other, 0.5))) if one + other else 1.0


def _score(one: int, other: int, pairs: int, delta: float) -> float:
    """Tango's score statistic of the hypothesis that `one` exceeds `other` by `delta` of the pairs."""
    excess = one - other - pairs * delta
    a, b = 2 * pairs, -one - other + (2 * pairs - one + other) * delta
    c = -other * delta * (1 - delta)
    rate = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = pairs * (2 * rate + delta * (1 - delta))
    if variance <= 0:
        return math.copysign(math.inf, excess) if excess else 0.0
    return excess / math.sqrt(variance)


def _edge(rejected: Callable[[float], bool], *, outside: float, inside: float) -> float:
    """The end of the interval between a rejected and a kept difference; `outside` itself where that is kept."""
    if not rejected(outside):
        return outside
    for _ in range(_HALVINGS):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if rejected(middle) else (outside, middle)
    return inside
