"""What may be said of a row: its latency and its reliability, each by rules that were fixed before the run.

All of it is a pure function of estimates and counts, so that a report and a check of it agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from matrices.statistics.estimates import (
    TEST_LEVEL,
    Equivalence,
    Estimate,
    PairSample,
    holm,
    paired_difference,
)
from matrices.statistics.reliability import RateDifference

ALPHA = TEST_LEVEL
# The A/A comparison gates a whole campaign, so it may raise a false alarm once in a hundred campaigns, not in twenty.
AA_CONFIDENCE = 0.99


class Verdict(StrEnum):
    """What the measurements support about the latency of the compared arm."""

    SLOWER = "slower"
    FASTER = "faster"
    EQUIVALENT = "equivalent within the margin"
    INCONCLUSIVE = "inconclusive"

    @property
    def is_direction(self) -> bool:
        """Whether it says that the arms differ."""
        return self in (Verdict.SLOWER, Verdict.FASTER)

    def of(self, compared: str) -> str:
        """The verdict in words, such as "external slower" of the compared arm `external`."""
        return f"{compared} {self}" if self.is_direction else str(self)


class ReliabilityVerdict(StrEnum):
    """What the measurements support about the errors of the compared arm."""

    FAILS_MORE = "fails more"
    FAILS_LESS = "fails less"
    SAME = "same errors"
    INCONCLUSIVE = "inconclusive"

    def of(self, compared: str) -> str:
        """The verdict in words, such as "external fails more" of the compared arm `external`."""
        differs = self in (ReliabilityVerdict.FAILS_MORE, ReliabilityVerdict.FAILS_LESS)
        return f"{compared} {self}" if differs else str(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Floor:
    """The campaign's noise floor: the difference, in seconds, of the baseline against itself."""

    estimate: Estimate

    @property
    def bound_s(self) -> float:
        """The largest difference, in seconds, that the A/A interval still allows between equal arms."""
        return max(abs(self.estimate.low), abs(self.estimate.high))

    @property
    def unbiased(self) -> bool:
        """Whether the A/A interval contains zero."""
        return self.estimate.contains(0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """A difference in seconds and what the test against the margin says of it."""

    difference: Estimate
    equivalence: Equivalence


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What the latency verdict on a profile rests on.

    `every` is over all pairs that are not void, `answered` over those in which both arms answered, None where they
    give no interval. `adjusted_p` is Holm's over the rows of the plan.
    """

    every: Latency
    answered: Latency | None
    adjusted_p: float
    floor: Floor
    baseline_errors: int
    compared_errors: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """The verdict on latency, and what it would have been had failures not been looked at."""

    verdict: Verdict
    leaning: Verdict

    @property
    def held_back(self) -> bool:
        """Whether it says less because the pairs that both arms answered do not say the same."""
        return self.verdict is not self.leaning


def measure_floor(aa_samples: Sequence[PairSample], *, confidence: float = AA_CONFIDENCE) -> Floor:
    """The floor from the A/A pairs (compared is the second instance of the baseline), blocks being independent.

    Raises as `paired_difference`.
    """
    return Floor(estimate=paired_difference(aa_samples, confidence=confidence, carry_drift=False))


def adjusted(p_values: Sequence[float | None]) -> tuple[float, ...]:
    """Holm's adjusted p for each row of the plan, in its order; a row without an estimate counts as 1.

    So what is asked of a row depends on how many were planned, not on how many gave an estimate.
    """
    return holm([1.0 if p is None else p for p in p_values])


def judge(row: Row) -> Judgement:
    """The verdict on a profile's latency.

    Equivalence needs two one-sided tests to pass within the margin, and a floor no coarser than the margin. A
    direction needs an interval that excludes zero, an adjusted p under `ALPHA`, and an estimate beyond the floor. An
    equivalence that is shown wins over a direction. Where the arms' errors differ, the pairs that both answered have
    to say the same: no arm is called faster for failing fast, nor equal for failing slowly. Anything else is
    inconclusive.
    """
    leaning = _leaning(row)
    verdict = leaning if _failures_agree(leaning, row) else Verdict.INCONCLUSIVE
    return Judgement(verdict=verdict, leaning=leaning)


def judge_aa(floor: Floor, margin_s: float) -> Judgement:
    """The A/A row's own verdict: the direction of the harness's bias, if its interval excludes zero.

    The compared arm there is the second instance of the baseline. Otherwise it is equivalent where the floor is no
    coarser than the margin.
    """
    if not floor.unbiased:
        verdict = Verdict.SLOWER if floor.estimate.low > 0 else Verdict.FASTER
    else:
        verdict = Verdict.EQUIVALENT if floor.bound_s <= margin_s else Verdict.INCONCLUSIVE
    return Judgement(verdict=verdict, leaning=verdict)


def judge_reliability(rates: RateDifference, adjusted_p: float) -> ReliabilityVerdict:
    """The verdict on a profile's errors; `adjusted_p` is Holm's over the rows of the plan.

    "Same errors" is said of equal counts only. A direction needs an interval that excludes zero and an adjusted p
    under `ALPHA`; error rates that differ by less are inconclusive, never equal.
    """
    if rates.baseline_errors == rates.compared_errors:
        return ReliabilityVerdict.SAME
    if adjusted_p < ALPHA and rates.low > 0:
        return ReliabilityVerdict.FAILS_MORE
    if adjusted_p < ALPHA and rates.high < 0:
        return ReliabilityVerdict.FAILS_LESS
    return ReliabilityVerdict.INCONCLUSIVE


def _leaning(row: Row) -> Verdict:
    difference, equivalence, bound_s = row.every.difference, row.every.equivalence, row.floor.bound_s
    if equivalence.shown:
        return Verdict.EQUIVALENT if bound_s <= equivalence.margin_s else Verdict.INCONCLUSIVE
    if row.adjusted_p < ALPHA and difference.low > 0 and difference.value > bound_s:
        return Verdict.SLOWER
    if row.adjusted_p < ALPHA and difference.high < 0 and difference.value < -bound_s:
        return Verdict.FASTER
    return Verdict.INCONCLUSIVE


def _failures_agree(leaning: Verdict, row: Row) -> bool:
    excess = row.compared_errors - row.baseline_errors
    if excess == 0 or leaning is Verdict.INCONCLUSIVE:
        return True
    if leaning is Verdict.EQUIVALENT:
        return row.answered is not None and row.answered.equivalence.shown
    faster_fails_more = excess > 0 if leaning is Verdict.FASTER else excess < 0
    if not faster_fails_more:
        return True
    if row.answered is None:
        return False
    difference = row.answered.difference
    return difference.high < 0 if leaning is Verdict.FASTER else difference.low > 0
