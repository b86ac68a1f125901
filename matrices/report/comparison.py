"""The two arms of each cell against each other: samples from what was judged, estimates, and the two verdicts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from matrices.checks.check import CellJudgement
from matrices.evidence.runs import Run
from matrices.planning.expectation import Expectation, ExpectedPair
from matrices.planning.plan import AA_CELL
from matrices.statistics.estimates import (
    CONFIDENCE,
    Estimate,
    PairSample,
    Steadiness,
    equivalence,
    latency_ratio,
    lone_strata,
    paired_difference,
    steadiness,
)
from matrices.statistics.reliability import RateDifference, error_rate_difference
from matrices.statistics.verdicts import (
    AA_CONFIDENCE,
    Floor,
    Judgement,
    Latency,
    ReliabilityVerdict,
    Row,
    Verdict,
    adjusted,
    judge,
    judge_aa,
    judge_reliability,
    measure_floor,
)
from treni.errors import TreniError

AA = AA_CELL
"""The name of the cell that runs the baseline against itself."""

SILENT = Judgement(verdict=Verdict.INCONCLUSIVE, leaning=Verdict.INCONCLUSIVE)
"""What is said without a floor, or without an estimate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedLatency:
    """The compared arm's latency against the baseline's: the difference in seconds, and the ratio of means.

    `unavailable` says why there is no estimate, "" where there is one. `p_adjusted` is Holm's, over all profiles of
    the plan. `margin_s` is the margin of equivalence, the given share of the baseline's mean, None without a mean.
    """

    pairs: int
    delta: Estimate | None
    ratio: Estimate | None
    median_delta_s: float | None
    p_adjusted: float | None
    margin_s: float | None
    judgement: Judgement
    latency: Latency | None
    steadiness: Steadiness | None
    lone_strata: tuple[str, ...]
    unavailable: str

    @property
    def verdict(self) -> Verdict:
        """The verdict on latency."""
        return self.judgement.verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """The compared arm's error rate against the baseline's; None of no pair.

    `p_adjusted` is Holm's, over all profiles.
    """

    rates: RateDifference | None
    p_adjusted: float | None
    verdict: ReliabilityVerdict


@dataclass(frozen=True, kw_only=True, slots=True)
class CellSamples:
    """The pairs of a cell in which both arms have an outcome: those that count, and those that are void."""

    valid: tuple[PairSample, ...]
    void: tuple[PairSample, ...]
    clean: tuple[PairSample, ...]
    """The valid samples outside contaminated blocks."""

    @property
    def every(self) -> tuple[PairSample, ...]:
        """All of them, void ones included."""
        return (*self.valid, *self.void)


def samples_of(judged: CellJudgement, expected: Expectation, *, by_segment: bool) -> CellSamples:
    """The samples of a judged cell; the replicate is the segment (`by_segment`) or the block."""
    planned = {pair.pair: pair for pair in expected.pairs}
    valid, void, clean = [], [], []
    for number, runs in judged.runs.items():
        if number not in planned or not set(expected.arms) <= set(runs):
            continue
        pair = planned[number]
        sample = sample_of(pair, runs, expected.arms, pair.segment if by_segment else pair.block)
        if number in judged.void:
            void.append(sample)
            continue
        valid.append(sample)
        if pair.block not in judged.contaminated:
            clean.append(sample)
    return CellSamples(valid=tuple(valid), void=tuple(void), clean=tuple(clean))


def sample_of(pair: ExpectedPair, runs: Mapping[str, Run], arms: tuple[str, str], block: int) -> PairSample:
    """The sample of a pair in which both arms have an outcome, in that block."""
    baseline, compared = (runs[arm] for arm in arms)
    waits_s = [pair.waits_s[arm] for arm in arms]
    ends = [pair.runs[arm].ok for arm in arms]
    return PairSample(
        block=block,
        stratum=pair.stratum,
        baseline_s=baseline.outcome.latency_s,
        compared_s=compared.outcome.latency_s,
        planned_s=waits_s[1] - waits_s[0],
        baseline_first=pair.order == arms,
        shared_wait_s=min(waits_s),
        cut=ends[0] - ends[1],
        baseline_ok=baseline.ok,
        compared_ok=compared.ok,
    )


def compare(
    samples: Mapping[str, Sequence[PairSample]], margin: float
) -> tuple[Floor | None, dict[str, PairedLatency]]:
    """The floor, and each cell's latencies held against it, the profiles of the plan corrected together.

    `margin` is the share of the baseline's mean within which the arms count as equivalent.
    """
    floor = _floor(samples.get(AA, ()))
    found = {
        cell: _estimate(pairs, margin, AA_CONFIDENCE if cell == AA else CONFIDENCE)
        for cell, pairs in samples.items()
    }
    profiles = [cell for cell in found if cell != AA]
    p_values = [None if (delta := found[cell].delta) is None else delta.p_value for cell in profiles]
    p_adjusted = dict(zip(profiles, adjusted(p_values), strict=True))
    compared = {}
    for cell, one in found.items():
        judgement = SILENT
        if floor is not None and one.delta is not None and one.margin_s is not None:
            judgement = (
                judge_aa(floor, one.margin_s)
                if cell == AA
                else _judged(one, samples[cell], margin, p_adjusted[cell], floor)
            )
        p_value = None if one.delta is None else p_adjusted.get(cell, one.delta.p_value)
        compared[cell] = replace(one, p_adjusted=p_value, judgement=judgement)
    return floor, compared


def answered(samples: Sequence[PairSample], margin: float) -> PairedLatency:
    """The same figures over the pairs that both arms answered; it has no verdict of its own."""
    return _estimate(_both_answered(samples), margin, CONFIDENCE)


def described(samples: Sequence[PairSample], margin: float) -> PairedLatency:
    """The same figures over some of a cell's pairs; it has no verdict of its own."""
    return _estimate(samples, margin, CONFIDENCE)


def reliability(samples: Mapping[str, Sequence[PairSample]]) -> dict[str, Reliability]:
    """Each cell's error rates against each other, the profiles of the plan corrected together."""
    rates = {cell: error_rate_difference(pairs) if pairs else None for cell, pairs in samples.items()}
    profiles = [cell for cell in rates if cell != AA]
    p_values = [None if (of := rates[cell]) is None else of.p_value for cell in profiles]
    p_adjusted = dict(zip(profiles, adjusted(p_values), strict=True))
    judged = {}
    for cell, of in rates.items():
        p_value = None if of is None else p_adjusted.get(cell, of.p_value)
        verdict = ReliabilityVerdict.INCONCLUSIVE
        if of is not None and p_value is not None:
            verdict = judge_reliability(of, p_value)
        judged[cell] = Reliability(rates=of, p_adjusted=p_value, verdict=verdict)
    return judged


def _floor(pairs: Sequence[PairSample]) -> Floor | None:
    try:
        return measure_floor(pairs)
    except TreniError:  # too few pairs for an interval; every row says so
        return None


def _estimate(pairs: Sequence[PairSample], margin: float, confidence: float) -> PairedLatency:
    mean_s = math.fsum(pair.baseline_s for pair in pairs) / len(pairs) if pairs else 0.0
    differences = [pair.compared_s - pair.baseline_s for pair in pairs]
    delta = ratio = latency = steady = None
    lone: tuple[str, ...] = ()
    unavailable = ""
    # The A/A row is a floor: blocks that are independent, at its own confidence.
    carry_drift = confidence == CONFIDENCE
    try:
        delta = paired_difference(pairs, confidence=confidence, carry_drift=carry_drift)
        ratio = latency_ratio(pairs, confidence=confidence, carry_drift=carry_drift)
        steady = steadiness(pairs)
        lone = lone_strata(pairs)
        if carry_drift:
            latency = Latency(difference=delta, equivalence=equivalence(delta, margin * mean_s))
    except TreniError as error:  # too few pairs for an interval; the row says so
        delta = ratio = latency = steady = None
        unavailable = str(error)
    return PairedLatency(
        pairs=len(pairs),
        delta=delta,
        ratio=ratio,
        median_delta_s=statistics.median(differences) if differences else None,
        p_adjusted=None,
        margin_s=margin * mean_s if pairs else None,
        judgement=SILENT,
        latency=latency,
        steadiness=steady,
        lone_strata=lone,
        unavailable=unavailable,
    )


def _judged(
    one: PairedLatency, pairs: Sequence[PairSample], margin: float, p_adjusted: float, floor: Floor
) -> Judgement:
    assert one.latency is not None, "there is an estimate"
    return judge(
        Row(
            every=one.latency,
            answered=answered(pairs, margin).latency,
            adjusted_p=p_adjusted,
            floor=floor,
            baseline_errors=sum(not pair.baseline_ok for pair in pairs),
            compared_errors=sum(not pair.compared_ok for pair in pairs),
        )
    )


def _both_answered(samples: Sequence[PairSample]) -> list[PairSample]:
    return [sample for sample in samples if sample.baseline_ok and sample.compared_ok]
