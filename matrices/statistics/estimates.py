"""Estimates from paired samples: mean difference, ratio of means, equivalence, a drift, quantiles, Holm's correction.

The replicate is the block, never the request, and the estimand is that of the campaign's own tasks, seed and schedule:
the waits that these fix are taken out of a pair before its scatter is looked at, and put back into the mean. The model
is in `paired_fit`; ADR 2 has the alternatives and their measured coverage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from matrices.statistics.block_errors import Errors
from matrices.statistics.paired_fit import Fit, Pairs, fit, lone_cuts
from treni.errors import invalid_argument

Array = NDArray[np.float64]

CONFIDENCE = 0.95
TEST_LEVEL = 0.05
P99_MIN_SAMPLES = 300
SPENT = 0.6
"""The share of an interval's error rate that its t quantile may spend: what is read of a drift is itself uncertain."""

LEAST_SHARE = 0.6
"""The least width of an interval that carries a drift, as a share of one for independent blocks. A lone run that hangs
puts the mean one standard error of the blocks' scatter from where it was: 0.6 of the t quantile is more than that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairSample:
    """One pair: the seconds that each arm took, and what the plan says of it.

    `block` is the replicate and its number its place in time (the restart's, with restarts); `stratum` names the
    faults planned on the pair, "-" for none. `planned_s` is compared minus baseline of the waits that plan and seed
    fix exactly, `shared_wait_s` what of them both arms have. `baseline_first` says who went first. `cut` is +1 where
    the plan ends only the compared run with an error, -1 where only the baseline's, else 0; `baseline_ok` and
    `compared_ok` say which runs did end with an answer.
    """

    block: int
    stratum: str
    baseline_s: float
    compared_s: float
    planned_s: float
    baseline_first: bool
    shared_wait_s: float = 0.0
    cut: int = 0
    baseline_ok: bool = True
    compared_ok: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A value with its interval [low, high] at `confidence`; an end that the data do not bound is infinite.

    `p_value` is two-sided, for the hypothesis that the arms do not differ (difference 0, ratio 1). `error` is the
    standard error of the value (of the difference, for a ratio) with `dof` degrees of freedom, `spent` the share of
    the error rate that the interval spends on its t quantile. `blocks` and `pairs` are what it was computed from.
    """

    value: float
    low: float
    high: float
    p_value: float
    error: float
    dof: float
    spent: float
    blocks: int
    pairs: int
    confidence: float

    def contains(self, value: float) -> bool:
        """Whether `value` lies in the interval, ends included."""
        return self.low <= value <= self.high

    def half_width(self, confidence: float) -> float:
        """Half the width of the interval of a difference at another confidence."""
        return float(_quantile_of_t(np.array(self.dof), confidence, self.spent)) * self.error


@dataclass(frozen=True, kw_only=True, slots=True)
class Equivalence:
    """Two one-sided tests of a difference against a margin fixed beforehand, both in seconds.

    `p_value` is the larger of the two; [low, high] is the interval that lies within the margin exactly where it is
    under the level.
    """

    margin_s: float
    p_value: float
    low: float
    high: float

    @property
    def shown(self) -> bool:
        """Whether the difference is shown to lie within the margin."""
        return self.p_value < TEST_LEVEL


@dataclass(frozen=True, kw_only=True, slots=True)
class Steadiness:
    """What a campaign's blocks say of a drift of one arm.

    `p_value` is the probability of block means that wander as slowly as these if blocks were independent, `growth`
    the factor by which a drift at the pace that they show widens the interval. `thirds_s` are the differences in the
    first, second and last third of the blocks, `third_error_s` the standard error of one without a drift.
    """

    p_value: float
    growth: float
    thirds_s: tuple[float, ...]
    third_error_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencySummary:
    """Seconds over `count` requests; `p99_s` is None under `P99_MIN_SAMPLES`, where it would be one request."""

    count: int
    mean_s: float
    p50_s: float
    p95_s: float
    p99_s: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """Many campaigns' `Estimate`s, one entry of each array a campaign."""

    value: Array
    low: Array
    high: Array
    p_value: Array
    error: Array
    dof: Array
    spent: float
    blocks: int
    pairs: int
    confidence: float

    def at(self, index: int) -> Estimate:
        """The estimate of one campaign."""
        return Estimate(
            value=float(self.value[index]),
            low=float(self.low[index]),
            high=float(self.high[index]),
            p_value=float(self.p_value[index]),
            error=float(self.error[index]),
            dof=float(self.dof[index]),
            spent=self.spent,
            blocks=self.blocks,
            pairs=self.pairs,
            confidence=self.confidence,
        )

    def contain(self, value: Array) -> NDArray[np.bool_]:
        """Whether each interval contains its value."""
        return (self.low <= value) & (value <= self.high)


def paired_difference(
    samples: Sequence[PairSample], *, confidence: float = CONFIDENCE, carry_drift: bool = True
) -> Estimate:
    """Mean of compared minus baseline, in seconds, over all pairs, with its interval.

    The interval carries a drift of one arm from block to block unless `carry_drift` is false; then it is exact for
    independent blocks. Raises INVALID_ARGUMENT (`difference_in_blocks`, `difference_in_pairs`) where the samples
    cannot say how much the mean varies, and `latency_not_finite`.
    """
    return differences(_fitted(samples), len(samples), confidence=confidence, carry_drift=carry_drift).at(0)


def latency_ratio(
    samples: Sequence[PairSample], *, confidence: float = CONFIDENCE, carry_drift: bool = True
) -> Estimate:
    """Mean compared latency over mean baseline latency, with Fieller's interval; `p_value` is the difference's.

    Raises as `paired_difference`, and INVALID_ARGUMENT (`ratio_denominator`) unless the baseline mean is above zero.
    """
    fitted = _fitted(samples)
    if fitted.baseline_s[0] <= 0:
        raise invalid_argument(
            "ratio_denominator",
            expected="a baseline mean latency above 0 s",
            got=f"{fitted.baseline_s[0]} s",
            todo="check the baseline arm's latencies",
        )
    return ratios(fitted, len(samples), confidence=confidence, carry_drift=carry_drift).at(0)


def differences(
    fitted: Fit, pairs: int, *, confidence: float = CONFIDENCE, carry_drift: bool = True
) -> Estimates:
    """The mean difference of each campaign in the fit, as `paired_difference` gives it for one."""
    errors, spent = (_carried(fitted, confidence), SPENT) if carry_drift else (fitted.independent, 1.0)
    half = _quantile_of_t(errors.dof, confidence, spent) * errors.error_s
    return Estimates(
        value=fitted.value_s,
        low=fitted.value_s - half,
        high=fitted.value_s + half,
        p_value=_p_value(fitted.value_s, errors.error_s, errors.dof, spent),
        error=errors.error_s,
        dof=errors.dof,
        spent=spent,
        blocks=fitted.blocks,
        pairs=pairs,
        confidence=confidence,
    )


def _carried(fitted: Fit, confidence: float) -> Errors:
    """The errors that carry a drift, held from below by how all blocks scatter.

    What differs in one place only, such as a run that hangs beside others of its stratum, can be missing in the slow
    cosines that a drift is read off.
    """
    carried, scattering = fitted.carried, fitted.scattering
    half = _quantile_of_t(carried.dof, confidence, SPENT)
    least = LEAST_SHARE * _quantile_of_t(scattering.dof, confidence, 1.0) * scattering.error_s
    return Errors(np.maximum(carried.error_s, least / half), carried.dof)


def ratios(fitted: Fit, pairs: int, *, confidence: float = CONFIDENCE, carry_drift: bool = True) -> Estimates:
    """The ratio of means of each campaign in the fit, as `latency_ratio` gives it for one; its means are above zero.

    The interval holds every R for which `compared - R * baseline` is not distinguishable from zero (Fieller 1954).
    Given the tasks and the machine's day, both means vary only by noise, of which each arm is taken to have half the
    difference's: how much the tasks differ from one another says nothing of it. So the interval excludes 1 exactly
    where the difference's excludes 0, and swapping the arms inverts it. It is unbounded where the baseline's mean is
    not distinguishable from zero.
    """
    difference = differences(fitted, pairs, confidence=confidence, carry_drift=carry_drift)
    value = fitted.compared_s / fitted.baseline_s
    arm = (_quantile_of_t(difference.dof, confidence, difference.spent) * difference.error) ** 2 / 2
    # With R = value + x the set is (x * baseline)^2 <= arm * (1 + R^2): a quadratic in x, which keeps its precision
    # where the variance is tiny.
    square, linear, constant = fitted.baseline_s**2 - arm, arm * value, arm * (1 + value**2)
    bounded = square > 0
    root = np.sqrt(linear**2 + np.where(bounded, square, 0.0) * constant)
    divisor = np.where(bounded, square, 1.0)
    return Estimates(
        value=value,
        low=np.where(bounded, value + (linear - root) / divisor, -np.inf),
        high=np.where(bounded, value + (linear + root) / divisor, np.inf),
        p_value=difference.p_value,
        error=difference.error,
        dof=difference.dof,
        spent=difference.spent,
        blocks=difference.blocks,
        pairs=pairs,
        confidence=confidence,
    )


def equivalence(difference: Estimate, margin_s: float) -> Equivalence:
    """Whether the difference is shown to lie within plus or minus the margin (Schuirmann 1987).

    Raises INVALID_ARGUMENT (`margin_positive`) unless the margin is above zero.
    """
    if not 0 < margin_s < math.inf:
        raise invalid_argument(
            "margin_positive",
            expected="a finite margin above 0 s",
            got=f"{margin_s} s",
            todo="give a positive share as --margin; it is taken of the baseline's mean latency",
        )
    room = margin_s - abs(difference.value)
    p_value = 0.0 if room > 0 else 1.0
    if difference.error > 0:
        p_value = min(1.0, float(stdtr(difference.dof, -room / difference.error)) / difference.spent)
    half = difference.half_width(1 - 2 * TEST_LEVEL)
    return Equivalence(
        margin_s=margin_s, p_value=p_value, low=difference.value - half, high=difference.value + half
    )


def steadiness(samples: Sequence[PairSample]) -> Steadiness:
    """What the blocks say of a drift of one arm. Raises as `paired_difference`."""
    return steadiness_at(_fitted(samples), 0)


def steadiness_at(fitted: Fit, index: int) -> Steadiness:
    """What the blocks of one campaign in the fit say of a drift."""
    return Steadiness(
        p_value=float(fitted.drift.p_value[index]),
        growth=math.sqrt(float(fitted.drift.growth[index])),
        thirds_s=tuple((fitted.value_s[index] + fitted.drift.thirds_s[index]).tolist()),
        third_error_s=float(fitted.drift.third_error_s[index]),
    )


def lone_strata(samples: Sequence[PairSample]) -> tuple[str, ...]:
    """The strata of pairs that the plan cuts short, where one block alone has such pairs.

    What a cut run leaves out is measured by those pairs: of a lone one, anything between none and all of a request's
    time is taken to be it, and so would a hang of that length.
    """
    return lone_cuts(_pairs(samples))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """The p-values adjusted for being read together (Holm 1979), in the order given."""
    adjusted = [0.0] * len(p_values)
    floor = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = floor
    return tuple(adjusted)


def quantile(values: Sequence[float], q: float) -> float:
    """The `q` quantile (0 to 1) by linear interpolation.

    Raises INVALID_ARGUMENT (`quantile_in_samples`) for no values, and for q of 0.99 or more under 300 values.
    """
    needed = P99_MIN_SAMPLES if q >= 0.99 else 1
    if len(values) < needed:
        raise invalid_argument(
            "quantile_in_samples",
            expected=f"at least {needed} values for the {q:g} quantile",
            got=f"{len(values)}",
            todo="measure more requests, or ask for a lower quantile",
        )
    return float(np.quantile(np.asarray(values, dtype=np.float64), q))


def latency_summary(latencies_s: Sequence[float]) -> LatencySummary:
    """Mean and quantiles of latencies in seconds. Raises INVALID_ARGUMENT for none."""
    return LatencySummary(
        count=len(latencies_s),
        p50_s=quantile(latencies_s, 0.5),
        mean_s=math.fsum(latencies_s) / len(latencies_s),
        p95_s=quantile(latencies_s, 0.95),
        p99_s=quantile(latencies_s, 0.99) if len(latencies_s) >= P99_MIN_SAMPLES else None,
    )


def _fitted(samples: Sequence[PairSample]) -> Fit:
    """The fit of one campaign. The order of the samples says nothing, so no bit of an estimate depends on it."""
    samples = sorted(samples, key=_place)
    baseline = np.array([[s.baseline_s for s in samples]], dtype=np.float64)
    compared = np.array([[s.compared_s for s in samples]], dtype=np.float64)
    if not (np.isfinite(baseline).all() and np.isfinite(compared).all()):
        raise invalid_argument(
            "latency_not_finite",
            expected="finite latencies in seconds",
            got="an infinity or a NaN",
            todo="leave pairs without two measured outcomes out",
        )
    return fit(_pairs(samples), baseline, compared)


def _pairs(samples: Sequence[PairSample]) -> Pairs:
    ranks = {block: rank for rank, block in enumerate(sorted({s.block for s in samples}))}
    return Pairs(
        blocks=tuple(ranks[s.block] for s in samples),
        strata=tuple(s.stratum for s in samples),
        signs=tuple(-1 if s.baseline_first else 1 for s in samples),
        cuts=tuple(s.cut for s in samples),
        planned_s=tuple(s.planned_s for s in samples),
        shared_s=tuple(s.shared_wait_s for s in samples),
    )


def _place(sample: PairSample) -> tuple[int, str, bool, int, float, float, float, float]:
    return (
        sample.block,
        sample.stratum,
        sample.baseline_first,
        sample.cut,
        sample.planned_s,
        sample.shared_wait_s,
        sample.baseline_s,
        sample.compared_s,
    )


def _quantile_of_t(dof: Array, confidence: float, spent: float) -> Array:
    return np.asarray(stdtrit(dof, 1 - (1 - confidence) / 2 * spent))


def _p_value(value: Array, error: Array, dof: Array, spent: float) -> Array:
    ratio = np.divide(np.abs(value), error, out=np.where(value == 0, 0.0, np.inf), where=error > 0)
    return np.asarray(np.minimum(1.0, 2 * stdtr(dof, -ratio) / spent))
