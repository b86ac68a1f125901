"""What one setting's campaigns gave: how often intervals covered the truth, and what verdicts and claims said."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from matrices.simulation.campaigns import Batch, Setting, draw
from matrices.simulation.noise import DRIFTING
from matrices.statistics.estimates import Estimates, differences, equivalence, ratios, steadiness_at
from matrices.statistics.gates import Evidence, claim_safe, gates
from matrices.statistics.paired_fit import Fit, Pairs, fit, lone_cuts
from matrices.statistics.selection import Share, Voids
from matrices.statistics.verdicts import AA_CONFIDENCE, Floor, Latency, Row, Verdict, judge

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

MARGIN = 0.05
PLANS = 10
"""The number of plans, each with an order and a jitter of its own, over which the campaigns of a setting are spread."""

COVERAGE_LIMITS = (0.93, 0.99)
FALSE_DIFFERENCE_LIMIT = 0.05
SAFE_AND_WRONG_LIMIT = 0.01
ORDER_MOVE_LIMIT = 0.10
CHANCE = 2.33
"""Standard errors: of rows whose true figure lies at a limit, one in a hundred is measured further beyond it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Shares of a setting's campaigns, times in seconds.

    `covered` and `ratio_covered` are the shares of truths in the intervals, `carried` of truths that are covered or of
    which no claim is made. `directions` are verdicts that the arms differ, `wrong` verdicts that the truth contradicts,
    `safe` those that pass every gate, `safe_and_wrong` both. `width_s` is the median width of the difference's
    interval, `order_move` the largest part of it by which an order effect moves an estimate.
    """

    setting: Setting
    campaigns: int
    truth_s: float
    covered: float
    ratio_covered: float
    carried: float
    width_s: float
    directions: float
    wrong: float
    safe: float
    safe_and_wrong: float
    order_move: float

    @property
    def faults(self) -> tuple[str, ...]:
        """Which of its figures are out of limits by more than chance makes of so many campaigns."""
        low, high = COVERAGE_LIMITS
        if self.setting.family in DRIFTING:
            checks = {"carried": self._reaches(self.carried, low)}
        else:
            checks = {
                "difference covered": self._within(self.covered, low, high),
                "ratio covered": self._within(self.ratio_covered, low, high),
            }
        checks |= {
            "called a difference": self.truth_s != 0 or self._keeps(self.directions, FALSE_DIFFERENCE_LIMIT),
            "claim-safe and wrong": self._keeps(self.safe_and_wrong, SAFE_AND_WRONG_LIMIT),
            "moved by the order": self.order_move <= ORDER_MOVE_LIMIT,
        }
        return tuple(name for name, holds in checks.items() if not holds)

    def _within(self, share: float, low: float, high: float) -> bool:
        return self._reaches(share, low) and self._keeps(share, high)

    def _reaches(self, share: float, limit: float) -> bool:
        return share >= limit - self._chance(limit)

    def _keeps(self, share: float, limit: float) -> bool:
        return share <= limit + self._chance(limit)

    def _chance(self, limit: float) -> float:
        return CHANCE * math.sqrt(limit * (1 - limit) / self.campaigns)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Outcomes:
    """One entry a campaign."""

    truth_s: Array
    covered: Flags
    ratio_covered: Flags
    width_s: Array
    moved_s: Array
    direction: Flags
    wrong: Flags
    safe: Flags


def measure(setting: Setting, campaigns: int, seed: int) -> Measured:
    """The figures of a setting; the same for the same arguments, whatever else is measured beside it.

    Raises INVALID_ARGUMENT (`simulation_profile`) for a profile that is not modelled.
    """
    parts = [
        _outcomes(setting, len(part), seed, plan)
        for plan, part in enumerate(np.array_split(np.arange(campaigns), PLANS))
        if len(part)
    ]
    all_of = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(_Outcomes)
    }
    together = _Outcomes(**all_of)
    width_s = float(np.median(together.width_s))
    return Measured(
        setting=setting,
        campaigns=campaigns,
        truth_s=float(together.truth_s.mean()),
        covered=float(together.covered.mean()),
        ratio_covered=float(together.ratio_covered.mean()),
        carried=float((together.covered | ~together.safe).mean()),
        width_s=width_s,
        directions=float(together.direction.mean()),
        wrong=float(together.wrong.mean()),
        safe=float(together.safe.mean()),
        safe_and_wrong=float((together.safe & together.wrong).mean()),
        order_move=float(np.abs(together.moved_s).max()) / width_s,
    )


def _outcomes(setting: Setting, campaigns: int, seed: int, plan: int) -> _Outcomes:
    profile = "" if setting.profile is None else setting.profile.short
    label = f"{setting.family}/{setting.level_s}/{profile}/{setting.runs}/{setting.planted_s}"
    rng = np.random.default_rng([seed, zlib.crc32(label.encode()), plan])
    aa = draw(rng, replace(setting, profile=None), campaigns, plan)
    batch = draw(rng, setting, campaigns, plan)
    pairs = len(batch.pairs.blocks)
    fitted = fit(batch.pairs, batch.baseline_s, batch.compared_s)
    estimates = differences(fitted, pairs)
    floors = differences(
        fit(aa.pairs, aa.baseline_s, aa.compared_s), pairs, confidence=AA_CONFIDENCE, carry_drift=False
    )
    answered = _answered(batch)
    lone = lone_cuts(batch.pairs)
    judged = [_judge(batch, fitted, estimates, answered, floors, lone, index) for index in range(campaigns)]
    truth_s = batch.difference_s.tolist()
    margins_s = (MARGIN * fitted.baseline_s).tolist()
    return _Outcomes(
        truth_s=batch.difference_s,
        covered=estimates.contain(batch.difference_s),
        ratio_covered=ratios(fitted, pairs).contain(batch.ratio),
        width_s=estimates.high - estimates.low,
        moved_s=np.zeros(campaigns)
        if batch.without_order_s is None
        else fitted.value_s - fit(batch.pairs, *batch.without_order_s).value_s,
        direction=np.array([verdict.is_direction for verdict, _ in judged]),
        wrong=np.array(
            [
                _is_wrong(verdict, truth, margin)
                for (verdict, _), truth, margin in zip(judged, truth_s, margins_s, strict=True)
            ]
        ),
        safe=np.array([safe for _, safe in judged]),
    )


def _judge(
    batch: Batch,
    fitted: Fit,
    estimates: Estimates,
    answered: Estimates | None,
    floors: Estimates,
    lone: tuple[str, ...],
    index: int,
) -> tuple[Verdict, bool]:
    """A campaign's verdict, and if a claim of it would be safe: everything but the statistics is in order there."""
    floor = Floor(estimate=floors.at(index))
    margin_s = MARGIN * float(fitted.baseline_s[index])
    row = Row(
        every=_latency(estimates, margin_s, index),
        answered=None if answered is None else _latency(answered, margin_s, index),
        # Not adjusted for other profiles: the hardest case for false differences.
        adjusted_p=float(estimates.p_value[index]),
        floor=floor,
        baseline_errors=batch.baseline_errors,
        compared_errors=batch.compared_errors,
    )
    judgement = judge(row)
    if judgement.verdict is Verdict.INCONCLUSIVE:
        return judgement.verdict, False
    nothing_void = Voids(
        baseline_first=Share(void=0, pairs=1),
        compared_first=Share(void=0, pairs=1),
        by_stratum=(),
        selective_p=1.0,
    )
    evidence = Evidence(
        compared="compared",
        floor=floor,
        margin_s=margin_s,
        latency=row.every,
        judgement=judgement,
        verdict_clean=judgement.verdict,
        steadiness=steadiness_at(fitted, index),
        lone_strata=lone,
        unexplained_errors=0,
        faults_planned=frozenset(),
        faults_delivered=frozenset(),
        faults_observed=frozenset(),
        voids=nothing_void,
        pairs_abandoned=0,
        blocks=fitted.blocks,
        blocks_contaminated=0,
        findings=(),
        findings_elsewhere=0,
    )
    return judgement.verdict, claim_safe(gates(evidence))


def _latency(estimates: Estimates, margin_s: float, index: int) -> Latency:
    difference = estimates.at(index)
    return Latency(difference=difference, equivalence=equivalence(difference, margin_s))


def _answered(batch: Batch) -> Estimates | None:
    """The differences over pairs that both arms answered; None where errors do not differ and nobody asks."""
    if batch.baseline_errors == batch.compared_errors:
        return None
    kept = np.flatnonzero(batch.answered)
    pairs = Pairs(**{f.name: tuple(getattr(batch.pairs, f.name)[i] for i in kept) for f in fields(Pairs)})
    return differences(fit(pairs, batch.baseline_s[:, kept], batch.compared_s[:, kept]), len(kept))


def _is_wrong(verdict: Verdict, truth_s: float, margin_s: float) -> bool:
    if verdict is Verdict.EQUIVALENT:
        return abs(truth_s) > margin_s
    if verdict is Verdict.SLOWER:
        return truth_s <= 0
    return verdict is Verdict.FASTER and truth_s >= 0
