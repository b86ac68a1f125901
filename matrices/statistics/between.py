"""Two campaigns of one plan against each other: by what factor did the ratio of the arms change?

The campaigns have no machine's day in common, so their latencies are compared only through the ratio of the arms within
each, in which what slows both arms alike cancels. The waits that the plan fixes are taken out first: a timer does not
slow down with the machine, and with them the ratio would tell how fast the day was. What the campaigns have in common
is the plan: pair by pair the same task, the same faults and the same order. So each pair is held against itself, and
what tasks differ from one another by is no noise.

The replicate is the block; strata and scatter are those of ADR 2, by the same code. A margin stands between a drift and
a claim here, so that the interval carries a drift only where one is seen; ADR 35 has what that costs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from matrices.statistics.estimates import TEST_LEVEL, Estimate, Estimates, PairSample, differences
from matrices.statistics.one_sided import beyond_p
from matrices.statistics.paired_fit import Pairs, fit
from treni.errors import invalid_argument

Array = NDArray[np.float64]
Arms = tuple[Array, Array]
"""The seconds of a campaign's baseline and compared arm."""

DRIFT_LIMIT = 0.001
"""The p of blocks that wander as slowly as these, were they independent, under which an interval carries a drift."""

GATE_CONFIDENCE = 1 - 2 * TEST_LEVEL
"""The confidence of the interval whose ends are those of the gate's one-sided tests."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """The factor from one campaign's ratio of means to another's, with its interval at `confidence`.

    `log_value`, `error` and `dof` are of its logarithm. `doubt` is a logarithm by which the interval is wider at both
    ends than its error says, since the campaigns' own A/A rows show a bias; `spent` as an `Estimate` has it.
    """

    log_value: float
    error: float
    dof: float
    spent: float
    doubt: float
    low: float
    high: float
    confidence: float
    blocks: int
    pairs: int

    @property
    def value(self) -> float:
        """The factor: 1 for no change, over 1 where the compared arm lost ground."""
        return math.exp(self.log_value)

    def worse_p(self, factor: float) -> float:
        """The one-sided p of the hypothesis that the change is at most that factor."""
        return self._tail(self.log_value - math.log(factor))

    def within_p(self, factor: float) -> float:
        """The one-sided p of the hypothesis that the change is that factor or more."""
        return self._tail(math.log(factor) - self.log_value)

    def _tail(self, room: float) -> float:
        return beyond_p(room - self.doubt, error=self.error, dof=self.dof, spent=self.spent)


def ratio_change(
    first: Sequence[PairSample],
    second: Sequence[PairSample],
    *,
    doubt: float = 0.0,
    confidence: float = GATE_CONFIDENCE,
) -> Change:
    """The change of the ratio from the first campaign to the second; the samples are of the same pairs, in order.

    Raises INVALID_ARGUMENT (`pairs_unmatched`, `difference_in_blocks`, `difference_in_pairs`, `ratio_denominator`).
    """
    if [(s.block, s.stratum) for s in first] != [(s.block, s.stratum) for s in second]:
        raise invalid_argument(
            "pairs_unmatched",
            expected="samples of the same pairs of one plan",
            got=f"{len(first)} and {len(second)} that differ in block or stratum",
            todo="keep the pairs that both campaigns have",
        )
    ranks = {block: rank for rank, block in enumerate(sorted({s.block for s in first}))}
    pairs = Pairs(
        blocks=tuple(ranks[s.block] for s in first),
        strata=tuple(s.stratum for s in first),
        # The same pair went in the same order in both campaigns: the effect of it cancels as the task does.
        signs=(1,) * len(first),
        cuts=(0,) * len(first),
        planned_s=(0.0,) * len(first),
        shared_s=(0.0,) * len(first),
    )
    arms = [_work(first), _work(second)]
    if any(arm.size and arm.mean() <= 0 for sides in arms for arm in sides):
        raise invalid_argument(
            "ratio_denominator",
            expected="mean latencies above the waits that the plan fixes, in both arms of both campaigns",
            got="one that is not",
            todo="check the histories: a request takes longer than it waits",
        )
    estimate = log_changes(pairs, *arms, confidence=confidence).at(0)
    return change_of(estimate, doubt=doubt)


def work(sample: PairSample) -> tuple[float, float]:
    """The seconds of the baseline and of the compared arm without the waits that plan and seed fix."""
    own = max(-sample.planned_s, 0.0), max(sample.planned_s, 0.0)
    return (
        sample.baseline_s - sample.shared_wait_s - own[0],
        sample.compared_s - sample.shared_wait_s - own[1],
    )


def _work(samples: Sequence[PairSample]) -> Arms:
    baseline, compared = np.array([work(sample) for sample in samples], dtype=np.float64).reshape(-1, 2).T
    return baseline[None, :], compared[None, :]


def change_of(estimate: Estimate, *, doubt: float = 0.0) -> Change:
    """The factor of an estimate of its logarithm."""
    return Change(
        log_value=estimate.value,
        error=estimate.error,
        dof=estimate.dof,
        spent=estimate.spent,
        doubt=doubt,
        low=math.exp(estimate.low - doubt),
        high=math.exp(estimate.high + doubt),
        confidence=estimate.confidence,
        blocks=estimate.blocks,
        pairs=estimate.pairs,
    )


@dataclass(frozen=True, slots=True, eq=False)
class LogChanges:
    """Logarithms of many changes: with errors of independent blocks, with those that carry a drift, and who drifts."""

    independent: Estimates
    carried: Estimates
    drifts: NDArray[np.bool_]

    def at(self, index: int) -> Estimate:
        """The estimate of one."""
        return (self.carried if self.drifts[index] else self.independent).at(index)


def log_changes(
    pairs: Pairs, first: Arms, second: Arms, *, confidence: float = GATE_CONFIDENCE
) -> LogChanges:
    """The logarithm of the change for many campaigns (campaigns, pairs) beside as many others, all without waits.

    A pair's part in the logarithm of a ratio of means is its time over the mean of its arm, compared minus baseline,
    which is exact to first order.
    """
    fitted = fit(pairs, _parts(*first), _parts(*second))
    values = _log_ratio(second) - _log_ratio(first)

    def estimates(carry_drift: bool) -> Estimates:
        errors = differences(fitted, len(pairs.blocks), confidence=confidence, carry_drift=carry_drift)
        half = (errors.high - errors.low) / 2
        return replace(errors, value=values, low=values - half, high=values + half)

    return LogChanges(estimates(False), estimates(True), fitted.drift.p_value < DRIFT_LIMIT)


def _parts(baseline: Array, compared: Array) -> Array:
    return np.asarray(compared / _mean(compared) - baseline / _mean(baseline))


def _log_ratio(arms: Arms) -> Array:
    baseline, compared = arms
    return np.asarray(np.log(_mean(compared) / _mean(baseline))[:, 0])


def _mean(seconds: Array) -> Array:
    return np.asarray(seconds.mean(axis=1, keepdims=True))
