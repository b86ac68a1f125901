"""Two campaigns of one plan against each other: by what factor did the ratio of the arms change?

The campaigns have no machine's day in common, so their latencies are compared only through the ratio of the arms within
each, in which what slows both arms alike cancels. They do have the plan in common: pair by pair the same task, the same
faults, the same waits and the same order. So each pair is held against itself, and what tasks differ from one another
by is no noise. The replicate is the block; strata, scatter and drift are those of ADR 2, by the same code; ADR 32 has
the rest.
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
    arms = [
        (np.array([[s.baseline_s for s in of]]), np.array([[s.compared_s for s in of]]))
        for of in (first, second)
    ]
    if any(arm.size and arm.mean() <= 0 for sides in arms for arm in sides):
        raise invalid_argument(
            "ratio_denominator",
            expected="mean latencies above 0 s in both campaigns",
            got="one that is not",
            todo="check the histories: no request takes no time",
        )
    waits = [
        (
            np.array([s.shared_wait_s + max(-s.planned_s, 0.0) for s in of]),
            np.array([s.shared_wait_s + max(s.planned_s, 0.0) for s in of]),
        )
        for of in (first, second)
    ]
    estimate = log_changes(pairs, arms[0], arms[1], waits[0], waits[1], confidence=confidence).at(0)
    return change_of(estimate, doubt=doubt)


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


def log_changes(
    pairs: Pairs,
    first: Arms,
    second: Arms,
    first_waits_s: Arms,
    second_waits_s: Arms,
    *,
    confidence: float = GATE_CONFIDENCE,
) -> Estimates:
    """The logarithm of the change for many campaigns (campaigns, pairs) beside as many others.

    A pair's part in the logarithm of a ratio of means is its time over the mean of its arm, compared minus baseline,
    which is exact to first order. The waits that the plan fixes are left out of it: they do not scatter.
    """
    parts = _parts(second, second_waits_s) - _parts(first, first_waits_s)
    errors = differences(fit(pairs, np.zeros_like(parts), parts), len(pairs.blocks), confidence=confidence)
    values = _log_ratio(second) - _log_ratio(first)
    half = (errors.high - errors.low) / 2
    return replace(errors, value=values, low=values - half, high=values + half)


def _parts(arms: Arms, waits_s: Arms) -> Array:
    baseline, compared = (
        (seconds - waits) / seconds.mean(axis=1, keepdims=True)
        for seconds, waits in zip(arms, waits_s, strict=True)
    )
    return np.asarray(compared - baseline)


def _log_ratio(arms: Arms) -> Array:
    baseline, compared = arms
    return np.asarray(np.log(compared.mean(axis=1)) - np.log(baseline.mean(axis=1)))
