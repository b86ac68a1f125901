"""Estimates from paired samples: mean difference, ratio of means, quantiles, Holm's correction.

The replicate is the block, never the request. Which faults the schedule puts on a pair (its *stratum*) is known
before the run, so the mean of each stratum is taken out before the spread between blocks is measured; Student's
t on what is left gives the interval. ADR 0002 has the alternatives and their measured coverage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from treni.errors import invalid_argument

Array = NDArray[np.float64]

CONFIDENCE = 0.95
MIN_BLOCKS = 3
P99_MIN_SAMPLES = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class PairSample:
    """One pair: its block, the faults scheduled on it ("-" for none), and the seconds each arm took."""

    block: int
    stratum: str
    internal_s: float
    external_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A value with its interval [low, high] at `confidence`.

    `p_value` is two-sided, for the hypothesis that the arms do not differ (difference 0, ratio 1). `dof` are
    the degrees of freedom behind the interval, `blocks` and `pairs` what it was computed from.
    """

    value: float
    low: float
    high: float
    p_value: float
    dof: float
    blocks: int
    pairs: int
    confidence: float

    def contains(self, value: float) -> bool:
        """Whether `value` lies in the interval, ends included."""
        return self.low <= value <= self.high


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencySummary:
    """Seconds over `count` requests; `p99_s` is None under `P99_MIN_SAMPLES`, where it would be one request."""

    count: int
    mean_s: float
    p50_s: float
    p95_s: float
    p99_s: float | None


@dataclass(frozen=True, slots=True, eq=False)
class _Design:
    """What depends only on which pair is in which block and stratum.

    `contrast` (blocks, pairs) maps values to the block sums of their residuals. The variance of the mean is
    `inflation * sum(squared block sums) / pairs**2`, with `dof` degrees of freedom.
    """

    contrast: Array
    inflation: float
    dof: float


def paired_difference(samples: Sequence[PairSample], *, confidence: float = CONFIDENCE) -> Estimate:
    """Mean of external minus internal, in seconds, over all pairs, with its interval.

    Raises INVALID_ARGUMENT (`difference_in_blocks`, `difference_in_strata`) where the samples cannot say how
    much the mean varies: under 3 blocks, or where every stratum lies inside one block.
    """
    design, internal, external = _unpack(samples)
    differences = external - internal
    # Centred on one sample first: equal differences then give a spread of exactly zero.
    value = float(differences[0] + np.mean(differences - differences[0]))
    error = math.sqrt(_covariance(design, differences - value, differences - value))
    margin = _quantile_of_t(design.dof, confidence) * error
    return Estimate(
        value=value,
        low=value - margin,
        high=value + margin,
        p_value=_p_value(value, error, design.dof),
        dof=design.dof,
        blocks=len(design.contrast),
        pairs=len(samples),
        confidence=confidence,
    )


def latency_ratio(samples: Sequence[PairSample], *, confidence: float = CONFIDENCE) -> Estimate:
    """Mean external latency over mean internal latency, with Fieller's interval; `p_value` is the difference's.

    The interval holds every R for which `mean(external - R * internal)` is not distinguishable from zero by the
    same stratified t (Fieller 1954). So it excludes 1 exactly when the difference's interval excludes 0. It is
    unbounded where the internal mean itself is not distinguishable from zero. Raises as `paired_difference`,
    and INVALID_ARGUMENT (`ratio_denominator`) unless the internal mean is above zero.
    """
    design, internal, external = _unpack(samples)
    denominator = float(np.mean(internal))
    if denominator <= 0:
        raise invalid_argument(
            "ratio_denominator",
            expected="an internal mean latency above 0 s",
            got=f"{denominator} s",
            todo="check the internal arm's latencies",
        )
    value = float(np.mean(external)) / denominator
    residuals = external - value * internal
    t2 = _quantile_of_t(design.dof, confidence) ** 2
    # With R = value + x the set is (x * denominator)^2 <= t^2 * Var(mean(residuals - x * internal)): a quadratic
    # in x, which keeps its precision where the variance is tiny.
    square = denominator**2 - t2 * _covariance(design, internal, internal)
    linear = t2 * _covariance(design, residuals, internal)
    constant = t2 * _covariance(design, residuals, residuals)
    if square > 0:
        root = math.sqrt(linear**2 + square * constant)
        low, high = value - (linear + root) / square, value + (root - linear) / square
    else:
        low, high = -math.inf, math.inf
    difference = paired_difference(samples, confidence=confidence)
    return Estimate(
        value=value,
        low=low,
        high=high,
        p_value=difference.p_value,
        dof=design.dof,
        blocks=difference.blocks,
        pairs=difference.pairs,
        confidence=confidence,
    )


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


def _unpack(samples: Sequence[PairSample]) -> tuple[_Design, Array, Array]:
    """The design and both arms' seconds, in an order of their own.

    The order of the samples and the blocks' names say nothing, so no bit of an estimate may depend on them. Blocks with
    the same strata are told apart by their seconds last, which leaves the design, and what is cached, the same.
    """
    by_block: dict[int, list[tuple[str, float, float]]] = {}
    for s in samples:
        by_block.setdefault(s.block, []).append((s.stratum, s.internal_s, s.external_s))
    contents = sorted(map(sorted, by_block.values()), key=lambda pairs: ([pair[0] for pair in pairs], pairs))
    pairs = [pair for block in contents for pair in block]
    blocks = tuple(number for number, block in enumerate(contents) for _ in block)
    design = _design(blocks, tuple(stratum for stratum, _, _ in pairs))
    internal = np.array([seconds for _, seconds, _ in pairs], dtype=np.float64)
    external = np.array([seconds for _, _, seconds in pairs], dtype=np.float64)
    if not (np.isfinite(internal).all() and np.isfinite(external).all()):
        raise invalid_argument(
            "latency_not_finite",
            expected="finite latencies in seconds",
            got="an infinity or a NaN",
            todo="leave pairs without two measured outcomes out",
        )
    return design, internal, external


@lru_cache(maxsize=64)
def _design(blocks: tuple[int, ...], strata: tuple[str, ...]) -> _Design:
    """The contrast, and the two constants that make the interval honest for it.

    Taking out stratum means shrinks the residuals; a stratum that occurs once leaves none. So the plain sum of
    squares is too small. Its expectation is known under two models of the noise: pairs independent, and blocks
    moving as a whole. `inflation` makes the variance unbiased under both (the larger correction wins), `dof` is
    the smaller of the two by Satterthwaite (1946). One stratum, equal blocks: G / (G - 1) and G - 1, the plain t
    on block means. One pair per block: N / (N - strata) and N - strata, as in the analysis of variance.
    """
    in_block, in_stratum = _indicator(blocks), _indicator(strata)
    if len(in_block) < MIN_BLOCKS:
        raise invalid_argument(
            "difference_in_blocks",
            expected=f"pairs from at least {MIN_BLOCKS} blocks",
            got=f"{len(in_block)}",
            todo="run the suite more times",
        )
    contrast = in_block - (in_block @ in_stratum.T / in_stratum.sum(axis=1)) @ in_stratum
    independent = contrast @ contrast.T
    as_a_whole = contrast @ in_block.T @ in_block @ contrast.T
    traces = float(np.trace(independent)), float(np.trace(as_a_whole))
    if min(traces) < 1e-9:
        raise invalid_argument(
            "difference_in_strata",
            expected="a stratum that occurs in more than one block",
            got=f"{len(in_stratum)} strata, each inside one block",
            todo="run the suite more times",
        )
    sizes = in_block.sum(axis=1)
    return _Design(
        contrast=contrast,
        inflation=max(len(blocks) / traces[0], float(sizes @ sizes) / traces[1]),
        dof=min(
            traces[0] ** 2 / float((independent**2).sum()), traces[1] ** 2 / float((as_a_whole**2).sum())
        ),
    )


def _indicator(labels: Sequence[int] | Sequence[str]) -> Array:
    """(distinct labels, labels) with 1 where the label is that one."""
    _, index = np.unique(np.asarray(labels), return_inverse=True)
    return np.asarray(np.arange(index.max(initial=-1) + 1)[:, None] == index, dtype=np.float64)


def _covariance(design: _Design, x: Array, y: Array) -> float:
    """Estimated covariance of the means of `x` and `y`, both (pairs,)."""
    return design.inflation * float((design.contrast @ x) @ (design.contrast @ y)) / len(x) ** 2


def _quantile_of_t(dof: float, confidence: float) -> float:
    return float(stdtrit(dof, 0.5 + confidence / 2))


def _p_value(value: float, error: float, dof: float) -> float:
    if error == 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * stdtr(dof, -abs(value) / error))
