"""The gate: is a campaign a regression against another, or over a limit? Every check with what it rests on.

A regression is claimed only where the interval excludes the margin (or the limit), a pass only where the interval
lies within it; anything between is inconclusive. ADR 35 says why, and how often that is right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum

from matrices.report.between import ArmBetween, Between, CellBetween
from matrices.report.comparison import AA
from matrices.report.figures import ArmFigures, CellFigures, Figures
from matrices.report.formats import ms, number
from matrices.statistics.between import GATE_CONFIDENCE
from matrices.statistics.estimates import TEST_LEVEL, holm
from matrices.statistics.one_sided import difference_over_p, ratio_interval, ratio_over_p

MARGIN = 0.10
"""The share by which the ratio of the arms may grow from one campaign to the next, if nobody says otherwise."""


_COUNTED = "Error rates are this campaign's counts: what its schedule plans is certain for it, and needs no interval."


class GateVerdict(StrEnum):
    """What a check, or the gate as a whole, says."""

    PASS = "pass"
    REGRESSION = "regression"
    INCONCLUSIVE = "inconclusive"


class GateStatus(IntEnum):
    """What `treni-route gate` ends with; 2 is left to usage errors."""

    PASS = 0
    FINDINGS = 1
    INCONCLUSIVE = 3
    REGRESSION = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One check of one profile: what was held against what, and what came of it.

    `value` with its interval [low, high] is held against `limit`, all in the unit that `what` has; an end that is not
    bounded, or not known, is None. `worse_p` is Holm's adjusted p of a claim that it is over the limit, `within_p` the
    one of a claim that it is not; None where counts decide, or where there is nothing to claim by.
    """

    cell: str
    what: str
    arm: str
    limit: float
    why: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    worse_p: float | None = None
    within_p: float | None = None
    verdict: GateVerdict = GateVerdict.INCONCLUSIVE


@dataclass(frozen=True, kw_only=True, slots=True)
class Gated:
    """All checks, what a reader has to know beside them, and what the checker holds against the campaigns."""

    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    findings: tuple[str, ...]

    @property
    def verdict(self) -> GateVerdict:
        """The worst of the checks; inconclusive where there is none."""
        said = {check.verdict for check in self.checks}
        if GateVerdict.REGRESSION in said:
            return GateVerdict.REGRESSION
        return GateVerdict.PASS if said == {GateVerdict.PASS} else GateVerdict.INCONCLUSIVE

    @property
    def status(self) -> GateStatus:
        """How the command ends: what the checker found leaves errors alone to be judged, and no pass."""
        errors = any(one.what == "errors" and one.verdict is GateVerdict.REGRESSION for one in self.checks)
        if self.findings and not errors:
            return GateStatus.FINDINGS
        return {
            GateVerdict.PASS: GateStatus.PASS,
            GateVerdict.REGRESSION: GateStatus.REGRESSION,
            GateVerdict.INCONCLUSIVE: GateStatus.INCONCLUSIVE,
        }[self.verdict]


def gate_between(found: Between, *, margin: float, latency: bool, findings: Sequence[str] = ()) -> Gated:
    """The second campaign against the first: every profile's ratio, and every arm's errors.

    `latency` has each arm's own latency decide too, as a share of the first campaign's mean.
    """
    cells = [cell for cell in found.cells if cell.cell != AA]
    ratios = _corrected([_ratio_check(cell, margin) for cell in cells])
    own = (
        _corrected([_own_check(cell, arm, margin, found) for cell in cells for arm in cell.arms])
        if latency
        else []
    )
    arms = [(cell, arm) for cell in cells for arm in cell.arms]
    errors = [
        _of_errors(check, arm)
        for check, (_, arm) in zip(_corrected([_errors_check(*one) for one in arms]), arms, strict=True)
    ]
    missing = [_not_compared(cell, why) for cell, why in found.left_out if cell != AA]
    return Gated(
        checks=(*map(_judged, (*ratios, *own)), *errors, *missing),
        notes=tuple(_notes(found)),
        findings=tuple(findings),
    )


def gate_limits(figures: Figures, *, max_ratio: float | None, max_error_rate: float | None) -> Gated:
    """One campaign against limits that somebody set: the ratio of each profile, and the error rate of each arm."""
    cells = [cell for cell in figures.cells if cell.config.name != AA]
    checks: list[Check] = []
    if max_ratio is not None:
        checks += map(
            _judged, _corrected([_limit_check(cell, max_ratio, figures.manifest.margin) for cell in cells])
        )
    if max_error_rate is not None:
        checks += [_rate_check(cell, arm, max_error_rate) for cell in cells for arm in cell.arms]
    return Gated(
        checks=tuple(checks),
        notes=(
            *(("Ratios are with intervals at 90 %, whose ends decide.",) if max_ratio is not None else ()),
            *((_COUNTED,) if max_error_rate is not None else ()),
        ),
        findings=tuple(map(str, figures.findings)),
    )


def _corrected(checks: Sequence[Check]) -> list[Check]:
    """The checks with Holm's correction over all of them, those without an estimate counting as p = 1."""
    adjusted = holm([1.0 if one.worse_p is None else one.worse_p for one in checks])
    return [
        one if one.worse_p is None else replace(one, worse_p=p)
        for one, p in zip(checks, adjusted, strict=True)
    ]


def _judged(check: Check) -> Check:
    """The check with its verdict: over the limit, within it, or neither shown."""
    if check.worse_p is None or check.within_p is None:
        return check
    if check.worse_p < TEST_LEVEL:
        return replace(check, verdict=GateVerdict.REGRESSION, why=f"{check.why}: beyond the limit")
    if check.within_p < TEST_LEVEL:
        return replace(check, verdict=GateVerdict.PASS, why=f"{check.why}: within the limit")
    return replace(
        check, verdict=GateVerdict.INCONCLUSIVE, why=f"{check.why}: neither is shown; run more blocks"
    )


def _ratio_check(cell: CellBetween, margin: float) -> Check:
    blank = Check(
        cell=cell.cell,
        what="ratio",
        arm=cell.sides.compared.name,
        limit=margin,
        why=cell.unavailable,
    )
    change = cell.change
    if change is None:
        return blank
    first, second = (number(one, 3) for one in cell.ratios)
    return replace(
        blank,
        value=change.value - 1,
        low=change.low - 1,
        high=change.high - 1,
        worse_p=change.worse_p(1 + margin),
        within_p=change.within_p(1 + margin),
        why=f"ratio {first}, then {second}: {_percent(change.value - 1)} "
        f"[{_percent(change.low - 1)}, {_percent(change.high - 1)}], margin {_percent(margin)}"
        + (", wider for the bias of an A/A row" if change.doubt else ""),
    )


def _own_check(cell: CellBetween, arm: ArmBetween, margin: float, found: Between) -> Check:
    blank = Check(
        cell=cell.cell,
        what="latency",
        arm=arm.arm,
        limit=margin,
        why="the campaigns' conditions differ, and latencies with them"
        if found.conditions
        else "too few pairs for an interval",
    )
    if found.conditions or arm.difference is None:
        return blank
    mean_s, of = arm.means_s[0], arm.difference
    half = of.half_width(GATE_CONFIDENCE)
    low, high = of.value - half, of.value + half
    worse_p, within_p = difference_over_p(of, margin * mean_s)
    return replace(
        blank,
        value=of.value / mean_s,
        low=low / mean_s,
        high=high / mean_s,
        worse_p=worse_p,
        within_p=within_p,
        why=f"{ms(mean_s, 1)} ms, then {ms(arm.means_s[1], 1)} ms: {_percent(of.value / mean_s)} "
        f"[{_percent(low / mean_s)}, {_percent(high / mean_s)}], margin {_percent(margin)}",
    )


def _errors_check(cell: CellBetween, arm: ArmBetween) -> Check:
    """More errors than chance gives, pair by pair: those that the schedule plans happen in both campaigns."""
    rates = arm.errors
    return Check(
        cell=cell.cell,
        what="errors",
        arm=arm.arm,
        value=rates.value,
        low=rates.low,
        high=rates.high,
        limit=0.0,
        worse_p=rates.p_value / 2 if rates.value > 0 else 1.0,
        why=f"{rates.baseline_errors}, then {rates.compared_errors} of {rates.pairs}",
    )


def _of_errors(check: Check, arm: ArmBetween) -> Check:
    rates = arm.errors
    if rates.value <= 0:
        return replace(check, verdict=GateVerdict.PASS, why=f"{check.why} failed: no more than before")
    if check.worse_p is not None and check.worse_p < TEST_LEVEL:
        return replace(
            check,
            verdict=GateVerdict.REGRESSION,
            why=f"{check.why} failed: more than chance and schedule give",
        )
    return replace(check, why=f"{check.why} failed: more, and it may be chance; look why, or run more blocks")


def _limit_check(cell: CellFigures, limit: float, margin: float) -> Check:
    ratio = cell.comparison.ratio
    blank = Check(
        cell=cell.config.name,
        what="ratio",
        arm=cell.sides.compared.name,
        limit=limit,
        why=cell.comparison.unavailable,
    )
    if ratio is None or cell.comparison.margin_s is None:
        return blank
    baseline_s = cell.comparison.margin_s / margin
    over_p, within_p = ratio_over_p(ratio, baseline_s, limit)
    low, high = ratio_interval(ratio, baseline_s, GATE_CONFIDENCE)
    return replace(
        blank,
        value=ratio.value,
        low=_end(low),
        high=_end(high),
        worse_p=over_p,
        within_p=within_p,
        why=f"ratio {number(ratio.value, 3)} [{number(low, 3)}, {number(high, 3)}], limit {limit:g}",
    )


def _rate_check(cell: CellFigures, arm: ArmFigures, limit: float) -> Check:
    rate = arm.error_rate
    over = rate is not None and rate > limit
    return Check(
        cell=cell.config.name,
        what="errors",
        arm=arm.arm,
        value=rate,
        limit=limit,
        verdict=GateVerdict.INCONCLUSIVE
        if rate is None
        else GateVerdict.REGRESSION
        if over
        else GateVerdict.PASS,
        why=f"{arm.errors} of {arm.requests} failed, limit {_percent(limit, sign=False)}",
    )


def _not_compared(cell: str, why: str) -> Check:
    return Check(
        cell=cell,
        what="ratio",
        arm="",
        limit=math.nan,
        why=f"not compared: {why}",
    )


def _notes(found: Between) -> list[str]:
    said = [
        "What is gated is the ratio of the arms of each campaign, in which what slows both alike cancels, without the "
        "waits that the plan fixes; intervals are at 90 %, and their ends decide.",
    ]
    if found.conditions:
        said.append(f"The arms' own latencies are not comparable: {'; '.join(found.conditions)}.")
    else:
        said.append(
            "The arms' own latencies are comparable as far as is known: one kind of host, one model, calm blocks."
        )
    if biased := sorted({number for cell in found.cells for number in cell.biased}):
        which = " and ".join(("first", "second")[number] for number in biased)
        said.append(
            f"The A/A row of the {which} campaign shows a bias, by which every interval here is wider."
        )
    return said


def _end(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _percent(share: float, *, sign: bool = True) -> str:
    return f"{number(share * 100, 1, sign=sign)} %"
